"""Pictures of what a network sees and answers: images with their classes, and the confusion of classes.

matplotlib takes half a second to import and is imported where it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from logger.glyphs import drawable, families, shortened

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_IMAGES = 32  # of a grid
MAX_NUMBERS = 30  # classes, of a confusion matrix with numbers in it
_COLUMNS, _CELL_PX, _GAP_PX, _LINE_PX, _DPI = 8, 120, 10, 14, 100
_NAME_COLUMNS, _MAX_LABELS = 14, 25


def pixels_of(images_NCHW: torch.Tensor) -> np.ndarray:
    """uint8 (N, H, W, 3) of images of one or three channels; of others the first is shown.

    uint8 stays as it is. Floats are taken for [0, 1], and where they leave that are stretched, all of them alike.
    """
    images = images_NCHW.detach().cpu()
    images = images if images.shape[1] == 3 else images[:, :1].expand(-1, 3, -1, -1)
    if images.dtype != torch.uint8:
        images = images.float()
        low, high = float(images.min()), float(images.max())
        if low < 0 or high > 1:
            images = (images - low) / max(high - low, 1e-12)
        images = (255 * images).round().to(torch.uint8)
    return images.permute(0, 2, 3, 1).numpy()


def class_titles(targets: torch.Tensor, classes: Sequence[str]) -> list[str]:
    """What an image is: its class, or the two largest shares of classes where images are mixed.

    Args:
        targets: class indices (N,), or the shares of the classes (N, K).
        classes: names.
    """
    if not targets.is_floating_point():
        return [_name(classes, index) for index in targets.tolist()]
    titles = []
    for shares in targets.cpu():
        parts = [(float(shares[index]), index) for index in shares.argsort(descending=True, stable=True)[:2].tolist()]
        mixed = [f"{share:.2f} {_name(classes, index)}" for share, index in parts if share >= 0.005]
        titles.append("\n".join(mixed) if len(mixed) > 1 else _name(classes, parts[0][1]))
    return titles


def answer_titles(predicted: Sequence[int], true: Sequence[int], classes: Sequence[str]) -> list[str]:
    """What each image was taken for, and in a second line what it is where that is something else."""
    return [
        _name(classes, answer) if answer == truth else f"{_name(classes, answer)}\nis {_name(classes, truth)}"
        for answer, truth in zip(predicted, true, strict=True)
    ]


def draw_grid(images_NCHW: torch.Tensor, titles: Sequence[str], is_wrong: Sequence[bool] | None = None) -> np.ndarray:
    """A grid of images with titles of up to two lines above them.

    Args:
        images_NCHW: see `pixels_of`.
        titles: of each.
        is_wrong: whose titles are red.

    Returns:
        uint8 (H, W, 3).
    """
    from matplotlib.figure import Figure

    images = pixels_of(images_NCHW)
    columns = min(_COLUMNS, len(images))
    height, width = images.shape[1:3]
    scale = _CELL_PX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    title_px = _LINE_PX * max(title.count("\n") + 1 for title in titles) + 4
    cell_width, cell_height = _CELL_PX + _GAP_PX, size[1] + title_px + _GAP_PX
    rows = -(-len(images) // columns)
    sheet = np.full((rows * cell_height + _GAP_PX, columns * cell_width + _GAP_PX, 3), 255, np.uint8)
    figure = Figure(figsize=(sheet.shape[1] / _DPI, sheet.shape[0] / _DPI), dpi=_DPI)
    for number, (image, title) in enumerate(zip(images, titles, strict=True)):
        row, column = divmod(number, columns)
        top = _GAP_PX + row * cell_height + title_px
        left = _GAP_PX + column * cell_width + (_CELL_PX - size[0]) // 2
        how = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX
        sheet[top : top + size[1], left : left + size[0]] = np.asarray(Image.fromarray(image).resize(size, how))
        figure.text(
            (_GAP_PX + column * cell_width + _CELL_PX / 2) / sheet.shape[1],
            1 - (top - 3) / sheet.shape[0],
            title,
            ha="center",
            va="bottom",
            fontsize=7.5,
            linespacing=1.15,
            color="red" if is_wrong is not None and is_wrong[number] else "black",
            fontfamily=families(title),
            parse_math=False,
        )
    figure.figimage(sheet)
    return _rendered(figure)


def draw_confusion(confusion_KK: np.ndarray, classes: Sequence[str], title: str) -> np.ndarray:
    """How often each true class (a row) was taken for each class (a column); dark is a large share of its row.

    Args:
        confusion_KK: counts.
        classes: names.
        title: above it.

    Returns:
        uint8 (H, W, 3).
    """
    from matplotlib.figure import Figure

    num_classes = len(classes)
    shares_KK = confusion_KK / np.maximum(confusion_KK.sum(axis=1, keepdims=True), 1)
    side = min(max(0.42 * num_classes, 3.0), 10.0)
    width, height = side + 1.7, side + 1.8
    figure = Figure(figsize=(width, height), dpi=_DPI)
    axis = figure.add_axes((1.4 / width, 1.3 / height, side / width, side / height))
    smooth = "nearest" if num_classes <= 500 else "antialiased"
    axis.imshow(shares_KK, cmap="Blues", vmin=0, vmax=1, interpolation=smooth)
    size = 9 if num_classes <= 15 else 7 if num_classes <= 30 else 6
    step = 1 if num_classes <= MAX_NUMBERS else -(-num_classes // _MAX_LABELS)
    places = list(range(0, num_classes, step))
    names = [_name(classes, place) for place in places]
    written: dict[str, Any] = {"fontfamily": families("".join(names)), "parse_math": False, "fontsize": size}
    axis.set_xticks(places, names, rotation=90, **written)
    axis.set_yticks(places, names, **written)
    if num_classes <= MAX_NUMBERS:
        for row, column in zip(*confusion_KK.nonzero(), strict=True):
            colour = "white" if shares_KK[row, column] > 0.5 else "black"
            number = str(confusion_KK[row, column])
            axis.text(column, row, number, ha="center", va="center", fontsize=size - 1, color=colour)
    axis.set_xlabel("predicted")
    axis.set_ylabel("true")
    axis.set_title(title, fontsize=10)
    return _rendered(figure)


def save(picture_HW3: np.ndarray, path: Path) -> None:
    """Writes a PNG."""
    Image.fromarray(picture_HW3).save(path)


def _name(classes: Sequence[str], index: int) -> str:
    """On one line, not too long, in letters that can be drawn; with its number where some of them cannot."""
    if not 0 <= index < len(classes):
        return str(index)
    whole = shortened(" ".join(classes[index].split()), _NAME_COLUMNS)
    text = drawable(whole)
    return text if text == whole else f"{index}: {text}"


def _rendered(figure: Figure) -> np.ndarray:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
