"""The demo set that needs no download: folders of drawn shapes in the layout of any image folder.

A loader calls `draw_shapes_folder` once, then reads the folder like every other. Place, size, turn, colours
and background vary, so that no single pixel tells the class; a small convolutional network learns it soon.
"""

import json
import math
import os
import random
import secrets
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw

from utils.errors import DataError
from utils.seed import seed_for

SETTINGS_FILE = "shapes.json"
_OVERSAMPLING = 4  # Pillow draws without smoothing; drawn this much larger and reduced, edges come out smooth


def _regular(num_corners: int, radius: float = 1.0, x: float = 0.0) -> np.ndarray:
    angles = np.arange(num_corners) * (2 * math.pi / num_corners)
    return radius * np.column_stack([np.sin(angles), -np.cos(angles)]) + (x, 0.0)


def _centred(corners: ArrayLike) -> np.ndarray:
    points = np.array(corners)
    points -= (points.min(axis=0) + points.max(axis=0)) / 2
    return points / np.linalg.norm(points, axis=1).max()


def _heart() -> np.ndarray:
    t = np.arange(60) * (2 * math.pi / 60)
    y = -13 * np.cos(t) + 5 * np.cos(2 * t) + 2 * np.cos(3 * t) + np.cos(4 * t)
    return _centred(np.column_stack([16 * np.sin(t) ** 3, y]))


_HALF_CROSS = [(-0.3, 1.0), (-0.3, 0.3), (-1.0, 0.3), (-1.0, -0.3), (-0.3, -0.3), (-0.3, -1.0)]
_ARROW = [(0.0, -3.0), (2.2, -0.4), (0.8, -0.4), (0.8, 3.0), (-0.8, 3.0), (-0.8, -0.4), (-2.2, -0.4)]
_BOLT = [(0.2, -3.0), (-2.0, 0.7), (-0.2, 0.7), (-1.1, 3.0), (2.1, -0.9), (0.4, -0.9), (1.9, -3.0)]

# Outlines (N, 2) of points (x, y) within the unit circle, y downwards: the body, and the hole where there is one.
_OUTLINES_OF: dict[str, Callable[[], list[np.ndarray]]] = {
    "circle": lambda: [_regular(60)],
    "square": lambda: [_regular(4)],
    "triangle": lambda: [_regular(3)],
    "star": lambda: [_regular(10) * np.where(np.arange(10) % 2, 0.42, 1.0)[:, None]],
    "cross": lambda: [_centred(_HALF_CROSS + [(-x, -y) for x, y in _HALF_CROSS])],
    "ring": lambda: [_regular(60), _regular(60, radius=0.58)],
    "heart": lambda: [_heart()],
    "crescent": lambda: [_regular(60), _regular(60, radius=0.85, x=0.45)],
    "arrow": lambda: [_centred(_ARROW)],
    "bolt": lambda: [_centred(_BOLT)],
}
SHAPES: tuple[str, ...] = tuple(_OUTLINES_OF)


@dataclass(frozen=True)
class ShapesSettings:
    """All that decides the pixels of the set; the first `num_classes` of `SHAPES` are drawn.

    Raises:
        DataError: A number that cannot be drawn.
    """

    num_classes: int = 8
    train_per_class: int = 300
    val_per_class: int = 50
    test_per_class: int = 50
    image_size_px: int = 64
    seed: int = 0
    # Raise it when a change makes old and new pictures differ, so that nobody mixes the two unknowingly.
    drawing_version: int = field(default=1, init=False)

    def __post_init__(self) -> None:
        limits = {"num_classes": (2, len(SHAPES)), "image_size_px": (16, 1024)}
        limits |= dict.fromkeys(("train_per_class", "val_per_class", "test_per_class"), (1, 10_000))
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                raise DataError(f"{name}: {getattr(self, name)} cannot be drawn; {low} to {high} can")


def draw_shapes_folder(folder: str | os.PathLike[str], settings: ShapesSettings) -> None:
    """Writes folder/{train,val,test}/<class>/<0000>.png, or returns at once where just these are drawn already.

    The folder appears whole or not at all. Of two processes that draw at once, the first to finish wins.

    Raises:
        DataError: The folder holds something else, or cannot be written.
    """
    folder = Path(os.path.realpath(folder))  # renaming needs one disk, which beside a link would not be sure
    if _is_drawn(folder, settings):
        return
    unfinished = folder.with_name(f".{folder.name}.unfinished-{secrets.token_hex(4)}")
    try:
        unfinished.mkdir(parents=True)
        _draw_all(unfinished, settings)
        unfinished.rename(folder)
    except OSError as error:
        if not _is_drawn(folder, settings):
            raise DataError(f"{folder}: cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def draw_shape(name: str, size_px: int, *, seed: int) -> Image.Image:
    """One RGB picture of a shape of `SHAPES`, the same for the same seed (and version of Pillow and numpy)."""
    chance = random.Random(seed)
    is_light = chance.random() < 0.5  # the ground is the other: near in brightness, a shape would be a guess
    canvas = _background(size_px, chance, is_light=not is_light)
    _scatter_clutter(canvas, chance)
    canvas.paste(_colour(chance, is_light=is_light), mask=_shape_mask(name, canvas.width, chance))
    smooth_HWC = np.asarray(canvas.reduce(_OVERSAMPLING))
    noisy_HWC = smooth_HWC + np.random.default_rng(seed).normal(0, chance.uniform(2, 12), smooth_HWC.shape)
    return Image.fromarray(noisy_HWC.round().clip(0, 255).astype(np.uint8))


def _shape_mask(name: str, side: int, chance: random.Random) -> Image.Image:
    radius = side * chance.uniform(0.25, 0.42)
    centre = (chance.uniform(radius, side - radius), chance.uniform(radius, side - radius))
    squeeze = (radius * chance.uniform(0.85, 1), radius)
    angle = chance.uniform(0, 2 * math.pi)
    rotation = np.array([(math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))])
    mask = Image.new("L", (side, side), 0)
    for outline, fill in zip(_OUTLINES_OF[name](), (255, 0), strict=False):
        points = outline * squeeze @ rotation + centre
        ImageDraw.Draw(mask).polygon([tuple(point) for point in points], fill=fill)
    return mask


def _background(size_px: int, chance: random.Random, *, is_light: bool) -> Image.Image:
    """One flat colour, or two that blend into each other or alternate in stripes; already oversampled."""
    style = chance.choice(["flat", "gradient", "stripes"])
    first = np.array(_colour(chance, is_light=is_light))
    second = first if style == "flat" else np.array(_colour(chance, is_light=is_light))
    angle, num_stripes = chance.uniform(0, 2 * math.pi), chance.uniform(3, 8)
    across = np.linspace(-0.5, 0.5, size_px)
    along_HW = across[:, None] * math.sin(angle) + across * math.cos(angle)
    if style == "stripes":
        along_HW = 2 * np.sin(2 * math.pi * num_stripes * along_HW)  # steep, so that the clip leaves bands
    share_HW = (along_HW + 0.5).clip(0, 1)
    pixels_HWC = first + (second - first) * share_HW[:, :, None]
    return Image.fromarray(pixels_HWC.astype(np.uint8).repeat(_OVERSAMPLING, axis=0).repeat(_OVERSAMPLING, axis=1))


def _scatter_clutter(canvas: Image.Image, chance: random.Random) -> None:
    """A few thin lines and dots of any colour, so that "something lies here" is not yet a shape."""
    draw, side = ImageDraw.Draw(canvas), canvas.width
    for _ in range(chance.randint(1, 4)):
        place, end = ((chance.uniform(0, side), chance.uniform(0, side)) for _ in range(2))
        colour = _colour(chance, is_light=chance.random() < 0.5)
        if chance.random() < 0.5:
            draw.line([place, end], fill=colour, width=round(side * chance.uniform(0.012, 0.025)))
        else:
            draw.circle(place, side * chance.uniform(0.015, 0.035), fill=colour)


def _colour(chance: random.Random, *, is_light: bool) -> tuple[int, int, int]:
    """Any colour with a brightness (BT.601 luma) of at most 90, or of at least 165 for a light one."""
    while True:
        red, green, blue = (chance.randrange(256) for _ in range(3))
        luma = 0.299 * red + 0.587 * green + 0.114 * blue
        if luma >= 165 if is_light else luma <= 90:
            return red, green, blue


def _draw_all(folder: Path, settings: ShapesSettings) -> None:
    for split_number, split in enumerate(("train", "val", "test")):
        for class_number, name in enumerate(SHAPES[: settings.num_classes]):
            class_folder = folder / split / name
            class_folder.mkdir(parents=True)
            for index in range(getattr(settings, f"{split}_per_class")):
                seed = seed_for(settings.seed, "shapes", split_number, class_number, index)
                draw_shape(name, settings.image_size_px, seed=seed).save(class_folder / f"{index:04}.png")
    (folder / SETTINGS_FILE).write_text(json.dumps(asdict(settings), indent=2) + "\n", encoding="utf-8")


def _is_drawn(folder: Path, settings: ShapesSettings) -> bool:
    """Whether just these shapes lie there; False where nothing, or an empty folder, is in the way."""
    try:
        if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
            return False
        found = dict(json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError):
        # Such a folder may hold somebody's pictures, so nobody is told to delete it.
        raise DataError(
            f"{folder}: exists and holds no drawn shapes (no {SETTINGS_FILE}); choose another data_dir, or for "
            'pictures of your own the loader {"type": "ImageFolderDataLoader", "args": {"data_dir": ...}}'
        ) from None
    asked = asdict(settings)
    differing = [f"{key}={found.get(key)} (not {asked[key]})" for key in asked if found.get(key) != asked[key]]
    if differing:
        raise DataError(
            f"{folder}: holds shapes drawn with {', '.join(differing)}; choose another data_dir, or delete the folder"
        )
    return True
