"""tables.py: what the screen says, and that it stays aligned."""

import re

import numpy as np
import pytest
import torch

from logger.judgement import Judgement
from logger.scores import score
from logger.tables import screen, table
from utils.text import columns_of

NAMES = ["고양이", "a very long name of a class that goes on", "$x$", "\x1b[31mred", "<script>"]


def judgement_of(true, predicted, classes, confidence=0.9):
    num_classes = len(classes)
    probabilities_NK = np.full((len(true), num_classes), (1 - confidence) / (num_classes - 1), np.float32)
    probabilities_NK[np.arange(len(true)), predicted] = confidence
    cross_entropy_N = -np.log(probabilities_NK[np.arange(len(true)), true].astype(float))
    pixels = torch.zeros(3, 2, 2, dtype=torch.uint8)
    path = "/data/사진/a folder of a long name/another folder/IMG_{:06d}.jpg"
    return Judgement(classes, np.array(true), probabilities_NK, cross_entropy_N, path.format, lambda _: pixels)


def shown(judgement, width, monkeypatch, **others):
    monkeypatch.setenv("COLUMNS", str(width))
    return screen(judgement, score(judgement, 0), others)


def test_cells_of_a_column_begin_or_end_at_the_same_place():
    lines = table([("name", "n"), ("고양이", "1"), ("cat", "1,000")]).splitlines()

    assert lines == ["name        n", "고양이      1", "cat     1,000"]
    assert {columns_of(line) for line in lines} == {13}


@pytest.mark.parametrize("width", [80, 120])
def test_every_line_fits_the_terminal(width, monkeypatch):
    true, predicted = [0, 0, 1, 1, 2, 2, 3, 3, 0], [0, 1, 1, 0, 2, 3, 3, 2, 1]

    text = shown(judgement_of(true, predicted, NAMES), width, monkeypatch, loss=0.5)

    assert max(map(columns_of, text.splitlines())) <= width
    assert "\x1b" not in text
    assert "IMG_000001.jpg" in text


def test_numbers_are_those_of_the_images(monkeypatch):
    true, predicted = [0, 0, 0, 1, 2], [0, 1, 1, 1, 0]

    text = shown(judgement_of(true, predicted, ["ant", "bee", "wasp"]), 80, monkeypatch, loss=1.25, accuracy=0.4)

    assert re.search(r"^accuracy +0\.4000  0\.1176 to 0\.7693 +Wilson$", text, re.MULTILINE)
    assert text.count("accuracy  ") == 3  # the config's is the same number, and is not repeated
    assert re.search(r"^loss +1\.2500$", text, re.MULTILINE)
    assert re.search(r"^ +0\.6000  always saying ant, the largest class$", text, re.MULTILINE)
    assert re.search(r"^ +0\.3333  guessing among 3 classes$", text, re.MULTILINE)
    assert re.search(r"^ant +3 +2 +0\.5000 +0\.3333 +0\.4000 ", text, re.MULTILINE)
    assert re.search(r"^wasp +1 +0 +- +0\.0000 +0\.0000 ", text, re.MULTILINE)
    assert re.search(r"^ +2 +66\.7 % +ant +bee$", text, re.MULTILINE)
    assert re.search(r"^ +0\.9000 +ant +bee +.*IMG_000001\.jpg$", text, re.MULTILINE)
    assert text.endswith("never predicted, 1 of the classes: wasp")


def test_of_many_classes_the_worst_are_shown_and_it_is_said(monkeypatch):
    classes = [f"c{index:02d}" for index in range(30)]
    true = np.repeat(np.arange(29), 2)  # the last class has no images
    predicted = np.where(np.arange(58) < 4, true, (true + 1) % 30)
    predicted[10:] = true[10:]

    text = shown(judgement_of(true, predicted, classes), 80, monkeypatch)

    rows = re.findall(r"^c\d\d +\d", text, re.MULTILINE)
    assert "the 20 classes with the lowest F1, of 30 (all are in per_class.csv)" in text
    assert len(rows) == 20
    assert [row[:3] for row in rows[:2]] == ["c02", "c03"]
    assert not any(row.startswith("c29") for row in rows)


def test_where_all_are_right_nothing_is_said_of_mistakes(monkeypatch):
    text = shown(judgement_of([0, 1, 2], [0, 1, 2], ["a", "b", "c"]), 80, monkeypatch)

    assert "confused" not in text
    assert "mistakes" not in text
    assert "never predicted" not in text
