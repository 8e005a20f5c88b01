"""logger/scores.py, and what it is made of, against scikit-learn, torchmetrics and loops, from predictions.csv too."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from torchmetrics.classification import MulticlassCalibrationError

from logger.auroc import areas_of
from logger.calibration import Calibration
from logger.intervals import Z, by_replicates, newcombe, wilson
from logger.predictions import Predictions, write_predictions
from logger.scores import score

NO_PIXELS = torch.zeros(3, 1, 1, dtype=torch.uint8)


def judgement_of(scores_NK, targets_N):
    predictions = Predictions([f"class {index}" for index in range(scores_NK.shape[1])])
    predictions.add(torch.as_tensor(scores_NK), torch.as_tensor(targets_N))
    return predictions.judgement(str, lambda _: NO_PIXELS)


def case(seed, num_images, num_classes, num_true, gain, digits=None):
    """Scores and true classes; only the first `num_true` classes occur, and with `digits` many scores are equal."""
    chance = np.random.default_rng(seed)
    targets_N = chance.integers(0, num_true, num_images)
    scores_NK = chance.standard_normal((num_images, num_classes)).astype(np.float32)
    scores_NK[np.arange(num_images), targets_N] += gain
    return (scores_NK if digits is None else scores_NK.round(digits)), targets_N


def value_of(scores, name):
    return next(one.value for one in scores.overall if one.name == name)


def auroc_of(targets_N, probabilities_NK):
    """Of each class, or NaN; by scikit-learn, one class at a time."""
    areas = []
    for index in range(probabilities_NK.shape[1]):
        is_own = targets_N == index
        is_defined = 0 < is_own.sum() < len(is_own)
        areas.append(sk.roc_auc_score(is_own, probabilities_NK[:, index]) if is_defined else np.nan)
    return np.array(areas)


@given(
    seed=st.integers(0, 1000),
    num_images=st.integers(1, 60),
    num_classes=st.sampled_from([1, 2, 3, 5, 6, 10, 40, 1000]),
    num_true=st.sampled_from([1, 2, 4, 1000]),
    gain=st.sampled_from([-3.0, 0.0, 2.0, 30.0]),
    digits=st.sampled_from([None, 0]),
)
@example(seed=0, num_images=1, num_classes=1, num_true=1, gain=0.0, digits=None)
@example(seed=0, num_images=60, num_classes=2, num_true=1, gain=0.0, digits=0)
@settings(max_examples=60, derandomize=True, deadline=None)
def test_every_score_is_scikit_learns_of_the_file(
    tmp_path_factory, seed, num_images, num_classes, num_true, gain, digits
):
    scores_NK, targets_N = case(seed, num_images, num_classes, min(num_true, num_classes), gain, digits)
    judgement = judgement_of(scores_NK, targets_N)
    path = tmp_path_factory.getbasetemp() / "predictions.csv"
    write_predictions(path, judgement, all_probabilities=True)

    scores = score(judgement, seed)

    table = pd.read_csv(path, dtype=str)  # Python reads numbers to their last digit
    true, predicted, names = table["true"], table["predicted"], judgement.classes
    probabilities_NK = table[[f"probability of {name}" for name in names]].to_numpy().astype(float)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's, of one class, or of one that was predicted and is not there
        expected = {
            "accuracy": sk.accuracy_score(true, predicted),
            "balanced_accuracy": sk.balanced_accuracy_score(true, predicted),
            "macro_f1": sk.f1_score(true, predicted, average="macro", zero_division=0),
            "cross_entropy": table["cross_entropy"].astype(float).mean(),
        }
        confusion_KK = sk.confusion_matrix(true, predicted, labels=names)
        by_class = sk.precision_recall_fscore_support(true, predicted, labels=names, zero_division=np.nan)
    area_K = auroc_of(targets_N, probabilities_NK)
    expected["auroc"] = area_K[~np.isnan(area_K)].mean() if not np.isnan(area_K).all() else np.nan
    if num_classes > 5:
        expected["top_5_accuracy"] = (table["true_rank"].astype(int) <= 5).mean()
    for name, value in expected.items():
        assert value_of(scores, name) == pytest.approx(value, abs=1e-6, nan_ok=True), name
    assert {one.name for one in scores.overall} == {*expected, "calibration_error"}
    for column, values in zip(("precision", "recall", "f1", "support"), by_class, strict=True):
        assert scores.per_class[column].to_numpy() == pytest.approx(values, abs=1e-6, nan_ok=True), column
    assert scores.per_class["auroc"].to_numpy() == pytest.approx(area_K, abs=1e-6, nan_ok=True)
    assert (scores.confusion_KK == confusion_KK).all()
    assert scores.never_predicted == [k for k, name in enumerate(names) if name in set(true) - set(predicted)]
    assert scores.chance == 1 / num_classes
    assert scores.largest_class == pytest.approx(true.value_counts().max() / num_images)
    for one in scores.overall:
        assert one.low is None or 0 <= one.low <= one.value <= one.high


@given(seed=st.integers(0, 1000), num_classes=st.integers(6, 50), gain=st.sampled_from([0.0, 2.0]))
@settings(max_examples=20, derandomize=True, deadline=None)
def test_top_5_is_scikit_learns_where_no_scores_are_equal(seed, num_classes, gain):
    scores_NK, targets_N = case(seed, 80, num_classes, num_classes, gain)

    found = value_of(score(judgement_of(scores_NK, targets_N), 0), "top_5_accuracy")

    expected = sk.top_k_accuracy_score(targets_N, scores_NK, k=5, labels=range(num_classes))
    assert found == pytest.approx(expected, abs=1e-12)


def test_of_equal_scores_the_first_class_comes_first():
    scores_NK = np.zeros((7, 7), np.float32)

    found = value_of(score(judgement_of(scores_NK, np.arange(7)), 0), "top_5_accuracy")

    assert found == 5 / 7


@given(seed=st.integers(0, 1000), num_classes=st.integers(2, 30), scale=st.sampled_from([0.3, 1.0, 4.0]))
@settings(max_examples=30, derandomize=True, deadline=None)
def test_the_calibration_error_is_that_of_torchmetrics_away_from_the_edges(seed, num_classes, scale):
    scores_NK, targets_N = case(seed, 200, num_classes, num_classes, 1.0)
    scores_NK = scores_NK.astype(np.float64) * scale
    judgement = judgement_of(scores_NK, targets_N)
    at_edge = np.abs(judgement.confidence_N * 15 % 1 - 0.5) > 0.4999  # which belongs to the lower bin there
    scores_NK, targets_N = scores_NK[~at_edge], targets_N[~at_edge]

    found = value_of(score(judgement_of(scores_NK, targets_N), 0), "calibration_error")

    theirs = MulticlassCalibrationError(num_classes, n_bins=15, norm="l1")
    probabilities_NK = torch.as_tensor(scores_NK).softmax(1)
    assert found == pytest.approx(float(theirs(probabilities_NK, torch.as_tensor(targets_N))), abs=1e-6)


def test_a_bin_of_confidence_holds_its_upper_edge():
    calibration = Calibration(np.array([1 / 15, 1 / 15 + 1e-9, 0.2, 1.0, 1.0]), np.array([1, 1, 0, 1, 0]) > 0)

    table = calibration.table()

    assert table["count"].tolist() == [1, 1, 1, *[0] * 11, 2]
    assert table["confidence"][14] == 1.0
    assert table["accuracy"][14] == 0.5
    assert table["accuracy"].isna().sum() == 11
    assert calibration.error() == pytest.approx((14 / 15 + 14 / 15 + 0.2 + 1) / 5)


def test_wilson_solves_its_equation():
    # The bounds are those fractions from which the observed one is just Z standard errors away.
    right, total = np.array([0, 1, 7, 24, 25, 990]), np.array([10, 10, 10, 25, 25, 1000])

    bounds = wilson(right, total)

    for bound in bounds:
        away = np.abs(right / total - bound) - Z * np.sqrt(bound * (1 - bound) / total)
        assert away == pytest.approx(0, abs=1e-12)
    assert (bounds[0] <= right / total).all()
    assert (bounds[1] >= right / total).all()
    assert np.isnan(wilson(np.array([0]), np.array([0]))).all()


def test_newcombe_is_near_hanley_and_mcneil_for_many_images_and_has_a_width_at_1():
    area, num = np.array([0.8]), np.array([5000])
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    error = np.sqrt((area * (1 - area) + (num - 1) * (q1 - area**2) + (num - 1) * (q2 - area**2)) / num**2)

    low, high = newcombe(area, num, num)

    assert low == pytest.approx(area - Z * error, abs=2e-4)
    assert high == pytest.approx(area + Z * error, abs=2e-4)
    low, high = newcombe(np.array([1.0, 0.0, np.nan]), np.array([10, 10, 0]), np.array([20, 20, 30]))
    assert 0.7 < low[0] < 0.95
    assert (high[0], low[1]) == (1.0, 0.0)
    assert high[1] == pytest.approx(1 - low[0])
    assert np.isnan([low[2], high[2]]).all()


def test_the_interval_of_the_mean_area_is_delongs_and_near_a_bootstrap():
    scores_NK, targets_N = case(3, 300, 4, 4, 1.0)
    probabilities_NK = judgement_of(scores_NK, targets_N).probabilities_NK
    chance = np.random.default_rng(0)

    found = areas_of(targets_N, probabilities_NK)

    means = []
    for _ in range(400):
        drawn = chance.integers(0, 300, 300)
        means.append(areas_of(targets_N[drawn], probabilities_NK[drawn]).macro)
    assert found.interval == "DeLong"
    assert found.macro_high - found.macro_low == pytest.approx(2 * Z * np.std(means), rel=0.12)


def test_delongs_variance_of_two_classes_is_the_textbooks():
    scores_NK, targets_N = case(5, 60, 2, 2, 1.0)
    probabilities_NK = judgement_of(scores_NK, targets_N).probabilities_NK
    own, others = probabilities_NK[targets_N == 1, 1], probabilities_NK[targets_N == 0, 1]
    wins = (own[:, None] > others) + 0.5 * (own[:, None] == others)
    variance = wins.mean(1).var() / len(own) + wins.mean(0).var() / len(others)
    area = wins.mean()

    found = areas_of(targets_N, probabilities_NK)

    half = Z * np.sqrt(variance) / (area * (1 - area))
    assert found.macro == pytest.approx(area, abs=1e-12)
    assert np.log(found.macro_high / (1 - found.macro_high)) == pytest.approx(np.log(area / (1 - area)) + half)


def test_intervals_hold_what_they_are_intervals_of_nine_times_in_ten():
    """The fraction of cases in which the score of many images lies in the interval of a few."""
    gain, num_classes = 1.5, 20
    large = score(judgement_of(*case(0, 100_000, num_classes, num_classes, gain)), 0)
    names = [one.name for one in large.overall if one.name != "calibration_error"]

    holds = dict.fromkeys(names, 0)
    for seed in range(1, 31):
        for one in score(judgement_of(*case(seed, 200, num_classes, num_classes, gain)), seed).overall:
            if one.name in holds:
                holds[one.name] += one.low <= value_of(large, one.name) <= one.high

    assert all(count >= 25 for count in holds.values()), holds  # of 30; 1 in 300 of 95 % ones would fall below


def test_replicates_that_lie_to_one_side_are_moved_back():
    low, high = by_replicates(0.5, np.linspace(0.3, 0.4, 1001), highest=1)

    assert low == 0.5
    assert high == pytest.approx(0.3975 + 2 * 0.15)
    assert by_replicates(0.99, np.linspace(0.9, 1.0, 11), highest=1)[1] == 1
    assert np.isnan(by_replicates(np.nan, np.array([0.5]), highest=1)).all()
    assert by_replicates(0.5, np.array([np.nan, 0.5]), highest=1) == (0.5, 0.5)


def test_the_same_seed_gives_the_same_intervals_and_another_gives_others():
    judgement = judgement_of(*case(1, 50, 3, 3, 1.0))

    assert score(judgement, 7).overall == score(judgement, 7).overall
    assert score(judgement, 7).overall != score(judgement, 8).overall


def test_confused_pairs_are_the_most_frequent_without_the_right_ones():
    true = np.repeat([0, 0, 1, 2, 2], [9, 2, 3, 4, 1])
    predicted = np.repeat([0, 1, 2, 1, 0], [9, 2, 3, 4, 1])

    scores = score(judgement_of(np.eye(3, dtype=np.float32)[predicted], true), 0)

    assert scores.confused == [(2, 1, 4), (1, 2, 3), (0, 1, 2), (2, 0, 1)]


def test_most_confident_mistakes_come_first_and_of_equal_ones_the_earlier():
    scores_NK = np.array([[3, 0], [0, 1], [2, 0], [9, 0], [2, 0]], np.float32)

    judgement = judgement_of(scores_NK, np.array([1, 0, 1, 0, 1]))

    assert judgement.most_confident_mistakes(3).tolist() == [0, 2, 4]
    assert judgement.most_confident_mistakes(9).tolist() == [0, 2, 4, 1]


def test_a_judgement_of_probabilities_alone_says_the_same():
    full = judgement_of(*case(2, 40, 8, 8, 1.0))

    bare = type(full)(full.classes, full.true_N, full.probabilities_NK, full.cross_entropy_N, str, full.image_of)

    assert bare.predicted_N.tolist() == full.predicted_N.tolist()
    assert bare.rank_N.tolist() == full.rank_N.tolist()
    assert bare.confidence_N == pytest.approx(full.confidence_N, abs=1e-7)
