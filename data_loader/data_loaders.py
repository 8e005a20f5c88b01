"""The menu of loaders. Each reads one kind of source into `Parts`; parts.py does the rest.

A config names one of these, or a class in any other file of this package, under `data_loader.type`. Parameters of
type Path are relative to the project's folder. What train.py and test.py pass by themselves (`training`, `seed`,
and for a test `classes`) is not written in the config.
"""

import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, Unpack
from urllib.error import URLError

import torch
from torchvision import datasets

from data_loader.dataset import ImageTensors
from data_loader.folder import FileRules, read_parts
from data_loader.parts import ImageDataLoader, ImageOptions, Parts, Pixels, tensor_of_pixels
from data_loader.shapes import ShapesSettings, draw_shapes_folder
from data_loader.table import Columns, read_table
from data_loader.transforms import IMAGENET_MEAN, IMAGENET_STD, resize_and_crop
from utils.errors import DataError


class ImageFolderDataLoader(ImageDataLoader):
    """Folders of pictures, one folder a class.

    Args:
        data_dir: with train/ and evaluation|eval|valid|val|validation/ and test/ below it, each holding class
            folders; or one tree of class folders, of which a part is split off for validation.
        image_size: side in pixels of what the network sees, where no transforms are given: the shorter side is
            resized to 256/224 of it and the middle is cropped.
        channels: 3 reads pictures as RGB, 1 as grey.
        on_bad_image: "error" stops before anything is trained; "skip" decodes every file first, names the bad
            ones and leaves them out.
    """

    def __init__(
        self,
        data_dir: Path,
        image_size: int = 224,
        channels: Literal[1, 3] = 3,
        on_bad_image: Literal["error", "skip"] = "error",
        *,
        training: bool = True,
        classes: Sequence[str] | None = None,
        **options: Unpack[ImageOptions],
    ):
        rules = FileRules(channels, on_bad_image, list(classes) if classes else None)
        parts = read_parts(Path(data_dir), rules, training=training)
        super().__init__(parts, _picture_defaults(image_size, channels), training=training, **options)


class CsvDataLoader(ImageDataLoader):
    """A table of pictures.

    Args:
        csv_file: with a header line, columns for the path and the label, and perhaps one for the part.
        image_dir: paths in the table are relative to it; the table's own folder by default.
        columns: other names for the columns, such as {"label": "species"}.
        image_size, channels, on_bad_image: as for ImageFolderDataLoader.
    """

    def __init__(
        self,
        csv_file: Path,
        image_dir: Path | None = None,
        columns: dict[Literal["path", "label", "split"], str] | None = None,
        image_size: int = 224,
        channels: Literal[1, 3] = 3,
        on_bad_image: Literal["error", "skip"] = "error",
        *,
        training: bool = True,
        classes: Sequence[str] | None = None,
        **options: Unpack[ImageOptions],
    ):
        rules = FileRules(channels, on_bad_image, list(classes) if classes else None)
        folder = Path(csv_file).parent if image_dir is None else Path(image_dir)
        parts = read_table(Path(csv_file), folder, Columns(**(columns or {})), rules, training=training)
        super().__init__(parts, _picture_defaults(image_size, channels), training=training, **options)


class ShapesDataLoader(ImageDataLoader):
    """The demo set: drawn shapes as PNG files in an image-folder tree, drawn on first use, the same for everybody.

    Args:
        data_dir: where the tree is, or is drawn.
        num_classes: how many of the shapes.
        train_per_class, val_per_class, test_per_class: pictures a class in each part.
        image_size: side of the pictures in pixels.
        drawing_seed: other seeds draw other pictures; independent of the run's seed.
    """

    def __init__(
        self,
        data_dir: Path = Path("data/shapes"),
        num_classes: int = 8,
        train_per_class: int = 300,
        val_per_class: int = 50,
        test_per_class: int = 50,
        image_size: int = 64,
        drawing_seed: int = 0,
        *,
        training: bool = True,
        classes: Sequence[str] | None = None,
        **options: Unpack[ImageOptions],
    ):
        draw_shapes_folder(
            Path(data_dir),
            ShapesSettings(num_classes, train_per_class, val_per_class, test_per_class, image_size, drawing_seed),
        )
        rules = FileRules(classes=list(classes) if classes else None)
        parts = read_parts(Path(data_dir), rules, training=training)
        super().__init__(parts, Pixels([], [], IMAGENET_MEAN, IMAGENET_STD), training=training, **options)


class MnistDataLoader(ImageDataLoader):
    """MNIST's handwritten digits, 28x28 grey, held in memory.

    Args:
        data_dir: holds MNIST/raw/, or receives it.
        download: fetch the files where they are not there.
    """

    def __init__(
        self,
        data_dir: Path = Path("data"),
        download: bool = True,
        *,
        training: bool = True,
        **options: Unpack[ImageOptions],
    ):
        parts = _tensor_parts(datasets.MNIST, Path(data_dir), download, _DIGITS)
        super().__init__(parts, Pixels([], [], (0.1307,), (0.3081,)), training=training, **options)


class FashionMnistDataLoader(ImageDataLoader):
    """Fashion-MNIST's ten kinds of clothes, 28x28 grey, held in memory.

    Args:
        data_dir: holds FashionMNIST/raw/, or receives it.
        download: fetch the files where they are not there.
    """

    def __init__(
        self,
        data_dir: Path = Path("data"),
        download: bool = True,
        *,
        training: bool = True,
        **options: Unpack[ImageOptions],
    ):
        parts = _tensor_parts(datasets.FashionMNIST, Path(data_dir), download)
        super().__init__(parts, Pixels([], [], (0.2860,), (0.3530,)), training=training, **options)


class Cifar10DataLoader(ImageDataLoader):
    """CIFAR-10's ten classes, 32x32 RGB, held in memory.

    Args:
        data_dir: holds cifar-10-batches-py/, or receives it. CIFAR-10 as class folders of pictures is read by
            ImageFolderDataLoader.
        download: fetch the files where they are not there.
    """

    def __init__(
        self,
        data_dir: Path = Path("data"),
        download: bool = True,
        *,
        training: bool = True,
        **options: Unpack[ImageOptions],
    ):
        parts = _tensor_parts(datasets.CIFAR10, Path(data_dir), download)
        defaults = Pixels([], [], (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
        super().__init__(parts, defaults, training=training, **options)


_DIGITS = [str(digit) for digit in range(10)]
# What torchvision's readers were seen to raise on files that were cut off or are something else.
_DAMAGED = (OSError, RuntimeError, ValueError, EOFError, LookupError, AssertionError, pickle.UnpicklingError)


def _picture_defaults(image_size: int, channels: int) -> Pixels:
    """Tutorial 2's way for photographs; grey pictures get the mean of ImageNet's channels."""
    mean, std = IMAGENET_MEAN, IMAGENET_STD
    if channels == 1:
        mean, std = (sum(mean) / 3,), (sum(std) / 3,)
    return Pixels(resize_and_crop(image_size), resize_and_crop(image_size), mean, std)


def _tensor_parts(
    kind: Callable[..., datasets.VisionDataset], root: Path, download: bool, classes: list[str] | None = None
) -> Parts:
    """Training and test images of one of torchvision's data sets, from the disk where they are there."""
    parts = Parts(name=f"{kind.__name__} in {root}")
    for name, train in (("train", True), ("test", False)):
        data = _open_or_download(kind, root, download, train=train)
        images = tensor_of_pixels(torch.as_tensor(data.data))
        if len(images) != len(data.targets):
            raise DataError(f"{parts.name}: {len(data.targets)} labels for {len(images)} images ({name})")
        setattr(parts, name, ImageTensors(images, data.targets, classes or list(data.classes), name=name))
        parts.folders[name] = parts.name
    return parts


def _open_or_download(
    kind: Callable[..., datasets.VisionDataset], root: Path, download: bool, *, train: bool
) -> datasets.VisionDataset:
    missing = f"{kind.__name__} is not below {root}"
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
