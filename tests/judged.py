"""Judgements and scores by hand, for tests of what is made of them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch

from logger.judgement import Judgement, Score, Scores


def judgement_of(
    classes: list[str], num_images: int, seed: int = 0, sure: float = 3.0, **functions: Callable[[int], Any]
) -> Judgement:
    """A network that is often right; `sure` makes it more so."""
    generator = np.random.default_rng(seed)
    true_N = generator.integers(0, len(classes), num_images)
    logits_NK = generator.standard_normal((num_images, len(classes)), dtype=np.float32)
    logits_NK[np.arange(num_images), true_N] += sure
    exponents_NK = np.exp(logits_NK)
    probabilities_NK = exponents_NK / exponents_NK.sum(1, keepdims=True)
    cross_entropy_N = -np.log(probabilities_NK[np.arange(num_images), true_N].astype(np.float64))
    named = {"name_of": lambda at: f"data/test/{at:05d}.png", "image_of": image_of} | functions
    return Judgement(classes, true_N, probabilities_NK, cross_entropy_N, **named)


def image_of(position: int) -> torch.Tensor:
    """A picture of 64 px, another at every position."""
    generator = torch.Generator().manual_seed(position)
    coarse = torch.randint(0, 256, (1, 3, 6, 6), generator=generator).float()
    return torch.nn.functional.interpolate(coarse, size=64, mode="bilinear")[0].to(torch.uint8)


def scores_of(judgement: Judgement) -> Scores:
    """Its scores, counted plainly; intervals are not those of any method."""
    num_classes, num_images = len(judgement.classes), len(judgement)
    confusion = np.zeros((num_classes, num_classes), dtype=np.int64)
    np.add.at(confusion, (judgement.true_N, judgement.predicted_N), 1)
    support, predicted, hits = confusion.sum(1), confusion.sum(0), confusion.diagonal()
    with np.errstate(invalid="ignore"):
        recall, precision = hits / support, hits / predicted
        f1 = 2 * hits / (support + predicted)
    columns: dict[str, Any] = {"class": judgement.classes, "support": support, "predicted": predicted}
    for name, values in (("precision", precision), ("recall", recall), ("f1", f1)):
        columns |= {
            name: values,
            f"{name}_low": np.maximum(values - 0.1, 0),
            f"{name}_high": np.minimum(values + 0.1, 1),
        }
    pairs = [(int(t), int(p), int(confusion[t, p])) for t, p in np.argwhere(confusion) if t != p]
    accuracy = float(hits.sum() / num_images)
    overall = [
        Score("accuracy", accuracy, max(accuracy - 0.05, 0), min(accuracy + 0.05, 1), "Wilson"),
        Score("balanced_accuracy", float(np.nanmean(recall)), accuracy / 2, 1.0, "bootstrap"),
        Score("macro_f1", float(np.nanmean(f1)), 0.1, 0.9, "bootstrap"),
        Score("auroc", float("nan")),
        Score("cross_entropy", float(judgement.cross_entropy_N.mean())),
    ]
    return Scores(
        overall,
        pd.DataFrame(columns),
        confusion,
        sorted(pairs, key=lambda pair: (-pair[2], pair[:2]))[:50],
        [int(at) for at in np.flatnonzero((predicted == 0) & (support > 0))],
        _calibration(judgement),
        1 / num_classes,
        float(support.max() / num_images),
    )


def _calibration(judgement: Judgement, num_bins: int = 15) -> pd.DataFrame:
    is_right_N = judgement.true_N == judgement.predicted_N
    bin_N = np.minimum((judgement.confidence_N * num_bins).astype(int), num_bins - 1)
    rows = []
    for index in range(num_bins):
        inside = bin_N == index
        confidence = float(judgement.confidence_N[inside].mean()) if inside.any() else float("nan")
        accuracy = float(is_right_N[inside].mean()) if inside.any() else float("nan")
        rows.append([index / num_bins, (index + 1) / num_bins, int(inside.sum()), confidence, accuracy])
    return pd.DataFrame(rows, columns=["low", "high", "count", "confidence", "accuracy"])
