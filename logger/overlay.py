"""Small pictures for people: heat over an image, and a sheet of images with what was said of them. PNG bytes."""

import io
import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from logger.glyphs import drawable, font_file
from logger.pictures import pixels_of
from utils.text import printable

MIN_SIDE_PX, MAX_SIDE_PX = 224, 512
TILE_PX, GAP_PX, LINE_PX, FONT_PX = 160, 8, 16, 13
# Corners of matplotlib's "inferno", so that the strongest heat is the brightest also without colours.
_HEAT_COLOURS = ((0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))


class Tile(NamedTuple):
    """One picture of a sheet: its pixels, uint8 (C, H, W), None where it could not be read, and two lines of text."""

    image_CHW: torch.Tensor | None
    upper: str
    lower: str


def overlay_png(image_CHW: torch.Tensor, heat_HW: torch.Tensor) -> bytes:
    """The image, and beside it the same with heat laid over it.

    Args:
        image_CHW: grey or RGB, see `pixels_of`.
        heat_HW: 0 to 1.
    """
    picture = _picture(image_CHW)
    pair = [_enlarged(picture), _enlarged(_heated(picture, heat_HW))]
    canvas = Image.new("RGB", (2 * pair[0].width + GAP_PX, pair[0].height), "white")
    for number, one in enumerate(pair):
        canvas.paste(one, (number * (one.width + GAP_PX), 0))
    return _png(canvas)


def heat_png(image_CHW: torch.Tensor, heat_HW: torch.Tensor) -> bytes:
    """The image with heat laid over it, alone; see `overlay_png`."""
    return _png(_enlarged(_heated(_picture(image_CHW), heat_HW)))


def _heated(picture: Image.Image, heat_HW: torch.Tensor) -> Image.Image:
    grey_HW1 = np.asarray(picture.convert("L"), np.float32)[:, :, None]
    heat_HW1 = heat_HW.detach().cpu().clamp(0, 1).numpy()[:, :, None]
    stops = np.linspace(0, 1, len(_HEAT_COLOURS))
    colours = np.array(_HEAT_COLOURS, np.float32)
    heat_HW3 = np.stack([np.interp(heat_HW1[:, :, 0], stops, colours[:, channel]) for channel in range(3)], axis=2)
    strength_HW1 = 0.8 * heat_HW1**0.75
    mixed_HW3 = (1 - strength_HW1) * grey_HW1 + strength_HW1 * heat_HW3
    return Image.fromarray(mixed_HW3.round().astype(np.uint8))


def _enlarged(picture: Image.Image) -> Image.Image:
    """Small ones by whole numbers, so that their pixels stay squares; large ones smaller."""
    scale = max(1, math.ceil(MIN_SIDE_PX / min(picture.size)))
    size = (picture.width * scale, picture.height * scale)
    if max(size) > MAX_SIDE_PX:
        size = (
            max(1, round(size[0] * MAX_SIDE_PX / max(size))),
            max(1, round(size[1] * MAX_SIDE_PX / max(size))),
        )
    return picture.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)


def sheet_png(tiles: Sequence[Tile], heading: str) -> bytes:
    """Pictures side by side, each with two lines below it.

    Args:
        tiles: at least one.
        heading: a line above them.
    """
    columns = min(len(tiles), max(3, math.ceil(math.sqrt(len(tiles) * 1.5))))
    rows = -(-len(tiles) // columns)
    step_x, step_y = TILE_PX + GAP_PX, TILE_PX + 2 * LINE_PX + 2 * GAP_PX
    top = LINE_PX + 2 * GAP_PX
    canvas = Image.new("RGB", (columns * step_x + GAP_PX, top + rows * step_y), "white")
    draw = ImageDraw.Draw(canvas)
    _write(draw, (GAP_PX, GAP_PX), heading, canvas.width - 2 * GAP_PX)
    for number, tile in enumerate(tiles):
        left, above = GAP_PX + number % columns * step_x, top + number // columns * step_y
        if tile.image_CHW is None:
            draw.rectangle((left, above, left + TILE_PX - 1, above + TILE_PX - 1), outline="grey")
            draw.line((left, above, left + TILE_PX - 1, above + TILE_PX - 1), fill="grey")
        else:
            picture = _picture(tile.image_CHW)
            scale = TILE_PX / max(picture.size)
            size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
            picture = picture.resize(size, Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.LANCZOS)
            canvas.paste(picture, (left + (TILE_PX - size[0]) // 2, above + (TILE_PX - size[1]) // 2))
        _write(draw, (left, above + TILE_PX + 2), tile.upper, TILE_PX)
        _write(draw, (left, above + TILE_PX + 2 + LINE_PX), tile.lower, TILE_PX, "dimgrey")
    return _png(canvas)


def _picture(image_CHW: torch.Tensor) -> Image.Image:
    return Image.fromarray(pixels_of([image_CHW])[0])


def _write(draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, width_px: int, fill: str = "black") -> None:
    """One line that ends with dots where it would be wider."""
    text = printable(text)
    if not text.isascii():
        text = drawable(text)
    font = _loaded(None if text.isascii() else font_file(text))
    if draw.textlength(text, font) > width_px:
        while text and draw.textlength(f"{text}...", font) > width_px:
            text = text[:-1]
        text += "..."
    draw.text(at, text, fill=fill, font=font)


@cache
def _loaded(file: str | None) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """A font's file; without one Pillow's own, which has no accents and is there at once."""
    return ImageFont.load_default(FONT_PX) if file is None else ImageFont.truetype(file, FONT_PX)


def _png(canvas: Image.Image) -> bytes:
    buffer = io.BytesIO()
    canvas.save(buffer, "PNG")
    return buffer.getvalue()
