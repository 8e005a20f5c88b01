"""What an operation on whole batches promises, and the batches that tell it whom its chance belongs to.

The concrete ones live in data_loader/batch_transforms.py and data_loader/mixing.py. trainer/augment.py applies them,
in training only, on the device.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
import torch

from utils.draws import Draws

ShapeCHW = tuple[int, int, int]


class KeyedBatch(tuple[Any, Any]):
    """(images_NCHW, targets_N) as any other batch, with the keys of its samples.

    Args:
        batch: the pair.
        keys_N3: see `utils.draws.key_array`.
    """

    keys_N3: np.ndarray

    def __new__(cls, batch: tuple[Any, Any], keys_N3: np.ndarray) -> "KeyedBatch":
        pair = super().__new__(cls, batch)
        pair.keys_N3 = keys_N3
        return pair


class BatchTransform(ABC):
    """Changes the images of a batch, each by numbers of its own.

    The work has two halves. `draw` decides on the CPU, with numpy, from numbers that belong to each sample's key;
    `apply` does it on the device, for all images at once. It must neither loop over them nor ask the device for a
    number (`.item()`, a mask as an index), which would wait for it.

    Attributes:
        needs_floats: gets images that are scaled and normalised; the others get them as the loader gives them, which
            is uint8, unless an operation before them in the list needed floats.
        mixes: an image becomes one of several classes; then `mix` says how much it is of each.
    """

    needs_floats: ClassVar[bool] = False
    mixes: ClassVar[bool] = False

    @abstractmethod
    def draw(self, draws: Draws, shape_CHW: ShapeCHW) -> np.ndarray:
        """What is to be done to each image: (rows, N) numbers, whole ones below 2**24, as they travel as float32.

        Args:
            draws: the only source of chance.
            shape_CHW: of the images.

        Raises:
            ValueError: images of that size cannot be worked on.
        """

    @abstractmethod
    def apply(self, images_NCHW: torch.Tensor, drawn_RN: torch.Tensor) -> torch.Tensor:
        """New images, of the same dtype; those given stay as they are.

        Args:
            images_NCHW: on the device.
            drawn_RN: what `draw` gave, as float32 on the device.

        Raises:
            ValueError: images of that kind cannot be worked on.
        """

    def shape_after(self, shape_CHW: ShapeCHW) -> ShapeCHW:
        """Of the images that come out."""
        return shape_CHW

    def mix(self, targets_NK: torch.Tensor, drawn_RN: torch.Tensor) -> torch.Tensor:
        """The shares (float32, each row with the sum 1) of the classes in the images that come out."""
        return targets_NK
