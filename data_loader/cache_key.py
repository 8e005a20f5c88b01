"""What the cache of decoded pixels is told by: which transforms it may hold, what shape they give, and a fingerprint.

Called by cache.py alone.
"""

import hashlib
import itertools
import json
import os
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import features
from torch import nn
from torchvision.transforms import v2

from base.base_data_loader import MISFITS
from data_loader.cache_place import NotCachedError
from data_loader.dataset import ImageFiles
from utils.errors import DataError, some

NUM_PROBES = 16
# They draw nothing at random and leave uint8 what it is. Of a class derived from one of these nothing is known.
_DETERMINISTIC = (v2.Resize, v2.CenterCrop, v2.Pad, v2.Grayscale, v2.RGB)


def split_leading(transforms: Sequence[v2.Transform]) -> tuple[list[v2.Transform], list[v2.Transform]]:
    """The transforms before the first that may draw at random or give floats, and those from it on."""
    flat: list[v2.Transform] = []
    for one in transforms:
        flat += itertools.chain(*split_leading(one.transforms)) if type(one) is v2.Compose else [one]
    count = next((number for number, one in enumerate(flat) if type(one) not in _DETERMINISTIC), len(flat))
    return flat[:count], flat[count:]


def shape_of_all(files: ImageFiles, leading: Sequence[v2.Transform]) -> tuple[int, int, int]:
    """(C, H, W) of the images of a part after the leading transforms.

    Raises:
        NotCachedError: they differ. Where no transform fixes the size that is found out from a few; one of another
            size than those is decoded whenever it is asked for.
    """
    is_fixed = any(type(one) is v2.CenterCrop or (type(one) is v2.Resize and _has_both_sides(one)) for one in leading)
    shapes: list[tuple[int, ...]] = []
    for number in range(NUM_PROBES):
        try:
            shapes.append(tuple(files[number * len(files) // NUM_PROBES][0].shape))
        except DataError:
            continue
        except MISFITS as error:
            raise NotCachedError(f"a transform fails ({error})") from None
        if is_fixed:
            break
    if not shapes:
        raise NotCachedError("no image can be read")
    if len(set(shapes)) > 1:
        sizes = [f"{height}x{width}" for _, height, width in sorted(set(shapes))]
        raise NotCachedError(f"they differ in size ({some(sizes)}); a CenterCrop or a Resize to [H, W] would go first")
    channels, height, width = shapes[0]
    return channels, height, width


def _has_both_sides(resize: v2.Resize) -> bool:
    return resize.size is not None and len(resize.size) == 2


def stamp_of(path: str | Path) -> tuple[int, int]:
    """Size in bytes and time of change in ns; (-1, -1) of a file that is not there."""
    try:
        about = os.stat(path)
    except (OSError, ValueError):
        return -1, -1
    return about.st_size, about.st_mtime_ns


def fingerprint_of_pixels(about: dict[str, Any], names: list[str], stamps_N2: np.ndarray) -> str:
    """Of what is said of the pixels, and of the files that they are from."""
    digest = hashlib.blake2b(json.dumps(about, sort_keys=True).encode(), digest_size=16)
    digest.update("\n".join(names).encode("utf-8", "surrogateescape"))
    digest.update(stamps_N2.astype("<i8").tobytes())
    return digest.hexdigest()


def in_full(transform: v2.Transform) -> str:
    """A transform with all its settings."""
    inherited = nn.Module().__dict__
    settings = {name: value for name, value in transform.__dict__.items() if name not in inherited and name[0] != "_"}
    return f"{type(transform).__name__}({settings!r})"


def made_by() -> dict[str, str]:
    """All whose change may change a pixel."""
    versions = {"cpu": torch.backends.cpu.get_cpu_capability(), "byteorder": sys.byteorder}
    for name in ("pillow", "torch", "torchvision", "torchcodec"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "none"
    return versions | {
        name: str(features.version(name)) for name in ("jpg", "libjpeg_turbo", "zlib", "webp", "libtiff")
    }
