"""Curves of a run as lines in a box: numbers only, which the template draws as SVG."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

WIDTH, HEIGHT = 360, 220
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 12, 26  # margins, for the numbers at the axes
MAX_POINTS = 240  # a line; more cannot be seen on this width
MAX_DOTS = 40  # of a line with more points than that only the line is drawn
LOG_FROM = 30  # the largest over the smallest value, from which a loss or rate is drawn on a logarithmic scale


@dataclass(frozen=True)
class Line:
    """One curve: `kind` is "train", "val" or "lr"; `path` is SVG's; a dot is (x, y, text)."""

    kind: str
    path: str
    dots: list[tuple[float, float, str]]


@dataclass(frozen=True)
class Panel:
    """One diagram over the epochs. Ticks are (position, label); `best_x` is None where no epoch is best."""

    name: str
    description: str
    lines: list[Line]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    best_x: float | None
    is_log: bool


@dataclass(frozen=True)
class Scale:
    """From values to positions: `low` is drawn at `start`, `high` at `end`."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def at(self, value: float) -> float:
        """The position, with one digit behind the point."""
        low, high, value = (math.log10(x) if self.is_log else x for x in (self.low, self.high, value))
        share = (value - low) / (high - low) if high > low else 0.5
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self) -> list[tuple[float, str]]:
        """Round values within the scale, with their labels."""
        values = _decades(self.low, self.high) if self.is_log else round_steps(self.low, self.high)
        return [(self.at(value), f"{value:.6g}") for value in values]


def panels_of(history: Sequence[Mapping[str, Any]], best_epoch: int | None) -> list[Panel]:
    """A panel for the loss and each metric, training and validation in one, and one for the learning rate.

    Args:
        history: rows of results.csv; what is missing, or no finite number, is a gap.
        best_epoch: is marked.
    """
    epochs = [_number(row.get("epoch", index + 1)) for index, row in enumerate(history)]
    columns = list(dict.fromkeys(column for row in history for column in row))
    names = dict.fromkeys(column.partition("/")[2] for column in columns if column.startswith(("train/", "val/")))
    wanted = {name: [("train", f"train/{name}"), ("val", f"val/{name}")] for name in names}
    wanted["learning rate"] = [("lr", "lr")]
    panels = []
    for name, kinds in wanted.items():
        series = {kind: _points(history, epochs, column) for kind, column in kinds if column in columns}
        series = {kind: points for kind, points in series.items() if any(math.isfinite(y) for _, y in points)}
        if series:
            panels.append(_panel(name, series, best_epoch))
    return panels


def _panel(name: str, series: dict[str, list[tuple[float, float]]], best_epoch: int | None) -> Panel:
    xs = [x for points in series.values() for x, _ in points]
    ys = [y for points in series.values() for _, y in points if math.isfinite(y)]
    x_scale = Scale(min(xs), max(xs), LEFT, WIDTH - RIGHT)
    y_scale = _y_scale(ys, may_be_log=name == "learning rate" or "loss" in name)
    has_best = best_epoch is not None and min(xs) <= best_epoch <= max(xs)
    lines = [_line(kind, thinned(points), x_scale, y_scale) for kind, points in series.items()]
    return Panel(
        name,
        _in_words(series, best_epoch),
        lines,
        [(x, label) for x, label in x_scale.ticks() if "." not in label],
        y_scale.ticks(),
        x_scale.at(best_epoch) if has_best and best_epoch is not None else None,
        y_scale.is_log,
    )


def _y_scale(values: list[float], *, may_be_log: bool) -> Scale:
    low, high = min(values), max(values)
    bottom, top = HEIGHT - BOTTOM, TOP
    if may_be_log and low > 0 and high / low >= LOG_FROM:
        return Scale(low / 1.2, high * 1.2, bottom, top, is_log=True)
    margin = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    # Shares end at 1, and nothing that is never negative is drawn as if it could be.
    highest = 1.0 if high <= 1 and high + margin > 1 else high + margin
    return Scale(max(low - margin, 0.0) if low >= 0 else low - margin, highest, bottom, top)


def _line(kind: str, points: list[tuple[float, float]], x_scale: Scale, y_scale: Scale) -> Line:
    path, dots, is_after_gap = [], [], True
    for index, (x, y) in enumerate(points):
        if not math.isfinite(y):
            is_after_gap = True
            continue
        at_x, at_y = x_scale.at(x), y_scale.at(y)
        path.append(f"{'M' if is_after_gap else 'L'}{at_x:g} {at_y:g}")
        is_alone = is_after_gap and (index + 1 == len(points) or not math.isfinite(points[index + 1][1]))
        if is_alone or len(points) <= MAX_DOTS:
            dots.append((at_x, at_y, f"epoch {x:g}: {kind} {y:.4g}"))
        is_after_gap = False
    return Line(kind, "".join(path), dots)


def thinned(points: list[tuple[float, float]], limit: int = MAX_POINTS) -> list[tuple[float, float]]:
    """At most so many points: of each stretch the lowest and the highest, so that no spike is lost, and one gap."""
    if len(points) <= limit:
        return points
    num_stretches = limit // 3
    kept = set()
    for stretch in range(num_stretches):
        inside = range(stretch * len(points) // num_stretches, (stretch + 1) * len(points) // num_stretches)
        finite = [index for index in inside if math.isfinite(points[index][1])]
        gaps = [index for index in inside if not math.isfinite(points[index][1])]
        kept.update(gaps[:1])
        if finite:
            kept.update((min(finite, key=lambda at: points[at][1]), max(finite, key=lambda at: points[at][1])))
    return [points[index] for index in sorted(kept)]


def _in_words(series: dict[str, list[tuple[float, float]]], best_epoch: int | None) -> str:
    """The values of the best and of the last epoch: "best epoch 2: train 0.5, val 1; epoch 3: train 0.3, val 0.7"."""
    last = max(x for points in series.values() for x, y in points if math.isfinite(y))
    parts = []
    for epoch in dict.fromkeys((best_epoch, last)):
        values = [
            f"{y:.4g}" if kind == "lr" else f"{kind} {y:.4g}"
            for kind, points in series.items()
            for x, y in points
            if x == epoch and math.isfinite(y)
        ]
        if values:
            parts.append(f"{'best epoch' if epoch == best_epoch else 'epoch'} {epoch:g}: {', '.join(values)}")
    return "; ".join(parts)


def _points(history: Iterable[Mapping[str, Any]], epochs: Iterable[float], column: str) -> list[tuple[float, float]]:
    pairs = ((epoch, _number(row.get(column))) for epoch, row in zip(epochs, history, strict=True))
    return [(epoch, value) for epoch, value in pairs if math.isfinite(epoch)]


def _number(value: Any) -> float:
    return float(value) if isinstance(value, Real) else math.nan


def round_steps(low: float, high: float) -> list[float]:
    """Three to seven multiples of 1, 2 or 5 times a power of ten, within the range."""
    if not high > low:
        return [low]
    raw = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)
    return [index * step for index in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _decades(low: float, high: float) -> list[float]:
    """Powers of ten within the range: every second or third of them where they are many, and 3, 30 ... where few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every = len(powers) // 7 + 1
    factors = (1, 3) if len(powers) < 5 else (1,)
    values = [factor * 10.0**power for power in powers[::every] for factor in factors]
    return [value for value in values if low <= value <= high]
