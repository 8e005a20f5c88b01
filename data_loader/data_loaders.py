"""Loaders of image files. Each reads one kind of source into `Parts`; parts.py does the rest.

A config names one of these, or a class in any other file of this package, under `data_loader.type`. Parameters of
type Path are relative to the project's folder. What train.py and test.py pass by themselves (`training`, `seed`,
and for a test `classes`) is not written in the config.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Unpack

from annotated_types import Gt

from data_loader.cache import CacheMode, CacheRules
from data_loader.folder import FileRules, read_parts
from data_loader.jpeg import jpeg_decoder
from data_loader.parts import ImageDataLoader, ImageOptions, Parts, Pixels, first_given
from data_loader.scaled import reduction_before
from data_loader.shapes import ShapesSettings, draw_shapes_folder
from data_loader.table import Columns, read_table
from data_loader.transforms import IMAGENET_MEAN, IMAGENET_STD, compose, resize_and_crop
from utils.errors import ConfigError


class ImageFolderDataLoader(ImageDataLoader):
    """Folders of pictures, one folder a class.

    Args:
        data_dir: with train/ and evaluation|eval|valid|val|validation/ and test/ below it, each holding class
            folders; or one tree of class folders, of which a part is split off for validation.
        image_size: side in pixels of what the network sees, 224 by default, where the transforms are not given: the
            shorter side is resized to 256/224 of it and the middle is cropped.
        channels: 3 reads pictures as RGB, 1 as grey.
        on_bad_image: "error" stops, naming the file; "skip" names the bad ones, trains on another image in the place
            of each, and leaves them out of evaluations, which say how many they were.
        scaled_decoding: decode large JPEGs at 1/2, 1/4 or 1/8, where the first transform is a Resize or a
            RandomResizedCrop that still gets twice the pixels it gives. Faster, with slightly other pixels.
        cache: where pixels are kept after the transforms that draw nothing at random: "disk" (saved/cache), "ram",
            "off", or "auto": on the disk where they fit, else in memory, else nowhere; in a test nowhere.
        cache_limit_gb: what all caches may take together; the least recently used ones go first.
    """

    def __init__(
        self,
        data_dir: Path,
        image_size: int | None = None,
        channels: Literal[1, 3] = 3,
        on_bad_image: Literal["error", "skip"] = "error",
        scaled_decoding: bool = False,
        *,
        cache: CacheMode = "auto",
        cache_limit_gb: Annotated[float, Gt(0)] = 20.0,
        training: bool = True,
        classes: Sequence[str] | None = None,
        **options: Unpack[ImageOptions],
    ):
        rules = FileRules(channels, on_bad_image, list(classes) if classes else None, scaled_decoding)
        parts = read_parts(Path(data_dir), rules, training=training)
        defaults = _picture_defaults(image_size, channels, options)
        if scaled_decoding:
            _check_scaled_decoding(defaults, options)
        _note_decoder(parts)
        super().__init__(parts, defaults, training=training, cache=CacheRules(cache, cache_limit_gb), **options)


class CsvDataLoader(ImageDataLoader):
    """A table of pictures.

    Args:
        csv_file: with a header line, columns for the path and the label, and perhaps one for the part.
        image_dir: paths in the table are relative to it; the table's own folder by default.
        columns: other names for the columns, such as {"label": "species"}.
        image_size, channels, on_bad_image, scaled_decoding, cache, cache_limit_gb: as for ImageFolderDataLoader.
    """

    def __init__(
        self,
        csv_file: Path,
        image_dir: Path | None = None,
        columns: dict[Literal["path", "label", "split"], str] | None = None,
        image_size: int | None = None,
        channels: Literal[1, 3] = 3,
        on_bad_image: Literal["error", "skip"] = "error",
        scaled_decoding: bool = False,
        *,
        cache: CacheMode = "auto",
        cache_limit_gb: Annotated[float, Gt(0)] = 20.0,
        training: bool = True,
        classes: Sequence[str] | None = None,
        **options: Unpack[ImageOptions],
    ):
        rules = FileRules(channels, on_bad_image, list(classes) if classes else None, scaled_decoding)
        folder = Path(csv_file).parent if image_dir is None else Path(image_dir)
        parts = read_table(Path(csv_file), folder, Columns(**(columns or {})), rules, training=training)
        defaults = _picture_defaults(image_size, channels, options)
        if scaled_decoding:
            _check_scaled_decoding(defaults, options)
        _note_decoder(parts)
        super().__init__(parts, defaults, training=training, cache=CacheRules(cache, cache_limit_gb), **options)


class ShapesDataLoader(ImageDataLoader):
    """The demo set: drawn shapes as PNG files in an image-folder tree, drawn on first use, the same for everybody.

    Args:
        data_dir: where the tree is, or is drawn for a training. A test takes any tree of such classes.
        num_classes: how many of the shapes.
        train_per_class, val_per_class, test_per_class: pictures a class in each part.
        image_size: side of the pictures in pixels.
        drawing_seed: other seeds draw other pictures; independent of the run's seed.
        cache, cache_limit_gb: as for ImageFolderDataLoader.
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
        cache: CacheMode = "auto",
        cache_limit_gb: Annotated[float, Gt(0)] = 20.0,
        training: bool = True,
        classes: Sequence[str] | None = None,
        **options: Unpack[ImageOptions],
    ):
        if training:  # a test is of pictures that are there, also of others than drawn ones
            draw_shapes_folder(
                Path(data_dir),
                ShapesSettings(num_classes, train_per_class, val_per_class, test_per_class, image_size, drawing_seed),
            )
        rules = FileRules(classes=list(classes) if classes else None)
        parts = read_parts(Path(data_dir), rules, training=training)
        super().__init__(
            parts,
            Pixels([], [], IMAGENET_MEAN, IMAGENET_STD),
            training=training,
            cache=CacheRules(cache, cache_limit_gb),
            **options,
        )


def _picture_defaults(image_size: int | None, channels: int, options: ImageOptions) -> Pixels:
    """Tutorial 2's way for photographs; grey pictures get the mean of ImageNet's channels.

    Raises:
        ConfigError: an `image_size` that nothing would use.
    """
    both_given = options.get("transform") is not None and options.get("eval_transform") is not None
    if image_size is not None and both_given:
        raise ConfigError(
            "transform and eval_transform say the size already; remove one or the other",
            "data_loader.args.image_size",
            "data_loader.args.transform",
        )
    if image_size is not None and image_size < 1:
        raise ConfigError(f"must be at least 1, got {image_size}", "data_loader.args.image_size")
    transforms = resize_and_crop(224 if image_size is None else image_size)
    if channels == 1:
        return Pixels(transforms, transforms, (sum(IMAGENET_MEAN) / 3,), (sum(IMAGENET_STD) / 3,))
    return Pixels(transforms, transforms, IMAGENET_MEAN, IMAGENET_STD)


def _check_scaled_decoding(defaults: Pixels, options: ImageOptions) -> None:
    """Refuses an option that would do nothing.

    Raises:
        ConfigError: neither list of transforms begins with one that says how many pixels are needed.
    """
    lists = [first_given(options.get("transform"), defaults.transform)]
    lists.append(first_given(options.get("eval_transform"), defaults.eval_transform))
    if all(reduction_before(compose(transforms)) is None for transforms in lists):
        raise ConfigError(
            "neither transform nor eval_transform begins with Resize or RandomResizedCrop, so it has no effect; "
            "remove it, or put one of those first",
            "data_loader.args.scaled_decoding",
        )


def _note_decoder(parts: Parts) -> None:
    """Says which library reads the JPEGs, where there seem to be any: the first file's name speaks for all."""
    some_part = parts.train or parts.validation or parts.test
    if some_part and some_part.sample_name(0).lower().endswith((".jpg", ".jpeg")):
        parts.notes.append(f"JPEGs are decoded by {jpeg_decoder()}")
