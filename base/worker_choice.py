"""How many workers prepare batches where the config says "auto". Called by base_data_loader.py; the result of training
never depends on it. What was measured is in docs/decisions/0024-large-folders-and-workers.md."""

from typing import Any, Literal

import torch

from utils.cores import usable_cores
from utils.errors import ConfigError

MAX_WORKERS = 8  # each has batches of its own in memory, and a disk is seldom read faster by more


def chosen_workers(
    num_workers: int | Literal["auto"], dataset: Any, needing_workers: dict[str, Any]
) -> tuple[int, dict[str, Any], list[str]]:
    """The number of workers, the options that go with them, and a line for the log where the number was left open.

    Args:
        num_workers: as the config says it.
        dataset: for which they would work.
        needing_workers: options that mean nothing without workers; "auto" drops them where it chooses none.

    Raises:
        ConfigError: such an option is given, and no workers.
    """
    if num_workers != "auto":
        for name, value in needing_workers.items():
            if value and not num_workers:
                raise ConfigError("needs num_workers above 0", f"data_loader.args.{name}")
        return num_workers, needing_workers, []
    chosen, why = automatic_workers(dataset)
    note = f"num_workers auto: {chosen}, because {why}"
    idle = {name: False if isinstance(value, bool) else None for name, value in needing_workers.items()}
    return chosen, needing_workers if chosen else idle, [note]


def automatic_workers(dataset: Any) -> tuple[int, str]:
    """The number that "auto" means for a data set on this machine, and why."""
    if comes_from_memory(dataset):
        return 0, "whole batches come from memory"
    cores = usable_cores()
    return workers_for(cores, has_gpu=torch.cuda.is_available())


def workers_for(cores: int, *, has_gpu: bool) -> tuple[int, str]:
    """The same by the machine alone, for images that are read or changed one by one."""
    of_cores = f"{cores} core{'' if cores == 1 else 's'}"
    if has_gpu:
        return max(1, min(cores - 1, MAX_WORKERS)), f"a GPU computes and {of_cores} can prepare"
    return min(cores // 2, MAX_WORKERS), f"{of_cores} compute and prepare, and no GPU was found"


def comes_from_memory(dataset: Any) -> bool:
    """Whether a batch is one index operation, which workers would only make longer."""
    get_batch = getattr(dataset, "get_batch", None)
    return get_batch is not None and len(dataset) > 0 and get_batch([0]) is not None
