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
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import torch
from torch.utils.data._utils import signal_handling

from utils.device import is_out_of_memory
from utils.errors import LoaderError, TrainingError

_END = object()
_PR_SET_PDEATHSIG = 1  # of linux/prctl.h
_LEFT_TO_THE_TRAINER = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")
# What torch raises in the middle of anything when one of its workers dies.
_DIED = re.compile(r"DataLoader worker \(pid\(?s?\)? [0-9, ]+\) (?:is killed by signal: |exited unexpectedly)")
_OF_SHARED_MEMORY = ("shm", "No space left on device", "bus error", "Bus error")
_SHARED_MEMORY_IS_FULL = (
    "shared memory (/dev/shm) is full: fewer data_loader.args.num_workers or a smaller batch_size need less"
)


def prepare_worker(worker: int, *, is_child: bool) -> None:
    """Runs first in each worker: ignores what is meant for the trainer, and dies when the trainer does.

    The system's watch (Linux only; elsewhere torch looks every few seconds) begins too late for a trainer that is dead
    already, which is why the parent is looked at afterwards.

    Args:
        worker: its number.
        is_child: of the trainer itself; under "forkserver" workers are children of a server, which ends with it.
    """
    for number in _left_to_the_trainer():
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        parent = os.getppid()
        # Not SIGKILL: between two lines of Python no file in shared memory is half made.
        signal.signal(signal.SIGHUP, lambda *_: os._exit(1) if os.getppid() != parent else None)
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGHUP)
        trainer = multiprocessing.parent_process()
        if is_child and trainer is not None and parent != trainer.pid:
            os._exit(1)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _left_to_the_trainer())
    torch.set_num_threads(1)


def _left_to_the_trainer() -> list[int]:
    return [getattr(signal, name) for name in _LEFT_TO_THE_TRAINER if hasattr(signal, name)]


@contextmanager
def _signals_held() -> Iterator[None]:
    """Keeps signals back while workers are started, which until `prepare_worker` would die of them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Under "spawn" Python starts this one beside the first worker, and lets signals through again afterwards.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _left_to_the_trainer())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _kill(batches: Any) -> None:
    """Ends the workers of one of torch's iterators, and tells torch that it is no accident."""
    if getattr(batches, "_worker_pids_set", False):
        signal_handling._remove_worker_pids(id(batches))
        batches._worker_pids_set = False
    for worker in batches._workers:
        worker.kill()
        worker.join()
        _remove_shared_memory(worker.pid)


def _kill_one(batches: weakref.ref[Any], worker: weakref.ref[Any]) -> None:
    if (alive := batches()) is not None:
        _kill(alive)
    elif (process := worker()) is not None:
        # Whoever collects garbage forgets the iterator before it calls the iterator's own end, which calls this.
        process.kill()
        process.join()
        _remove_shared_memory(process.pid)


def end_by_force(batches: Any) -> None:
    """Makes torch's and Python's own `terminate` a kill, since the workers ignore the milder signal."""
    # By weak references: in a circle, torch's iterator would live on, and end in a worker that is forked later.
    # Python itself keeps each worker that has not ended.
    for worker in getattr(batches, "_workers", []):
        kill = partial(_kill_one, weakref.ref(batches), weakref.ref(worker))
        for owner in (worker, getattr(worker, "_popen", None)):
            if owner is not None:
                owner.terminate = kill


def _remove_shared_memory(pid: int) -> None:
    """What a worker had begun to hand over when it was killed; torch removes a file's name right after making it."""
    for path in Path("/dev/shm").glob(f"torch_{pid}_*"):
        path.unlink(missing_ok=True)


def explained(begin: Callable[[], Iterator[Any]], timeout_s: float) -> Iterator[Any]:
    """The batches of one of torch's loaders; where its workers fail, one line says the likely cause.

    Args:
        begin: starts the workers and gives the batches.
        timeout_s: after which torch takes workers for hung.

    Raises:
        LoaderError: a worker was killed, crashed, or hangs.
    """
    with _one_line(None, timeout_s), _signals_held():
        batches = begin()
    end_by_force(batches)
    while True:
        with _one_line(batches, timeout_s):
            batch = next(batches, _END)
        if batch is _END:
            return
        yield batch


@contextmanager
def _one_line(batches: Any, timeout_s: float) -> Iterator[None]:
    workers = getattr(batches, "_workers", [])
    try:
        yield
    except (RuntimeError, ConnectionError, EOFError, OSError) as error:
        if workers and "timed out" in str(error):
            _kill(batches)
            raise LoaderError(
                f"no batch came for {timeout_s:g} seconds: a data loader worker hangs, or the disk does "
                f"(data_loader.args.loader_timeout)"
            ) from error
        if line := about_shared_memory(error):
            raise LoaderError(line) from error
        for number, worker in enumerate(workers):
            worker.join(1)  # its end may be noticed in the pipe before it is known to the system
            if worker.exitcode is not None:
                _remove_shared_memory(worker.pid)
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
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            reason = str(error).split(". ")[0].splitlines()[0] if str(error) else "no more of this machine's"
            raise TrainingError(
                f"out of memory with batches of {batch_size} images: {reason}. A smaller data_loader.args.batch_size "
                f"with trainer.accumulate_steps gives the same steps"
            ) from error
        if not _DIED.search(str(error)):
            raise
        name = re.search(r"killed by signal: (\w+(?: \w+)?)", str(error))
        how = f"was killed ({name[1]}){_LIKELY_MEMORY}" if name else f"ended by itself{_LIKELY_MEMORY}"
        if name and name[1] == "Bus error":
            how = f"crashed (SIGBUS): {_SHARED_MEMORY_IS_FULL}"
        raise LoaderError(f"a data loader worker {how}") from error


_LIKELY_MEMORY = "; often memory has run out: fewer data_loader.args.num_workers or a smaller batch_size need less"


def _how_it_ended(code: int) -> str:
    if code > 0:
        return f"ended by itself with exit code {code}"
    name = signal.Signals(-code).name
    if name == "SIGBUS":
        return f"crashed (SIGBUS): {_SHARED_MEMORY_IS_FULL}"
    if name == "SIGKILL":
        return f"was killed (SIGKILL){_LIKELY_MEMORY}"
    return f"crashed ({name}): a library met data that it cannot take; num_workers=0 shows where"


def about_shared_memory(error: Exception) -> str:
    """The line on shared memory that is used up, where that is what an error is about; else nothing."""
    return _SHARED_MEMORY_IS_FULL if any(text in str(error) for text in _OF_SHARED_MEMORY) else ""
