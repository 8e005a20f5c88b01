"""Batches that do not fit into memory are cut into pieces that do, and the step stays the same step."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import nn

from utils.device import is_out_of_memory

log = logging.getLogger("run")
Result = TypeVar("Result")


class MicroBatches:
    """How many images go through the network at once: all of a batch, until that has failed for want of memory.

    Found once, then kept: later batches are cut at once, and so are those of a run that is continued.

    Args:
        what: is done with the pieces, for the warning.
    """

    def __init__(self, what: str):
        self.what = what
        self.images_at_once: int | None = None

    def cut(self, *of_batch: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
        """The batch, or as few pieces of it as there must be, of sizes that differ by one at most.

        Args:
            of_batch: its tensors, (N, ...) each.
        """
        num_pieces = -(-len(of_batch[0]) // self.images_at_once) if self.images_at_once else 1
        if num_pieces <= 1:
            yield of_batch
            return
        yield from zip(*(tensor.tensor_split(num_pieces) for tensor in of_batch), strict=True)

    def fitting(self, work: Callable[[], Result], num_images: int, undo: Callable[[], None] | None = None) -> Result:
        """Does the work, again with half as many images at once for as long as memory runs out.

        Args:
            work: cuts its batches by `cut`.
            num_images: of its largest batch.
            undo: what a failed attempt leaves behind.

        Raises:
            RuntimeError, MemoryError: of the work, where even single images do not fit.
        """
        began_with = self.images_at_once
        while True:
            try:
                result = work()
                break
            except (RuntimeError, MemoryError) as error:
                at_once = min(self.images_at_once or num_images, num_images)
                if at_once == 1 or not is_out_of_memory(error):
                    raise
            # Here, and not above: the error's traceback holds the tensors of the attempt.
            self.images_at_once = -(-at_once // 2)
            if undo is not None:
                undo()
            if torch.cuda.is_initialized():
                torch.cuda.empty_cache()
        if self.images_at_once != began_with:
            log.warning(
                f"warning: out of memory with {min(began_with or num_images, num_images)} images at once; from now on "
                f"{self.what} takes {self.images_at_once} at most, with the same result up to rounding, but that batch "
                f"norm, in training, sees the smaller batches. A smaller data_loader.args.batch_size with "
                f"trainer.accumulate_steps says so in the config"
            )
        return result


class BufferCopy:
    """The model's buffers as they were before a step, for an attempt that fails after some layers.

    Batch norm counts each batch that it sees. A copy costs a few kernels on a GPU, and some µs a layer on a CPU.

    Args:
        model: on its device.
    """

    def __init__(self, model: nn.Module):
        by_kind: dict[object, list[torch.Tensor]] = {}
        for buffer in model.buffers():
            by_kind.setdefault((buffer.dtype, buffer.device), []).append(buffer)
        self.pairs = [(group, [buffer.clone() for buffer in group]) for group in by_kind.values()]

    @torch.no_grad()
    def keep(self) -> None:
        """Remembers them as they are."""
        for buffers, copies in self.pairs:
            torch._foreach_copy_(copies, buffers)

    @torch.no_grad()
    def put_back(self) -> None:
        """Makes them what they were."""
        for buffers, copies in self.pairs:
            torch._foreach_copy_(buffers, copies)


def largest(batches: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> int:
    """Images in the largest of some batches."""
    return max(len(images_NCHW) for images_NCHW, _ in batches)
