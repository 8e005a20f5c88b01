"""Pictures of what a network says: confusion, calibration, a grid of images. Arrays in, a matplotlib Figure out.

Whoever calls saves or shows the figure. Class names are drawn as they are: `$` begins no formula, and a name in letters
that no font here has becomes its number, as "#3".
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F

from utils.text import columns_of, printable, shortened

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 110
MAX_TICKS = 50  # names beside an axis
MAX_NUMBERED = 25  # classes up to which cells hold numbers
_SIDE_PX = 160  # of the pictures in a grid
_MISSING = "#N is class N, counted from 0: no font here has its letters"
# Fonts with Korean, Chinese or Japanese letters, as they are called on Linux, macOS and Windows.
_OTHER_FONTS = (
    "Noto Sans CJK KR",
    "Noto Sans CJK JP",
    "Noto Sans KR",
    "NanumGothic",
    "NanumBarunGothic",
    "Apple SD Gothic Neo",
    "AppleGothic",
    "Malgun Gothic",
    "Unifont",
)


def confusion_figure(confusion_KK: np.ndarray, classes: Sequence[str], *, normalized: bool = False) -> Figure:
    """Draws a confusion matrix: rows are true classes, columns predicted ones.

    Args:
        confusion_KK: counts.
        classes: names in the order of their indices.
        normalized: each row as shares of its class; a class without images stays empty.
    """
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure  # 0.5 s; the object-oriented way keeps no global state

    num_classes = len(classes)
    labels, fonts = drawable(classes)
    totals_K1 = confusion_KK.sum(1, keepdims=True)
    shares_KK = np.divide(confusion_KK, totals_K1, out=np.full(confusion_KK.shape, np.nan), where=totals_K1 > 0)
    values_KK = shares_KK if normalized else confusion_KK.astype(float)
    # Room in inches: for the names, which may be long, and for cells that hold numbers.
    ticks = np.arange(0, num_classes, -(-num_classes // MAX_TICKS))
    names_in = min(2.6, 0.35 + 0.075 * max(columns_of(label) for label in labels))
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
    chosen = [labels[index] for index in ticks]
    axis.set_xticks(ticks, chosen, rotation=90, fontsize=size, fontfamily=fonts, parse_math=False)
    axis.set_yticks(ticks, chosen, fontsize=size, fontfamily=fonts, parse_math=False)
    remarks = [f"one name in {ticks[1]} is shown"] if num_classes > len(ticks) else []
    remarks += [_MISSING] if _are_missing(labels, classes) else []
    axis.set_xlabel("predicted class" + "".join(f"\n{remark}" for remark in remarks))
    axis.set_ylabel("true class")
    total, right = int(confusion_KK.sum()), int(confusion_KK.diagonal().sum())
    axis.set_title(f"{right:,} of {total:,} images right", fontsize=11)
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
    from matplotlib.figure import Figure  # 0.5 s; the object-oriented way keeps no global state

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


def predictions_figure(
    images: Sequence[torch.Tensor], true: Sequence[int], predicted: Sequence[int], classes: Sequence[str]
) -> Figure:
    """Draws a grid of images, each with its prediction; where that is wrong, in red and with the truth.

    Args:
        images: uint8 (C, H, W) of any size, one channel or three.
        true, predicted: class indices of each.
        classes: names in the order of their indices.
    """
    from matplotlib.figure import Figure  # 0.5 s; the object-oriented way keeps no global state

    labels, fonts = drawable(classes, max_columns=18)
    num_columns = min(8, max(4, len(images)))
    num_rows = -(-len(images) // num_columns)
    width, height = 1.45 * num_columns, 1.8 * num_rows + 0.35
    figure = Figure(figsize=(width, height), dpi=DPI)
    figure.text(
        0.5,
        1 - 0.2 / height,
        "predicted class; where it is wrong, red, and the true class below"
        + (f"\n{_MISSING}" if _are_missing(labels, classes) else ""),
        ha="center",
        va="center",
        fontsize=10,
    )
    grid = figure.subplots(num_rows, num_columns, squeeze=False)
    figure.subplots_adjust(0.01, 0.01, 0.99, 1 - 0.75 / height, wspace=0.08, hspace=0.36)
    for axis in grid.flat:
        axis.set_axis_off()
    for axis, image_CHW, own, said in zip(grid.flat, images, true, predicted, strict=False):
        axis.imshow(_small(image_CHW))
        is_right = own == said
        text = labels[said] if is_right else f"{labels[said]}\n(true: {labels[own]})"
        colour = "black" if is_right else "tab:red"
        axis.set_title(text, fontsize=7.5, color=colour, fontfamily=fonts, parse_math=False, pad=3)
    return figure


def _small(image_CHW: torch.Tensor) -> np.ndarray:
    """(H, W, 3) no larger than a grid needs; small ones stay as they are."""
    longest = max(image_CHW.shape[1:])
    floats = image_CHW.float()
    if longest > _SIDE_PX:
        size = [max(1, round(side * _SIDE_PX / longest)) for side in image_CHW.shape[1:]]
        floats = F.interpolate(floats[None], size, mode="bilinear", antialias=True)[0]
    channels = floats[:3] if len(floats) >= 3 else floats[:1].expand(3, -1, -1)
    return channels.permute(1, 2, 0).round().clamp(0, 255).byte().numpy()


def drawable(names: Sequence[str], max_columns: int = 26) -> tuple[list[str], list[str]]:
    """Names as figures can draw them, and the fonts that can: cut where too long, "#3" where letters are missing."""
    from matplotlib import font_manager, rcParams

    plain = [printable(name) for name in names]
    families, known = [str(rcParams["font.family"][0])], _letters_of(str(rcParams["font.family"][0]))
    needed = {ord(sign) for name in plain for sign in name}
    if not needed <= known:
        installed = {font.name for font in font_manager.fontManager.ttflist}
        for family in _OTHER_FONTS:
            if family in installed and (needed - known) & _letters_of(family):
                families.append(family)
                known = known | _letters_of(family)
    cut = [shortened(name, max_columns) for name in plain]
    labels = [
        text if {ord(sign) for sign in name} <= known else f"#{index}"
        for index, (name, text) in enumerate(zip(plain, cut, strict=True))
    ]
    return labels, families


def _are_missing(labels: Sequence[str], names: Sequence[str]) -> bool:
    return any(label == f"#{index}" != name for index, (label, name) in enumerate(zip(labels, names, strict=True)))


@cache
def _letters_of(family: str) -> frozenset[int]:
    """Code points that a font has."""
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(font_manager.findfont(font_manager.FontProperties(family=[family]))).get_charmap())
