"""Where the file of a cache comes from: made on the disk or in memory, or why it cannot be.

Called by cache.py; what is in the file is in cache_file.py.
"""

import os
import secrets
import weakref
from collections.abc import Callable
from pathlib import Path

from data_loader.cache_file import DamagedFileError, PixelFile, padded, size_of_file
from utils import cache_folder
from utils.cache_folder import PIXELS_FILE, in_words, make_room

Shape = tuple[int, int, int, int]  # N, C, H, W


class NotCachedError(Exception):
    """Why the pixels of a part are not cached, for the log."""


def on_disk(digest: str, header: bytes, shape_NCHW: Shape, limit_bytes: int, note: Callable[[str], None]) -> PixelFile:
    """The file below saved/cache, which is made where it is not there or damaged.

    Raises:
        NotCachedError: it cannot be made, or would take more than there is.
    """
    if not hasattr(os, "pwrite"):
        raise NotCachedError("this system cannot write files from several processes")
    path, is_damaged = cache_folder.CACHE_DIR / digest / PIXELS_FILE, False
    try:
        try:
            return PixelFile(path, header, shape_NCHW)
        except FileNotFoundError:
            if reason := make_room(size_of_file(shape_NCHW), limit_bytes):
                raise NotCachedError(reason) from None
        except DamagedFileError:
            is_damaged = True
            note(f"{path}: damaged, or of another version; made anew")
        _create(path, header, shape_NCHW, replaces=is_damaged)
        return PixelFile(path, header, shape_NCHW)
    except (OSError, DamagedFileError) as error:
        reason = getattr(error, "strerror", None) or str(error) or "damaged"
        raise NotCachedError(f"{path.parent}: {reason}") from None


def in_memory(header: bytes, shape_NCHW: Shape, spare_bytes: int) -> PixelFile:
    """A file that has no name, and is gone when the process ends; not in /dev/shm, which is small in containers.

    Raises:
        NotCachedError: there is not enough.
    """
    if not hasattr(os, "memfd_create"):
        raise NotCachedError("this system shares no memory between workers without files")
    needed = size_of_file(shape_NCHW)
    if needed > spare_bytes:
        limits = f"half the free memory and cache_limit_gb leave {in_words(spare_bytes)}"
        raise NotCachedError(f"{in_words(needed)} are needed, and {limits}")
    try:
        return _create_in_memory(header, shape_NCHW)
    except OSError as error:
        raise NotCachedError(f"memory: {error.strerror}") from None


def _create(path: Path, header: bytes, shape_NCHW: Shape, *, replaces: bool) -> None:
    """Makes a file without any image, whole or not at all. Of two processes at once, one file is kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(aside, "wb") as file:
            file.write(padded(header))
            file.truncate(size_of_file(shape_NCHW))
        if replaces:
            os.replace(aside, path)
            return
        try:
            os.link(aside, path)
        except FileExistsError:
            pass
        except OSError:  # no links there
            os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _create_in_memory(header: bytes, shape_NCHW: Shape) -> PixelFile:
    number = os.memfd_create(PIXELS_FILE)
    try:
        os.pwrite(number, padded(header), 0)
        os.truncate(number, size_of_file(shape_NCHW))
        file = PixelFile(Path(f"/proc/{os.getpid()}/fd/{number}"), header, shape_NCHW)
    except BaseException:
        os.close(number)
        raise
    weakref.finalize(file, os.close, number)  # a worker that is started and not forked opens it by that path
    return file
