"""Curves as lines in a box."""

import math
import re
from typing import Any

import numpy as np
import pytest

from logger.report.curves import (
    BOTTOM,
    HEIGHT,
    LEFT,
    MAX_POINTS,
    RIGHT,
    TOP,
    WIDTH,
    Scale,
    panels_of,
    round_steps,
    thinned,
)


def rows(num_epochs: int, **functions: Any) -> list[dict[str, float]]:
    named = {name.replace("__", "/"): function for name, function in functions.items()}
    return [
        {"epoch": epoch, "time_s": 1.0, **{name: function(epoch) for name, function in named.items()}}
        for epoch in range(1, num_epochs + 1)
    ]


def points_of(path: str) -> list[tuple[str, float, float]]:
    return [(kind, float(x), float(y)) for kind, x, y in re.findall(r"([ML])([\d.]+) ([\d.]+)", path)]


def test_training_and_validation_share_a_panel_and_the_rate_has_its_own() -> None:
    history = rows(3, lr=lambda e: 0.1, train__loss=lambda e: 1 / e, val__loss=lambda e: 2 / e, val__top1=lambda e: 0.5)

    panels = panels_of(history, best_epoch=2)

    assert [panel.name for panel in panels] == ["loss", "top1", "learning rate"]
    assert [[line.kind for line in panel.lines] for panel in panels] == [["train", "val"], ["val"], ["lr"]]
    assert panels[0].description == "best epoch 2: train 0.5, val 1; epoch 3: train 0.3333, val 0.6667"
    assert panels[2].description == "best epoch 2: 0.1; epoch 3: 0.1"


def test_a_line_goes_where_its_values_are() -> None:
    (panel,) = panels_of(rows(3, val__accuracy=lambda e: (0.2, 0.4, 0.3)[e - 1]), best_epoch=3)

    (_, x1, y1), (_, x2, y2), (_, x3, y3) = points_of(panel.lines[0].path)
    assert (x1, x2, x3) == (LEFT, (LEFT + WIDTH - RIGHT) / 2, WIDTH - RIGHT)
    assert TOP <= y2 < y3 < y1 <= HEIGHT - BOTTOM
    assert y3 == pytest.approx((y1 + y2) / 2, abs=0.1)
    assert panel.best_x == WIDTH - RIGHT
    assert next(text for _, _, text in panel.lines[0].dots) == "epoch 1: val 0.2"


def test_a_number_that_is_not_finite_is_a_gap() -> None:
    values = [1.0, 2.0, math.nan, 3.0, math.inf, 4.0]
    (panel,) = panels_of(rows(6, train__loss=lambda e: values[e - 1]), best_epoch=None)

    assert [kind for kind, _, _ in points_of(panel.lines[0].path)] == ["M", "L", "M", "M"]
    assert panel.best_x is None


def test_what_is_missing_in_some_rows_is_a_gap_and_a_column_without_numbers_is_no_panel() -> None:
    history: list[dict[str, Any]] = [
        {"epoch": 1, "train/loss": 1.0, "val/loss": None, "val/x": math.nan},
        {"epoch": 2, "train/loss": 0.5},
    ]

    (panel,) = panels_of(history, None)

    assert [line.kind for line in panel.lines] == ["train"]


@pytest.mark.parametrize("history", [[], [{}], [{"epoch": "x", "train/loss": 1.0}], [{"epoch": 1, "note": "x"}]])
def test_a_history_without_numbers_has_no_panels(history: list[dict[str, Any]]) -> None:
    assert panels_of(history, 1) == []


def test_one_epoch_is_a_dot_in_the_middle() -> None:
    (panel,) = panels_of(rows(1, val__loss=lambda e: 0.7), best_epoch=1)

    ((x, y, text),) = panel.lines[0].dots
    assert (x, text) == ((LEFT + WIDTH - RIGHT) / 2, "epoch 1: val 0.7")
    assert TOP < y < HEIGHT - BOTTOM
    assert panel.x_ticks == [(x, "1")]


@pytest.mark.parametrize(
    ("name", "last", "is_log"),
    [("train/loss", 1.0, False), ("train/loss", 0.001, True), ("lr", 1e-5, True), ("val/accuracy", 0.001, False)],
)
def test_losses_and_rates_over_decades_are_logarithmic(name: str, last: float, is_log: bool) -> None:
    history = [{"epoch": 1, name: 1.0}, {"epoch": 2, name: last}]

    (panel,) = panels_of(history, None)

    assert panel.is_log == is_log
    assert len(panel.y_ticks) >= 1 if last == 1.0 else len(panel.y_ticks) >= 3
    assert all(TOP <= at <= HEIGHT - BOTTOM for at, _ in panel.y_ticks)


def test_a_rate_that_begins_at_zero_is_linear() -> None:
    (panel,) = panels_of(rows(5, lr=lambda e: (e - 1) * 0.1), None)

    assert not panel.is_log


@pytest.mark.parametrize("low", [1e-8, 0.9, 3.0, 97.0])
@pytest.mark.parametrize("ratio", [36.0, 1e3, 1e12])
def test_a_logarithmic_scale_has_a_few_round_ticks(low: float, ratio: float) -> None:
    ticks = Scale(low, low * ratio, 200, 0, is_log=True).ticks()

    assert 2 <= len(ticks) <= 8
    assert {f"{float(label):e}"[0] for _, label in ticks} <= {"1", "3"}
    positions = [at for at, _ in ticks]
    assert positions == sorted(positions, reverse=True)


def test_ticks_of_a_linear_scale_are_round_and_inside() -> None:
    assert round_steps(0.13, 0.98) == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert round_steps(2.0, 2.0) == [2.0]
    for low, high in [(0, 1), (-3, 17), (1e-9, 7e-9), (1, 1000)]:
        steps = round_steps(low, high)
        assert 3 <= len(steps) <= 7
        assert all(low - 1e-9 <= step <= high + 1e-9 for step in steps)


def test_a_thousand_epochs_are_thinned_and_keep_spikes_and_gaps() -> None:
    ys = np.linspace(1, 0, 1000)
    ys[437], ys[600:640] = 9.0, math.nan
    points = [(float(x), float(y)) for x, y in enumerate(ys)]

    kept = thinned(points)

    assert len(kept) <= MAX_POINTS
    assert kept == sorted(kept, key=lambda point: point[0])
    assert (437.0, 9.0) in kept
    assert any(math.isnan(y) for _, y in kept)
    assert thinned(points[:MAX_POINTS]) == points[:MAX_POINTS]


def test_a_long_history_is_small() -> None:
    panels = panels_of(rows(1000, train__loss=lambda e: 1 / e, val__loss=lambda e: 2 / e), best_epoch=1000)

    assert sum(len(line.path) for panel in panels for line in panel.lines) < 6000
    assert all(line.dots == [] for line in panels[0].lines)
