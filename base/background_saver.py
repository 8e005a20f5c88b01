"""Writes checkpoints in a thread of its own, so that training waits only while its state is copied.

One save at a time: the one before is awaited before the next begins, and the last before the run ends. What a save
raises is raised in the thread that trains, when that looks here next. What follows from a save that is done (a line on
the screen) is done there too, so that nothing is said before the bytes are on the disk.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from utils.plain import require_plain
from utils.snapshot import Snapshots

log = logging.getLogger("run")
INTERRUPTED_S = 2.0  # what a save that is running is given after Ctrl-C

Check = Callable[[], None]


class Abandoned(Exception):
    """Ends a save that nobody waits for any more, in its thread alone."""


class BackgroundSaver:
    """Saves snapshots; used by the thread that trains."""

    def __init__(self) -> None:
        self._snapshots = Snapshots()
        # Not joined while it runs: a Ctrl-C within `join` makes Python take the thread for ended.
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()
        self._is_abandoned = False
        self._error: BaseException | None = None
        self._then: Callable[[], None] | None = None

    def start(
        self,
        state: dict[str, Any],
        write: Callable[[dict[str, Any], Check], None],
        then: Callable[[], None] | None = None,
    ) -> None:
        """Copies a state and begins to save it; what was being saved is awaited first.

        Args:
            state: may change as soon as this returns.
            write: saves the copy; calls what it is given now and then, which ends it where it is to end.
            then: is called in this thread once that is done.

        Raises:
            TypeError: the state is no plain data; nothing is begun.
            Exception: whatever the save before raised.
        """
        self.wait()
        require_plain(state)
        snapshot = self._snapshots.take(state)
        self._ended, self._is_abandoned, self._error, self._then = threading.Event(), False, None, then

        def work() -> None:
            try:
                snapshot.wait()
                write(snapshot.state, self._check)
            except BaseException as error:  # noqa: BLE001  raised where training looks
                self._error = error
            finally:
                self._ended.set()

        # No daemon: Python must not end in the middle of it, should anybody forget to wait.
        self._thread = threading.Thread(target=work, name="checkpoint")
        self._thread.start()

    def look(self) -> None:
        """Where a save has ended: raises what it raised, or does what follows. Costs nothing else."""
        if self._thread is not None and self._ended.is_set():
            self._settle()

    def wait(self, limit_s: float | None = None) -> None:
        """Until the save is done that is running, if one is; see `look`.

        Args:
            limit_s: after which it is given up, without a trace but of what it had replaced already.

        Raises:
            KeyboardInterrupt: at Ctrl-C; the save is given up at once.
            Exception: whatever the save raised.
        """
        if self._thread is None:
            return
        try:
            if not self._ended.wait(limit_s):
                self._abandon()
        except KeyboardInterrupt:
            self._abandon()
            raise
        finally:
            if self._is_abandoned:
                self._thread = None
        self.look()

    def _check(self) -> None:
        if self._is_abandoned:
            raise Abandoned

    def _abandon(self) -> None:
        self._is_abandoned = True
        self._ended.wait()  # for the write of one tensor at most, or for what the disk is forced to do

    def _settle(self) -> None:
        thread, error, then = self._thread, self._error, self._then
        self._thread, self._error, self._then = None, None, None
        if thread is not None:
            thread.join()
        if error is not None:
            raise error
        if then is not None:
            then()

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Nothing is being saved any more behind this block, however it ends."""
        try:
            yield
        except BaseException as error:
            try:
                self.wait(INTERRUPTED_S if isinstance(error, KeyboardInterrupt) else None)
            except Exception as another:  # noqa: BLE001  what ended the run says more
                log.warning(f"warning: {another}")
            raise
        self.wait()
