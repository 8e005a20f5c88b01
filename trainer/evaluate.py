"""One pass over images without learning: validation, test and prediction all use this one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from logger.pictures import MAX_IMAGES
from logger.progress import Progress
from trainer.micro_batches import MicroBatches
from trainer.prefetch import ahead
from utils.errors import DataError
from utils.text import printable, shortened

_NAME_COLUMNS = 26  # of a class name in a warning
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


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What came of a pass.

    Args:
        scores: the loss and the metrics by name.
        true_N, predicted_N: the class of each image, and the one with its highest score, in the loader's order; on the
            CPU.
        num_classes: K.
        first_NCHW: the first images, as the loader gave them.
    """

    scores: dict[str, float]
    true_N: torch.Tensor
    predicted_N: torch.Tensor
    num_classes: int
    first_NCHW: torch.Tensor

    @property
    def num_images(self) -> int:
        """How many were judged."""
        return len(self.true_N)

    @property
    def num_correct(self) -> int:
        """How many have their highest score at their own class."""
        return int((self.true_N == self.predicted_N).sum())

    @property
    def predicted_K(self) -> list[int]:
        """How often each class was predicted."""
        return torch.bincount(self.predicted_N, minlength=self.num_classes).tolist()

    @property
    def true_K(self) -> list[int]:
        """How often each class was true."""
        return torch.bincount(self.true_N, minlength=self.num_classes).tolist()

    @property
    def confusion_KK(self) -> torch.Tensor:
        """How often each true class (a row) was taken for each class (a column)."""
        pairs_N, size = self.true_N * self.num_classes + self.predicted_N, self.num_classes
        return torch.bincount(pairs_N, minlength=size * size).view(size, size)

    def warnings(self, classes: Sequence[str]) -> list[str]:
        """Lines on what a good-looking number can hide: chance level, and one class that takes everything.

        Args:
            classes: names; of one that has none its number is said.
        """
        lines = []
        true_K, predicted_K = self.true_K, self.predicted_K
        largest = max(true_K) / self.num_images
        accuracy = self.num_correct / self.num_images
        margin = 2 * (largest * (1 - largest) / self.num_images) ** 0.5
        if accuracy <= largest + margin and accuracy < 1:
            better = "no better" if accuracy <= largest else "not clearly better"
            lines.append(
                f"accuracy {accuracy:.3f} is {better} than always answering the largest class would be ({largest:.3f})"
            )
        if max(predicted_K) == self.num_images and sum(count > 0 for count in true_K) > 1:
            index = predicted_K.index(self.num_images)
            name = shortened(printable(classes[index]), _NAME_COLUMNS) if index < len(classes) else str(index)
            lines.append(f"every image was given class {name}")
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
    loss = MeanLoss(device)
    answers_2N: list[torch.Tensor] = []  # stay on the device, so that there is one transfer at the end
    first_NCHW, num_classes = torch.empty(0), 0
    metrics.reset()
    loader.set_epoch(0)
    progress = Progress(len(loader), "evaluating")
    pieces = pieces or MicroBatches("evaluation")
    for images, targets in ahead(loader, device):
        logits_NK = logits_of(network, pieces, images, to_input)
        targets_N = targets.to(device, non_blocking=True)
        loss.update(criterion(logits_NK, targets_N), criterion.weight(targets_N))
        metrics.update(logits_NK, targets_N)
        if not answers_2N:
            first_NCHW, num_classes = images[:MAX_IMAGES].clone(), logits_NK.shape[1]
        answers_2N.append(torch.stack([targets_N, logits_NK.argmax(1)]))
        if observer is not None:
            observer(logits_NK, targets_N)
        progress.step(lambda: {"loss": f"{loss.compute():.4g}"})
    progress.close()
    if not answers_2N:
        raise DataError("no image to judge: not one of them can be read")
    true_N, predicted_N = torch.cat(answers_2N, dim=1).cpu()
    return Evaluation({"loss": loss.compute(), **metrics.compute()}, true_N, predicted_N, num_classes, first_NCHW)


def logits_of(
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
