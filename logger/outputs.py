"""Where a command writes what came of it: a file or standard output, found out about before the work begins."""

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

from logger.predicted import FORMATS, Format
from utils.errors import EXIT_FAILED, OutputError


def output_of(asked: str | None, kind: Format | None) -> tuple[Path | None, Format]:
    """Where rows go (None: standard output), and in which form."""
    if asked == "-":
        return None, kind or "csv"
    suffix = Path(asked).suffix.lower() if asked is not None else ""
    by_suffix: dict[str, Format] = {f".{one}": one for one in FORMATS}
    chosen = kind or by_suffix.get(suffix, "csv")
    return Path(asked if asked is not None else f"predictions.{chosen}"), chosen


def require_room(inputs: Iterable[str | Path], files: Sequence[Path | None], folder: Path | None) -> None:
    """Finds out now, and not at the end, what cannot be written, or should not be.

    Args:
        inputs: that will be read.
        files, folder: that will be written.

    Raises:
        OutputError: one of the files is among the inputs, or a place cannot be written.
    """
    mine = {os.path.abspath(file): file for file in files if file is not None}
    for path in inputs:
        if (file := mine.get(os.path.abspath(path))) is not None:
            raise OutputError(f"{file}: is to be read, and would be overwritten; choose another name")
    try:
        for file in mine.values():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.open("ab").close()
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK):
                raise PermissionError(13, "Permission denied", str(folder))
    except (OSError, ValueError) as error:
        name = getattr(error, "filename", None) or "an output"
        raise OutputError(f"{name}: cannot write ({getattr(error, 'strerror', None) or error})") from None


@contextlib.contextmanager
def opened(out: Path | None) -> Iterator[IO[bytes]]:
    """The file for rows, or standard output.

    Raises:
        OutputError: it cannot be written any more.
    """
    try:
        if out is None:
            yield sys.stdout.buffer
        else:
            with out.open("wb") as file:
                yield file
    except BrokenPipeError:  # whoever read it has seen enough, such as `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(EXIT_FAILED) from None
    except OSError as error:
        raise OutputError(f"{out or 'standard output'}: cannot write ({error.strerror or error})") from error


def write(path: Path, content: bytes) -> None:
    """Writes a file.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        path.write_bytes(content)
    except OSError as error:
        raise OutputError(f"{path}: cannot write ({error.strerror})") from None
