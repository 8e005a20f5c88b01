"""predictions.py: the file and the judgement against numpy."""

import csv

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from logger.predictions import Predictions, top_classes, write_predictions
from utils.errors import DataError

CLASSES = ["ant", "bee, honey", "고양이"]
NO_PIXELS = torch.zeros(3, 1, 1, dtype=torch.uint8)


def judged(batches, name_of=str, *, classes=CLASSES, temperature=1.0):
    predictions = Predictions(classes)
    for logits_NK, targets_N in batches:
        predictions.add(logits_NK, targets_N)
    return predictions.judgement(name_of, lambda _: NO_PIXELS, temperature=temperature)


def written(path, batches, name_of=str, **options):
    write_predictions(path, judged(batches, name_of), **options)
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def cases(num_images, batch_size, scale, num_classes=3):
    chance = np.random.default_rng(num_images)
    scores = (chance.standard_normal((num_images, num_classes)) * scale).astype(np.float32)
    targets = chance.integers(0, num_classes, num_images)
    starts = range(0, num_images, batch_size)
    batches = [
        (torch.from_numpy(scores[start : start + batch_size]), torch.from_numpy(targets[start : start + batch_size]))
        for start in starts
    ]
    return scores, targets, batches


@given(num_images=st.integers(1, 20), batch_size=st.integers(1, 8), scale=st.sampled_from([0.1, 3.0, 200.0]))
@settings(max_examples=40, derandomize=True, deadline=None)
def test_rows_are_what_numpy_makes_of_all_scores_at_once(tmp_path_factory, num_images, batch_size, scale):
    scores, targets, batches = cases(num_images, batch_size, scale)

    path = tmp_path_factory.getbasetemp() / "predictions.csv"
    rows = written(path, batches, lambda index: f"img/{index}.png", all_probabilities=True)

    shifted = scores.astype(np.float64) - scores.max(1, keepdims=True)
    probabilities = np.exp(shifted) / np.exp(shifted).sum(1, keepdims=True)
    cross_entropies = np.log(np.exp(shifted).sum(1)) - shifted[np.arange(num_images), targets]
    order = np.argsort(-scores, axis=1)
    assert [row["path"] for row in rows] == [f"img/{index}.png" for index in range(num_images)]
    assert [row["true"] for row in rows] == [CLASSES[index] for index in targets]
    assert [row["predicted"] for row in rows] == [CLASSES[index] for index in scores.argmax(1)]
    assert [float(row["confidence"]) for row in rows] == pytest.approx(probabilities.max(1), abs=1e-12)
    assert [float(row["cross_entropy"]) for row in rows] == pytest.approx(cross_entropies, rel=1e-9, abs=1e-12)
    assert [int(row["true_rank"]) for row in rows] == (1 + (order == targets[:, None]).argmax(1)).tolist()
    for place in (1, 2):
        chosen = order[:, place]
        for row, index, probability in zip(rows, chosen, probabilities[np.arange(num_images), chosen], strict=True):
            assert row[f"top_{place + 1}"] == CLASSES[index] or probability < 1e-37  # is 0 in single precision
        column = [float(row[f"top_{place + 1}_probability"]) for row in rows]
        assert column == pytest.approx(probabilities[np.arange(num_images), chosen], abs=1e-7)
    for index, name in enumerate(CLASSES):
        column = [float(row[f"probability of {name}"]) for row in rows]
        assert column == pytest.approx(probabilities[:, index], abs=1e-7)


def test_columns_are_these_in_this_order(tmp_path):
    (row,) = written(tmp_path / "p.csv", [(torch.tensor([[0.0, 0.0, np.log(2.0)]]), torch.tensor([0]))])

    columns = ["path", "true", "predicted", "confidence", "cross_entropy", "true_rank"]
    assert list(row) == [*columns, "top_2", "top_2_probability", "top_3", "top_3_probability"]
    assert (row["true"], row["predicted"], row["true_rank"]) == ("ant", "고양이", "2")
    assert (row["top_2"], row["top_3"]) == ("ant", "bee, honey")  # of equal ones the first comes first
    assert float(row["confidence"]) == pytest.approx(0.5)
    assert float(row["cross_entropy"]) == pytest.approx(np.log(4))


def test_log_probabilities_are_taken_as_they_are(tmp_path):
    log_probabilities = torch.tensor([[0.7, 0.2, 0.1]]).log()

    (row,) = written(tmp_path / "p.csv", [(log_probabilities, torch.tensor([1]))])

    assert float(row["confidence"]) == pytest.approx(0.7)
    assert float(row["cross_entropy"]) == pytest.approx(-np.log(0.2))


def test_names_with_commas_quotes_and_tags_stay_one_column(tmp_path):
    classes = ['a,"b"', "$x$\n<script>", "꽃/나무"]
    judgement = judged([(torch.eye(3), torch.tensor([1, 2, 0]))], lambda index: f'{index}, "b".png', classes=classes)

    write_predictions(tmp_path / "p.csv", judgement, all_probabilities=True)

    with open(tmp_path / "p.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == ['0, "b".png', '1, "b".png', '2, "b".png']
    assert [row["predicted"] for row in rows] == classes
    assert [row["true"] for row in rows] == [classes[1], classes[2], classes[0]]
    assert {f"probability of {name}" for name in classes} <= set(rows[0])


def test_two_classes_that_rounding_makes_equal_are_told_apart_by_the_scores():
    # Both have 0.5 in single precision, and the second is ahead by one part in a hundred million.
    scores = torch.tensor([[0.0, 1e-8, -1000.0]])

    judgement = judged([(scores, torch.tensor([0]))])

    assert judgement.probabilities_NK[0, 0] == judgement.probabilities_NK[0, 1]
    assert judgement.predicted_N.tolist() == [1]
    assert judgement.rank_N.tolist() == [2]
    assert top_classes(judgement, 2)[0].tolist() == [[1, 0]]


def test_a_temperature_changes_probabilities_and_no_predicted_class():
    _, _, batches = cases(50, 7, 3.0)

    plain, warm = judged(batches), judged(batches, temperature=2.5)

    scores = np.concatenate([logits.numpy() for logits, _ in batches]).astype(np.float64) / 2.5
    expected = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    assert warm.probabilities_NK == pytest.approx(expected, abs=1e-7)
    assert warm.predicted_N.tolist() == plain.predicted_N.tolist()
    assert warm.rank_N.tolist() == plain.rank_N.tolist()


@pytest.mark.parametrize("row", [[np.nan, 0.0, 0.0], [np.inf, 0.0, 0.0], [-np.inf] * 3])
def test_scores_that_are_not_numbers_are_refused_naming_the_image(row):
    batches = [(torch.eye(3), torch.tensor([0, 1, 2])), (torch.tensor([row]), torch.tensor([0]))]

    with pytest.raises(DataError, match=r"^img/3.png: the network's scores of this image are not numbers \(1 of 4"):
        judged(batches, lambda index: f"img/{index}.png")


def test_a_class_that_is_ruled_out_has_no_probability():
    judgement = judged([(torch.tensor([[0.0, -np.inf, 0.0]]), torch.tensor([1]))])

    assert judgement.probabilities_NK.tolist() == [[0.5, 0.0, 0.5]]
    assert judgement.cross_entropy_N.tolist() == [np.inf]
    assert judgement.rank_N.tolist() == [3]
