"""Files that are whole or not there: written aside in their own folder, forced to the disk, then given their name.

A process that is killed, a disk that is full, or a machine that loses power leaves the file as it was before, or as it
was meant to be. Every operation on the disk is one call in this file, so that tests can fail each of them in turn.
"""

import contextlib
import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from utils.errors import OutputError

_SUFFIX = ".tmp"


def replace_file(path: Path, write: Callable[[IO[bytes]], Any], what: str = "the file") -> None:
    """Gives `path` new content, which is on the disk when this returns.

    Args:
        path: the old content stays whole until the new one is complete.
        write: puts the content into a file that is open for writing.
        what: the file in words, for the message.

    Raises:
        OutputError: the disk is full, or the place cannot be written; the previous file is whole, or, where the
            message says so, the new one is there but may not survive a loss of power.
    """
    aside = _aside(path)
    try:
        _remove(aside)
        with open(aside, "xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except (OSError, RuntimeError) as error:
        reason = _os_error_behind(error)
        if reason is None:
            raise
        raise _failed(path, what, reason, aside) from error
    finally:
        with contextlib.suppress(OSError):
            _remove(aside)
    try:
        sync_folder(path.parent)
    except OSError as error:
        why = error.strerror or error
        raise OutputError(f"{path}: {what} is written, but not safe from a loss of power ({why})") from error


def link(target: Path, name: Path, *, symbolic: bool = False) -> None:
    """Makes `name` show `target`, in one step: by a link, or by a copy where the file system has no links.

    A hard link (for names in one folder) keeps its content when `target` is replaced; a symbolic one follows.

    Raises:
        OutputError: the place cannot be written, or a folder is in the way.
    """
    aside = _aside(name)
    try:
        _remove(aside)
        try:
            if symbolic:
                os.symlink(os.path.relpath(target, name.parent), aside)
            else:
                os.link(target, aside)
        except (OSError, NotImplementedError):
            with open(target, "rb") as source, open(aside, "xb") as copy:
                shutil.copyfileobj(source, copy)
                copy.flush()
                os.fsync(copy.fileno())
        os.replace(aside, name)
        sync_folder(name.parent)
    except OSError as error:
        raise OutputError(f"{name}: cannot write ({error.strerror or error})") from error
    finally:
        # Also after success: renaming one hard link of a file to another does nothing, and leaves both.
        with contextlib.suppress(OSError):
            _remove(aside)


def remove_leftovers(folder: Path) -> None:
    """Removes what processes that were killed while they wrote left aside; nobody else may be writing there."""
    for path in folder.glob(f".*{_SUFFIX}"):
        with contextlib.suppress(OSError):
            _remove(path)


def sync_folder(folder: Path) -> None:
    """Forces new names in a folder to the disk, as far as the system can."""
    if os.name == "nt":  # Windows opens no folders
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno != errno.EINVAL:  # what file systems answer that cannot do it for folders, some on a network
            raise
    finally:
        os.close(number)


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}{_SUFFIX}")


def _remove(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _failed(path: Path, what: str, reason: OSError, aside: Path) -> OutputError:
    """The line for a person; on a full disk with the space that is left."""
    text = reason.strerror or str(reason)
    with contextlib.suppress(OSError):
        written_MB, free_MB = aside.stat().st_size / 1e6, shutil.disk_usage(path.parent).free / 1e6
        text += f"; {written_MB:.1f} MB of it were written, {free_MB:.0f} MB are free"
    return OutputError(f"{path}: cannot write {what} ({text}); the previous one is whole")


def _os_error_behind(error: BaseException | None) -> OSError | None:
    """torch wraps a full disk in a RuntimeError that does not mention it; the cause hangs in the chain."""
    while error is not None:
        if isinstance(error, OSError):
            return error
        error = error.__cause__ or error.__context__
    return None
