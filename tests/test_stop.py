"""A run that is asked to end does so after the step that is running, and ends later as if it had never stopped."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import train
from trainer.trainer import Trainer
from utils.checkpoint import load_checkpoint
from utils.errors import CheckpointError
from utils.stop import RunStopped, StopRequest

Config = Callable[..., dict[str, Any]]
ConfigFile = Callable[[dict[str, Any]], Path]
ROOT = Path(__file__).resolve().parents[1]
MODEL = {"type": "MLP", "args": {"hidden_widths": [16], "dropout": 0.4}}
# One that sums, one that keeps every score, one of functions.
METRICS = ["accuracy", "MulticlassF1Score", "MulticlassAUROC"]
NUM_STEPS = 24  # 72 images in batches of 10 are 8 steps an epoch, three epochs


@pytest.fixture
def config(small_config: Config) -> dict[str, Any]:
    config = small_config(arch=MODEL, metrics=METRICS, lr_scheduler={"type": "OneCycleLR", "interval": "step"})
    config["trainer"]["monitor"] = "max val_accuracy"
    return config


def result_of(trainer: Any) -> tuple[dict[str, torch.Tensor], Any]:
    """The weights, and the history without times."""
    return trainer.learner.model.state_dict(), trainer.recorder.history.frame.drop(columns="time_s")


def assert_same_result(left: Any, right: Any) -> None:
    (weights, history), (others, other) = result_of(left), result_of(right)
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    assert history.equals(other)


def stop_at(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Asks every run of this test to end once it has done so many steps."""
    stepped = Trainer._step_done

    def asked(self: Trainer) -> None:
        if self.steps_done == steps:
            self.stop.signal_name = "SIGTERM"
        stepped(self)

    monkeypatch.setattr(Trainer, "_step_done", asked)


def whole_and_stopped(path: str, monkeypatch: pytest.MonkeyPatch, steps: int) -> Any:
    """A run that nobody stopped; another one was, after so many steps."""
    whole = train.main(["-c", path])
    with monkeypatch.context() as patch:
        stop_at(patch, steps)
        with pytest.raises(RunStopped, match="SIGTERM"):
            train.main(["-c", path, "name=stopped"])
    return whole


@pytest.mark.parametrize("steps", [1, 8, 15])
def test_a_run_that_stopped_at_any_step_ends_as_one_that_did_not(
    config: dict[str, Any], config_file: ConfigFile, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    whole = whole_and_stopped(str(config_file(config)), monkeypatch, steps)
    last = Path(config["trainer"]["save_dir"]) / "models" / "last.pth"
    state = load_checkpoint(last)

    continued = train.main(["-r", str(last), "data_loader.args.num_workers=1"])

    assert (state["steps_done"], state["epochs_done"]) == (steps, (steps - 1) // 8)
    assert state["progress"]["batches_done"] == (steps - 1) % 8 + 1
    assert whole is not None
    assert whole.steps_done == NUM_STEPS
    assert_same_result(whole, continued)
    best = [load_checkpoint(run.models_dir / "best.pth")["epochs_done"] for run in (whole, continued) if run]
    assert best[0] == best[1]


@pytest.mark.parametrize("entry", ["batches_done", "loss", "metrics"])
def test_taking_any_one_entry_out_of_the_progress_gives_another_run(
    config: dict[str, Any], config_file: ConfigFile, monkeypatch: pytest.MonkeyPatch, entry: str
) -> None:
    whole = whole_and_stopped(str(config_file(config)), monkeypatch, 5)
    loaded = Trainer.load_progress

    def without(self: Trainer, progress: dict[str, Any] | None) -> None:
        if progress is not None:
            empty = {"loss": self.train_loss.state_dict(), "metrics": self.learner.train_metrics.state_dict()}
            progress = progress | {entry: (empty | {"batches_done": 0})[entry]}
        loaded(self, progress)

    monkeypatch.setattr(Trainer, "load_progress", without)

    # Without its position a run trains too many steps, which OneCycleLR refuses.
    with pytest.raises((AssertionError, ValueError)):
        assert_same_result(whole, train.main(["-r", str(Path(config["trainer"]["save_dir"]) / "models" / "last.pth")]))


def test_a_run_that_stopped_while_it_validated_validates_anew(
    config: dict[str, Any], config_file: ConfigFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(config_file(config))
    whole = train.main(["-c", path])
    asked = Trainer._stop_if_asked

    def in_the_second_epoch(self: Trainer, **facts: bool) -> None:
        if self.steps_done == 16 and not facts:
            self.stop.signal_name = "SIGUSR1"
        asked(self, **facts)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_stop_if_asked", in_the_second_epoch)
        with pytest.raises(RunStopped):
            train.main(["-c", path, "name=stopped"])
    last = Path(config["trainer"]["save_dir"]) / "models" / "last.pth"
    progress = load_checkpoint(last)["progress"]

    continued = train.main(["-r", str(last)])

    assert progress["batches_done"] == 8
    assert_same_result(whole, continued)


def test_steps_of_several_batches_go_on_where_they_were(
    config: dict[str, Any], config_file: ConfigFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    config["trainer"] |= {"accumulate_steps": 3, "len_epoch": 10}
    whole = whole_and_stopped(str(config_file(config)), monkeypatch, 6)

    continued = train.main(["-r", str(Path(config["trainer"]["save_dir"]) / "models" / "last.pth")])

    assert_same_result(whole, continued)


def test_what_a_position_within_an_epoch_depends_on_cannot_change(
    config: dict[str, Any], config_file: ConfigFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_at(monkeypatch, 3)
    with pytest.raises(RunStopped):
        train.main(["-c", str(config_file(config))])
    last = str(Path(config["trainer"]["save_dir"]) / "models" / "last.pth")

    for word in ("data_loader.args.batch_size=5", "trainer.len_epoch=4", "trainer.accumulate_steps=2", "metrics=[]"):
        with pytest.raises(
            CheckpointError, match="cannot change within an epoch, and this checkpoint was saved in epoch 1"
        ):
            train.main(["-r", last, word, "trainer.monitor=off"])


@contextmanager
def running(*words: str) -> Iterator[subprocess.Popen]:
    """train.py as a process of its own, with one thread as in these tests; it does not outlive the test."""
    with subprocess.Popen(
        [sys.executable, "train.py", *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for_steps(last: Path, process: subprocess.Popen, steps: int) -> None:
    """Until the run has saved so many steps."""
    deadline_s = time.monotonic() + 60
    while time.monotonic() < deadline_s and process.poll() is None:
        if last.exists() and load_checkpoint(last)["steps_done"] >= steps:
            return
        time.sleep(0.02)
    raise AssertionError(
        f"no {steps} steps were saved: {process.communicate()[0] if process.poll() is not None else ''}"
    )


def test_a_process_that_is_ended_from_outside_goes_on_bit_for_bit(
    config: dict[str, Any], config_file: ConfigFile
) -> None:
    """With a Python of its own; tests/test_faults.py has every signal, at any instant, without."""
    config["trainer"] |= {"epochs": 10, "save_every_steps": 3, "verbosity": 1}
    config["optimizer"]["args"]["lr"] = 0.01
    path, models = str(config_file(config)), Path(config["trainer"]["save_dir"]) / "models"
    whole = train.main(["-c", path])
    with running("-c", path, "name=ended") as process:
        folder = models / "ended"
        while not list(folder.glob("*/last.pth")) and process.poll() is None:
            time.sleep(0.02)
        (last,) = folder.glob("*/last.pth")
        wait_for_steps(last, process, 11)

        os.killpg(process.pid, signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
    done = load_checkpoint(last)["steps_done"]
    continued = train.main(["-r", str(last)])

    assert process.returncode == 75
    assert 11 <= done < 80
    assert f"stopped: SIGTERM; {done} steps are saved" in output
    assert f"python train.py -r {last}" in output
    assert "Traceback" not in output
    assert_same_result(whole, continued)


def test_the_limit_of_time_ends_a_run(config: dict[str, Any], config_file: ConfigFile) -> None:
    config["trainer"]["max_minutes"] = 1e-6

    with pytest.raises(RunStopped, match=r"1e-06 minutes are over \(trainer.max_minutes\)"):
        train.main(["-c", str(config_file(config))])

    assert load_checkpoint(Path(config["trainer"]["save_dir"]) / "models" / "last.pth")["steps_done"] == 1


def test_saving_by_the_clock(config: dict[str, Any], config_file: ConfigFile, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    save = Trainer._save
    monkeypatch.setattr(Trainer, "_save", lambda self, **facts: (written.append(self.steps_done), save(self, **facts)))
    config["trainer"] |= {"epochs": 1, "save_every_minutes": 1e-9}

    train.main(["-c", str(config_file(config))])

    assert written == [0, 1, 2, 3, 4, 5, 6, 7, 8, 8]


def test_handlers_are_put_back() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}

    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGUSR1)
        reason = stop.reason

    assert reason == "SIGUSR1"
    assert {number: signal.getsignal(number) for number in before} == before


def test_a_second_interrupt_ends_at_once(capfd: pytest.CaptureFixture) -> None:
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.reason == "SIGINT"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)

    assert "Ctrl-C again ends at once" in capfd.readouterr().err


def test_without_a_signal_or_a_limit_there_is_no_reason() -> None:
    with StopRequest() as stop:
        assert stop.reason is None


def test_outside_the_main_thread_only_the_clock_counts() -> None:
    reasons = []

    def work() -> None:
        with StopRequest() as stop:
            stop.limit(0.0)
            reasons.append(stop.reason)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert reasons == ["0 minutes are over (trainer.max_minutes)"]
