"""Asking a run to end: a signal, or a limit of time. Whoever trains looks at it after each step.

While torch is imported a signal ends the process at once, since nothing has begun; while the run is built it raises
`RunStopped`; once there are steps a handler only notes it, so that the step that is running is finished and saved.
"""

import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any, Literal

EXIT_STOPPED = 75  # EX_TEMPFAIL of sysexits.h: try again later


class RunStopped(BaseException):
    """A run that ended early because it was asked to, and can go on; holds the reason.

    Like KeyboardInterrupt no Exception: code that tries things out must not take it for one of its failures.
    """


_NAMES = ("SIGINT", "SIGTERM", "SIGUSR1")  # Windows has no SIGUSR1


class StopRequest:
    """Listens while it is entered; what listened before is put back afterwards.

    Attributes:
        phase: what a signal interrupts, see the top of this file. In "training" a second Ctrl-C raises
            KeyboardInterrupt.
        begun_s: when this was made, by `time.monotonic`: what train.py does first.
    """

    def __init__(self, phase: Literal["importing", "building", "training"] = "training"):
        self.phase = phase
        self.begun_s = time.monotonic()
        self.max_minutes: float | None = None
        self.deadline_s: float | None = None
        self.signal_name: str | None = None
        self.before: dict[int, Any] = {}

    def limit(self, max_minutes: float | None) -> None:
        """Ends so many minutes from now; None for no limit."""
        self.max_minutes = max_minutes
        self.deadline_s = None if max_minutes is None else time.monotonic() + 60 * max_minutes

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
        if threading.current_thread() is threading.main_thread() and not self.before:
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
        name = signal.Signals(number).name
        if self.phase != "training":  # os.write, because a handler may interrupt a print
            text = f"\nstopped: {name}, before the first step; the same command starts it again\n"
            os.write(2, text.encode())
            if self.phase == "importing":
                os._exit(EXIT_STOPPED)
            raise RunStopped(name)
        if number == signal.SIGINT and self.signal_name is not None:
            raise KeyboardInterrupt
        self.signal_name = name
        if number == signal.SIGINT:
            os.write(2, b"\nstopping after this step; Ctrl-C again ends at once\n")
