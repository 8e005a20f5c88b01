"""What is said of a judgement: scores with intervals, by class too, confusion, calibration, and what chance would give.

Definitions are scikit-learn's, and so are the edges. Where a class has no image, its recall is not defined; where it
was never predicted, its precision; its F1 is not defined where both are so, and else 0. Such classes count in a mean
as scikit-learn counts them: balanced accuracy over the classes that are there, macro F1 over those that are there or
were predicted.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from logger.auroc import Areas, areas_of
from logger.calibration import NUM_BINS, Calibration
from logger.intervals import Replicates, by_replicates, drawn_again, wilson
from logger.judgement import Judgement, Score, Scores

TOP = 5
NUM_CONFUSED = 50


class _Counts(NamedTuple):
    """Of the images: how many are of each class, were given to it, and rightly so; the last axis is that of classes."""

    true: np.ndarray
    predicted: np.ndarray
    right: np.ndarray

    def balanced_accuracy(self) -> np.ndarray:
        """Mean recall of the classes that are there."""
        return _mean_where(self.true > 0, _ratio(self.right, self.true))

    def f1(self) -> np.ndarray:
        """Of each class; NaN where it neither is there nor was predicted."""
        return _ratio(2 * self.right, self.true + self.predicted)

    def macro_f1(self) -> np.ndarray:
        """Its mean over the classes that are there or were predicted."""
        return _mean_where(self.true + self.predicted > 0, self.f1())


def score(judgement: Judgement, seed: int) -> Scores:
    """All scores of a judgement.

    Args:
        judgement: of one image or more.
        seed: the run's; the bootstrap draws from it.
    """
    true_N, predicted_N, num_classes = judgement.true_N, judgement.predicted_N, len(judgement.classes)
    confusion_KK = np.bincount(true_N * num_classes + predicted_N, minlength=num_classes**2)
    confusion_KK = confusion_KK.reshape(num_classes, num_classes)
    counts = _Counts(confusion_KK.sum(1), confusion_KK.sum(0), confusion_KK.diagonal())
    calibration = Calibration(judgement.confidence_N, true_N == predicted_N, NUM_BINS)
    again = drawn_again(true_N, predicted_N, num_classes, judgement.cross_entropy_N, calibration, seed)
    areas = areas_of(true_N, judgement.probabilities_NK)
    return Scores(
        overall=_overall(judgement, counts, calibration, again, areas),
        per_class=_per_class(judgement.classes, counts, again, areas),
        confusion_KK=confusion_KK,
        confused=_confused(confusion_KK),
        never_predicted=np.flatnonzero((counts.true > 0) & (counts.predicted == 0)).tolist(),
        calibration=calibration.table(),
        chance=1 / num_classes,
        largest_class=int(counts.true.max()) / len(judgement),
    )


def _overall(
    judgement: Judgement, counts: _Counts, calibration: Calibration, again: Replicates, areas: Areas
) -> list[Score]:
    """In the order in which they are shown."""
    num_images, drawn = len(judgement), _Counts(again.true_BK, again.predicted_BK, again.right_BK)
    scores = [_fraction("accuracy", int(counts.right.sum()), num_images)]
    if len(judgement.classes) > TOP:
        scores.append(_fraction(f"top_{TOP}_accuracy", int((judgement.rank_N <= TOP).sum()), num_images))
    resampled = {
        "balanced_accuracy": (counts.balanced_accuracy(), drawn.balanced_accuracy(), 1),
        "macro_f1": (counts.macro_f1(), drawn.macro_f1(), 1),
        "cross_entropy": (judgement.cross_entropy_N.mean(), again.cross_entropy_B, np.inf),
        "calibration_error": (calibration.error(), again.calibration_error_B, 1),
    }
    found = {}
    for name, (value, value_B, highest) in resampled.items():
        bounds = by_replicates(float(value), value_B, highest=highest)
        found[name] = _known(Score(name, float(value), *bounds), "bootstrap")
    auroc = _known(Score("auroc", areas.macro, areas.macro_low, areas.macro_high), areas.interval)
    return [
        *scores,
        found["balanced_accuracy"],
        found["macro_f1"],
        auroc,
        found["cross_entropy"],
        found["calibration_error"],
    ]


def _fraction(name: str, num_right: int, num_all: int) -> Score:
    low, high = wilson(np.array([num_right]), np.array([num_all]))
    return Score(name, num_right / num_all, float(low[0]), float(high[0]), "Wilson")


def _known(score: Score, interval: str) -> Score:
    """With the name of its interval, or without any where that is not a number."""
    if score.low is None or score.high is None or np.isnan(score.low) or np.isnan(score.high):
        return Score(score.name, score.value)
    return Score(score.name, score.value, score.low, score.high, interval)


def _per_class(classes: list[str], counts: _Counts, again: Replicates, areas: Areas) -> pd.DataFrame:
    """A row a class; see `Scores.per_class`."""
    f1_K, f1_BK = counts.f1(), _Counts(again.true_BK, again.predicted_BK, again.right_BK).f1()
    f1_bounds = np.array([by_replicates(f1, f1_B, highest=1) for f1, f1_B in zip(f1_K.tolist(), f1_BK.T, strict=True)])
    precision_low, precision_high = wilson(counts.right, counts.predicted)
    recall_low, recall_high = wilson(counts.right, counts.true)
    return pd.DataFrame(
        {
            "class": classes,
            "support": counts.true,
            "predicted": counts.predicted,
            "precision": _ratio(counts.right, counts.predicted),
            "precision_low": precision_low,
            "precision_high": precision_high,
            "recall": _ratio(counts.right, counts.true),
            "recall_low": recall_low,
            "recall_high": recall_high,
            "f1": f1_K,
            "f1_low": f1_bounds[:, 0],
            "f1_high": f1_bounds[:, 1],
            "auroc": areas.area_K,
            "auroc_low": areas.low_K,
            "auroc_high": areas.high_K,
        }
    )


def _confused(confusion_KK: np.ndarray) -> list[tuple[int, int, int]]:
    """(true, predicted, count), the most frequent first, of equal ones by their classes."""
    wrong_KK = confusion_KK.copy()
    np.fill_diagonal(wrong_KK, 0)
    true, predicted = np.nonzero(wrong_KK)
    counts = wrong_KK[true, predicted]
    first = np.argsort(-counts, kind="stable")[:NUM_CONFUSED]
    return list(zip(true[first].tolist(), predicted[first].tolist(), counts[first].tolist(), strict=True))


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


def _mean_where(is_counted: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Over the last axis; at least one value counts."""
    return np.where(is_counted, values, 0).sum(-1) / is_counted.sum(-1)
