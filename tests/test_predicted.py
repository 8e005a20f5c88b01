"""Rows of predictions: exact numbers, whole lines, any names."""

import csv
import io
import json

import numpy as np
import pytest
import torch

from logger.predicted import KINDS, CsvRows, JsonLines, JsonList, Rows, Said, ranked
from logger.predictions import Predictions

CLASSES = ["a,b", 'c"d', "코끼리"]
SAID = [
    Said("x\ny.png", ["a,b", "코끼리"], [0.1 + 0.2, 1e-17], [0.30000000000000004, 0.7, 1e-17]),
    Said("caf\udce9.png", error="empty file"),
]


def written(kind: type[Rows], said: list[Said] = SAID) -> str:
    file = io.BytesIO()
    rows = kind(file, CLASSES, 2, with_all=True)
    for one in said:
        rows.add([one])
    rows.close()
    return file.getvalue().decode("utf-8")


def test_csv_comes_back_to_the_last_digit() -> None:
    header, first, second = csv.reader(io.StringIO(written(CsvRows), newline=""))

    assert header == [
        *("path", "predicted", "confidence", "predicted_2", "confidence_2"),
        *(f"probability of {name}" for name in CLASSES),
        "error",
    ]
    assert first == [
        "x\ny.png",
        "a,b",
        "0.30000000000000004",
        "코끼리",
        "1e-17",
        "0.30000000000000004",
        "0.7",
        "1e-17",
        "",
    ]
    assert second == ["caf\\udce9.png", *[""] * 7, "empty file"]


def test_json_comes_back_and_its_two_forms_are_the_same() -> None:
    objects = json.loads(written(JsonList))

    assert [json.loads(line) for line in written(JsonLines).splitlines()] == objects
    assert objects[0]["confidence"] == 0.1 + 0.2
    assert objects[0]["top"][1] == {"class": "코끼리", "confidence": 1e-17}
    assert list(objects[0]["probabilities"]) == CLASSES
    assert objects[1] == {"path": "caf\udce9.png", "error": "empty file"}
    assert json.loads(written(JsonList, [])) == []


@pytest.mark.parametrize("kind", KINDS.values())
def test_what_was_written_so_far_is_whole_lines(kind: type[Rows]) -> None:
    file = io.BytesIO()
    rows = kind(file, CLASSES, 1, with_all=False)

    rows.add([Said("1.png", ["a,b"], [0.5]), Said("2.png", ["a,b"], [0.5])])

    last = file.getvalue().decode().splitlines()[-1]
    assert last.startswith("2.png,") or json.loads(last)["path"] == "2.png"


def test_ranks_equal_numpy_and_the_confidence_that_of_test_py() -> None:
    logits = torch.randn(37, 11, generator=torch.Generator().manual_seed(0)) * 5
    logits[3, 2] = logits[3, 7] = 40
    of_test = Predictions([str(index) for index in range(11)])
    of_test.add(logits, torch.zeros(37, dtype=torch.int64))

    best, confidences, probabilities = ranked(logits, 4)

    exact = np.exp(logits.numpy().astype(np.float64))
    exact /= exact.sum(1, keepdims=True)
    assert np.allclose(probabilities, exact, rtol=1e-12)
    order = np.argsort(-logits.numpy(), axis=1, kind="stable")[:, :4]
    assert best == order.tolist()
    assert best[3][:2] == [2, 7]
    assert np.allclose(confidences, np.take_along_axis(exact, order, 1), rtol=1e-12)
    judged = of_test.judgement(str, lambda position: torch.zeros(3, 1, 1, dtype=torch.uint8))
    assert [row[0] for row in confidences] == judged.confidence_N.tolist()
    assert [row[0] for row in best] == judged.predicted_N.tolist()


def test_a_temperature_divides_the_scores() -> None:
    logits = torch.tensor([[2.0, 0.0]])

    _, ((confidence,),), _ = ranked(logits, 1, 4.0)

    assert confidence == pytest.approx(1 / (1 + np.exp(-0.5)), rel=1e-15)
