"""Pictures for people: sizes, where the heat lies, and text of any kind."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from logger.overlay import GAP_PX, Tile, overlay_png, sheet_png


def pixels_of(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB")).astype(int)


@pytest.mark.parametrize(
    ("channels", "height", "width", "shown"),
    [
        (3, 64, 64, (256, 256)),
        (1, 28, 28, (224, 224)),
        (3, 300, 600, (256, 512)),
        (3, 1, 1, (224, 224)),
        (4, 2, 900, (1, 512)),
    ],
)
def test_the_image_and_its_heat_stand_side_by_side(
    channels: int, height: int, width: int, shown: tuple[int, int]
) -> None:
    image = torch.full((channels, height, width), 100, dtype=torch.uint8)

    pixels = pixels_of(overlay_png(image, torch.zeros(height, width)))

    assert pixels.shape == (shown[0], 2 * shown[1] + GAP_PX, 3)
    assert np.all(pixels[:, : shown[1]] == 100)
    assert np.all(pixels[:, shown[1] + GAP_PX :] == 100)


def test_heat_is_bright_where_it_is() -> None:
    heat = torch.zeros(64, 64)
    heat[:32] = 1

    pixels = pixels_of(overlay_png(torch.full((3, 64, 64), 100, dtype=torch.uint8), heat))[:, 264:]

    assert pixels[:120].mean() > 180
    assert pixels[136:].mean() == 100


def test_floats_are_stretched() -> None:
    pixels = pixels_of(overlay_png(torch.linspace(-2, 2, 64 * 64).view(1, 64, 64), torch.zeros(64, 64)))

    assert (pixels[:, :256].min(), pixels[:, :256].max()) == (0, 255)


@pytest.mark.parametrize("count", [1, 2, 48])
def test_a_sheet_has_a_place_for_each(count: int) -> None:
    tiles = [Tile(torch.zeros(3, 10, 30, dtype=torch.uint8), "0.93 코끼리", "very long name " * 9)] * (count - 1)

    pixels = pixels_of(sheet_png([*tiles, Tile(None, "not read", "x\n\udce9.png")], "all"))

    columns = min(count, max(3, int(np.ceil(np.sqrt(count * 1.5)))))
    assert pixels.shape[1] == columns * 168 + 8
    assert int((pixels.sum(2) == 0).sum()) > (count - 1) * 160 * 50


def test_letters_that_no_font_has_are_question_marks_and_no_boxes() -> None:
    tile = torch.zeros(3, 8, 8, dtype=torch.uint8)

    strange, asked = (sheet_png([Tile(tile, f"é {sign}", "")], "all") for sign in ("\U0001e900", "?"))

    assert np.array_equal(pixels_of(strange), pixels_of(asked))


def test_letters_with_accents_are_not_boxes() -> None:
    tile = torch.zeros(3, 8, 8, dtype=torch.uint8)

    cedilla, acute = (sheet_png([Tile(tile, letter, "")], "all") for letter in "çé")

    assert not np.array_equal(pixels_of(cedilla), pixels_of(acute))
