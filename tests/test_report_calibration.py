"""The reliability diagram."""

import pandas as pd
import pytest

from logger.report.calibration import COUNTS_HEIGHT, LEFT, SIDE, diagram_of

NAN = float("nan")


def bins(*rows: tuple[float, float, int, float, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["low", "high", "count", "confidence", "accuracy"])


def test_bars_stand_where_their_bins_are_and_empty_ones_are_left_out() -> None:
    diagram = diagram_of(bins((0, 0.5, 30, 0.4, 0.2), (0.5, 0.75, 0, NAN, NAN), (0.75, 1, 10, 0.9, 1.0)))

    assert diagram is not None
    first, last = diagram.bars
    assert (first.x, first.width, first.count_height) == (LEFT, SIDE / 2, COUNTS_HEIGHT)
    assert (last.x, last.width, last.y) == (LEFT + 0.75 * SIDE, SIDE / 4, diagram.top)
    assert last.count_height == pytest.approx(COUNTS_HEIGHT / 3, abs=0.1)
    assert first.y == pytest.approx(diagram.bottom - 0.2 * SIDE)
    assert first.dot_x == pytest.approx(LEFT + 0.4 * SIDE)
    # (30 * 0.2 - 10 * 0.1) / 40
    assert "0.125 more sure" in diagram.description


def test_without_images_there_is_no_diagram() -> None:
    assert diagram_of(bins((0, 1, 0, NAN, NAN))) is None
    assert diagram_of(bins()) is None
