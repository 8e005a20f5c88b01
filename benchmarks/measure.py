"""What benchmarks share: a clock that any training loop runs past, a terminal for bars, the machine in words."""

import os
import platform
import pty
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import torch
from torch import nn

from logger.run_record import hardware

STEPS_PER_EPOCH, SLICE_STEPS = 200, 20


class StepClock:
    """Stands where a model begins a training batch, in any library's loop: notes the time, and lets others have turns.

    Each way runs in a thread of its own, and only one thread at a time: after `SLICE_STEPS` steps it is the next one's
    turn. So what other programs do to a shared machine comes to all ways alike. The time is the processor's.
    """

    def __init__(self, turns: "Turns"):
        self.turns = turns
        self.num_seen = 0
        self.slices_us: list[float] = []  # of a step, the mean over each slice but its first step, which warms up
        self.between_epochs_ms: list[float] = []  # on the clock on the wall
        self.first_s = self.before_s = self.before_wall_s = 0.0

    def watch(self, model: nn.Module) -> nn.Module:
        """Gives the model back."""

        def look(*_: object) -> None:
            now_s, wall_s = time.process_time(), time.perf_counter()
            in_slice = self.num_seen % SLICE_STEPS
            if self.num_seen and self.num_seen % STEPS_PER_EPOCH == 0:
                self.slices_us.append((self.before_s - self.first_s) / (SLICE_STEPS - 2) * 1e6)
                step_ms = self.slices_us[-1] / 1e3
                self.between_epochs_ms.append((wall_s - self.before_wall_s) * 1e3 - step_ms)
            elif self.num_seen and in_slice == 0:
                self.slices_us.append((now_s - self.first_s) / (SLICE_STEPS - 1) * 1e6)
            elif in_slice == 1:
                self.first_s = now_s
            self.before_s, self.before_wall_s = now_s, wall_s
            self.num_seen += 1
            if in_slice == 0:
                self.turns.next()

        model.register_forward_pre_hook(look)
        return model


class Turns:
    """Runs functions in threads of which one at a time goes on; each says when the next may."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.order: list[int] = []
        self.errors: list[BaseException] = []

    def next(self) -> None:
        """It is the next one's turn; comes back when it is the caller's again."""
        me = threading.get_ident()
        with self.changed:
            self.order.append(self.order.pop(0))
            self.changed.notify_all()
            self.changed.wait_for(lambda: self.order[0] == me)

    def run(self, functions: list[Callable[[], None]]) -> None:
        """All of them to their ends.

        Raises:
            BaseException: what one of them raised.
        """
        threads = [threading.Thread(target=self._one, args=(function,)) for function in functions]
        with self.changed:
            for thread in threads:
                thread.start()
                self.order.append(thread.ident or 0)
        for thread in threads:
            thread.join()
        if self.errors:
            raise self.errors[0]

    def _one(self, function: Callable[[], None]) -> None:
        me = threading.get_ident()
        with self.changed:
            self.changed.wait_for(lambda: self.order[0] == me)
        try:
            function()
        except BaseException as error:  # noqa: BLE001  raised again by `run`
            self.errors.append(error)
        finally:
            with self.changed:
                self.order.remove(me)
                self.changed.notify_all()


@contextmanager
def terminal() -> Iterator[Callable[[str], None]]:
    """Makes standard output and error a terminal that nobody looks at, so that bars move; gives a way to print."""
    inside, outside = pty.openpty()
    stdout, stderr = sys.stdout, sys.stderr

    def drain() -> None:
        try:
            while os.read(inside, 1 << 16):
                pass
        except OSError:  # the other side is closed
            return

    threading.Thread(target=drain, daemon=True).start()
    with open(outside, "w", encoding="utf-8", buffering=1) as screen:
        sys.stdout = sys.stderr = screen
        try:
            yield lambda text: print(text, file=stdout, flush=True)
        finally:
            sys.stdout, sys.stderr = stdout, stderr


def ratios(values: list[float], reference: list[float]) -> tuple[float, float, float]:
    """First quartile, median and third quartile of the ratios of measurements that were taken side by side."""
    found = [a / b for a, b in zip(values, reference, strict=True)]
    if len(found) == 1:
        return found[0], found[0], found[0]
    first, middle, third = statistics.quantiles(found, n=4)
    return first, middle, third


def machine() -> str:
    """What was measured on, and when."""
    about = hardware()
    return (
        f"{about['cpu']}, {about['cpu_cores']} cores, {about['cpu_threads']} threads, torch {torch.__version__}, "
        f"Python {platform.python_version()}, {datetime.now(UTC):%Y-%m-%d}"
    )
