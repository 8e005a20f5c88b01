"""A grid of images with what they are or were taken for above them: a batch of training, the answers of a network.

matplotlib takes half a second to import and is imported where it is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from logger.figures import rendered
from logger.glyphs import families
from logger.labels import answer_titles, class_titles, remark_on

MAX_IMAGES = 32  # of a grid
_COLUMNS, _CELL_PX, _GAP_PX, _LINE_PX, _DPI = 8, 120, 10, 14, 100


def pixels_of(images: Iterable[torch.Tensor]) -> list[np.ndarray]:
    """uint8 (H, W, 3) of each image (C, H, W) of one or three channels; of others the first is shown.

    uint8 stays as it is. Floats are taken for [0, 1], and where they leave that are stretched, all of them alike.
    """
    shown = [image.detach().cpu() if image.dtype == torch.uint8 else image.detach().cpu().float() for image in images]
    floats = [image for image in shown if image.dtype != torch.uint8]
    low, high = 0.0, 1.0
    if any(float(image.min()) < 0 or float(image.max()) > 1 for image in floats):
        low, high = min(float(image.min()) for image in floats), max(float(image.max()) for image in floats)
    pixels = []
    for image in shown:
        levels = image
        if image.dtype != torch.uint8:
            levels = (255 * ((image - low) / max(high - low, 1e-12))).round().to(torch.uint8)
        three = levels if len(levels) == 3 else levels[:1].expand(3, -1, -1)
        pixels.append(np.ascontiguousarray(three.permute(1, 2, 0).numpy()))
    return pixels


def draw_batch(images: Iterable[torch.Tensor], targets: torch.Tensor, classes: Sequence[str]) -> np.ndarray:
    """Images with their classes, which may be mixed; see `draw_grid` and `class_titles`."""
    return draw_grid(images, class_titles(targets, classes), remark=remark_on(classes))


def draw_answers(
    images: Iterable[torch.Tensor], predicted: Sequence[int], true: Sequence[int], classes: Sequence[str]
) -> np.ndarray:
    """Images with what they were taken for; wrong answers in red, with the truth. See `draw_grid`."""
    is_wrong = [answer != truth for answer, truth in zip(predicted, true, strict=True)]
    return draw_grid(images, answer_titles(predicted, true, classes), is_wrong, remark_on(classes))


def draw_grid(
    images: Iterable[torch.Tensor], titles: Sequence[str], is_wrong: Sequence[bool] | None = None, remark: str = ""
) -> np.ndarray:
    """A grid of images with titles of up to two lines above them.

    Args:
        images: see `pixels_of`; they may differ in size.
        titles: of each.
        is_wrong: whose titles are red.
        remark: a line below all of them.

    Returns:
        uint8 (H, W, 3).
    """
    from matplotlib.figure import Figure

    cells = [_fitted(image_HW3) for image_HW3 in pixels_of(images)]
    columns = min(_COLUMNS, len(cells))
    title_px = _LINE_PX * max(title.count("\n") + 1 for title in titles) + 4
    cell_width, cell_height = _CELL_PX + _GAP_PX, max(map(len, cells)) + title_px + _GAP_PX
    height = -(-len(cells) // columns) * cell_height + _GAP_PX
    sheet = np.full((height + (_LINE_PX if remark else 0), columns * cell_width + _GAP_PX, 3), 255, np.uint8)
    figure = Figure(figsize=(sheet.shape[1] / _DPI, sheet.shape[0] / _DPI), dpi=_DPI)
    for number, (cell, title) in enumerate(zip(cells, titles, strict=True)):
        row, column = divmod(number, columns)
        top = _GAP_PX + row * cell_height + title_px
        left = _GAP_PX + column * cell_width + (_CELL_PX - cell.shape[1]) // 2
        sheet[top : top + cell.shape[0], left : left + cell.shape[1]] = cell
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
    if remark:
        figure.text(_GAP_PX / sheet.shape[1], 6 / sheet.shape[0], remark, fontsize=7.5)
    figure.figimage(sheet)
    return rendered(figure)


def save(picture_HW3: np.ndarray, path: Path) -> None:
    """Writes a PNG."""
    Image.fromarray(picture_HW3).save(path)


def _fitted(image_HW3: np.ndarray) -> np.ndarray:
    """In its proportions, its longer side as long as a cell's; pixels that are enlarged stay squares."""
    scale = _CELL_PX / max(image_HW3.shape[:2])
    height, width = (max(1, round(side * scale)) for side in image_HW3.shape[:2])
    how = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX
    return np.asarray(Image.fromarray(image_HW3).resize((width, height), how))
