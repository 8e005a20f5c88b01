"""Between a data set and torch's DataLoader: batches are named by (epoch, index), and chance follows the names.

A batch is the same whichever worker makes it, in whichever order, before or after a restart, because every
sample's transforms draw from a seed hashed out of (seed, epoch, index). Used by base_data_loader.py alone.
"""

import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler, default_collate, get_worker_info
from torch.utils.data._utils.pin_memory import pin_memory

from base.base_sampler import BaseSampler
from base.workers import about_shared_memory
from utils.draws import key_array
from utils.errors import DataError
from utils.seed import drawing_from, generator_for, seed_for

# (epoch, index), and where the epoch has drawn that sample before: how often.
SampleKey = tuple[int, ...]
MAX_REPLACEMENTS = 8  # so many bad images in a row by chance are no chance


@dataclass
class FailedBatch:
    """Carries what a worker met home as plain text; torch would wrap an exception in the worker's traceback.

    Args:
        message: in one line.
        details: a traceback, where somebody's code is at fault and not the data.
    """

    message: str
    details: str = ""


@dataclass
class PatchedBatch:
    """A batch with notes: it is without the samples that could not be read, or its keys are asked for.

    Args:
        batch: None where nothing is left of it.
        bad: index and reason of each sample that could not be read.
        keys_N3: of the batch's samples, where they are asked for; see `utils.draws.key_array`.
    """

    batch: Any
    bad: list[tuple[int, str]]
    keys_N3: np.ndarray | None = None

    def pin_memory(self) -> "PatchedBatch":
        """Called by torch's loader before a batch goes to a GPU."""
        return PatchedBatch(pin_memory(self.batch), self.bad, self.keys_N3)


class KeyedDataset(Dataset[Any]):
    """Fetches and collates whole batches of any map-style data set, each sample under its own seed.

    A data set with a `get_batch(indices) -> (images_NCHW, targets_N)` is asked for the whole batch at once where it
    answers other than None; it must draw nothing at random.

    A sample that cannot be read (`DataError`) fails the batch, unless the data set's `skips_bad` is true: then
    training draws another in its place, by a key too, and evaluation leaves it out.

    Args:
        dataset: of (image, class index).
        collate: makes a batch of a list of items.
        seed: the run's.
        part: indices among which a replacement is drawn; None leaves bad samples out.
        tells_keys: batches come as `PatchedBatch` with their keys. A replaced sample keeps the key of the other.
    """

    def __init__(
        self,
        dataset: Any,
        collate: Callable[[list[Any]], Any],
        seed: int,
        part: torch.Tensor | None = None,
        *,
        tells_keys: bool = False,
    ):
        self.dataset = dataset
        self.collate = collate
        self.seed = seed
        self.part = part
        self.tells_keys = tells_keys

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, keys: list[SampleKey]) -> Any:
        try:
            get_batch = getattr(self.dataset, "get_batch", None) if self.collate is default_collate else None
            batch = get_batch([key[1] for key in keys]) if get_batch else None
            batch = self._collated(keys) if batch is None else batch
            return self._with_keys(batch, keys) if self.tells_keys else batch
        except DataError as error:
            return FailedBatch(str(error))
        except Exception as error:  # of anybody's transform; told in the process that trains
            if get_worker_info() is None:  # this is the process that trains: its own traceback says it best
                raise
            return FailedBatch(about_shared_memory(error) or _in_one_line(error), traceback.format_exc())

    def _with_keys(self, batch: Any, keys: list[SampleKey]) -> PatchedBatch:
        patched = batch if isinstance(batch, PatchedBatch) else PatchedBatch(batch, [])
        return replace(patched, keys_N3=key_array(keys))

    def _collated(self, keys: list[SampleKey]) -> Any:
        samples: list[Any] = []
        bad: list[tuple[int, str]] = []
        for key in keys:
            samples += self._sample(key, bad)
        # A collate function may mix samples (MixUp); its draws belong to the batch, named by its first sample.
        with drawing_from(seed_for(self.seed, "batch", *keys[0])):
            batch = self._stacked(samples) if samples else None
        return PatchedBatch(batch, bad) if bad else batch

    def _sample(self, key: SampleKey, bad: list[tuple[int, str]]) -> list[Any]:
        """The sample of a key, or the one in its place, or none; what cannot be read is added to `bad`."""
        index = key[1]
        for attempt in range(1, MAX_REPLACEMENTS + 2):
            try:
                with drawing_from(seed_for(self.seed, "sample", *key)):
                    return [self.dataset[index]]
            except DataError as error:
                if not getattr(self.dataset, "skips_bad", False):
                    raise
                bad.append((index, str(error)))
                if self.part is None:
                    return []
                index = int(self.part[seed_for(self.seed, "replace", *key, attempt) % len(self.part)])
        raise DataError(f"{bad[-1][1]}\n  the {MAX_REPLACEMENTS} images drawn before it cannot be read either")

    def _stacked(self, samples: list[Any]) -> Any:
        try:
            return stacked(samples) if self.collate is default_collate else self.collate(samples)
        except RuntimeError:
            shapes = sorted({tuple(getattr(sample[0], "shape", ())) for sample in samples})
            if len(shapes) == 1:
                raise
            raise DataError(
                f"images of one batch differ in size: {shapes[0]} and {shapes[1]} (channels, height, width). "
                f"Add a Resize and a CenterCrop or RandomCrop to the transforms"
            ) from None


def stacked(samples: list[Any]) -> Any:
    """torch's default batch; where the channels of an image lie last in memory, those of the batch do too.

    A batch is then copied line by line and not byte by byte, which is several times faster.
    """
    if any(not _has_channels_last(sample) for sample in samples):
        return default_collate(samples)
    images_NHWC = default_collate([image.permute(1, 2, 0) for image, _ in samples])
    return [images_NHWC.permute(0, 3, 1, 2), default_collate([target for _, target in samples])]


def _has_channels_last(sample: Any) -> bool:
    image = sample[0] if isinstance(sample, tuple) and len(sample) == 2 else None
    if type(image) is not torch.Tensor or image.ndim != 3:
        return False
    return image.stride(0) == 1 and image.stride(2) == image.shape[0] > 1


def _in_one_line(error: Exception) -> str:
    """What was raised, and where, for whoever is not shown the traceback."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__} in a data loader worker: {text} ({frame.filename}:{frame.lineno}, {frame.name})"


class KeyedBatches(Sampler[list[SampleKey]]):
    """The batches of one epoch as lists of (epoch, index), from any batch on: skipping is a slice, no file is read.

    Args:
        indices: which samples of the data set belong to this loader's part.
        targets_N: the classes of those samples, or None.
        sampler: the order among them.
        batch_size: samples a batch; the last one may be smaller.
        drop_last: leave a smaller last batch out.
        seed: the run's seed.
    """

    def __init__(
        self,
        indices: torch.Tensor,
        targets_N: torch.Tensor | None,
        sampler: BaseSampler,
        *,
        batch_size: int,
        drop_last: bool,
        seed: int,
    ):
        self.indices = indices
        self.targets_N = targets_N
        self.sampler = sampler
        self.images_per_batch = batch_size
        self.drop_last = drop_last
        self.seed = seed
        self.epoch = 0
        self.batches_done = 0

    @property
    def num_drawn(self) -> int:
        """Samples an epoch, a dropped last batch included."""
        return self.sampler.num_drawn(len(self.indices))

    def __len__(self) -> int:
        """Batches of a whole epoch, wherever it is entered."""
        whole, rest = divmod(self.num_drawn, self.images_per_batch)
        return whole + (1 if rest and not self.drop_last else 0)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        epoch, first = self.epoch, self.batches_done
        generator = generator_for(self.seed, "order", epoch)
        order = self.indices[self.sampler.order(self.targets_N, len(self.indices), generator)].tolist()
        keys: list[SampleKey] = [(epoch, index) for index in order]
        if len(set(order)) < len(order):
            # Drawn again, a sample gets other augmentations than the first time.
            drawn: Counter[int] = Counter()
            for position, index in enumerate(order):
                keys[position] = (epoch, index, drawn[index]) if drawn[index] else (epoch, index)
                drawn[index] += 1
        for start in range(first * self.images_per_batch, len(self) * self.images_per_batch, self.images_per_batch):
            yield keys[start : start + self.images_per_batch]
