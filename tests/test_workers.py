"""What is said when a process that prepares batches fails, and that no such process is left to a milder signal."""

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader
from torch.utils.data._utils import signal_handling

from base.workers import _how_it_ended, end_by_force, explained, training_explained
from utils.errors import LoaderError, TrainingError

ROOT = Path(__file__).resolve().parent.parent

MEMORY = "; often memory has run out: fewer data_loader.args.num_workers or a smaller batch_size need less"
SHARED = "shared memory (/dev/shm) is full: fewer data_loader.args.num_workers or a smaller batch_size need less"


class Worker:
    """Stands for a process."""

    def __init__(self, exitcode=None):
        self.exitcode, self.pid = exitcode, 2**31
        self.calls = []
        self._popen = SimpleNamespace()

    def join(self, timeout=None):
        self.calls.append("join")

    def kill(self):
        self.calls.append("kill")


class Batches:
    """Stands for torch's iterator: gives numbers, then raises."""

    def __init__(self, error=None, workers=(), num_batches=2):
        self._workers = list(workers)
        self.error, self.left = error, num_batches

    def __iter__(self):
        return self

    def __next__(self):
        if self.left:
            self.left -= 1
            return self.left
        raise self.error if self.error is not None else StopIteration


def failing(error, workers=()):
    """What comes of batches that end with an error."""
    with pytest.raises(Exception) as caught:
        list(explained(lambda: Batches(error, workers), 7.5))
    return caught.value


# --- how a worker ended ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (1, "ended by itself with exit code 1"),
        (137, "ended by itself with exit code 137"),
        (-signal.SIGKILL, f"was killed (SIGKILL){MEMORY}"),
        (-signal.SIGBUS, f"crashed (SIGBUS): {SHARED}"),
        (-signal.SIGSEGV, "crashed (SIGSEGV): a library met data that it cannot take; num_workers=0 shows where"),
        (-signal.SIGABRT, "crashed (SIGABRT): a library met data that it cannot take; num_workers=0 shows where"),
    ],
)
def test_each_end_of_a_worker_has_its_likely_cause(code, text):
    assert _how_it_ended(code) == text


@pytest.mark.parametrize("error", [RuntimeError("x"), ConnectionResetError(), EOFError(), OSError("x")])
def test_the_worker_that_ended_is_told_by_its_number(error):
    told = failing(error, [Worker(), Worker(0), Worker(-9)])

    assert isinstance(told, LoaderError)
    assert str(told) == f"data loader worker 2 was killed (SIGKILL){MEMORY}"
    assert told.__cause__ is error


def test_workers_that_hang_are_killed_and_the_limit_is_named():
    workers = [Worker(), Worker()]

    told = failing(RuntimeError("DataLoader timed out after 7.5 seconds"), workers)

    assert str(told) == (
        "no batch came for 7.5 seconds: a data loader worker hangs, or the disk does (data_loader.args.loader_timeout)"
    )
    assert [worker.calls for worker in workers] == [["kill", "join"]] * 2


@pytest.mark.parametrize(
    "text", ["unable to mmap 4096 bytes from file </torch_1_2>: shm", "[Errno 28] No space left on device", "Bus error"]
)
def test_full_shared_memory_is_told_even_while_the_workers_live(text):
    assert str(failing(RuntimeError(text), [Worker()])) == SHARED


@pytest.mark.parametrize("workers", [(), (Worker(), Worker(0))])
def test_what_no_worker_is_to_blame_for_is_raised_as_it_is(workers):
    error = RuntimeError("a mistake in a transform")

    assert failing(error, workers) is error


def test_an_error_of_another_kind_is_not_looked_into():
    error = ValueError("timed out")

    assert failing(error, [Worker(-9)]) is error


def test_workers_that_cannot_start_are_explained_too():
    def begin():
        raise OSError("[Errno 28] No space left on device")

    with pytest.raises(LoaderError, match="shared memory"):
        list(explained(begin, 1))


def test_batches_come_through_as_they_are():
    assert list(explained(lambda: Batches(num_batches=3), 1)) == [2, 1, 0]


def test_an_error_of_whoever_takes_the_batches_is_not_taken_for_a_workers():
    batches = explained(lambda: Batches(workers=[Worker(-9)]), 1)
    next(batches)
    error = RuntimeError("out of the loop")

    with pytest.raises(RuntimeError) as caught:
        batches.throw(error)

    assert caught.value is error


def test_the_milder_signal_which_workers_ignore_becomes_a_kill():
    workers = [Worker(), Worker()]

    batches = Batches(workers=workers)

    end_by_force(batches)
    workers[0].terminate()
    workers[1]._popen.terminate()

    assert [worker.calls for worker in workers] == [["kill", "join"] * 2] * 2


def test_workers_end_with_an_iterator_that_is_found_as_garbage(monkeypatch):
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.1)
    loader = DataLoader(range(8), num_workers=2, persistent_workers=True, worker_init_fn=_deaf, timeout=60)
    circle = [loader, explained(partial(iter, loader), 60)]
    next(circle[1])
    workers = [worker for worker in multiprocessing.active_children() if worker.daemon]
    circle.append(circle)

    del loader, circle
    gc.collect()

    assert len(workers) == 2
    assert [worker.is_alive() for worker in workers] == [False, False]


def _deaf(worker):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def test_torch_is_told_that_workers_which_are_killed_are_no_accident(monkeypatch):
    forgotten = []
    monkeypatch.setattr(signal_handling, "_remove_worker_pids", forgotten.append)
    batches = Batches(RuntimeError("DataLoader timed out after 1 seconds"), [Worker()])
    batches._worker_pids_set = True

    with pytest.raises(LoaderError, match="no batch came"):
        list(explained(lambda: batches, 1))

    assert forgotten == [id(batches)]
    assert batches._worker_pids_set is False


def test_what_python_starts_beside_the_first_worker_lets_no_signal_through():
    program = """
import multiprocessing, signal
from base.workers import explained

def begin():
    signal.signal(signal.SIGTERM, lambda *_: None)
    multiprocessing.get_context("spawn").Event()  # a semaphore, which the resource tracker is started for
    held.extend(signal.pthread_sigmask(signal.SIG_BLOCK, []))
    return (x for x in ())

held = []
list(explained(begin, 1))
print(signal.SIGTERM in held and signal.SIGINT in held)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout == "True\n"


def test_no_signal_reaches_a_worker_before_it_can_ignore_it_and_the_trainer_hears_it_afterwards():
    heard, held = [], []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(number))

    def begin():
        # What a process that is started here inherits; other threads of this one may still take the signal.
        held.extend(signal.pthread_sigmask(signal.SIG_BLOCK, []))
        os.kill(os.getpid(), signal.SIGUSR1)
        return Batches()

    try:
        list(explained(begin, 1))
    finally:
        signal.signal(signal.SIGUSR1, before)

    assert heard == [signal.SIGUSR1]
    assert {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1} <= set(held)


# --- anywhere in training ----------------------------------------------------------------------------------------


def explained_in_training(error):
    with pytest.raises(Exception) as caught, training_explained(32):
        raise error
    return caught.value


def test_memory_that_is_used_up_is_told_with_what_gives_the_same_steps():
    told = explained_in_training(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has"))

    assert type(told) is TrainingError
    assert str(told) == (
        "out of memory with batches of 32 images: CUDA out of memory. A smaller data_loader.args.batch_size with "
        "trainer.accumulate_steps gives the same steps"
    )
    assert told.exit_code == 1


@pytest.mark.parametrize(
    ("text", "how"),
    [
        ("DataLoader worker (pid 1) is killed by signal: Killed. ", "was killed (Killed)"),
        ("DataLoader worker (pid 17) is killed by signal: Segmentation fault. ", "was killed (Segmentation fault)"),
        ("DataLoader worker (pid(s) 4, 5) exited unexpectedly", "ended by itself"),
    ],
)
def test_what_torch_says_of_a_dead_worker_in_the_middle_of_anything_is_told_in_one_line(text, how):
    told = explained_in_training(RuntimeError(text))

    assert isinstance(told, LoaderError)
    assert str(told) == f"a data loader worker {how}{MEMORY}"


def test_a_bus_error_that_torch_tells_of_is_shared_memory_that_is_used_up():
    told = explained_in_training(RuntimeError("DataLoader worker (pid 1) is killed by signal: Bus error. "))

    assert str(told).startswith("a data loader worker crashed (SIGBUS): shared memory (/dev/shm) is full: fewer ")


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (8x108 and 16x3)"),
        RuntimeError("the DataLoader worker was asked for nothing"),
        ValueError("DataLoader worker (pid 1) is killed by signal: Killed."),
        LoaderError("said already"),
        KeyboardInterrupt(),
    ],
)
def test_every_other_error_keeps_its_kind_and_its_traceback(error):
    with pytest.raises(BaseException) as caught, training_explained(32):
        raise error

    assert caught.value is error
