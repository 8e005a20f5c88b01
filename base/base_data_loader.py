"""What every loader promises: batches of (images_NCHW, targets_N), a validation part, the same order each time.

The concrete loaders live in data_loader/. One of your own reads its data in `__init__` and hands a map-style data
set to `super().__init__`; everything else is here.
"""

import logging
import multiprocessing
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch.utils.data import DataLoader, default_collate

from base.base_batch_transform import BatchTransform, KeyedBatch
from base.base_sampler import BaseSampler, RandomSampler, SequentialSampler
from base.keyed import FailedBatch, KeyedBatches, KeyedDataset, PatchedBatch
from base.skipped import BadSamples
from base.worker_choice import chosen_workers
from base.workers import explained, prepare_worker
from logger.logger import IN_FILE_ONLY
from utils.errors import ConfigError, DataError, LoaderError
from utils.seed import generator_for
from utils.split import digest_of_part, fingerprint_of, split_indices, split_without_classes

log = logging.getLogger("run")
# What transforms raise at images that they cannot take.
MISFITS = (RuntimeError, ValueError, TypeError, AssertionError, NotImplementedError)


class BaseDataLoader(DataLoader, ABC):
    """Batches of one part of a data set, usually the training part; `split_validation` gives the other.

    Args:
        dataset: map-style; its items are (image, class index). Its `targets` and `classes`, where it has them,
            make the split stratified and name the classes.
        batch_size: images a batch.
        shuffle: a new order each epoch; a `sampler` decides instead where one is given.
        validation_split: the fraction (float) or number (int) of samples kept for validation; 0 for none.
        num_workers: processes that prepare batches; 0 uses none, "auto" asks the machine. Never changes the result.
        collate_fn: makes a batch of a list of items, in evaluation too; torch's default stacks them.
        eval_dataset: the same samples as `dataset`, seen through the evaluation transforms.
        validation_dataset: validation data of its own; then nothing is split off.
        sampler: the order of the training samples.
        drop_last: leave a smaller last batch out of training. Evaluation always sees every sample.
        pin_memory: page-locked batches, which copy faster to a GPU; only has an effect where there is one.
        persistent_workers: keep the workers from one epoch to the next; needs some.
        prefetch_factor: batches that each worker prepares ahead; torch's default is 2. Needs workers.
        multiprocessing_context: how workers are started; the system's own way by default. Needs workers.
        loader_timeout: seconds without a batch after which the workers count as hung.
        eval_batch_size: images a batch in evaluation, which keeps no gradients; as many as in training by default.
        evaluation: leave samples that cannot be read out, where others are drawn in their place in training.
        seed: the run's seed.
        batch_transform: operations on whole batches, for the trainer, which does them on the device; the batches here
            only tell it their keys.

    Attributes:
        classes: class names in the order of their indices.
        mean, std: per channel, for pixels in [0, 1]; None where images arrive as finished floats.
    """

    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None

    @abstractmethod
    def __init__(
        self,
        dataset: Any,
        batch_size: int = 16,
        shuffle: bool = True,
        validation_split: float | int | None = 0.0,
        num_workers: int | Literal["auto"] = 0,
        collate_fn: Callable[[list[Any]], Any] = default_collate,
        *,
        eval_dataset: Any = None,
        validation_dataset: Any = None,
        sampler: BaseSampler | None = None,
        drop_last: bool = False,
        pin_memory: bool = False,
        persistent_workers: bool = False,
        prefetch_factor: int | None = None,
        multiprocessing_context: Literal["fork", "spawn", "forkserver"] | None = None,
        loader_timeout: float = 600.0,
        eval_batch_size: int | None = None,
        seed: int = 0,
        evaluation: bool = False,
        batch_transform: Sequence[BatchTransform] | None = None,
    ):
        if batch_size < 1:
            raise ConfigError(f"must be at least 1, got {batch_size}", "data_loader.args.batch_size")
        needing_workers = {
            "persistent_workers": persistent_workers,
            "prefetch_factor": prefetch_factor,
            "multiprocessing_context": multiprocessing_context,
        }
        workers, needing_workers, note = chosen_workers(num_workers, dataset, needing_workers)
        self.notes: list[str] = [*getattr(self, "notes", []), *note]
        self.seed = seed
        self.batch_transform = list(batch_transform or [])
        self.samples = dataset
        self.images_per_batch, self.eval_batch_size = batch_size, eval_batch_size or batch_size
        self.eval_dataset = dataset if eval_dataset is None else eval_dataset
        self.validation_dataset = validation_dataset
        self.targets = _targets_of(dataset)
        self.classes = _classes_of(dataset, self.targets)
        self.indices, self.validation_indices = self._split(dataset, validation_split)
        self.batches = KeyedBatches(
            self.indices,
            None if self.targets is None else self.targets[self.indices],
            sampler or (RandomSampler() if shuffle else SequentialSampler()),
            batch_size=batch_size,
            drop_last=drop_last,
            seed=seed,
        )
        self._check_batches()
        self.worker_options: dict[str, Any] = {
            "num_workers": workers,
            "collate_fn": collate_fn,
            "pin_memory": pin_memory and torch.cuda.is_available(),
            **needing_workers,
            "loader_timeout": loader_timeout,
        }
        start_method = multiprocessing_context or multiprocessing.get_start_method()
        self.bad = BadSamples("left out" if evaluation else "replaced by another")
        self.loader_timeout_s = loader_timeout
        super().__init__(
            KeyedDataset(
                dataset,
                collate_fn,
                seed,
                None if evaluation else self.indices,
                tells_keys=bool(self.batch_transform),
            ),
            batch_sampler=self.batches,
            # Without a generator of its own the loader draws one number from the global one at each start.
            generator=generator_for(seed, "workers"),
            worker_init_fn=partial(prepare_worker, is_child=start_method != "forkserver"),
            num_workers=workers,
            collate_fn=_as_it_is,
            pin_memory=self.worker_options["pin_memory"],
            timeout=loader_timeout if workers else 0,
            **needing_workers,  # type: ignore[arg-type]
        )

    def _split(self, dataset: Any, validation_split: float | int | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Indices of the training part and, where one is split off, of the validation part."""
        everything = torch.arange(len(dataset))
        if self.validation_dataset is not None:
            if validation_split:
                raise ConfigError(
                    f"{validation_split}, yet the data has a validation part of its own; set it to 0 to use that",
                    "data_loader.args.validation_split",
                )
            return everything, None
        if not validation_split:
            return everything, None
        if self.targets is None:
            return split_without_classes(len(dataset), validation_split, self.seed)
        return split_indices(self.targets, validation_split, self.seed, self.classes)

    def _check_batches(self) -> None:
        """Finds out now, and not in the first epoch, what the sampler or the batch size cannot do with this data."""
        sampler, size = self.batches.sampler, self.images_per_batch
        if sampler.batch_size not in (None, size):
            raise ConfigError(
                f"{size}, yet the sampler's batches have {sampler.batch_size} images",
                "data_loader.args.batch_size",
                "data_loader.args.sampler",
            )
        try:
            next(iter(self.batches), None)
        except ValueError as error:
            raise ConfigError(f"{type(sampler).__name__} says: {error}", "data_loader.args.sampler") from None
        if not len(self.batches):
            if not len(self.indices):
                raise DataError(f"{type(self).__name__}: no images")
            message = f"{size}, yet there are {self.batches.num_drawn} training images: drop_last leaves all out"
            raise ConfigError(message, "data_loader.args.batch_size", "data_loader.args.drop_last")

    def set_epoch(self, epoch: int, batches_done: int = 0) -> None:
        """Says which epoch the next pass is, and how many of its batches are already done."""
        self.batches.epoch, self.batches.batches_done = epoch, batches_done

    def split_validation(self) -> "BaseDataLoader | None":
        """A loader over the validation part, seen through the evaluation transforms, or None where there is none."""
        if self.validation_dataset is not None:
            return _EvaluationDataLoader(self, self.validation_dataset)
        if self.validation_indices is not None:
            return _EvaluationDataLoader(self, self.eval_dataset, self.validation_indices)
        return None

    def held_back(self) -> dict[str, Any] | None:
        """Which samples are held back for validation: how many, of how many, and a digest of their names.

        None where nothing is split off. Names count from the folder that all of them share, so a copy is the same.
        """
        if self.validation_indices is None:
            return None
        names = [self._name_of(index) for index in range(len(self.samples))]
        return digest_of_part(names, [names[index] for index in self.validation_indices.tolist()])

    @property
    def num_samples(self) -> int:
        """Samples in one epoch of this loader; smaller than the part with `drop_last`, or as the sampler says."""
        drawn = self.batches.num_drawn
        return drawn - drawn % self.images_per_batch if self.batches.drop_last else drawn

    @property
    def last_batch_size(self) -> int:
        """Samples in the last batch of an epoch."""
        rest = self.batches.num_drawn % self.images_per_batch
        return self.images_per_batch if not rest or self.batches.drop_last else rest

    def sample_name(self, position: int) -> str:
        """The name (a file's path where there is one) of the sample at a position of the part, in its own order."""
        index = int(self.indices[position])
        return self._name_of(index)

    def _name_of(self, index: int) -> str:
        return getattr(self.samples, "sample_name", str)(index)

    def first_batch(self, size: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
        """A few images_NCHW and targets_N as training sees them, made in this process; nothing is used up.

        Raises:
            DataError: they cannot be read or put into one batch.
        """
        self.set_epoch(0)
        keys = next(iter(self.batches))[:size]
        try:
            batch = _unpacked(self.dataset.__getitems__(keys))  # type: ignore[attr-defined]
        except MISFITS as error:
            raise DataError(f"a training transform or collate_fn fails on the first images: {error}") from error
        if not isinstance(batch, (tuple, list)) or len(batch) != 2 or not isinstance(batch[0], torch.Tensor):
            raise DataError(
                f"{type(self).__name__}: a batch must be (images_NCHW, targets_N), got a {type(batch).__name__}"
            )
        return batch if isinstance(batch, KeyedBatch) else (batch[0], batch[1])

    def first_image(self) -> torch.Tensor:
        """One image_CHW as the network's input is made from, through the evaluation transforms.

        Raises:
            DataError: the item is not an (image tensor, class index) pair, or cannot be read.
        """
        dataset = KeyedDataset(self.eval_dataset, _as_it_is, self.seed, self.indices)
        try:
            (item,) = _unpacked(dataset.__getitems__([(0, int(self.indices[0]))]))
        except MISFITS as error:
            raise DataError(f"an evaluation transform fails on the first image: {error}") from error
        image = item[0] if isinstance(item, (tuple, list)) and len(item) == 2 else item
        if not isinstance(image, torch.Tensor) or image.ndim != 3:
            raise DataError(
                f"{type(self).__name__}: an item must be (image tensor (C, H, W), class index), got {item!r}"
            )
        return image

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # torch promises its own class of iterator
        # Without workers what torch's own iterator does, less what it spends on profiling each batch.
        fetch: Any = self.dataset.__getitems__  # type: ignore[attr-defined]
        begin = super().__iter__ if self.num_workers or self.pin_memory else partial(map, fetch, self.batches)
        for batch in explained(begin, self.loader_timeout_s):
            if isinstance(batch, FailedBatch):
                if batch.details:
                    log.log(IN_FILE_ONLY, batch.details)
                raise LoaderError(batch.message) if batch.details else DataError(batch.message)
            if isinstance(batch, PatchedBatch):
                self.bad.note(batch.bad, len(self.indices), self._name_of)
                batch = _unpacked(batch)
            if batch is not None:
                yield batch

    def close(self) -> None:
        """Ends workers that are kept from one epoch to the next."""
        if self._iterator is not None:
            self._iterator._shutdown_workers()  # type: ignore[attr-defined]  # of the kind that has workers

    @property
    def num_skipped(self) -> int:
        """Samples that could not be read so far, those that were left out at the start included."""
        return getattr(self.samples, "num_left_out", 0) + len(self.bad)

    @property
    def positions_read(self) -> list[int]:
        """Of the part, in its own order, without those of samples that could not be read so far."""
        return [position for position, index in enumerate(self.indices.tolist()) if index not in self.bad]

    def names_of_batch(self, epoch: int, batch: int) -> list[str]:
        """The names of the samples in a batch of an epoch (both counted from 0), without reading any."""
        self.set_epoch(epoch, batch)
        return [self._name_of(key[1]) for key in next(iter(self.batches), [])]

    def fingerprint(self) -> dict[str, Any]:
        """Tells whether these are the same training samples: a count and a digest of the names, for each class."""
        names = [self._name_of(index) for index in range(len(self.samples))]
        targets = [0] * len(self.samples) if self.targets is None else self.targets.tolist()
        return fingerprint_of(names, targets, self.classes)


class _EvaluationDataLoader(BaseDataLoader):
    """Every sample of a part once, in its own order, with the options of the training loader that it belongs to."""

    def __init__(self, training: BaseDataLoader, dataset: Any, indices: torch.Tensor | None = None):
        super().__init__(
            dataset,
            training.eval_batch_size,
            shuffle=False,
            seed=training.seed,
            evaluation=True,
            **training.worker_options,
        )
        self.mean, self.std = training.mean, training.std
        self.classes = training.classes
        if indices is not None:
            self.indices = self.batches.indices = indices
            self.batches.targets_N = None if self.targets is None else self.targets[indices]


def _targets_of(dataset: Any) -> torch.Tensor | None:
    """Class indices where the data set tells them without opening every sample."""
    targets = getattr(dataset, "targets", None)
    return None if targets is None else torch.as_tensor(targets, dtype=torch.int64)


def _classes_of(dataset: Any, targets: torch.Tensor | None) -> list[str]:
    """Class names, or "0", "1", ... up to the largest index; none where nothing is known."""
    classes = getattr(dataset, "classes", None)
    if classes is not None:
        return [str(name) for name in classes]
    return [] if targets is None or not len(targets) else [str(index) for index in range(int(targets.max()) + 1)]


def _unpacked(batch: Any) -> Any:
    """What a data set gave, where it is a batch, without what it says of bad samples; a pair with its keys, if told."""
    if isinstance(batch, FailedBatch):
        raise DataError(batch.message)
    if not isinstance(batch, PatchedBatch):
        return batch
    pair = batch.batch
    if batch.keys_N3 is None or not isinstance(pair, (tuple, list)) or len(pair) != 2:
        return pair
    return KeyedBatch((pair[0], pair[1]), batch.keys_N3)


def _as_it_is(batch: Any) -> Any:
    """The batch was collated where it was fetched."""
    return batch
