"""The processes that prepare batches: how they live and die with the one that trains, and what is said when one fails.

torch's own workers outlive a trainer that is killed, and end at a signal to the process group before the trainer
could save. These leave signals to the trainer and end when it does.
"""

import ctypes
import multiprocessing
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from utils.errors import LoaderError, TrainingError

_END = object()
_PR_SET_PDEATHSIG = 1  # of linux/prctl.h
_LEFT_TO_THE_TRAINER = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")
# What torch raises in the middle of anything when one of its workers dies.
_DIED = re.compile(r"DataLoader worker \(pid\(?s?\)? [0-9, ]+\) (?:is killed by signal: |exited unexpectedly)")
_SHARED_MEMORY = ("shm", "No space left on device", "bus error", "Bus error")


def prepare_worker(worker: int, *, is_child: bool) -> None:
    """Runs first in each worker: ignores what is meant for the trainer, and dies when the trainer does.

    The system's watch (Linux only; elsewhere torch looks every few seconds) begins too late for a trainer that is dead
    already, which is why the parent is looked at afterwards.

    Args:
        worker: its number.
        is_child: of the trainer itself; under "forkserver" workers are children of a server, which ends with it.
    """
    for name in _LEFT_TO_THE_TRAINER:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        parent = multiprocessing.parent_process()
        if is_child and parent is not None and os.getppid() != parent.pid:
            os._exit(1)
    torch.set_num_threads(1)


def end_by_force(workers: list[Any]) -> None:
    """Makes torch's and Python's own `terminate` a kill, since the workers ignore the milder signal."""
    for worker in workers:
        worker.terminate = worker.kill
        popen = getattr(worker, "_popen", None)
        if popen is not None:
            popen.terminate = popen.kill


def explained(begin: Callable[[], Iterator[Any]], timeout_s: float) -> Iterator[Any]:
    """The batches of one of torch's loaders; where its workers fail, one line says the likely cause.

    Args:
        begin: starts the workers and gives the batches.
        timeout_s: after which torch takes workers for hung.

    Raises:
        LoaderError: a worker was killed, crashed, or hangs.
    """
    workers: list[Any] = []
    with _one_line(workers, timeout_s):
        batches = begin()
        workers += getattr(batches, "_workers", [])
    end_by_force(workers)
    while True:
        with _one_line(workers, timeout_s):
            batch = next(batches, _END)
        if batch is _END:
            return
        yield batch


@contextmanager
def _one_line(workers: list[Any], timeout_s: float) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ConnectionError, EOFError, OSError) as error:
        if "timed out" in str(error):
            for worker in workers:
                worker.kill()
            raise LoaderError(
                f"no batch came for {timeout_s:g} seconds: a data loader worker hangs, or the disk does "
                f"(data_loader.args.loader_timeout)"
            ) from error
        if any(text in str(error) for text in _SHARED_MEMORY):
            raise LoaderError(_about_shared_memory()) from error
        for number, worker in enumerate(workers):
            worker.join(1)  # its end may be noticed in the pipe before it is known to the system
            if worker.exitcode not in (None, 0):
                raise LoaderError(f"data loader worker {number} {_how_it_ended(worker.exitcode)}") from error
        raise


@contextmanager
def training_explained(batch_size: int) -> Iterator[None]:
    """The same for what comes up anywhere else in training: the death of a worker, and memory that is used up.

    Raises:
        TrainingError: in one line.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        reason = str(error).split(". ")[0]
        raise TrainingError(
            f"out of memory with batches of {batch_size} images: {reason}. A smaller data_loader.args.batch_size with "
            f"trainer.accumulate_steps gives the same steps"
        ) from error
    except RuntimeError as error:
        if not _DIED.search(str(error)):
            raise
        name = re.search(r"killed by signal: (\w+(?: \w+)?)", str(error))
        how = f"was killed ({name[1]})" if name else "ended by itself"
        raise LoaderError(f"a data loader worker {how}{_LIKELY_MEMORY}") from error


_LIKELY_MEMORY = "; often memory has run out: fewer data_loader.args.num_workers or a smaller batch_size need less"


def _how_it_ended(code: int) -> str:
    if code > 0:
        return f"ended by itself with exit code {code}"
    name = signal.Signals(-code).name
    if name == "SIGBUS":
        return f"crashed (SIGBUS): {_about_shared_memory()}"
    if name == "SIGKILL":
        return f"was killed (SIGKILL){_LIKELY_MEMORY}"
    return f"crashed ({name}): a library met data that it cannot take; num_workers=0 shows where"


def _about_shared_memory() -> str:
    return "shared memory (/dev/shm) is full: fewer data_loader.args.num_workers or a smaller batch_size need less"
