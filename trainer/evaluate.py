"""One pass over images without learning: validation, test and prediction all use this one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from logger.progress import Progress
from trainer.micro_batches import MicroBatches
from trainer.prefetch import ahead
from utils.errors import DataError

Observer = Callable[[torch.Tensor, torch.Tensor], None]


class MeanLoss:
    """The mean loss over samples, exact whatever the sizes of the batches: a sum and what it must be divided by."""

    def __init__(self, device: torch.device):
        # MPS has no float64; elsewhere a long sum of float32 would lose digits.
        self.dtype = torch.float32 if device.type == "mps" else torch.float64
        self.device = device
        self.reset()

    def reset(self) -> None:
        """Forgets everything added."""
        self.sum = torch.zeros((), dtype=self.dtype, device=self.device)
        self.weight: int | torch.Tensor = 0

    def state_dict(self) -> dict[str, Any]:
        """The sum and the weight, for a checkpoint within an epoch."""
        return {"sum": self.sum.clone(), "weight": self.weight}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from there."""
        weight = state["weight"]
        self.sum = state["sum"].to(self.sum)
        self.weight = weight.to(self.sum.device) if isinstance(weight, torch.Tensor) else weight

    def update(self, batch_mean: torch.Tensor, weight: int | torch.Tensor) -> None:
        """Adds a batch; nothing waits for the device. A batch of ignored targets only (weight 0) has a loss of NaN."""
        if self.device.type == "cpu":  # nothing to wait for, and numbers are as exact and cheaper than tensors
            number = weight if isinstance(weight, int) else weight.item()
            if number > 0:
                self.sum += batch_mean.item() * number
            self.weight = self.weight + weight
            return
        value = batch_mean.detach().to(self.dtype)
        if isinstance(weight, torch.Tensor):
            value = torch.where(weight > 0, value, 0.0)
        self.sum += value * weight
        self.weight = self.weight + weight

    def compute(self) -> float:
        """The mean so far; NaN before the first batch. Waits for the device."""
        return float(self.sum) / float(self.weight) if float(self.weight) else float("nan")


@dataclass(frozen=True)
class Evaluation:
    """What came of a pass.

    Args:
        scores: the loss and the metrics by name.
        num_images: how many were judged.
        num_correct: how many have their highest score at their own class.
        predicted_K, true_K: how often each class was predicted, and was true.
    """

    scores: dict[str, float]
    num_images: int
    num_correct: int
    predicted_K: list[int]
    true_K: list[int]

    def warnings(self) -> list[str]:
        """Lines on what a good-looking number can hide: chance level, and one class that takes everything."""
        lines = []
        largest = max(self.true_K) / self.num_images
        accuracy = self.num_correct / self.num_images
        margin = 2 * (largest * (1 - largest) / self.num_images) ** 0.5
        if accuracy <= largest + margin and accuracy < 1:
            lines.append(
                f"accuracy {accuracy:.3f} is no better than always answering the largest class would be ({largest:.3f})"
            )
        if max(self.predicted_K) == self.num_images and sum(count > 0 for count in self.true_K) > 1:
            lines.append(f"every image was given class {self.predicted_K.index(self.num_images)}")
        return lines


@torch.inference_mode()
def evaluate(
    network: torch.nn.Module,
    loader: Any,
    criterion: Any,
    metrics: Any,
    *,
    to_input: Callable[[torch.Tensor], torch.Tensor],
    observer: Observer | None = None,
    pieces: MicroBatches | None = None,
) -> Evaluation:
    """Judges a network on every image of a loader.

    Args:
        network: is left in evaluation mode.
        loader: of (images_NCHW, targets_N).
        criterion: `criterion(logits_NK, targets_N)` and `criterion.weight(targets_N)`, see model/loss.py.
        metrics: a MetricSet, see model/metric.py; is reset first.
        to_input: see `PixelsToInput`.
        observer: is shown logits_NK and targets_N of each batch.
        pieces: remembers from one evaluation to the next how many images fit at once.

    Raises:
        DataError: not one image could be read.
    """
    network.eval()
    device = to_input.device  # type: ignore[attr-defined]
    loss, counts_3K = MeanLoss(device), None
    metrics.reset()
    loader.set_epoch(0)
    progress = Progress(len(loader), "evaluating")
    pieces = pieces or MicroBatches("evaluation")
    for images, targets in ahead(loader, device):
        logits_NK = _logits(network, pieces, images, to_input)
        targets_N = targets.to(device, non_blocking=True)
        loss.update(criterion(logits_NK, targets_N), criterion.weight(targets_N))
        metrics.update(logits_NK, targets_N)
        if counts_3K is None:
            counts_3K = torch.zeros(3, logits_NK.shape[1], dtype=torch.int64, device=device)
        predicted_N = logits_NK.argmax(1)
        is_correct_N = (predicted_N == targets_N).long()
        for row, classes_N, amount_N in (
            (0, predicted_N, torch.ones_like(targets_N)),
            (1, targets_N, torch.ones_like(targets_N)),
            (2, targets_N, is_correct_N),
        ):
            counts_3K[row].index_add_(0, classes_N, amount_N)
        if observer is not None:
            observer(logits_NK, targets_N)
        progress.step(lambda: {"loss": f"{loss.compute():.4g}"})
    progress.close()
    if counts_3K is None:
        raise DataError("no image to judge: not one of them can be read")
    counts = counts_3K.tolist()
    scores = {"loss": loss.compute(), **metrics.compute()}
    return Evaluation(scores, sum(counts[1]), sum(counts[2]), counts[0], counts[1])


def _logits(
    network: torch.nn.Module,
    pieces: MicroBatches,
    images: torch.Tensor,
    to_input: Callable[[torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """logits_NK of a batch, in as few pieces as memory allows."""

    def work() -> list[torch.Tensor]:
        return [network(to_input(part)) for (part,) in pieces.cut(images)]

    parts = pieces.fitting(work, len(images))
    return parts[0] if len(parts) == 1 else torch.cat(parts)
