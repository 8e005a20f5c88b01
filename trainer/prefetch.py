"""The next batch is copied to a GPU while this one is computed on."""

from collections.abc import Generator, Iterable

import torch

from base.base_batch_transform import KeyedBatch

Batch = tuple[torch.Tensor, torch.Tensor]


def ahead(batches: Iterable[Batch], device: torch.device) -> Generator[Batch]:
    """The same batches in the same order; for a GPU already on their way there, one ahead.

    Copies overlap with the arithmetic where batches are page-locked (`pin_memory`). On other devices nothing is fetched
    before it is asked for.

    Args:
        batches: of (images_NCHW, targets_N).
        device: where they will be used, on its current stream.
    """
    if device.type != "cuda":
        yield from batches
        return
    side = torch.cuda.Stream(device)
    waiting: tuple[Batch, torch.cuda.Event] | None = None
    for batch in batches:
        images, targets = batch
        with torch.cuda.stream(side):
            moved = images.to(device, non_blocking=True), targets.to(device, non_blocking=True)
            moved = KeyedBatch(moved, batch.keys_N3) if isinstance(batch, KeyedBatch) else moved
            arrived = torch.cuda.Event()
            arrived.record(side)
        if waiting is not None:
            yield _handed_over(*waiting, device)
        waiting = moved, arrived
    if waiting is not None:
        yield _handed_over(*waiting, device)


def _handed_over(batch: Batch, arrived: torch.cuda.Event, device: torch.device) -> Batch:
    """The GPU waits for the copy before it goes on; the memory is not given to another while this stream uses it."""
    current = torch.cuda.current_stream(device)
    current.wait_event(arrived)
    for tensor in batch:
        tensor.record_stream(current)
    return batch
