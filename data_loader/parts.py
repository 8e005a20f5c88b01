"""The parts of a data set, and the loader that chooses among them: train, validate, or test.

Every loader of data_loaders.py only reads its data into `Parts`; what happens with a part is the same for all.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Unpack

import torch
from torchvision.transforms import v2

from base.base_data_loader import BaseDataLoader
from base.loader_options import LoaderOptions
from data_loader.cache import Cache, CacheRules
from data_loader.dataset import ImageData
from data_loader.transforms import check_pixel_path, compose
from utils.errors import ConfigError, DataError
from utils.split import digest_of_part, split_indices

DEFAULT_VALIDATION_SPLIT = 0.2


@dataclass
class Parts:
    """What was read: training images, and validation and test images where the data has those apart."""

    name: str
    train: ImageData | None = None
    validation: ImageData | None = None
    test: ImageData | None = None
    folders: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Pixels:
    """What a loader does to images where the config names nothing else."""

    transform: Sequence[v2.Transform]
    eval_transform: Sequence[v2.Transform]
    mean: Sequence[float]
    std: Sequence[float]


class ImageOptions(LoaderOptions, total=False):
    """What the config can say about any loader of images; see `ImageDataLoader`."""

    transform: Sequence[v2.Transform] | None
    eval_transform: Sequence[v2.Transform] | None
    mean: Sequence[float] | None
    std: Sequence[float] | None


class ImageDataLoader(BaseDataLoader):
    """Batches of uint8 images_NCHW and targets_N, for training or for a test.

    Args:
        parts: the data.
        defaults: transforms, mean and std where the options name none.
        training: the training part with its transforms; otherwise the part that a test uses: test images where
            there are some, else the validation images, else the part that is split off for validation, else (with
            `validation_split` 0) all images.
        cache: whether and where decoded pixels of image files are kept; nowhere by default.
        options: see `LoaderOptions` and `ImageOptions`. `mean` and `std` are per channel for pixels in [0, 1].
            `validation_split` None splits off a fifth where the data has no validation part.

    Attributes:
        source: in words, where the images of this loader come from.
        notes: lines for the log: what was passed over.
        eval_transform: the transforms of evaluation.
        tested_part: for a test on the part that was split off, a digest that tells whether it is the same.
    """

    tested_part: dict[str, int | str] | None = None

    @abstractmethod
    def __init__(
        self,
        parts: Parts,
        defaults: Pixels,
        *,
        training: bool,
        cache: CacheRules | None = None,
        **options: Unpack[ImageOptions],
    ):
        given: dict[str, Any] = dict(options)
        validation_split = given.pop("validation_split", None)
        train_list = first_given(given.pop("transform", None), defaults.transform)
        eval_list = first_given(given.pop("eval_transform", None), defaults.eval_transform)
        self.eval_transform = list(eval_list)
        mean, std = given.pop("mean", None), given.pop("std", None)
        gives_floats = check_pixel_path(train_list, eval_list, mean, std)
        if not gives_floats:
            self.mean, self.std = first_given(mean, defaults.mean), first_given(std, defaults.std)
        self.notes = parts.notes
        self.num_test_samples = len(parts.test) if parts.test else 0
        opened = Cache(cache or CacheRules(), self.notes, training=training)
        if cache is not None:
            self.cache = cache.mode  # for advice; loaders without files have no such choice
        if validation_split is None:
            validation_split = 0 if parts.validation else DEFAULT_VALIDATION_SPLIT
        if not training:
            data, self.source = part_for_test(parts, validation_split, given.get("seed", 0))
            is_split_off = all(data is not part for part in (parts.test, parts.validation, parts.train))
            if is_split_off and parts.train is not None:
                self.tested_part = digest_of_part(_names(parts.train), _names(data))
            given.update(shuffle=False, drop_last=False, sampler=None, evaluation=True, batch_transform=None)
            if (size := given.pop("eval_batch_size", None)) is not None:
                given["batch_size"] = size
            super().__init__(opened.seen_through(data, eval_list), **given)
        elif parts.train is None:
            raise DataError(f"{parts.name}: no training images (expected {parts.name}/train/<class>/<image>)")
        else:
            self.source = parts.folders.get("train", parts.name)
            super().__init__(
                opened.seen_through(parts.train, train_list),
                validation_split=validation_split,
                # Where nothing is split off, only a look at a few images goes through these, for which no cache pays.
                eval_dataset=opened.seen_through(parts.train, eval_list)
                if validation_split
                else parts.train.with_transform(compose(eval_list)),
                validation_dataset=opened.seen_through(parts.validation, eval_list) if parts.validation else None,
                **given,
            )
        self._check_mean_and_std()

    def _check_mean_and_std(self) -> None:
        """Finds out now, and not in the first step, what cannot be done with images of so many channels."""
        for name, values in (("mean", self.mean), ("std", self.std)):
            channels = 1 if values is None else self.first_image().shape[0]
            if values is not None and len(values) not in (1, channels):
                number = "1 channel" if channels == 1 else f"{channels} channels"
                raise ConfigError(f"{len(values)} numbers, yet images have {number}", f"data_loader.args.{name}")
        if self.std is not None and min(self.std) <= 0:
            raise ConfigError(f"must be above 0, got {min(self.std)}", "data_loader.args.std")


def part_for_test(parts: Parts, validation_split: float | int, seed: int) -> tuple[ImageData, str]:
    """The images that a test uses, and in words which they are."""
    for name in ("test", "validation"):
        data = getattr(parts, name)
        if data is not None:
            return data, f"{len(data)} {name} images of {parts.folders.get(name, parts.name)}"
    if parts.train is None:
        raise DataError(f"{parts.name}: no images to test on")
    where = parts.folders.get("train", parts.name)
    if not validation_split:
        return parts.train, f"all {len(parts.train)} images of {where}"
    _, indices = split_indices(parts.train.targets, validation_split, seed, parts.train.classes)
    return parts.train.subset(indices), f"the validation part of {where} ({len(indices)} images)"


def _names(data: ImageData) -> list[str]:
    return [data.sample_name(index) for index in range(len(data))]


def first_given(value: Sequence | None, default: Sequence) -> Sequence:
    """`value`, or `default` where a config gives none."""
    return default if value is None else value


def tensor_of_pixels(images: torch.Tensor) -> torch.Tensor:
    """uint8 (N, C, H, W) from (N, H, W) or (N, H, W, C), in one block of memory."""
    return images.unsqueeze(1).contiguous() if images.ndim == 3 else images.permute(0, 3, 1, 2).contiguous()
