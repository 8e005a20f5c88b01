"""A file of uint8 pixels, all images of one shape, which processes and runs fill and read together.

    header      4096 bytes, known beforehand by whoever opens the file: other bytes are another version, or damage
    entries     8 bytes an image: 0, or 2^32 plus the CRC-32 of its pixels
    pixels      images_NHWC, as decoders give them; where none was written the file has holes, which take no room

An entry is written after its pixels and believed only where the checksum fits, once in a run. So a process that is
killed, a flipped bit or a loss of power leaves images that are decoded again, and no wrong ones. Two who write the same
image write the same bytes. Which images, and which shape: cache.py. How a file comes to be: cache_place.py.
"""

import contextlib
import logging
import math
import mmap
import os
import weakref
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from utils.cache_folder import hold, reserve_bytes

HEADER_BYTES = 4096
_IS_THERE = 1 << 32
_ENTRY_BYTES = 8
log = logging.getLogger("run")


class DamagedFileError(Exception):
    """Not a file of this header and size."""


class PixelFile:
    """The images of one file, each there or not.

    Args:
        path: of a file that cache_place.py made.
        header: which it was made with.
        shape_NCHW: of all images together.

    Raises:
        DamagedFileError: the file is cut, or another one.
        OSError: it is not there or cannot be read.
    """

    def __init__(self, path: Path, header: bytes, shape_NCHW: tuple[int, int, int, int]):
        self.path, self.header, self.shape_NCHW = path, padded(header), shape_NCHW
        self._open()

    def _open(self) -> None:
        num_images, begin = self.shape_NCHW[0], _begin_of_pixels(self.shape_NCHW[0])
        self.num_bytes = size_of_file(self.shape_NCHW)
        try:
            self.number = os.open(self.path, os.O_RDWR)
            is_writable = True
        except PermissionError:  # somebody else's, or a disk for reading only: of use all the same
            self.number = os.open(self.path, os.O_RDONLY)
            is_writable = False
        weakref.finalize(self, os.close, self.number)
        if not self._is_whole() or os.pread(self.number, HEADER_BYTES, 0) != self.header:
            raise DamagedFileError
        hold(self.number)
        self.reserve_bytes = 0 if _is_in_memory(self.path) else reserve_bytes(self.path.parent)
        view = mmap.mmap(self.number, self.num_bytes, prot=mmap.PROT_READ)
        self.entries = np.frombuffer(view, "<u8", num_images, offset=HEADER_BYTES)
        channels, height, width = self.shape_NCHW[1:]
        self.pixels_NHWC = np.frombuffer(view, np.uint8, offset=begin).reshape(num_images, height, width, channels)
        # Shared with processes that are forked later: whose checksum was seen to fit, and in the end, who gave up.
        self.is_known = np.frombuffer(mmap.mmap(-1, num_images + 1), np.uint8)
        self.is_known[-1] = not is_writable
        if is_writable and not _is_in_memory(self.path):
            with contextlib.suppress(OSError):
                os.utime(self.path)  # the least recently used file is the first to go

    def __getstate__(self) -> dict[str, Any]:
        """For a worker that is started and not forked: it opens the file itself."""
        return {"path": self.path, "header": self.header, "shape_NCHW": self.shape_NCHW}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        try:
            self._open()
        except (OSError, DamagedFileError):  # removed since: this process decodes, as if there were no cache
            self.number = -1
            self.is_known = np.zeros(self.shape_NCHW[0] + 1, np.uint8)
            self.entries = np.zeros(self.shape_NCHW[0], np.uint64)
            self.is_known[-1] = True

    def _is_whole(self) -> bool:
        """To read beyond the end of a file that was cut since it was opened would end the process."""
        return os.fstat(self.number).st_size == self.num_bytes

    @property
    def num_there(self) -> int:
        """Images that were written, by anybody."""
        return int(np.count_nonzero(self.entries))

    def read(self, index: int) -> torch.Tensor | None:
        """A copy of image_CHW, or None where it is not there or not whole."""
        entry = int(self.entries[index]) if self._can_read() else 0
        if not entry:
            return None
        image_HWC = self.pixels_NHWC[index].copy()
        if not self.is_known[index]:
            if entry != _IS_THERE | zlib.crc32(image_HWC.data):
                return None
            self.is_known[index] = True
        return torch.from_numpy(image_HWC).permute(2, 0, 1)

    def read_batch(self, indices: list[int]) -> torch.Tensor | None:
        """images_NCHW by one index operation; None where not all are there and known to be whole."""
        if not self._can_read() or not self.is_known[indices].all():
            return None
        return torch.from_numpy(self.pixels_NHWC[indices]).permute(0, 3, 1, 2)

    def _can_read(self) -> bool:
        return self.number >= 0 and self._is_whole()

    def write(self, index: int, image_CHW: torch.Tensor) -> None:
        """Puts an image there; where that cannot be done, says so once and writes no more."""
        if self.is_known[-1] or image_CHW.shape != self.shape_NCHW[1:] or image_CHW.dtype != torch.uint8:
            return
        pixels = image_CHW.permute(1, 2, 0).contiguous().numpy()
        entry = _IS_THERE | zlib.crc32(pixels.data)
        try:
            if not self._is_whole():
                raise OSError("the file was changed by something else")
            if self.reserve_bytes:
                disk = os.statvfs(self.number)
                if disk.f_bavail * disk.f_frsize < self.reserve_bytes + pixels.nbytes:
                    raise OSError("the disk is nearly full")
            _write(self.number, pixels.data.cast("B"), _begin_of_pixels(len(self.entries)) + index * pixels.nbytes)
            _write(self.number, memoryview(entry.to_bytes(8, "little")), HEADER_BYTES + index * _ENTRY_BYTES)
        except OSError as error:
            if not self.is_known[-1]:
                self.is_known[-1] = True
                log.warning(
                    f"warning: {self.path.parent}: no more pixels are cached ({error.strerror or error}); the run goes "
                    f"on and decodes what is missing"
                )
            return
        self.is_known[index] = True


def size_of_file(shape_NCHW: tuple[int, int, int, int]) -> int:
    """Bytes, all images there."""
    return _begin_of_pixels(shape_NCHW[0]) + math.prod(shape_NCHW)


def _is_in_memory(path: Path) -> bool:
    return path.is_relative_to("/proc")


def _begin_of_pixels(num_images: int) -> int:
    return HEADER_BYTES + -(-num_images * _ENTRY_BYTES // HEADER_BYTES) * HEADER_BYTES


def padded(header: bytes) -> bytes:
    """As it stands at the beginning of a file."""
    return header.ljust(HEADER_BYTES, b"\0")


def _write(number: int, content: memoryview, offset: int) -> None:
    while len(content):
        written = os.pwrite(number, content, offset)
        content, offset = content[written:], offset + written
