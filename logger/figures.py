"""Drawn numbers: the confusion of classes, and calibration. Arrays in, a matplotlib Figure out, or its pixels.

matplotlib takes half a second to import and is imported where it is used; its figures keep no global state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from logger.glyphs import families
from logger.labels import label_of, remark_on
from utils.text import columns_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

DPI = 110
MAX_TICKS = 50  # names beside an axis
MAX_NUMBERED = 25  # classes up to which cells hold numbers
_NAME_COLUMNS = 26


def rendered(figure: Figure) -> np.ndarray:
    """The pixels of a figure, uint8 (H, W, 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def draw_confusion(confusion_KK: np.ndarray, classes: Sequence[str], title: str) -> np.ndarray:
    """The pixels of a `confusion_figure` of shares, whose colours mean the same in every epoch."""
    return rendered(confusion_figure(confusion_KK, classes, normalized=True, title=title))


def confusion_figure(
    confusion_KK: np.ndarray, classes: Sequence[str], *, normalized: bool = False, title: str = ""
) -> Figure:
    """Draws a confusion matrix: rows are true classes, columns predicted ones.

    Args:
        confusion_KK: counts.
        classes: names in the order of their indices.
        normalized: each row as shares of its class; a class without images stays empty.
        title: above it; without one, how many images are right.
    """
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    num_classes = len(classes)
    totals_K1 = confusion_KK.sum(1, keepdims=True)
    shares_KK = np.divide(confusion_KK, totals_K1, out=np.full(confusion_KK.shape, np.nan), where=totals_K1 > 0)
    values_KK = shares_KK if normalized else confusion_KK.astype(float)
    # Room in inches: for the names, which may be long, and for cells that hold numbers.
    ticks = np.arange(0, num_classes, -(-num_classes // MAX_TICKS))
    chosen = [label_of(classes, int(index), _NAME_COLUMNS) for index in ticks]
    names_in = min(2.6, 0.35 + 0.075 * max(map(columns_of, chosen)))
    side_in = max(2.6, min(0.5 * num_classes, 7.5)) if num_classes <= MAX_NUMBERED else 7.5
    width, height = names_in + side_in + 1.3, names_in + side_in + 1.1
    figure = Figure(figsize=(width, height), dpi=DPI)
    axis = figure.add_axes(((names_in + 0.3) / width, (names_in + 0.6) / height, side_in / width, side_in / height))
    # Few images at many classes would be lost between the pixels: of the cells that share one, the largest is seen.
    shown_KK = _strongest(values_KK, round(side_in * DPI))
    image = axis.imshow(
        shown_KK,
        cmap="Blues",
        # One image in a cell of many classes would not be told from none, if colours were in proportion.
        norm=PowerNorm(
            1 if num_classes <= MAX_NUMBERED else 0.4, 0, 1 if normalized else max(1.0, float(values_KK.max()))
        ),
        interpolation="nearest",
        extent=(-0.5, num_classes - 0.5, num_classes - 0.5, -0.5),
    )
    bar = figure.add_axes(
        ((names_in + 0.3 + side_in + 0.15) / width, (names_in + 0.6) / height, 0.15 / width, side_in / height)
    )
    figure.colorbar(image, cax=bar, label="share of the true class" if normalized else "images")
    size = 9 if len(ticks) <= MAX_NUMBERED else 6.5
    written: dict[str, Any] = {"fontsize": size, "fontfamily": families("".join(chosen)), "parse_math": False}
    axis.set_xticks(ticks, chosen, rotation=90, **written)
    axis.set_yticks(ticks, chosen, **written)
    remarks = [f"one name in {ticks[1]} is shown"] if num_classes > len(ticks) else []
    axis.set_xlabel("\n".join(["predicted class", *remarks, *filter(None, [remark_on(classes)])]))
    axis.set_ylabel("true class")
    total, right = int(confusion_KK.sum()), int(confusion_KK.diagonal().sum())
    axis.set_title(title or f"{right:,} of {total:,} images right", fontsize=11)
    if num_classes <= MAX_NUMBERED:
        _write_numbers(axis, values_KK, normalized=normalized)
    return figure


def _write_numbers(axis: Any, values_KK: np.ndarray, *, normalized: bool) -> None:
    """Into each cell that is not 0, light on dark."""
    highest = 1.0 if normalized else max(1.0, float(np.nanmax(values_KK)))
    longest = 4 if normalized else len(f"{int(np.nanmax(values_KK))}")
    size = min(10.0, (9.0 if len(values_KK) <= 12 else 7.5) * 4.5 / max(4, longest))
    for row, column in zip(*np.nonzero(np.nan_to_num(values_KK)), strict=True):
        value = values_KK[row, column]
        text = (f"{value:.2f}" if value >= 0.005 else "<.01") if normalized else f"{int(value)}"
        colour = "white" if value > 0.55 * highest else "black"
        axis.text(column, row, text, ha="center", va="center", fontsize=size, color=colour)


def _strongest(values_KK: np.ndarray, max_cells: int) -> np.ndarray:
    """The largest value of each block of cells, where there are more cells than pixels."""
    step = -(-len(values_KK) // max_cells)
    if step == 1:
        return values_KK
    rest = -len(values_KK) % step
    padded = np.pad(np.nan_to_num(values_KK), (0, rest))
    side = len(padded) // step
    return padded.reshape(side, step, side, step).max((1, 3))


def calibration_figure(calibration: pd.DataFrame, error: float) -> Figure:
    """Draws accuracy over confidence, bin by bin, and how many images are in each.

    Args:
        calibration: see `Scores.calibration`.
        error: expected calibration error.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 5.6), dpi=DPI)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    figure.subplots_adjust(0.13, 0.09, 0.97, 0.94, hspace=0.08)
    full = calibration[calibration["count"] > 0]
    width = float(calibration["high"][0] - calibration["low"][0])
    middles = (full["low"] + full["high"]) / 2
    above.bar(middles, full["accuracy"], width=0.94 * width, color="tab:blue", label="accuracy")
    above.plot(full["confidence"], full["accuracy"], "o", color="black", markersize=3.5, label="at its mean confidence")
    above.plot([0, 1], [0, 1], ":", color="0.4", label="perfectly calibrated")
    above.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="accuracy")
    above.set_title(f"expected calibration error {error:.4f} ({len(calibration)} bins)", fontsize=11)
    above.legend(loc="upper left", fontsize=9)
    below.bar(middles, full["count"], width=0.94 * width, color="0.55")
    below.set(xlabel="confidence (probability of the predicted class)", ylabel="images")
    for axis in (above, below):
        axis.grid(alpha=0.25)
        axis.set_axisbelow(True)
    return figure
