"""What a network said of images, and the scores that follow from it: plain arrays, which tables and pages are made of.

Rows of every confusion matrix are true classes, columns are predicted ones.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch


class Answers(NamedTuple):
    """What float32 probabilities cannot say any more: they can be equal where the network's scores are not.

    Args:
        predicted_N: the class of the highest score, of equal ones the first, int64.
        confidence_N: its probability, float64.
        rank_N: the place of the true class among the scores, 1 for the highest; of equal ones the first comes first.
    """

    predicted_N: np.ndarray
    confidence_N: np.ndarray
    rank_N: np.ndarray


@dataclass(frozen=True)
class Judgement:
    """What a network said of N images of K classes, and what is true of them.

    Args:
        classes: names in the order of their indices.
        true_N: class indices, int64.
        probabilities_NK: of each class, float32; rows sum to 1.
        cross_entropy_N: minus the logarithm of the true class's probability, float64, in nats.
        name_of: the name of the image at a position: its file's path, or its part and number.
        image_of: its pixels, uint8 (C, H, W), upright and before any transform, for thumbnails.
        answers: that were found before the probabilities were rounded; by the probabilities where there are none.
    """

    classes: list[str]
    true_N: np.ndarray
    probabilities_NK: np.ndarray
    cross_entropy_N: np.ndarray
    name_of: Callable[[int], str]
    image_of: Callable[[int], torch.Tensor]
    answers: Answers | None = None

    def __len__(self) -> int:
        return len(self.true_N)

    @cached_property
    def predicted_N(self) -> np.ndarray:
        """The most probable class of each image; of equal ones the first."""
        return self.answers.predicted_N if self.answers is not None else self.probabilities_NK.argmax(1)

    @cached_property
    def confidence_N(self) -> np.ndarray:
        """The probability of the predicted class."""
        if self.answers is not None:
            return self.answers.confidence_N
        return self.probabilities_NK[np.arange(len(self)), self.predicted_N].astype(np.float64)

    @cached_property
    def rank_N(self) -> np.ndarray:
        """The place of the true class by probability, 1 for the highest; the top k are right where it is k or less."""
        if self.answers is not None:
            return self.answers.rank_N
        own_N1 = self.probabilities_NK[np.arange(len(self)), self.true_N][:, None]
        is_before_NK = np.arange(len(self.classes)) < self.true_N[:, None]
        is_ahead_NK = (self.probabilities_NK > own_N1) | ((self.probabilities_NK == own_N1) & is_before_NK)
        return 1 + is_ahead_NK.sum(1)

    def most_confident_mistakes(self, limit: int) -> np.ndarray:
        """Positions of wrongly classified images, the most confident first; of equal ones the earlier image first."""
        wrong = np.flatnonzero(self.predicted_N != self.true_N)
        return wrong[np.argsort(-self.confidence_N[wrong], kind="stable")][:limit]


@dataclass(frozen=True)
class Score:
    """One number on all images.

    Args:
        name: such as "balanced_accuracy".
        value: NaN where it is not defined for these images.
        low, high: of its 95 % interval, None where there is none.
        interval: how that was found: "Wilson", "bootstrap", "DeLong", "Newcombe" or "" (logger/intervals.py).
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    interval: str = ""


@dataclass(frozen=True)
class Scores:
    """Everything that is said of a judgement; made by logger/scores.py.

    Args:
        overall: scores of all images, in the order in which they are shown.
        per_class: a row a class: class, support, predicted, precision, recall, f1, auroc, and _low and _high of each of
            those four; NaN where it is not defined.
        confusion_KK: counts, int64.
        confused: (true, predicted, count) of the most confused pairs, the largest count first; without correct ones.
        never_predicted: classes that were true of some image and predicted for none.
        calibration: a row a bin: low, high, count, confidence, accuracy (the last two NaN where it is empty).
        chance: the accuracy of guessing, 1 / K.
        largest_class: the accuracy of always answering the class that most images have.
    """

    overall: list[Score]
    per_class: pd.DataFrame
    confusion_KK: np.ndarray
    confused: list[tuple[int, int, int]]
    never_predicted: list[int]
    calibration: pd.DataFrame
    chance: float
    largest_class: float
