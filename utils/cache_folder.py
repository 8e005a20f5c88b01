"""The folder of decoded pixels, `saved/cache`: how large it is, what goes when room is needed, and how it is emptied.

Each cache is one folder with one file. Whoever uses a file holds a shared lock on it, which the system frees when the
process ends; such a file is never removed to make room. What lies in it is decided in data_loader/cache_file.py.
"""

import contextlib
import errno
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from utils.command_line import ROOT, Command
from utils.errors import OutputError

if sys.platform == "win32":
    fcntl = None
else:
    import fcntl

CACHE_DIR = ROOT / "saved" / "cache"
PIXELS_FILE = "pixels.bin"
# Enough for checkpoints and everybody else's work; a tenth where the disk is small.
MAX_RESERVE_BYTES = 5_000_000_000


def in_words(num_bytes: int) -> str:
    """A size for a person.

    >>> in_words(25_300_000)
    '25.3 MB'
    """
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"


def hold(number: int) -> None:
    """Marks an open file as in use for as long as it, or a copy in a forked process, is open."""
    if fcntl is not None:
        with contextlib.suppress(OSError):  # some network file systems have no locks; then it may be removed
            fcntl.flock(number, fcntl.LOCK_SH | fcntl.LOCK_NB)


def reserve_bytes(folder: Path) -> int:
    """What stays free on the disk that a folder is, or will be, on."""
    return min(MAX_RESERVE_BYTES, shutil.disk_usage(_nearest(folder)).total // 10)


def make_room(needed_bytes: int, limit_bytes: int) -> str:
    """Removes least recently used caches until another one fits within the limit, and on the disk with some to spare.

    Returns:
        Nothing, or why it does not fit.
    """
    if needed_bytes > limit_bytes:
        return f"{in_words(needed_bytes)} are more than cache_limit_gb allows ({in_words(limit_bytes)})"
    caches = sorted(_caches(), key=lambda cache: cache[0])
    used_bytes, reserve = sum(size for _, size, _ in caches), reserve_bytes(CACHE_DIR)
    while True:
        free_bytes = shutil.disk_usage(_nearest(CACHE_DIR)).free - reserve
        if used_bytes + needed_bytes <= limit_bytes and needed_bytes <= free_bytes:
            return ""
        if not caches:
            break
        _, size, folder = caches.pop(0)
        used_bytes -= size if _remove_unused(folder) else 0
    if used_bytes + needed_bytes > limit_bytes:
        return f"caches in use hold {in_words(used_bytes)} of cache_limit_gb ({in_words(limit_bytes)})"
    return f"{in_words(needed_bytes)} are needed, and the disk can spare {in_words(max(0, free_bytes))}"


def clear(command: Command) -> bool:
    """Removes all caches, says how much was freed, and answers whether nothing else was asked for.

    A run that uses one keeps what it has open; the disk is free when it ends.

    Raises:
        OutputError: something cannot be removed.
    """
    freed_bytes = sum(file.stat().st_blocks * 512 for _, _, folder in _caches() for file in folder.glob("*"))
    try:
        if CACHE_DIR.is_symlink():  # somebody's own place for it: emptied, and kept
            for folder in CACHE_DIR.iterdir():
                shutil.rmtree(folder)
        else:
            shutil.rmtree(CACHE_DIR)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise OutputError(f"{error.filename or CACHE_DIR}: cannot be removed ({error.strerror})") from None
    sys.stdout.write(f"removed the cache of decoded pixels ({CACHE_DIR}): {in_words(freed_bytes)} freed\n")
    args = command.args
    return args.config is None and args.resume is None and not args.is_auto


def _caches() -> Iterator[tuple[float, int, Path]]:
    """When it was last used, its bytes when full, and its folder, of each cache."""
    for folder in CACHE_DIR.glob("*/"):
        with contextlib.suppress(OSError):  # another process may be removing it
            about = (folder / PIXELS_FILE).stat()
            yield about.st_mtime, about.st_size, folder


def _remove_unused(folder: Path) -> bool:
    """Whether a cache was in nobody's use, and is gone."""
    try:
        number = os.open(folder / PIXELS_FILE, os.O_RDONLY)
        try:
            if fcntl is not None:
                fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
        finally:
            os.close(number)
    except OSError as error:
        return error.errno == errno.ENOENT
    return True


def _nearest(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())
