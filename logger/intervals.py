"""95 % intervals of scores: Wilson for fractions, Newcombe and DeLong for AUROC, the bootstrap for all else.

An interval says how far the score of other images of the same kind could lie from that of these; what another training
run would give, it does not say.
"""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from logger.calibration import Calibration
from utils.seed import seed_for

LEVEL = 0.95
Z = NormalDist().inv_cdf((1 + LEVEL) / 2)
# Draws of images in all; so many replicates as that allows, within bounds.
MAX_DRAWS, MIN_REPLICATES, MAX_REPLICATES = 20_000_000, 200, 1000


def wilson(num_right: np.ndarray, num_all: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The interval of fractions; NaN of nothing.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).

    >>> low, high = wilson(np.array([10]), np.array([10]))
    >>> print(low.round(4), high)
    [0.7225] [1.]
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        fraction = num_right / num_all
        middle = (fraction + Z**2 / (2 * num_all)) / (1 + Z**2 / num_all)
        spread = fraction * (1 - fraction) / num_all + Z**2 / (4 * num_all**2)
        half = Z / (1 + Z**2 / num_all) * np.sqrt(spread)
    # At the ends the formula gives 0 and 1, but for rounding.
    low, high = np.where(num_right == 0, 0.0, middle - half), np.where(num_right == num_all, 1.0, middle + half)
    return np.where(num_all > 0, low, np.nan), np.where(num_all > 0, high, np.nan)


def newcombe(area: np.ndarray, num_positive: np.ndarray, num_negative: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The interval of areas under ROC curves: those which the observed one is not too far from; NaN of NaN.

    Unlike the usual ones it has a width where the area is 1, as Wilson's has.

    Source: Newcombe, "Confidence intervals for an effect size measure based on the Mann-Whitney statistic. Part 2",
    Statistics in Medicine 25 (2006), method 5.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        pairs, size = num_positive * num_negative, (num_positive + num_negative) / 2 - 1

        def distance(other: np.ndarray) -> np.ndarray:
            """In standard errors, if `other` were the true area."""
            variance = other * (1 - other) / pairs
            variance = variance * (1 + size * (1 - other) / (2 - other) + size * other / (1 + other))
            return np.abs(area - other) / np.sqrt(variance)

        bounds = []
        for end in (0.0, 1.0):
            inside, outside = area.astype(float), np.full(len(area), end)
            for _ in range(50):  # halves the uncertainty each time
                middle = (inside + outside) / 2
                is_near = distance(middle) <= Z
                inside, outside = np.where(is_near, middle, inside), np.where(is_near, outside, middle)
            bounds.append(np.where(area == end, end, inside))
    return bounds[0], bounds[1]


def from_standard_error(area: float, error: float) -> tuple[float, float]:
    """The interval of an area between 0 and 1 by its standard error, on the scale of its logit."""
    if not 0 < area < 1 or not np.isfinite(error):
        return float("nan"), float("nan")
    middle, half = np.log(area / (1 - area)), Z * error / (area * (1 - area))
    low, high = 1 / (1 + np.exp(-(middle - half))), 1 / (1 + np.exp(-(middle + half)))
    return float(low), float(high)


@dataclass(frozen=True)
class Replicates:
    """What came out when as many images were drawn again from the images, with replacement, B times.

    Args:
        true_BK, predicted_BK, right_BK: how many images of, given to, and rightly given to each class.
        cross_entropy_B: mean, in nats.
        calibration_error_B: expected calibration error.
    """

    true_BK: np.ndarray
    predicted_BK: np.ndarray
    right_BK: np.ndarray
    cross_entropy_B: np.ndarray
    calibration_error_B: np.ndarray


def drawn_again(
    true_N: np.ndarray,
    predicted_N: np.ndarray,
    num_classes: int,
    cross_entropy_N: np.ndarray,
    calibration: Calibration,
    seed: int,
) -> Replicates:
    """Draws the replicates; only counts of images are kept, so that all scores come from the same draws.

    Args:
        true_N, predicted_N: class indices.
        num_classes: K.
        cross_entropy_N: in nats.
        calibration: of the same images.
        seed: the run's.
    """
    num_images = len(true_N)
    num_replicates = min(max(MAX_DRAWS // num_images, MIN_REPLICATES), MAX_REPLICATES)
    chance = np.random.default_rng(seed_for(seed, "bootstrap"))
    # One number for class and right or wrong, so that one count serves two.
    own_N = 2 * true_N + (true_N == predicted_N)
    true_BK, predicted_BK, right_BK = (np.empty((num_replicates, num_classes), np.int32) for _ in range(3))
    cross_entropy_B, calibration_error_B = np.empty(num_replicates), np.empty(num_replicates)
    for replicate in range(num_replicates):
        drawn = chance.integers(0, num_images, num_images, dtype=np.int32)
        own_K2 = np.bincount(own_N[drawn], minlength=2 * num_classes).reshape(num_classes, 2)
        true_BK[replicate], right_BK[replicate] = own_K2.sum(1), own_K2[:, 1]
        predicted_BK[replicate] = np.bincount(predicted_N[drawn], minlength=num_classes)
        cross_entropy_B[replicate] = cross_entropy_N[drawn].mean()
        calibration_error_B[replicate] = calibration.error(drawn)
    return Replicates(true_BK, predicted_BK, right_BK, cross_entropy_B, calibration_error_B)


def by_replicates(value: float, value_B: np.ndarray, *, highest: float) -> tuple[float, float]:
    """The percentile interval of the replicates, moved by twice their bias; holds the value itself, too.

    Replicates of a score that is bent, such as F1 of a few images or the calibration error, lie to one side of it, as
    it does of the score of all images of the kind. So the bias is taken off once for the replicates and once for the
    value, as the bias-corrected percentile method does (Efron, "Better bootstrap confidence intervals", JASA 82
    (1987)); here linearly, because there may be no replicate as far out as that asks for.

    Args:
        value: of the images as they are.
        value_B: of the replicates; those that are not finite are left out.
        highest: that the score can be; the lowest is 0.
    """
    known = value_B[np.isfinite(value_B)]
    if not len(known) or not np.isfinite(value):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) - 2 * (known.mean() - value)
    return max(0.0, min(float(low), value)), min(highest, max(float(high), value))
