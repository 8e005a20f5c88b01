"""pictures.py: the pixels that were given, each image in its proportions, and titles as they are."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from logger.labels import MISSING
from logger.pictures import draw_answers, draw_batch, draw_grid, pixels_of, save

CLASSES = ["cat", "dog", "$x^2$"]


@pytest.fixture
def texts(monkeypatch):
    """What is written into the next figures, with its settings."""
    written = []
    text = Figure.text

    def noted(self, x, y, s, **settings):
        written.append((s, settings))
        return text(self, x, y, s, **settings)

    monkeypatch.setattr(Figure, "text", noted)
    return written


def test_uint8_stays_and_grey_becomes_three_channels():
    images = torch.randint(0, 256, (2, 3, 4, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    assert np.array_equal(np.stack(pixels_of(images)), images.permute(0, 2, 3, 1).numpy())
    for channels in (1, 2, 4):
        grey = np.stack(pixels_of(images[:, :1].expand(-1, channels, -1, -1)))
        assert all(np.array_equal(grey[..., channel], images[:, 0].numpy()) for channel in range(3))


def test_floats_are_stretched_only_where_they_leave_their_range():
    inside = torch.tensor([0.0, 0.5, 0.25, 0.2]).view(1, 1, 2, 2)
    outside = torch.tensor([-1.0, 3.0, 1.0, 0.0]).view(1, 1, 2, 2)

    assert pixels_of(inside)[0][:, :, 0].tolist() == [[0, 128], [64, 51]]
    assert pixels_of(outside)[0][:, :, 0].tolist() == [[0, 255], [128, 64]]
    assert pixels_of(torch.full((1, 3, 2, 2), 7.0))[0].max() == 0


def test_floats_of_different_sizes_are_stretched_alike_and_uint8_beside_them_stays():
    images = [torch.full((1, 2, 3), -1.0), torch.full((1, 4, 2), 1.0), torch.full((3, 1, 1), 3.0)]

    pixels = pixels_of([*images, torch.full((1, 1, 1), 9, dtype=torch.uint8)])

    assert [one.shape for one in pixels] == [(2, 3, 3), (4, 2, 3), (1, 1, 3), (1, 1, 3)]
    assert [one.max() for one in pixels] == [0, 128, 255, 9]


def test_a_wrong_answer_is_named_beside_the_truth_and_red(texts):
    draw_answers(torch.zeros(2, 3, 4, 4), [0, 2], [0, 0], CLASSES)

    assert [text for text, _ in texts] == ["cat", "$x^2$\nis cat"]
    assert [settings["color"] for _, settings in texts] == ["black", "red"]
    assert not any(settings["parse_math"] for _, settings in texts)


def test_below_names_that_cannot_be_drawn_stands_what_their_numbers_mean(texts):
    plain = draw_batch(torch.zeros(2, 3, 4, 4), torch.tensor([0, 1]), CLASSES)
    remarked = draw_batch(torch.zeros(2, 3, 4, 4), torch.tensor([0, 1]), ["cat", "\U0001e900"])

    assert [text for text, _ in texts] == ["cat", "dog", "cat", "#1", MISSING]
    assert remarked.shape[0] > plain.shape[0]
    assert (remarked[plain.shape[0] - 4 :] < 128).any()


@pytest.mark.parametrize(("count", "height", "width"), [(1, 28, 28), (9, 30, 60), (32, 300, 200), (3, 1, 500)])
def test_each_picture_stands_in_the_grid_in_its_proportions(count, height, width):
    levels = torch.linspace(40, 200, count).round().byte()
    images = levels.view(-1, 1, 1, 1).expand(count, 3, height, width)

    sheet = draw_grid(images, [""] * count)

    for level in levels.tolist():
        rows, columns = np.nonzero((sheet == level).all(axis=2))
        size = rows.max() - rows.min() + 1, columns.max() - columns.min() + 1
        assert size == (
            max(1, round(120 * height / max(height, width))),
            max(1, round(120 * width / max(height, width))),
        )
        assert len(rows) == size[0] * size[1]


def test_images_of_different_sizes_stand_side_by_side():
    sizes = [(28, 28), (300, 200), (60, 240), (1, 500), (500, 1)]
    images = [
        torch.full((1 + 2 * (index % 2), *size), 40 * index, dtype=torch.uint8) for index, size in enumerate(sizes)
    ]

    sheet = draw_answers(images, [1] * 5, [1] * 5, CLASSES)

    tops = []
    for level, (height, width) in zip(range(0, 200, 40), sizes, strict=True):
        rows, columns = np.nonzero((sheet[28:] == level).all(axis=2))
        longest = max(height, width)
        size = max(1, round(120 * height / longest)), max(1, round(120 * width / longest))
        assert (rows.max() - rows.min() + 1, columns.max() - columns.min() + 1) == size
        tops.append(rows.min())
    assert set(tops) == {0}  # each right below its title


def test_a_formula_in_a_name_that_is_none_is_drawn_as_it_is():
    draw_grid(torch.zeros(1, 3, 4, 4), ["$\\frac{$"])


def test_a_picture_is_saved_as_it_is(tmp_path):
    from PIL import Image

    picture = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)

    save(picture, tmp_path / "a.png")

    with Image.open(tmp_path / "a.png") as image:
        assert np.array_equal(np.asarray(image), picture)
