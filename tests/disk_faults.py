"""Disks that fail on demand: each operation of utils/durable_file.py recorded, refused, or the last of its process.

Used by the tests of what writes files, around one call of the code under test:

    for k in range(disk_faults.count(lambda: save(path))):
        with disk_faults.dying_at(k) as disk:
            save(path)
        assert is_whole(path), disk.operations[-1]

Operations of `os` are caught whoever calls them (`Path.unlink`, for one); `open`, and what is done with the open file,
only in utils/durable_file.py. Assert after the block, not in it: nothing comes out of a dead process.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple
from unittest import mock

from utils import durable_file

_ON_PATHS = ("replace", "link", "symlink", "unlink")


class Died(BaseException):
    """Stands for the end of the process: nobody catches it, and whoever cleans up on its way meets it again."""


class Operation(NamedTuple):
    """`kind` is the name of the function, with the mode for `open`; `path` is what it acts on (the first of two)."""

    kind: str
    path: Path


class Disk:
    """Counts operations and does them; at number `at` (from 0) dies or, with an `error` number, fails once."""

    def __init__(self, at: int | None = None, error: int | None = None) -> None:
        self.operations: list[Operation] = []
        self.died = False
        self._at, self._error = at, error
        # By descriptor: what is open, and what closes it.
        self._open: dict[int, tuple[Path, Callable[[], None]]] = {}
        self._real = {name: getattr(os, name) for name in ("open", "close", "fsync", *_ON_PATHS)}

    @property
    def kinds(self) -> list[str]:
        return [operation.kind for operation in self.operations]

    def perform(self, kind: str, path: Any, whole: Callable[[], Any], partly: Callable[[], Any] = lambda: None) -> Any:
        """Counts an operation and does it; at the fault does only what happens `partly`, and raises."""
        if self.died:
            raise Died(kind)
        self.operations.append(Operation(kind, Path(path)))
        if len(self.operations) - 1 != self._at:
            return whole()
        partly()
        if self._error is None:
            self.died = True
            raise Died(kind)
        raise OSError(self._error, os.strerror(self._error), str(path))

    def open_file(self, path: Path, mode: str) -> "_File":
        file = self.perform(f"open {mode}", path, partial(open, path, mode, buffering=0))
        self._open[file.fileno()] = Path(path), file.close
        return _File(self, file, path)

    def open_number(self, path: Path, flags: int, *more: Any) -> int:
        number = self.perform("open", path, partial(self._real["open"], path, flags, *more))
        self._open[number] = Path(path), partial(self._real["close"], number)
        return number

    def fsync(self, number: int) -> None:
        path = self._open[number][0] if number in self._open else "a file of others"
        self.perform("fsync", path, partial(self._real["fsync"], number))

    def close(self, number: int) -> None:
        if number not in self._open:  # a pipe or socket of somebody else
            return self._real["close"](number)

        def really() -> None:  # and also where it reports an error
            self._open.pop(number)[1]()

        return self.perform("close", self._open[number][0], really, partly=really)

    def on_path(self, name: str, path: Any, *more: Any, **options: Any) -> None:
        self.perform(name, path, partial(self._real[name], path, *more, **options))

    @contextmanager
    def in_place_of_the_real_one(self) -> Iterator["Disk"]:
        functions: dict[str, Any] = {name: partial(self.on_path, name) for name in _ON_PATHS}
        functions |= {"open": self.open_number, "close": self.close, "fsync": self.fsync}
        opening = mock.patch.object(durable_file, "open", self.open_file, create=True)
        try:
            with opening, mock.patch.multiple(os, **functions):
                yield self
        except BaseException:  # torch makes a RuntimeError of whatever a write raises
            if not self.died:  # nobody sees the error of a dead process
                raise
        finally:
            for _, close in self._open.values():
                close()


class _File:
    """An open file without a buffer: a fault leaves all that was written before it, and a half."""

    def __init__(self, disk: Disk, file: IO[bytes], path: Path) -> None:
        self._disk, self._file, self._path = disk, file, path

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> "_File":
        return self

    def __exit__(self, *error: Any) -> None:
        self._disk.close(self._file.fileno())

    def write(self, data: Any) -> int:
        half = partial(self._file.write, bytes(data)[: len(data) // 2])
        return self._disk.perform("write", self._path, partial(self._file.write, data), partly=half)

    def flush(self) -> None:
        self._disk.perform("flush", self._path, self._file.flush)


def recording() -> AbstractContextManager[Disk]:
    """Everything works; `operations` lists in order what was done."""
    return Disk().in_place_of_the_real_one()


def dying_at(k: int) -> AbstractContextManager[Disk]:
    """Operation `k` does not happen (of a write: half), nor does any later one; the block ends without an error."""
    return Disk(at=k).in_place_of_the_real_one()


def failing_at(k: int, error: int) -> AbstractContextManager[Disk]:
    """Operation `k` raises OSError with that number, a write after half of it; those before and after it work."""
    return Disk(at=k, error=error).in_place_of_the_real_one()


def count(action: Callable[[], Any]) -> int:
    """Does `action` and tells how many operations it took."""
    with recording() as disk:
        action()
    return len(disk.operations)
