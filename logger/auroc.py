"""The area under the ROC curve of each class against all others, by ranks, and how sure the mean over classes is."""

from dataclasses import dataclass

import numpy as np

from logger.intervals import from_standard_error, newcombe


@dataclass(frozen=True)
class Areas:
    """Areas under ROC curves, one class against the rest.

    Args:
        area_K: NaN of a class that all images or none have.
        low_K, high_K: of the 95 % intervals by Newcombe.
        macro: the mean over the classes that have one; NaN where none has.
        macro_low, macro_high: of its 95 % interval.
        interval: how that was found: "DeLong", or "Newcombe" where every area is 0 or 1, which has no variance.
    """

    area_K: np.ndarray
    low_K: np.ndarray
    high_K: np.ndarray
    macro: float
    macro_low: float
    macro_high: float
    interval: str


def areas_of(true_N: np.ndarray, probabilities_NK: np.ndarray) -> Areas:
    """Computes them: of equal probabilities each pair counts one half.

    The standard error of the mean is that of DeLong's components, added up image by image over the classes: an image
    that is misjudged costs two classes at once, which is no chance.

    Source: DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988); by sorting as in Sun and Xu, IEEE Signal
    Processing Letters 21 (2014).
    """
    num_images, num_classes = probabilities_NK.shape
    num_true_K = np.bincount(true_N, minlength=num_classes)
    area_K = np.full(num_classes, np.nan)
    influence_N = np.zeros(num_images)  # of each image on the sum of the areas
    for index in np.flatnonzero((num_true_K > 0) & (num_true_K < num_images)):
        is_own_N = true_N == index
        share_N, area_K[index] = _placements(np.ascontiguousarray(probabilities_NK[:, index]), is_own_N)
        sizes_N = np.where(is_own_N, num_true_K[index], num_images - num_true_K[index])
        influence_N += (share_N - area_K[index]) / sizes_N
    low_K, high_K = newcombe(area_K, num_true_K, num_images - num_true_K)
    is_known_K = ~np.isnan(area_K)
    if not is_known_K.any():
        nothing = float("nan")
        return Areas(area_K, low_K, high_K, nothing, nothing, nothing, "")
    macro = float(area_K[is_known_K].mean())
    error = float(np.sqrt((influence_N**2).sum()) / is_known_K.sum())
    if error > 0:
        low, high = from_standard_error(macro, error)
        return Areas(area_K, low_K, high_K, macro, low, high, "DeLong")
    low, high = float(low_K[is_known_K].mean()), float(high_K[is_known_K].mean())
    return Areas(area_K, low_K, high_K, macro, low, high, "Newcombe")


def _placements(score_N: np.ndarray, is_own_N: np.ndarray) -> tuple[np.ndarray, float]:
    """Of each image the share of the other kind that it is on the right side of (a half where equal), and the area."""
    order = np.argsort(score_N)
    sorted_N, own_N = score_N[order], is_own_N[order]
    starts = np.flatnonzero(np.concatenate(([True], sorted_N[1:] != sorted_N[:-1])))  # of groups of equal scores
    own_until = np.concatenate(([0], np.cumsum(own_N)))
    ends = np.append(starts[1:], len(sorted_N))
    group_N = np.repeat(np.arange(len(starts)), ends - starts)
    own_below, own_to = own_until[starts], own_until[ends]
    below, to = starts - own_below, ends - own_to  # of the others
    num_own, num_other = int(own_until[-1]), len(sorted_N) - int(own_until[-1])
    share_of_own = (below + to) / 2 / num_other
    share_of_other = 1 - (own_below + own_to) / 2 / num_own
    shares_N = np.empty(len(sorted_N))
    shares_N[order] = np.where(own_N, share_of_own[group_N], share_of_other[group_N])
    area = float((share_of_own * (own_to - own_below)).sum() / num_own)
    return shares_N, area
