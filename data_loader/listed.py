"""From what was typed to the pictures it means: files, folders, patterns, a list on standard input.

Then a loader over them, whose targets are their positions in the list. Whatever cannot be read is noted and passed
over. Used by predict.py; folders of classes for training are scan.py's.
"""

import glob
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

import torch
from PIL import Image
from torch.utils.data import default_collate
from torchvision.transforms import v2

from base.base_data_loader import MISFITS, BaseDataLoader
from base.keyed import stacked
from base.skipped import BadSamples
from base.worker_choice import automatic_workers
from data_loader.dataset import ImageFiles
from data_loader.decode import IMAGE_SUFFIXES
from data_loader.paths import PathList
from data_loader.recorded import PixelPath
from data_loader.transforms import compose
from utils.errors import ConfigError, DataError

STANDARD_INPUT = "-"
Collate = Callable[[list[Any]], Any]


@dataclass
class Listing:
    """The pictures that some words mean.

    Attributes:
        paths: in the order of the words; those of a folder by name, before those of the folders in it.
        problems: words and folders that mean no picture, each with the reason.
        num_repeated: paths that came again; each is kept once.
    """

    paths: PathList = field(default_factory=lambda: PathList.of([]))
    problems: list[tuple[str, str]] = field(default_factory=list)
    num_repeated: int = 0


def list_files(words: Sequence[str], standard_input: IO[bytes]) -> Listing:
    """The pictures that words mean; a file that is named is taken whatever it is called.

    Args:
        words: files, folders, patterns such as `photos/**/*.jpg`, or "-".
        standard_input: paths for "-", one a line, or with a NUL behind each (as `find -print0` gives them).

    Raises:
        DataError: they mean none.
    """
    listing, seen = Listing(), set[str]()
    names: list[str] = []
    for path in _meant(words, standard_input, listing.problems):
        key = os.path.abspath(path)
        if key in seen:
            listing.num_repeated += 1
        else:
            seen.add(key)
            names.append(path)
    if not names:
        reasons = [f"{name}: {reason}" for name, reason in listing.problems[:3]]
        raise DataError("\n  ".join(["no pictures to look at", *reasons]) if reasons else "no pictures to look at")
    listing.paths = PathList.of(names)
    return listing


def _meant(words: Sequence[str], standard_input: IO[bytes], problems: list[tuple[str, str]]) -> Iterator[str]:
    for word in words:
        if word == STANDARD_INPUT:
            found = _listed_in(standard_input)
            if not found:
                problems.append((STANDARD_INPUT, "standard input is empty; it takes one path a line"))
        elif glob.has_magic(word) and not os.path.lexists(word):
            found = sorted(glob.iglob(word, recursive=True))
            if not found:
                problems.append((word, "matches nothing"))
        else:
            found = [word]
        for path in found:
            if os.path.isdir(path):
                yield from _below(path, problems)
            else:
                yield path


def _listed_in(standard_input: IO[bytes]) -> list[str]:
    text = standard_input.read()
    lines = text.split(b"\0") if b"\0" in text else [line.removesuffix(b"\r") for line in text.split(b"\n")]
    return [os.fsdecode(line) for line in lines if line]


def _below(top: str, problems: list[tuple[str, str]]) -> Iterator[str]:
    """Pictures below a folder, by their suffixes; nothing hidden, and no link twice or back into the folder."""
    real_top, linked, num_found = os.path.realpath(top), set[str](), 0

    def note(error: OSError) -> None:
        problems.append((str(error.filename), f"cannot be read ({error.strerror})"))

    num_problems = len(problems)
    for folder, folders, files in os.walk(top, onerror=note, followlinks=True):
        folders[:] = sorted(
            name for name in folders if name[0] != "." and not _leads_back(os.path.join(folder, name), real_top, linked)
        )
        for name in sorted(files):
            if name[0] != "." and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES:
                num_found += 1
                yield os.path.join(folder, name)
    if not num_found and len(problems) == num_problems:
        suffixes = " ".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))
        problems.append((top, f"a folder without pictures (looked for {suffixes})"))


def _leads_back(path: str, real_top: str, linked: set[str]) -> bool:
    if not os.path.islink(path):
        return False
    real = os.path.realpath(path)
    is_known = real in linked or os.path.commonpath([real, real_top]) in (real, real_top)
    linked.add(real)
    return is_known


class _ListedFiles(ImageFiles):
    """Files of which each may be anything: what a transform cannot do is said of the one file."""

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = self.pixels(index)
        _require_sane_resize(self.paths[index], image, self.transform)
        try:
            return (self.transform(image) if self.transform else image), index
        except (*MISFITS, MemoryError) as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            size = "x".join(map(str, image.shape[1:]))
            raise DataError(f"{self.paths[index]}: a transform cannot take its {size} pixels ({reason})") from None


def _require_sane_resize(path: str, image_CHW: torch.Tensor, transform: Any) -> None:
    """A line of pixels whose short side is to become 256 would fill the memory."""
    first = transform.transforms[0] if isinstance(transform, v2.Compose) else transform
    limit = Image.MAX_IMAGE_PIXELS
    if isinstance(first, v2.Resize) and first.size is not None and len(first.size) == 1 and limit is not None:
        height, width = image_CHW.shape[1:]
        num_pixels = height * width * (first.size[0] / min(height, width)) ** 2
        if first.max_size is None and num_pixels > limit:
            raise DataError(f"{path}: {height}x{width} pixels, of which Resize would make more than {limit}")


class _Noted(BadSamples):
    """However many: they are results like any other."""

    def note(self, bad: list[tuple[int, str]], num_samples: int, name_of: Callable[[int], str]) -> None:
        self.update(bad)


class _ListedLoader(BaseDataLoader):
    """Lists of (images_NCHW, positions_N), one for each size of image in a batch; `bad` holds what was passed over."""

    def __init__(self, files: ImageFiles, batch_size: int, num_workers: int, collate: Collate | None):
        super().__init__(
            files,
            batch_size,
            shuffle=False,
            num_workers=num_workers,
            collate_fn=_Batches(collate),
            evaluation=True,
            pin_memory=True,
        )
        self.bad = _Noted("noted")


class _Batches:
    """Makes a batch of samples, or several where they differ in size and nothing else is asked for."""

    def __init__(self, collate: Collate | None):
        self.collate = collate

    def __call__(self, samples: list[Any]) -> list[Any]:
        if self.collate is not None and self.collate is not default_collate:
            return [self.collate(samples)]
        by_shape: dict[tuple[int, ...], list[Any]] = {}
        for sample in samples:
            by_shape.setdefault(tuple(sample[0].shape), []).append(sample)
        return [stacked(group) for group in by_shape.values()]


def open_listed(
    paths: PathList,
    pixels: PixelPath,
    *,
    batch_size: int | None = None,
    num_workers: int | None = None,
    collate: Collate | None = None,
) -> BaseDataLoader:
    """A loader over files, in their order, each decoded and transformed as in the evaluation of a training.

    Args:
        paths: of the files.
        pixels: how they are read.
        batch_size: as in the evaluation by default.
        num_workers: by the machine and the number of batches by default.
        collate: as in the config.

    Raises:
        ConfigError: fewer than none.
    """
    files = _ListedFiles(
        paths,
        torch.arange(len(paths)),
        [],
        channels=pixels.channels,
        skips_bad=True,
        scaled_decoding=pixels.scaled_decoding,
    ).with_transform(compose(pixels.transforms))
    batch_size = pixels.batch_size if batch_size is None else batch_size
    if batch_size < 1:
        raise ConfigError(f"command line: --batch-size {batch_size}: must be at least 1")
    if num_workers is None:
        num_batches = -(-len(paths) // batch_size)
        num_workers = min(automatic_workers(files)[0], num_batches) if num_batches > 1 else 0
    if num_workers < 0:
        raise ConfigError(f"command line: --num-workers {num_workers}: must be at least 0")
    return _ListedLoader(files, batch_size, num_workers, collate)
