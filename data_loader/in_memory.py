"""Loaders of torchvision's small data sets, held in memory as uint8: a batch is one index operation."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Unpack
from urllib.error import URLError

import torch
from torchvision import datasets

from data_loader.dataset import ImageTensors
from data_loader.parts import ImageDataLoader, ImageOptions, Parts, Pixels, tensor_of_pixels
from utils.errors import DataError

# What torchvision's readers were seen to raise on files that were cut off or are something else.
_DAMAGED = (OSError, RuntimeError, ValueError, EOFError, LookupError, AssertionError, pickle.UnpicklingError)


class _InMemoryDataLoader(ImageDataLoader):
    """One of torchvision's data sets; the subclasses say which.

    Args:
        data_dir: holds the files as torchvision lays them out, or receives them.
        download: fetch the files where they are not there.
    """

    kind: ClassVar[Callable[..., datasets.VisionDataset]]
    pixels: ClassVar[Pixels]
    class_names: ClassVar[list[str] | None] = None

    def __init__(
        self,
        data_dir: Path = Path("data"),
        download: bool = True,
        *,
        training: bool = True,
        **options: Unpack[ImageOptions],
    ):
        parts = _tensor_parts(self.kind, Path(data_dir), download, self.class_names)
        super().__init__(parts, self.pixels, training=training, **options)


class MnistDataLoader(_InMemoryDataLoader):
    """MNIST's handwritten digits, 28x28 grey, below data_dir/MNIST/raw/."""

    kind = datasets.MNIST
    pixels = Pixels([], [], (0.1307,), (0.3081,))
    class_names: ClassVar[list[str] | None] = [str(digit) for digit in range(10)]


class FashionMnistDataLoader(_InMemoryDataLoader):
    """Fashion-MNIST's ten kinds of clothes, 28x28 grey, below data_dir/FashionMNIST/raw/."""

    kind = datasets.FashionMNIST
    pixels = Pixels([], [], (0.2860,), (0.3530,))


class Cifar10DataLoader(_InMemoryDataLoader):
    """CIFAR-10's ten classes, 32x32 RGB, below data_dir/cifar-10-batches-py/.

    CIFAR-10 as class folders of pictures is read by ImageFolderDataLoader.
    """

    kind = datasets.CIFAR10
    pixels = Pixels([], [], (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))


def _tensor_parts(
    kind: Callable[..., datasets.VisionDataset], root: Path, download: bool, class_names: list[str] | None
) -> Parts:
    """Training and test images of one of torchvision's data sets, from the disk where they are there."""
    parts = Parts(name=f"{kind.__name__} in {root}")
    for name, train in (("train", True), ("test", False)):
        data = _open_or_download(kind, root, download, train=train)
        images = tensor_of_pixels(torch.as_tensor(data.data))
        if len(images) != len(data.targets):
            raise DataError(f"{parts.name}: {len(data.targets)} labels for {len(images)} images ({name})")
        setattr(parts, name, ImageTensors(images, data.targets, class_names or list(data.classes), name=name))
        parts.folders[name] = parts.name
    return parts


def _open_or_download(
    kind: Callable[..., datasets.VisionDataset], root: Path, download: bool, *, train: bool
) -> datasets.VisionDataset:
    missing = f"{kind.__name__} is not below {root}, or not whole"
    try:
        return kind(str(root), train=train, download=False)
    except _DAMAGED as error:
        if "not found" not in str(error):
            raise DataError(f"{kind.__name__} below {root} cannot be read: {_one_line(error)}") from error
        if not download:
            raise DataError(f'{missing}, and "download" is false') from error
    try:
        return kind(str(root), train=train, download=True)
    except (URLError, OSError, RuntimeError) as error:
        raise DataError(f"{missing} and could not be downloaded ({_one_line(error)}). Is there a network?") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or f"damaged file ({type(error).__name__})"
