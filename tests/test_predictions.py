"""predictions.py: the file against numpy."""

import csv

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from logger.predictions import Predictions

CLASSES = ["ant", "bee, honey", "고양이"]


def written(path, batches, name_of=str):
    predictions = Predictions(CLASSES)
    for logits_NK, targets_N in batches:
        predictions.add(logits_NK, targets_N)
    predictions.write(path, name_of)
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@given(num_images=st.integers(1, 20), batch_size=st.integers(1, 8), scale=st.sampled_from([0.1, 3.0, 200.0]))
@settings(max_examples=40, derandomize=True, deadline=None)
def test_rows_are_what_numpy_makes_of_all_scores_at_once(tmp_path_factory, num_images, batch_size, scale):
    chance = np.random.default_rng(num_images)
    scores = (chance.standard_normal((num_images, 3)) * scale).astype(np.float32)
    targets = chance.integers(0, 3, num_images)
    starts = range(0, num_images, batch_size)
    batches = [
        (torch.from_numpy(scores[start : start + batch_size]), torch.from_numpy(targets[start : start + batch_size]))
        for start in starts
    ]

    rows = written(tmp_path_factory.getbasetemp() / "predictions.csv", batches, lambda index: f"img/{index}.png")

    shifted = scores.astype(np.float64) - scores.max(1, keepdims=True)
    probabilities = np.exp(shifted) / np.exp(shifted).sum(1, keepdims=True)
    cross_entropies = np.log(np.exp(shifted).sum(1)) - shifted[np.arange(num_images), targets]
    assert [row["path"] for row in rows] == [f"img/{index}.png" for index in range(num_images)]
    assert [row["true"] for row in rows] == [CLASSES[index] for index in targets]
    assert [row["predicted"] for row in rows] == [CLASSES[index] for index in scores.argmax(1)]
    assert [float(row["confidence"]) for row in rows] == pytest.approx(probabilities.max(1), abs=1e-12)
    assert [float(row["cross_entropy"]) for row in rows] == pytest.approx(cross_entropies, rel=1e-9, abs=1e-12)


def test_columns_are_path_true_predicted_confidence_cross_entropy(tmp_path):
    (row,) = written(tmp_path / "p.csv", [(torch.tensor([[0.0, 0.0, np.log(2.0)]]), torch.tensor([0]))])

    assert list(row) == ["path", "true", "predicted", "confidence", "cross_entropy"]
    assert (row["true"], row["predicted"]) == ("ant", "고양이")
    assert float(row["confidence"]) == pytest.approx(0.5)
    assert float(row["cross_entropy"]) == pytest.approx(np.log(4))


def test_log_probabilities_are_taken_as_they_are(tmp_path):
    log_probabilities = torch.tensor([[0.7, 0.2, 0.1]]).log()

    (row,) = written(tmp_path / "p.csv", [(log_probabilities, torch.tensor([1]))])

    assert float(row["confidence"]) == pytest.approx(0.7)
    assert float(row["cross_entropy"]) == pytest.approx(-np.log(0.2))


def test_name_with_a_comma_stays_one_column(tmp_path):
    rows = written(tmp_path / "p.csv", [(torch.eye(3)[1:2], torch.tensor([1]))], lambda index: 'a, "b".png')

    assert (rows[0]["path"], rows[0]["predicted"]) == ('a, "b".png', "bee, honey")
