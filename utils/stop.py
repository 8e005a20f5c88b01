"""Asking a run to end: a signal, or a limit of time. Whoever trains looks at it after each step.

A handler only notes what came, so that the step that is running is finished and can be saved.
"""

import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any


class RunStopped(Exception):
    """A run that ended early because it was asked to, with a checkpoint to continue from; holds the reason."""


_NAMES = ("SIGINT", "SIGTERM", "SIGUSR1")  # Windows has no SIGUSR1


class StopRequest:
    """Listens while it is entered; what listened before is put back afterwards.

    A second Ctrl-C raises KeyboardInterrupt at once.

    Args:
        max_minutes: after which to end; None for no limit.
    """

    def __init__(self, max_minutes: float | None = None):
        self.deadline_s = None if max_minutes is None else time.monotonic() + 60 * max_minutes
        self.max_minutes = max_minutes
        self.signal_name: str | None = None
        self.before: dict[int, Any] = {}

    @property
    def reason(self) -> str | None:
        """Why to end, in words, or None."""
        if self.signal_name is not None:
            return self.signal_name
        if self.deadline_s is not None and time.monotonic() >= self.deadline_s:
            return f"{self.max_minutes:g} minutes are over (trainer.max_minutes)"
        return None

    def __enter__(self) -> "StopRequest":
        # Python lets only the main thread listen; elsewhere only the limit of time counts.
        if threading.current_thread() is threading.main_thread():
            for name in _NAMES:
                number = getattr(signal, name, None)
                if number is not None:
                    self.before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.signal_name is not None:
            raise KeyboardInterrupt
        self.signal_name = signal.Signals(number).name
        if number == signal.SIGINT:  # os.write, because a handler may interrupt a print
            os.write(2, b"\nstopping after this step; Ctrl-C again ends at once\n")
