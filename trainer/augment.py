"""From a training batch as the loader gives it to what a step needs: the network's input and the targets, augmented.

Chance comes first, for the whole list of operations and in one copy to the device; then the targets, because a step
weighs all its batches by them; the pixels last, so that only one of a step's batches is float at a time. Nothing waits
for the device.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from base.base_batch_transform import BatchTransform
from trainer.pixels import PixelsToInput
from utils.draws import draws_for
from utils.errors import ConfigError

_KEY = "data_loader.args.batch_transform"


class Augmentation:
    """Applies the batch transforms of a loader; without any, a batch is only moved and normalised.

    Args:
        to_input: moves and normalises.
        transforms: in their order. Images are normalised before the first that needs floats, or at the end.
        seed: the run's.
        num_classes: K of the data.
    """

    def __init__(self, to_input: PixelsToInput, transforms: Sequence[BatchTransform], seed: int, num_classes: int):
        self.to_input, self.transforms = to_input, list(transforms)
        self.seed, self.num_classes = seed, num_classes
        self.mixes = any(transform.mixes for transform in self.transforms)

    def plan(self, batch: tuple[torch.Tensor, torch.Tensor]) -> "PlannedBatch":
        """Draws for a batch, and mixes its targets.

        Raises:
            ConfigError: an operation cannot work on images of that size, or on those classes.
        """
        images_NCHW, targets = batch
        targets = targets.to(self.to_input.device, non_blocking=True)
        drawn = self._drawn(images_NCHW, getattr(batch, "keys_N3", None)) if self.transforms else []
        if not self.mixes:
            return PlannedBatch(self, images_NCHW, targets, targets, drawn)
        mixed_NK = shares_of_classes(targets, self.num_classes)
        for position, (transform, rows) in enumerate(zip(self.transforms, drawn, strict=True)):
            with self._blaming(position):
                mixed_NK = transform.mix(mixed_NK, rows)
        return PlannedBatch(self, images_NCHW, mixed_NK, mixed_NK.argmax(dim=1), drawn)

    def inputs(self, images_NCHW: torch.Tensor, drawn: list[torch.Tensor]) -> torch.Tensor:
        """float32 images_NCHW on the device, in the network's layout.

        Raises:
            ConfigError: an operation cannot work on such images.
        """
        images = self.to_input.moved(images_NCHW)
        for position, (transform, rows) in enumerate(zip(self.transforms, drawn, strict=True)):
            if transform.needs_floats:
                images = self.to_input.normalised(images)
            with self._blaming(position):
                changed = transform.apply(images, rows)
                if changed.ndim != 4 or len(changed) != len(images) or changed.dtype != images.dtype:
                    raise ValueError(f"{_words(images)} became {_words(changed)}; as many of the same type are needed")
            images = changed
        return self.to_input.normalised(images)

    def _drawn(self, images_NCHW: torch.Tensor, keys_N3: np.ndarray | None) -> list[torch.Tensor]:
        """For each operation what it draws, float32 (rows, N) on the device."""
        if keys_N3 is None or len(keys_N3) != len(images_NCHW):
            number = "no keys" if keys_N3 is None else f"{len(keys_N3)} keys"
            raise ConfigError(
                f"{len(images_NCHW)} images came with {number}: batches must be those of the loader, and a collate_fn "
                f"must keep every sample",
                _KEY,
            )
        rows, shape = [], tuple(images_NCHW.shape[1:])
        for position, draws in enumerate(draws_for(self.seed, keys_N3, len(self.transforms))):
            with self._blaming(position):
                drawn = self.transforms[position].draw(draws, shape)  # type: ignore[arg-type]  # three of them
                if drawn.ndim != 2 or drawn.shape[1] != len(keys_N3):
                    raise ValueError(f"draw must give (rows, {len(keys_N3)}) numbers, gave {drawn.shape}")
                shape = self.transforms[position].shape_after(shape)  # type: ignore[arg-type]
            rows.append(drawn.astype(np.float32))
        together = torch.from_numpy(np.concatenate(rows)).to(self.to_input.device, non_blocking=True)
        return list(together.split([len(some) for some in rows]))

    @contextmanager
    def _blaming(self, position: int) -> Iterator[None]:
        """Names the operation that raises: in a line where it judges, else in a note below its traceback."""
        path, name = f"{_KEY}.{position}", type(self.transforms[position]).__name__
        try:
            yield
        except ValueError as error:
            raise ConfigError(f"{name} says: {error}", path) from error
        except Exception as error:
            error.add_note(f"This came of {path} '{name}'")
            raise


def augmentation_of(loader: Any, to_input: PixelsToInput) -> Augmentation:
    """What a loader's batches go through in training."""
    return Augmentation(to_input, loader.batch_transform, loader.seed, len(loader.classes))


class PlannedBatch:
    """A batch whose chance is drawn.

    Attributes:
        targets: for the loss: class indices (N,), or the shares of the classes (N, K) where images are mixed.
        classes_N: for the metrics: the class of each image, where images are mixed the one with the largest share.
    """

    def __init__(
        self,
        augmentation: Augmentation,
        images_NCHW: torch.Tensor,
        targets: torch.Tensor,
        classes_N: torch.Tensor,
        drawn: list[torch.Tensor],
    ):
        self._augmentation, self._images_NCHW, self._drawn = augmentation, images_NCHW, drawn
        self.targets, self.classes_N = targets, classes_N

    def inputs(self) -> torch.Tensor:
        """The network's input, made each time that it is asked for."""
        return self._augmentation.inputs(self._images_NCHW, self._drawn)


def shares_of_classes(targets: torch.Tensor, num_classes: int) -> torch.Tensor:
    """float32 (N, K): 1 at each class index and 0 elsewhere; targets that are shares already stay as they are."""
    if targets.is_floating_point():
        return targets.float()
    # torch's one_hot looks for the largest index, and waits for the device to do so.
    return (targets[:, None] == torch.arange(num_classes, device=targets.device)).float()


def _words(images: Any) -> str:
    return f"{tuple(images.shape)} of {str(images.dtype).removeprefix('torch.')}"
