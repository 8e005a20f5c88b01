"""figures.py: matplotlib is asked what it would draw; nothing is drawn twice as a formula, and nothing warns."""

import numpy as np
import pytest

from logger.calibration import Calibration
from logger.figures import (
    MAX_NUMBERED,
    MAX_TICKS,
    calibration_figure,
    confusion_figure,
    draw_confusion,
    rendered,
)

AWKWARD = ["$\\alpha$", "<script>", "고양이", 'a/"b",c', "new\nline", "\U00012000", "x" * 200, "ok"]


@pytest.mark.parametrize("num_classes", [1, 2, 10, 100, 1000])
@pytest.mark.parametrize("normalized", [False, True])
def test_a_confusion_matrix_of_any_size_is_drawn(num_classes, normalized):
    classes = [f"n{index:08d}" for index in range(num_classes)]
    confusion_KK = np.diag(np.arange(1, num_classes + 1))
    confusion_KK[0] = 0  # a class without images

    figure = confusion_figure(confusion_KK, classes, normalized=normalized)

    pixels, axis = rendered(figure), figure.axes[0]
    assert pixels.min() < 200
    assert axis.get_ylabel() == "true class"
    assert axis.get_xlabel().startswith("predicted class")
    assert ("one name in" in axis.get_xlabel()) == (num_classes > MAX_TICKS)
    assert len(axis.get_xticks()) == len(axis.get_yticks()) <= MAX_TICKS
    assert len(axis.texts) == (num_classes - 1 if num_classes <= MAX_NUMBERED else 0)
    assert all(0 <= corner <= side for corner, side in zip(figure.axes[0].bbox.max, pixels.shape[1::-1], strict=True))


def test_rows_are_true_classes_and_cells_say_their_numbers():
    confusion_KK = np.array([[3, 1], [0, 6]])

    counts, shares = (confusion_figure(confusion_KK, ["ant", "bee"], normalized=one) for one in (False, True))

    def cells(figure):
        return {text.get_position(): text.get_text() for text in figure.axes[0].texts}

    assert cells(counts) == {(0, 0): "3", (1, 0): "1", (1, 1): "6"}  # (column, row)
    assert cells(shares) == {(0, 0): "0.75", (1, 0): "0.25", (1, 1): "1.00"}
    assert counts.axes[0].get_title() == "9 of 10 images right"
    assert [tick.get_text() for tick in counts.axes[0].get_yticklabels()] == ["ant", "bee"]


def test_no_cell_of_many_is_lost_between_the_pixels():
    confusion_KK = np.zeros((2000, 2000), int)
    confusion_KK[1001, 337] = 5

    figure = confusion_figure(confusion_KK, [str(index) for index in range(2000)])

    shown = figure.axes[0].images[0].get_array()
    assert shown.shape[0] < 1000
    assert shown.max() == 5


def test_awkward_names_are_no_formulas_and_missing_letters_become_numbers():
    num = len(AWKWARD)

    figure = confusion_figure(np.eye(num, dtype=int), AWKWARD)

    rendered(figure)
    labels = figure.axes[0].get_yticklabels()
    assert not any(label.get_parse_math() for label in labels)
    texts = [label.get_text() for label in labels]
    assert texts[:2] == ["$\\alpha$", "<script>"]
    assert texts[5] == "#5"
    assert len(texts[6]) < 30
    assert "#N is class N" in figure.axes[0].get_xlabel()


def test_pixels_are_those_of_shares_of_the_true_class_under_a_title_of_ones_own():
    confusion_KK = np.array([[3, 1, 0], [0, 0, 0], [2, 2, 4]])
    figure = confusion_figure(confusion_KK, ["$\\frac{$", "a_b$", "c"], normalized=True, title="epoch 3")

    pixels_HW3 = draw_confusion(confusion_KK, ["$\\frac{$", "a_b$", "c"], "epoch 3")

    shares = figure.axes[0].images[0].get_array().filled(np.nan)
    assert np.array_equal(shares, [[0.75, 0.25, 0], [np.nan] * 3, [0.25, 0.25, 0.5]], equal_nan=True)
    assert figure.axes[0].get_title() == "epoch 3"
    assert pixels_HW3.dtype == np.uint8
    assert np.array_equal(pixels_HW3, rendered(figure))


def test_bars_of_calibration_stand_where_the_images_are():
    calibration = Calibration(np.array([0.95, 0.97, 0.55]), np.array([True, False, True]))

    figure = calibration_figure(calibration.table(), calibration.error())

    rendered(figure)
    bars = [bar for bar in figure.axes[0].patches if bar.get_height()]
    assert [bar.get_height() for bar in bars] == [1.0, 0.5]
    assert [bar.get_x() + bar.get_width() / 2 for bar in bars] == pytest.approx([8.5 / 15, 14.5 / 15])
    assert figure.axes[0].get_title().startswith(f"expected calibration error {calibration.error():.4f}")
