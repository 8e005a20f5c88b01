"""predictions.csv: one row an image, in the order of the images."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch


class Predictions:
    """Collects what a network said of each image; shown to `evaluate` as its observer.

    Args:
        classes: class names in the order of their indices.
    """

    def __init__(self, classes: list[str]):
        self.classes = classes
        self.batches: list[torch.Tensor] = []

    def add(self, logits_NK: torch.Tensor, targets_N: torch.Tensor) -> None:
        """Takes in a batch; scores may be raw or log-probabilities, which softmax leaves as they are."""
        log_probabilities_NK = logits_NK.double().log_softmax(1)
        best = log_probabilities_NK.max(1)
        cross_entropy_N = -log_probabilities_NK.gather(1, targets_N[:, None])[:, 0]
        self.batches.append(
            torch.stack([targets_N.double(), best.indices.double(), best.values.exp(), cross_entropy_N])
        )

    def mean_cross_entropy(self) -> float:
        """In nats, over all images; the loss itself where that is plain cross-entropy."""
        return float(torch.cat(self.batches, dim=1)[3].mean())

    def write(self, path: Path, name_of: Callable[[int], str]) -> None:
        """Writes path, true, predicted, confidence (the probability of the predicted class) and cross_entropy (nats).

        Args:
            path: of the CSV file.
            name_of: the name of the image at a position.
        """
        targets, predicted, confidence, cross_entropy = torch.cat(self.batches, dim=1).cpu().unbind()
        frame = pd.DataFrame(
            {
                "path": [name_of(position) for position in range(len(targets))],
                "true": [self.classes[int(index)] for index in targets],
                "predicted": [self.classes[int(index)] for index in predicted],
                "confidence": confidence.numpy(),
                "cross_entropy": cross_entropy.numpy(),
            }
        )
        frame.to_csv(path, index=False)
