"""labels.py: class names are cut, stay on one line, and say their number where letters are missing."""

import pytest
import torch

from logger import labels
from logger.labels import MISSING, answer_titles, class_titles, label_of, remark_on

CLASSES = ["cat", "a class of a very long name", "$x^2$", "두\n줄"]


@pytest.fixture(autouse=True)
def _korean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some machines have a font with Korean letters, and some do not; here there is one for 줄 and none for 두."""
    monkeypatch.setattr(labels, "drawable", lambda text: text.replace("두", "?"))


def test_titles_are_names_cut_and_on_one_line() -> None:
    assert class_titles(torch.tensor([0, 1, 2]), CLASSES) == ["cat", "a class…g name", "$x^2$"]
    assert class_titles(torch.tensor([4, -1]), CLASSES) == ["4", "-1"]
    assert label_of(["two\nlines\x1b[31m"], 0, 26) == "two lines\ufffd[31m"


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("두", "#1"),
        ("두 두", "#1"),
        ("(두)", "#1"),
        ("두 cat", "#1 ? cat"),
        ("두 is a very long name", "#1 ? is a …g name"),
    ],
)
def test_a_name_that_cannot_be_drawn_is_its_number_and_what_is_left(name: str, label: str) -> None:
    assert label_of(["cat", name], 1, 14) == label
    assert remark_on(["cat", name]) == MISSING


def test_names_that_look_like_numbers_of_classes_are_no_missing_letters() -> None:
    assert [label_of(["#0", "b"], index, 26) for index in (0, 1)] == ["#0", "b"]
    assert remark_on(["#0", "b"]) == ""


def test_mixed_images_have_the_two_largest_shares() -> None:
    shares = torch.tensor([[0.25, 0.0, 0.75, 0.0], [1.0, 0.0, 0.0, 0.0], [0.5, 0.0, 0.5, 0.0]])

    titles = class_titles(shares, CLASSES)

    assert titles == ["0.75 $x^2$\n0.25 cat", "cat", "0.50 cat\n0.50 $x^2$"]


def test_a_wrong_answer_is_named_above_the_truth() -> None:
    assert answer_titles([0, 2], [0, 0], CLASSES) == ["cat", "$x^2$\nis cat"]
