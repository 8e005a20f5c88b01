"""Saves in the background: one at a time, awaited, their errors raised, and ended at once where somebody insists."""

import gc
import logging
import os
import signal
import threading
import time

import pytest
import torch

from base import background_saver
from base.background_saver import BackgroundSaver
from base.checkpoints import Checkpoints
from tests.small_checkpoint import names_in, tiny_state
from utils.checkpoint import load_checkpoint, save_checkpoint
from utils.errors import OutputError


class Gate:
    """A save that begins, and ends when it is let through; notes the thread and what it was given."""

    def __init__(self):
        self.begun, self.open, self.seen = threading.Event(), threading.Event(), []

    def __call__(self, state, check):
        self.begun.set()
        while not self.open.wait(0.005):
            check()
        self.seen.append((threading.current_thread(), state))


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.open.set()


@pytest.fixture
def saver():
    return BackgroundSaver()


def fail(error):
    def write(state, check):
        raise error

    return write


def test_training_goes_on_while_a_save_runs_and_what_follows_is_done_in_its_thread(saver, gate):
    weights, done = torch.zeros(3), []

    saver.start({"w": weights}, gate, lambda: done.append(threading.current_thread()))
    assert gate.begun.wait(10)
    weights += 1
    saver.look()
    during = list(done)
    gate.open.set()
    saver.wait()

    ((thread, state),) = gate.seen
    assert thread not in (threading.main_thread(), None)
    assert not thread.daemon
    assert not thread.is_alive()
    assert state["w"].tolist() == [0.0, 0.0, 0.0]
    assert during == []
    assert done == [threading.main_thread()]


def test_a_look_after_the_end_does_what_follows_once(saver, gate):
    done = []
    gate.open.set()
    saver.start({}, gate, lambda: done.append(1))
    assert saver._ended.wait(10)

    for _ in range(3):
        saver.look()

    assert done == [1]


def test_the_next_save_waits_for_the_one_before(saver, gate):
    order = []
    saver.start({}, lambda state, check: (time.sleep(0.1), order.append("first")), lambda: order.append("said"))

    saver.start({}, lambda state, check: order.append("second"))
    saver.wait()

    assert order == ["first", "said", "second"]


def closed_by(saver, error, *save):
    """Ends a training in which a save was begun."""
    with saver.closing():
        if save:
            saver.start({}, *save)
        if error is not None:
            raise error


@pytest.mark.parametrize("where", ["look", "wait", "start", "closing"])
def test_an_error_is_raised_once_wherever_training_looks_first(saver, where):
    error, followed = OutputError("the disk is full"), []
    saver.start({}, fail(error), lambda: followed.append(1))
    assert saver._ended.wait(10)

    ways = {
        "look": saver.look,
        "wait": saver.wait,
        "start": lambda: saver.start({}, fail(OSError())),
        "closing": lambda: closed_by(saver, None),
    }
    with pytest.raises(OutputError) as caught:
        ways[where]()

    assert caught.value is error
    saver.wait()
    assert followed == []


def test_after_an_error_the_next_save_is_a_new_one(saver, gate):
    gate.open.set()
    saver.start({}, fail(OSError("no")))
    with pytest.raises(OSError, match="no"):
        saver.wait()

    saver.start({"a": 1}, gate)
    saver.wait()

    assert gate.seen[0][1] == {"a": 1}


def test_what_is_not_plain_is_refused_before_anything_is_begun(saver, gate):
    with pytest.raises(TypeError, match=r"^checkpoint\['optimizer'\]\[0\] is a builtins.set"):
        saver.start({"optimizer": [{1}]}, gate)

    saver.wait()
    assert not gate.begun.is_set()


def test_an_error_in_training_waits_for_the_save_and_stays_the_error(saver, caplog):
    done = []
    with pytest.raises(ZeroDivisionError):
        closed_by(saver, ZeroDivisionError(), lambda state, check: time.sleep(0.1), lambda: done.append(1))
    assert done == [1]

    with pytest.raises(ZeroDivisionError), caplog.at_level(logging.WARNING, "run"):
        closed_by(saver, ZeroDivisionError(), fail(OutputError("the disk is full")))
    assert caplog.messages == ["warning: the disk is full"]


def test_ctrl_c_within_training_leaves_a_save_some_time_and_then_gives_it_up(saver, gate, monkeypatch):
    monkeypatch.setattr(background_saver, "INTERRUPTED_S", 0.2)
    done = []
    with pytest.raises(KeyboardInterrupt):
        closed_by(saver, KeyboardInterrupt(), lambda state, check: None, lambda: done.append("a short one"))

    began_s = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        closed_by(saver, KeyboardInterrupt(), gate, lambda: done.append("a long one"))

    assert 0.2 <= time.monotonic() - began_s < 5
    assert done == ["a short one"]
    assert gate.seen == []


@pytest.fixture
def _ctrl_c_interrupts():
    """Also where whoever started the tests left that signal ignored, as shells do behind `&`."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_ctrl_c_interrupts")
def test_ctrl_c_while_a_save_is_awaited_gives_it_up_at_once_and_leaves_the_one_before(tmp_path, monkeypatch):
    checkpoints, saver, save = Checkpoints(tmp_path), BackgroundSaver(), torch.save
    checkpoints.save(tiny_state(1.0))

    def endless(state, file):
        file.write(b"half")
        while True:
            time.sleep(0.005)
            file.write(b"")

    monkeypatch.setattr(torch, "save", endless)
    done = []
    began_s = time.monotonic()
    saver.start(tiny_state(2.0), lambda state, check: checkpoints.save(state, check=check), lambda: done.append(1))
    threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        saver.wait()
    took_s = time.monotonic() - began_s
    monkeypatch.setattr(torch, "save", save)

    assert took_s < 5
    assert names_in(tmp_path) == ["checkpoint-epoch2.pth", "last.pth"]
    assert load_checkpoint(checkpoints.last)["model"]["w"][0] == 1.0
    assert done == []
    assert "checkpoint" not in [thread.name for thread in threading.enumerate()]


def test_a_digest_is_given_up_too(tmp_path):
    calls = []

    def check():
        calls.append(1)
        if len(calls) == 3:
            raise background_saver.Abandoned

    with pytest.raises(background_saver.Abandoned):
        save_checkpoint(tmp_path / "last.pth", tiny_state(), check)

    assert len(calls) == 3
    assert names_in(tmp_path) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_worker_that_is_forked_in_the_middle_of_a_save_neither_hangs_nor_touches_the_file(tmp_path, monkeypatch):
    checkpoints, saver, save = Checkpoints(tmp_path), BackgroundSaver(), torch.save
    halfway, go_on = threading.Event(), threading.Event()

    def in_two_parts(state, file):
        class Pausing:
            flush = file.flush

            def write(self, data):
                # Into the buffer of the file, which a child has a copy of.
                num_bytes = file.write(data)
                if not halfway.is_set():
                    halfway.set()
                    go_on.wait(20)
                return num_bytes

        save(state, Pausing())

    monkeypatch.setattr(torch, "save", in_two_parts)
    saver.start(tiny_state(3.0), lambda state, check: checkpoints.save(state, check=check))
    assert halfway.wait(10)
    child = os.fork()
    if not child:  # what a worker does: it logs nothing, collects garbage, and ends without any farewell
        gc.collect()
        threading.Thread(target=gc.collect).start()
        torch.ones(100_000).sum()
        os._exit(7)
    _, status = os.waitpid(child, 0)
    go_on.set()
    saver.wait()

    assert os.waitstatus_to_exitcode(status) == 7
    assert load_checkpoint(checkpoints.last)["model"]["w"][0] == 3.0
    assert names_in(tmp_path) == ["checkpoint-epoch2.pth", "last.pth"]
