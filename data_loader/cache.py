"""The cache of decoded pixels: what transforms make of a file, before chance or floats begin, is computed once.

parts.py shows every part of the data through here. Which pixels belong to a file is told by a fingerprint: of the
files (relative paths, sizes, times of change), of the transforms, and of what decodes. A file that has changed since
is decoded, as without a cache, so that no result ever depends on one. The bytes themselves: cache_file.py.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torchvision.transforms import v2

from data_loader.cache_file import PixelFile
from data_loader.cache_key import (
    fingerprint_of_pixels,
    in_full,
    made_by,
    shape_of_all,
    split_leading,
    stamp_of,
)
from data_loader.cache_place import NotCachedError, in_memory, on_disk
from data_loader.dataset import ImageData, ImageFiles
from data_loader.transforms import compose
from utils.cache_folder import in_words
from utils.memory import available_bytes

CacheMode = Literal["off", "ram", "disk", "auto"]
FORMAT_VERSION = 1


@dataclass(frozen=True)
class CacheRules:
    """Where decoded pixels are kept, and how many GB at most."""

    mode: CacheMode = "off"
    limit_GB: float = 20.0


class CachedImages:
    """Image files whose pixels, after the leading transforms, are kept: samples (image_CHW, class index).

    Args:
        files: seen through the leading transforms.
        stamps_N2: size and time of change (ns) of each file when the cache was opened.
        store: of their pixels.
        rest: the other transforms.
    """

    def __init__(self, files: ImageFiles, stamps_N2: np.ndarray, store: PixelFile, rest: v2.Transform | None):
        self.files, self.stamps_N2, self.store, self.transform = files, stamps_N2, store, rest
        self.targets, self.classes = files.targets, files.classes
        self.skips_bad, self.num_left_out = files.skips_bad, files.num_left_out

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = self._pixels(index)
        return (self.transform(image) if self.transform else image), int(self.targets[index])

    def _pixels(self, index: int) -> torch.Tensor:
        """After the leading transforms; of a file that is not as it was, what there is now."""
        if not self._is_unchanged(index):
            return self.files[index][0]
        image = self.store.read(index)
        if image is None:
            image = self.files[index][0]
            if self._is_unchanged(index):
                self.store.write(index, image)
        return image

    def _is_unchanged(self, index: int) -> bool:
        return stamp_of(self.files.sample_name(index)) == tuple(self.stamps_N2[index].tolist())

    def get_batch(self, indices: list[int]) -> tuple[torch.Tensor, torch.Tensor] | None:
        """A whole batch at once; None where something must be decoded, or a transform must see each image."""
        if self.transform is not None or not all(self._is_unchanged(index) for index in indices):
            return None
        images_NCHW = self.store.read_batch(indices)
        return None if images_NCHW is None else (images_NCHW, self.targets[indices])

    def sample_name(self, index: int) -> str:
        """The file's path."""
        return self.files.sample_name(index)


class Cache:
    """Opens the caches of one loader.

    Args:
        rules: where they are kept; "auto" takes the disk, or memory where the disk cannot be used, or none.
        notes: receives a line for each decision.
        training: otherwise each image is read once, for which "auto" keeps nothing.
    """

    def __init__(self, rules: CacheRules, notes: list[str], *, training: bool):
        self.rules, self.notes = rules, notes
        self.is_off = rules.mode == "off" or (rules.mode == "auto" and not training)
        self.limit_bytes = round(rules.limit_GB * 1e9)
        self.spare_memory_bytes = min(self.limit_bytes, available_bytes() // 2)
        self.stores: dict[str, PixelFile] = {}
        self.shapes: dict[str, tuple[int, int, int]] = {}
        self.files: list[tuple[ImageFiles, tuple[str, list[str], np.ndarray]]] = []

    def seen_through(self, data: ImageData, transforms: Sequence[v2.Transform]) -> ImageData | CachedImages:
        """The same samples through a list of transforms, their pixels from a cache where that can be."""
        plain = data.with_transform(compose(transforms))
        # A class derived from ImageFiles may make other pixels of the same files.
        if self.is_off or type(data) is not ImageFiles or not len(data):
            return plain
        leading, rest = split_leading(transforms)
        files = data.with_transform(compose(leading))
        where, names, stamps_N2 = self._files(data)
        after = f"after {', '.join(type(one).__name__ for one in leading)}" if leading else "as decoded"
        try:
            settings = [in_full(one) for one in leading]
            key = f"{id(stamps_N2)} {settings}"
            if key not in self.shapes:
                self.shapes[key] = shape_of_all(files, leading)
            shape_NCHW = (len(data), *self.shapes[key])
            about = {"version": FORMAT_VERSION, "shape": shape_NCHW, "channels": data.channels, "made_by": made_by()}
            about |= {"transforms": settings, "scaled_decoding": data.scaled_decoding}
            digest = fingerprint_of_pixels(about, names, stamps_N2)
            store = self.stores.get(digest) or self._open(digest, about, shape_NCHW, f"{where}: pixels {after}")
        except NotCachedError as error:
            self._note(f"{where}: pixels {after} are not cached: {error}")
            return plain
        self.stores[digest] = store
        return CachedImages(files, stamps_N2, store, compose(rest))

    def _files(self, data: ImageFiles) -> tuple[str, list[str], np.ndarray]:
        """The folder that all files of a part share, their paths from there, and their stamps_N2; found out once."""
        for known, facts in self.files:
            if known is data:
                return facts
        paths = [data.sample_name(index) for index in range(len(data))]
        folders = {os.path.dirname(path) for path in paths}
        where = os.path.commonpath(folders) if all(map(os.path.isabs, folders)) else ""
        stamps_N2 = np.array([stamp_of(path) for path in paths], np.int64)
        self.files.append((data, (where, [path.removeprefix(where) for path in paths], stamps_N2)))
        return self.files[-1][1]

    def _open(self, digest: str, about: dict[str, Any], shape_NCHW: tuple[int, int, int, int], what: str) -> PixelFile:
        """The store of this fingerprint, on the disk or in memory.

        Raises:
            NotCachedError: neither can be.
        """
        header = f"decoded pixels\n{digest}\n{json.dumps(about)}\n".encode()[:4096]
        why_not = ""
        if self.rules.mode != "ram":
            try:
                store = on_disk(digest, header, shape_NCHW, self.limit_bytes, self._note)
            except NotCachedError as error:
                if self.rules.mode == "disk":
                    raise
                why_not = f"{error}; "
            else:
                there = f"{store.num_there} of {shape_NCHW[0]} images there already"
                self._note(f"{what} are cached in {store.path.parent} ({in_words(store.num_bytes)}, {there})")
                return store
        try:
            store = in_memory(header, shape_NCHW, self.spare_memory_bytes)
        except NotCachedError as error:
            raise NotCachedError(f"{why_not}{error}") from None
        self.spare_memory_bytes -= store.num_bytes
        self._note(f"{what} are cached in memory ({why_not}{in_words(store.num_bytes)})")
        return store

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)
