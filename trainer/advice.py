"""What to try where the loop waits for data, in one line of the log. Called by trainer.py at the end of an epoch."""

import time
from dataclasses import dataclass, field
from typing import Any

import torch

from base.worker_choice import automatic_workers, comes_from_memory
from utils.cores import usable_cores

ENOUGH = 0.2  # of an epoch's time: below, there is little to win
ENOUGH_S = 1.0  # in all, which the start of an epoch alone can take


@dataclass
class Waiting:
    """How long the loop waited for batches in an epoch, in this process.

    Args:
        first_s: for the first batch of each pass, in which workers start.
        rest_s: for all others.
        share: of the epoch's time; known when it is over.
        started_s: when the epoch began.
    """

    first_s: float = 0.0
    rest_s: float = 0.0
    share: float = 0.0
    started_s: float = field(default_factory=lambda: time.perf_counter())

    @property
    def all_s(self) -> float:
        """In the whole epoch."""
        return self.first_s + self.rest_s

    def since(self, asked_s: float, *, is_first: bool) -> None:
        """A batch that was asked for then is there."""
        waited_s = time.perf_counter() - asked_s
        if is_first:
            self.first_s += waited_s
        else:
            self.rest_s += waited_s

    def end(self) -> None:
        """The epoch is over."""
        self.share = self.all_s / (time.perf_counter() - self.started_s)

    def running(self, num_images: int) -> dict[str, str]:
        """What the bar says of an epoch that has done so many images."""
        passed_s = time.perf_counter() - self.started_s
        return {"images/s": f"{num_images / passed_s:.0f}", "waiting": f"{self.all_s / passed_s:.0%}"}


def advice_on(waiting: Waiting, loader: Any, *, is_first_epoch: bool) -> str | None:
    """The line, or None where the loop hardly waits, where it is no wonder, or where nothing is known that helps.

    Args:
        waiting: in the epoch that is over.
        loader: of the training images.
        is_first_epoch: of this process; a cache is still being filled in it.
    """
    has_cache = getattr(loader, "cache", None) not in (None, False, "off", "none")
    if waiting.share <= ENOUGH or waiting.all_s < ENOUGH_S or (has_cache and is_first_epoch):
        return None
    what = _what_to_try(waiting, loader, has_cache=has_cache)
    return what and f"{waiting.share:.0%} of the epoch went by waiting for data (said once): {what}"


def _what_to_try(waiting: Waiting, loader: Any, *, has_cache: bool) -> str | None:
    workers, cores = loader.num_workers, usable_cores()
    if workers and not loader.persistent_workers and waiting.first_s > waiting.rest_s:
        return (
            "most of it for the first batch, while workers start. data_loader.args.persistent_workers=true keeps them"
        )
    if comes_from_memory(loader.samples):
        return None
    better, _ = automatic_workers(loader.samples)
    if workers < better:
        now = f"{workers or 'no'} worker{'' if workers == 1 else 's'}"
        return f"{now} and {cores} cores. Try data_loader.args.num_workers={better}"
    if hasattr(loader, "cache") and not has_cache:
        return "data_loader.args.cache keeps images in memory or on the disk, ready for their transforms"
    if workers < cores and not torch.cuda.is_available():
        return f"try data_loader.args.num_workers={workers + 1}; training and workers share {cores} cores"
    return None
