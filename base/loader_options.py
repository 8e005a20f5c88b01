"""What a config can say about any loader, besides what the loader itself asks for."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, TypedDict

from annotated_types import Ge, Gt, Le, Lt

from base.base_batch_transform import BatchTransform
from base.base_sampler import BaseSampler

# How batches are prepared, which changes no result.
WORKER_OPTIONS = (
    "num_workers",
    "pin_memory",
    "persistent_workers",
    "prefetch_factor",
    "multiprocessing_context",
    "loader_timeout",
)
# The same, with where decoded pixels are kept.
HARMLESS_OPTIONS = (*WORKER_OPTIONS, "cache", "cache_limit_gb")


class LoaderOptions(TypedDict, total=False):
    """What the config can say about any loader: `def __init__(self, ..., **options: Unpack[LoaderOptions])`."""

    batch_size: Annotated[int, Ge(1)]
    shuffle: bool
    validation_split: Annotated[float, Ge(0), Lt(1)] | Annotated[int, Ge(0)] | None
    num_workers: Annotated[int, Ge(0), Le(1000)] | Literal["auto"]
    collate_fn: Callable[[list[Any]], Any]
    sampler: BaseSampler | None
    drop_last: bool
    eval_batch_size: Annotated[int, Ge(1)] | None
    pin_memory: bool
    persistent_workers: bool
    prefetch_factor: Annotated[int, Ge(1)] | None
    multiprocessing_context: Literal["fork", "spawn", "forkserver"] | None
    loader_timeout: Annotated[float, Gt(0)]
    seed: int
    batch_transform: Sequence[BatchTransform] | None
