"""pictures.py: the pixels that were given, titles as they are, and colours by shares."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from logger.pictures import (
    MAX_NUMBERS,
    answer_titles,
    class_titles,
    draw_confusion,
    draw_grid,
    pixels_of,
    save,
)

CLASSES = ["cat", "a class of a very long name", "$x^2$", "두\n줄"]


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

    assert np.array_equal(pixels_of(images), images.permute(0, 2, 3, 1).numpy())
    grey = pixels_of(images[:, :1])
    assert all(np.array_equal(grey[..., channel], images[:, 0].numpy()) for channel in range(3))
    assert pixels_of(images[:, :2]).shape == (2, 4, 5, 3)


def test_floats_are_stretched_only_where_they_leave_their_range():
    inside = torch.tensor([0.0, 0.5, 0.25, 0.2]).view(1, 1, 2, 2)
    outside = torch.tensor([-1.0, 3.0, 1.0, 0.0]).view(1, 1, 2, 2)

    assert pixels_of(inside)[0, :, :, 0].tolist() == [[0, 128], [64, 51]]
    assert pixels_of(outside)[0, :, :, 0].tolist() == [[0, 255], [128, 64]]
    assert pixels_of(torch.full((1, 3, 2, 2), 7.0)).max() == 0


def test_titles_are_names_cut_and_on_one_line():
    assert class_titles(torch.tensor([0, 1, 2]), CLASSES) == ["cat", "a class of a …", "$x^2$"]
    assert class_titles(torch.tensor([3, 4]), CLASSES)[1] == "4"
    assert "\n" not in class_titles(torch.tensor([3]), CLASSES)[0]


def test_a_name_that_cannot_be_drawn_keeps_its_number(monkeypatch):
    monkeypatch.setattr("logger.pictures.drawable", lambda text: text.replace("두", "?"))

    assert class_titles(torch.tensor([3]), CLASSES) == ["3: ? 줄"]


def test_mixed_images_have_the_two_largest_shares():
    shares = torch.tensor([[0.25, 0.0, 0.75, 0.0], [1.0, 0.0, 0.0, 0.0], [0.5, 0.0, 0.5, 0.0]])

    titles = class_titles(shares, CLASSES)

    assert titles == ["0.75 $x^2$\n0.25 cat", "cat", "0.50 cat\n0.50 $x^2$"]


def test_a_wrong_answer_is_named_beside_the_truth_and_red(texts):
    predicted, true = [0, 2], [0, 0]

    draw_grid(torch.zeros(2, 3, 4, 4), answer_titles(predicted, true, CLASSES), [False, True])

    assert [text for text, _ in texts] == ["cat", "$x^2$\nis cat"]
    assert [settings["color"] for _, settings in texts] == ["black", "red"]
    assert not any(settings["parse_math"] for _, settings in texts)


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


def test_a_formula_in_a_name_that_is_none_is_drawn_as_it_is():
    draw_grid(torch.zeros(1, 3, 4, 4), ["$\\frac{$"])
    draw_confusion(np.eye(2, dtype=int), ["$\\frac{$", "a_b$"], "title")


def test_the_colours_of_a_confusion_are_shares_of_the_true_class(monkeypatch):
    shown = []
    from matplotlib.axes import Axes

    imshow = Axes.imshow
    monkeypatch.setattr(Axes, "imshow", lambda self, array, **how: shown.append(array) or imshow(self, array, **how))

    draw_confusion(np.array([[3, 1, 0], [0, 0, 0], [2, 2, 4]]), ["a", "b", "c"], "")

    assert shown[0].tolist() == [[0.75, 0.25, 0.0], [0.0, 0.0, 0.0], [0.25, 0.25, 0.5]]


@pytest.mark.parametrize(("num_classes", "num_labels"), [(2, 2), (MAX_NUMBERS, MAX_NUMBERS), (100, 25), (1000, 25)])
def test_many_classes_have_no_numbers_and_few_labels(num_classes, num_labels, monkeypatch):
    from matplotlib.axes import Axes

    numbers, labels = [], []
    text, ticks = Axes.text, Axes.set_xticks
    monkeypatch.setattr(Axes, "text", lambda self, x, y, s, **how: numbers.append(s) or text(self, x, y, s, **how))
    monkeypatch.setattr(
        Axes, "set_xticks", lambda self, at, names, **how: labels.extend(names) or ticks(self, at, names, **how)
    )

    draw_confusion(np.eye(num_classes, dtype=int) * 5, [f"c{index}" for index in range(num_classes)], "")

    assert numbers == (["5"] * num_classes if num_classes <= MAX_NUMBERS else [])
    assert len(labels) == num_labels
    assert labels[1] == f"c{-(-num_classes // num_labels)}"


def test_a_picture_is_saved_as_it_is(tmp_path):
    from PIL import Image

    picture = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)

    save(picture, tmp_path / "a.png")

    with Image.open(tmp_path / "a.png") as image:
        assert np.array_equal(np.asarray(image), picture)
