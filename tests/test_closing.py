"""The best checkpoint is judged again from its file: the scores on record, nothing changed, an end at any signal."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import train
from logger.status import read_status
from trainer.closing import differences
from trainer.trainer import Trainer
from utils.checkpoint import load_checkpoint, save_checkpoint
from utils.stop import StopRequest

Config = Callable[..., dict[str, Any]]
ConfigFile = Callable[[dict[str, Any]], Path]
CPU = torch.device("cpu")


@pytest.fixture
def run(small_config: Config, config_file: ConfigFile, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """`run(KEY=VALUE, ...)`: trains, and gives the trainer and the screen."""

    def go(*words: str, stop: StopRequest | None = None) -> tuple[Trainer, str]:
        config = small_config()
        config["trainer"] |= {"verbosity": 1, "monitor": "max val_accuracy"}
        trained = train.main(["-c", str(config_file(config)), *words], stop=stop)
        assert isinstance(trained, Trainer)
        return trained, capsys.readouterr().out

    return go


@pytest.mark.draws
def test_the_verdict_is_the_best_score_and_the_file_gives_it_again(run: Callable[..., Any]) -> None:
    trained, screen = run("optimizer.args.lr=0.2", "trainer.epochs=5", "lr_scheduler=null")
    rows = trained.recorder.history.rows()
    scores = [row["val/accuracy"] for row in rows]
    best = max(scores)
    epoch = scores.index(best) + 1
    assert trained.monitor.best_epoch == epoch

    again = trained.last_evaluation

    assert again is not None
    assert again.scores == {"loss": rows[epoch - 1]["val/loss"], "accuracy": best}
    how = f"; improved {scores[0]:.4f} → {best:.4f}" if epoch > 1 else ""
    assert f"verdict   best val_accuracy {best:.4f} at epoch {epoch}{how}\n" in screen
    assert f"val_loss {again.scores['loss']:.4f}; evaluated again on 24 validation images: the same scores\n" in screen
    with Image.open(trained.recorder.run.log / "val_batch0_pred.png") as picture:
        assert picture.width > 1000


@pytest.mark.parametrize("word", ["trainer.ema=null", 'trainer.ema={"decay": 0.5}'])
def test_the_run_ends_with_the_weights_of_its_last_epoch(run: Callable[..., Any], word: str) -> None:
    trained, _ = run("optimizer.args.lr=0.5", "trainer.monitor=min train_loss", word)
    last = load_checkpoint(trained.models_dir / "last.pth")

    trained.monitor.best_epoch = 1
    trained._judge_again()

    now = trained.state_dict()
    for name in [name for name in ("model", "trained_model") if name in last]:
        assert all(torch.equal(tensor, now[name][key]) for key, tensor in last[name].items())


@pytest.mark.parametrize(
    ("word", "row"), [("trainer.monitor=off", "last.pth"), ("trainer.monitor=min train_loss", "best.pth")]
)
def test_without_a_monitor_it_is_the_last(run: Callable[..., Any], word: str, row: str) -> None:
    _, screen = run(word)

    line = next(line for line in screen.splitlines() if line.startswith(row))
    assert line.endswith("evaluated again on 24 validation images: the same scores")


def test_without_validation_nothing_is_judged_again(
    small_config: Config, config_file: ConfigFile, tree_config: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    tree_config["data_loader"]["args"]["validation_split"] = 0
    tree_config["trainer"] |= {"monitor": "min train_loss", "verbosity": 1}

    trained = train.main(["-c", str(config_file(tree_config))])

    assert trained is not None
    screen = capsys.readouterr().out
    assert "verdict  best train_loss" in screen
    assert "again" not in screen
    assert not (trained.recorder.run.log / "val_batch0_pred.png").exists()


def test_scores_that_are_not_those_on_record_are_said(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    judge_again = Trainer._judge_again

    def judged(self: Trainer) -> str:
        state = {key: value for key, value in load_checkpoint(self.checkpoints.last).items() if key != "format"}
        state["model"]["classifier.0.weight"].normal_()
        save_checkpoint(self.checkpoints.last, state)
        return judge_again(self)

    monkeypatch.setattr(Trainer, "_judge_again", judged)

    _, screen = run("trainer.monitor=off")

    assert "evaluated again on 24 validation images: other scores" in screen
    assert "warning: last.pth gives other scores than its epoch had: val_loss" in screen


def test_a_damaged_file_is_a_warning_and_the_run_is_finished(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    judge_again = Trainer._judge_again

    def judged(self: Trainer) -> str:
        self.checkpoints.best.write_bytes(b"not a checkpoint")
        return judge_again(self)

    monkeypatch.setattr(Trainer, "_judge_again", judged)

    trained, screen = run()

    assert "warning: best.pth could not be evaluated again: " in screen
    assert read_status(trained.models_dir / "STATUS.json")["state"] == "finished"


def test_a_signal_meanwhile_ends_the_evaluation_and_the_run_is_finished(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = StopRequest()
    judge_again = Trainer._judge_again

    def judged(self: Trainer) -> str:
        stop.signal_name = "SIGTERM"
        return judge_again(self)

    monkeypatch.setattr(Trainer, "_judge_again", judged)

    trained, screen = run(stop=stop)

    assert "not evaluated again (SIGTERM)" in screen
    assert read_status(trained.models_dir / "STATUS.json")["state"] == "finished"
    last = load_checkpoint(trained.models_dir / "last.pth")["model"]
    assert all(torch.equal(tensor, last[name]) for name, tensor in trained.learner.model.state_dict().items())


def test_it_draws_nothing_from_the_generators_and_no_save_is_running(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    states = []
    judge_again = Trainer._judge_again

    def judged(self: Trainer) -> str:
        assert self.saver._thread is None
        states.append(torch.get_rng_state())
        words = judge_again(self)
        states.append(torch.get_rng_state())
        return words

    monkeypatch.setattr(Trainer, "_judge_again", judged)

    run()

    assert torch.equal(*states)


def test_differences_are_of_the_last_digits_on_a_cpu_and_of_what_counts_on_a_gpu() -> None:
    row = {"val/loss": 1.0, "val/accuracy": 0.5, "val/odd": float("nan")}
    found = {"loss": 1.0 + 1e-6, "accuracy": 0.5, "odd": float("nan")}

    assert differences(found, row, CPU) == ["val_loss 1 (1 was recorded)"]
    assert differences(found, row, torch.device("cuda")) == []
    assert differences({"loss": 1.1}, row, torch.device("cuda")) == ["val_loss 1.1 (1 was recorded)"]
    assert differences({"new": 1.0}, row, CPU) == ["val_new 1 (nan was recorded)"]


def test_nothing_of_it_is_logged_twice(run: Callable[..., Any]) -> None:
    _, screen = run()

    assert screen.count("verdict") == 1
    assert screen.count("best val_accuracy") == 1
    assert logging.getLogger("run").handlers == []
