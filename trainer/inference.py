"""What a network says of images of which nobody knows what is true. Judging it is evaluate.py's."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import nn

from trainer.evaluate import logits_of
from trainer.micro_batches import MicroBatches
from trainer.prefetch import ahead
from utils.device import is_out_of_memory

_MISFITS = (RuntimeError, ValueError, TypeError, IndexError)


class Answer(NamedTuple):
    """Of one batch.

    Args:
        positions_N: which images, int64, on the CPU.
        images_NCHW: as the loader gave them.
        logits_NK: the scores; None where the network cannot take images of this size.
        problem: in words, then.
    """

    positions_N: torch.Tensor
    images_NCHW: torch.Tensor
    logits_NK: torch.Tensor | None
    problem: str = ""


def answers(
    network: nn.Module,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    to_input: Callable[[torch.Tensor], torch.Tensor],
    shape_CHW: tuple[int, ...],
) -> Iterator[Answer]:
    """Scores of each batch as it comes.

    Args:
        network: is left in evaluation mode.
        batches: of (images_NCHW, positions_N).
        to_input: see `PixelsToInput`.
        shape_CHW: that the network was trained on. What it raises at such images is raised; of others it is their
            fault.
    """
    network.eval()
    pieces = MicroBatches("predicting")
    for images_NCHW, positions_N in ahead(batches, to_input.device):  # type: ignore[attr-defined]
        try:
            with torch.inference_mode():
                logits_NK = logits_of(network, pieces, images_NCHW, to_input)
        except _MISFITS as error:
            if tuple(images_NCHW.shape[1:]) == shape_CHW or is_out_of_memory(error):
                raise
            height, width = images_NCHW.shape[2:]
            trained = "x".join(map(str, shape_CHW[1:]))
            problem = f"{height}x{width} pixels reach the network, which was trained on {trained} and cannot take them"
            yield Answer(positions_N.cpu(), images_NCHW, None, problem)
            continue
        yield Answer(positions_N.cpu(), images_NCHW, logits_NK)
