"""Collects what a network says of each image, and writes predictions.csv: one row an image, in the images' order."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from logger.judgement import Answers, Judgement
from utils.errors import DataError

NUM_TOP = 5  # classes named in predictions.csv, with their probabilities


class Predictions:
    """Keeps the scores of each batch as they are, so that the pass itself is not slowed; shown to `evaluate`.

    Args:
        classes: class names in the order of their indices.
    """

    def __init__(self, classes: list[str]):
        self.classes = classes
        self.batches: list[tuple[torch.Tensor, torch.Tensor]] = []

    def add(self, logits_NK: torch.Tensor, targets_N: torch.Tensor) -> None:
        """Takes in a batch; scores may be raw or log-probabilities, which softmax leaves as they are."""
        self.batches.append((logits_NK.clone(), targets_N))  # a compiled network may use its memory again

    def scores(self) -> tuple[torch.Tensor, torch.Tensor]:
        """logits_NK, as the network gave them, and targets_N of all images, on the CPU."""
        logits, targets = zip(*self.batches, strict=True)
        return torch.cat([part.cpu() for part in logits]), torch.cat([part.cpu() for part in targets])

    def judgement(
        self,
        name_of: Callable[[int], str],
        image_of: Callable[[int], torch.Tensor],
        *,
        temperature: float = 1.0,
    ) -> Judgement:
        """Makes probabilities of the scores.

        Args:
            name_of: the name of the image at a position.
            image_of: its pixels, uint8 (C, H, W).
            temperature: by which the scores are divided before they become probabilities. The predicted classes are
                those of the scores as they are.

        Raises:
            DataError: a score is not a number; names the image.
        """
        # Batch by batch: in double precision all at once would take three times the memory.
        parts = [_judged(logits.cpu(), targets.cpu(), temperature) for logits, targets in self.batches]
        true_N, probabilities_NK, cross_entropy_N, predicted_N, confidence_N, rank_N = (
            np.concatenate(arrays) for arrays in zip(*parts, strict=True)
        )
        unknown = np.flatnonzero(np.isnan(probabilities_NK).any(1))
        if len(unknown):
            raise DataError(
                f"{name_of(int(unknown[0]))}: the network's scores of this image are not numbers ({len(unknown)} of "
                f"{len(true_N)} images), so nothing can be said of it. If another precision does not mend that "
                f"(trainer.precision=fp32), the weights are broken: test an earlier checkpoint"
            )
        answers = Answers(predicted_N, confidence_N, rank_N)
        return Judgement(self.classes, true_N, probabilities_NK, cross_entropy_N, name_of, image_of, answers)


def _judged(logits_NK: torch.Tensor, targets_N: torch.Tensor, temperature: float) -> tuple[np.ndarray, ...]:
    """True class, probabilities, cross-entropy, predicted class, confidence and rank of the true class of a batch."""
    predicted_N = logits_NK.argmax(1)
    own_N1 = logits_NK.gather(1, targets_N[:, None])
    is_before_NK = torch.arange(logits_NK.shape[1]) < targets_N[:, None]
    rank_N = 1 + ((logits_NK > own_N1) | ((logits_NK == own_N1) & is_before_NK)).sum(1)
    log_probabilities_NK = logits_NK.double().div_(temperature).log_softmax(1)
    cross_entropy_N = -log_probabilities_NK.gather(1, targets_N[:, None])[:, 0]
    confidence_N = log_probabilities_NK.gather(1, predicted_N[:, None])[:, 0].exp()
    probabilities_NK = log_probabilities_NK.exp_().float()
    parts = (targets_N, probabilities_NK, cross_entropy_N, predicted_N, confidence_N, rank_N)
    return tuple(part.numpy() for part in parts)


def write_predictions(path: Path, judgement: Judgement, *, all_probabilities: bool = False) -> None:
    """Writes predictions.csv.

    Its columns: path, true, predicted, confidence (the probability of the predicted class), cross_entropy (nats),
    true_rank (1 where the true class has the highest score), then class and probability of the second to fifth
    (top_2, top_2_probability, ...), and on request one column a class, "probability of <class>".

    Args:
        path: of the CSV file.
        judgement: what to write.
        all_probabilities: adds the columns of all classes.
    """
    classes = np.array(judgement.classes, dtype=object)
    columns = {
        "path": [judgement.name_of(position) for position in range(len(judgement))],
        "true": classes[judgement.true_N],
        "predicted": classes[judgement.predicted_N],
        "confidence": judgement.confidence_N,
        "cross_entropy": judgement.cross_entropy_N,
        "true_rank": judgement.rank_N,
    }
    top_NT, probability_NT = top_classes(judgement, NUM_TOP)
    for place in range(1, top_NT.shape[1]):
        columns[f"top_{place + 1}"] = classes[top_NT[:, place]]
        columns[f"top_{place + 1}_probability"] = probability_NT[:, place]
    frame = pd.DataFrame(columns)
    if all_probabilities:
        names = [f"probability of {name}" for name in judgement.classes]
        frame = pd.concat([frame, pd.DataFrame(judgement.probabilities_NK, columns=names)], axis=1)
    frame.to_csv(path, index=False)


def top_classes(judgement: Judgement, num_top: int) -> tuple[np.ndarray, np.ndarray]:
    """The most probable classes of each image and their probabilities, two arrays (N, T); the predicted one is first.

    Of equally probable ones the first comes first. T is `num_top`, or the number of classes where that is smaller.
    """
    num_top = min(num_top, len(judgement.classes))
    rows = np.arange(len(judgement))
    scores_NK = judgement.probabilities_NK.copy()
    scores_NK[rows, judgement.predicted_N] = 2.0  # before what only rounding made its equal
    top_NT = torch.from_numpy(scores_NK).topk(num_top, dim=1).indices.numpy()
    # topk leaves open which of equal ones come first, and even which are among the last.
    found_NT = scores_NK[rows[:, None], top_NT]
    tied_N = (found_NT[:, 1:] == found_NT[:, :-1]).any(1) | ((scores_NK >= found_NT[:, -1:]).sum(1) > num_top)
    top_NT[tied_N] = np.argsort(-scores_NK[tied_N], axis=1, kind="stable")[:, :num_top]
    return top_NT, judgement.probabilities_NK[rows[:, None], top_NT]
