"""The reliability diagram: how often the network was right where it said how sure it was."""

import math
from dataclasses import dataclass

import pandas as pd

from logger.report.curves import Scale

SIDE, LEFT, TOP, BOTTOM = 300, 40, 10, 34
COUNTS_HEIGHT = 60  # of the bars of counts above the square


@dataclass(frozen=True)
class Bar:
    """A bin: its place along the axis, the height of its accuracy, its dot, and the height of its count."""

    x: float
    width: float
    y: float
    dot_x: float
    dot_y: float
    count_height: float
    text: str


@dataclass(frozen=True)
class Diagram:
    """What the template draws; `ticks` are (x, y, label) of both axes."""

    bars: list[Bar]
    ticks: list[tuple[float, float, str]]
    bottom: float
    top: float
    description: str


def diagram_of(bins: pd.DataFrame) -> Diagram | None:
    """The diagram of `Scores.calibration`; None where there is no image in any bin."""
    filled = bins[bins["count"] > 0]
    if filled.empty:
        return None
    top = TOP + COUNTS_HEIGHT + 8
    bottom = top + SIDE
    across, upward = Scale(0, 1, LEFT, LEFT + SIDE), Scale(0, 1, bottom, top)
    most, total = int(filled["count"].max()), int(filled["count"].sum())
    bars = []
    for row in filled.to_dict("records"):
        low, high, count = across.at(row["low"]), across.at(row["high"]), int(row["count"])
        said, was = float(row["confidence"]), float(row["accuracy"])
        if not (math.isfinite(said) and math.isfinite(was)):
            continue
        text = f"{row['low']:.3g} to {row['high']:.3g}: {count:,} images, confidence {said:.3f}, accuracy {was:.3f}"
        height = round(COUNTS_HEIGHT * count / most, 1)
        bars.append(Bar(low, round(high - low, 1), upward.at(was), across.at(said), upward.at(was), height, text))
    gap = float(((filled["confidence"] - filled["accuracy"]) * filled["count"]).sum() / total)
    tendency = "more" if gap > 0 else "less"
    description = f"On average it is {abs(gap):.3f} {tendency} sure than it is right, over {total:,} images."
    ticks = [(across.at(share), upward.at(share), f"{share:g}") for share in (0, 0.2, 0.4, 0.6, 0.8, 1)]
    return Diagram(bars, ticks, bottom, top, description)
