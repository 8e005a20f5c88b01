"""`train.py --check`: what passes must train, what cannot train must not pass, and nothing stays behind."""

import json
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import train
from trainer.trial import FirstBatches, in_words, try_run
from utils.errors import ConfigError, DataError, OutputError, UserError

Config = Callable[..., dict[str, Any]]
ConfigFile = Callable[[dict[str, Any]], Path]
Usage = namedtuple("Usage", ["total", "used", "free"])


def everything_below(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"lr_scheduler": {"type": "OneCycleLR", "interval": "step"}},
        {"lr_scheduler": {"type": "ReduceLROnPlateau"}},
        {"lr_scheduler": None, "metrics": []},
        {"arch": "MLP", "metrics": ["MulticlassF1Score", "top_k_acc"]},
        {"loss": {"type": "CrossEntropyLoss", "args": {"weight": [1, 2, 3]}}},
    ],
    ids=str,
)
def test_what_the_check_passes_then_trains(
    small_config: Config, config_file: ConfigFile, tmp_path: Path, capsys: pytest.CaptureFixture, sections: dict
) -> None:
    path = str(config_file(small_config(**sections)))
    before = everything_below(tmp_path)

    assert train.main(["-c", path, "--check"]) is None

    assert everything_below(tmp_path) == before
    out = capsys.readouterr().out
    for start in ("device ", "data ", "model ", "batch ", "memory ", "checkpoint ", "step ", "epoch ", "run "):
        assert f"\n{start}" in f"\n{out}"
    assert "10x3x16x16 uint8, targets (10,)" in out
    assert out.endswith("this config trains; nothing was kept\n")
    trained = train.main(["-c", path])
    assert trained is not None
    assert trained.epochs_done == 3


def test_decoded_pixels_are_what_a_check_keeps_and_it_says_so(
    small_config: Config, config_file: ConfigFile, capsys: pytest.CaptureFixture
) -> None:
    config = small_config()
    config["data_loader"]["args"] |= {"cache": "disk", "transform": [{"type": "Resize", "args": {"size": 12}}]}

    train.main(["-c", str(config_file(config)), "--check"])

    assert capsys.readouterr().out.endswith("nothing was kept but decoded pixels (saved/cache)\n")


def test_a_check_before_a_run_changes_nothing_in_it(small_config: Config, config_file: ConfigFile) -> None:
    path = str(config_file(small_config()))
    first = train.main(["-c", path])

    train.main(["-c", path, "--check"])
    second = train.main(["-c", path])

    assert first is not None
    assert second is not None
    weights, again = first.learner.model.state_dict(), second.learner.model.state_dict()
    assert all(torch.equal(weights[name], again[name]) for name in weights)


def test_a_continuation_can_be_checked_and_leaves_the_run_alone(
    small_config: Config, config_file: ConfigFile, tmp_path: Path
) -> None:
    run = train.main(["-c", str(config_file(small_config()))])
    assert run is not None
    last = run.models_dir / "last.pth"
    before = {path: path.read_bytes() for path in everything_below(tmp_path) if path.is_file()}

    train.main(["-r", str(last), "trainer.epochs=5", "--check"])

    assert {path: path.read_bytes() for path in everything_below(tmp_path) if path.is_file()} == before


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["arch.args.num_classes=5"], ConfigError),
        (["loss=nll_loss"], ConfigError),
        (["data_loader.args.data_dir=nowhere"], DataError),
        (["arch.args.pool_size=99", "arch.args.layers=[4,'M','M','M','M','M']"], UserError),
        (["trainer.save_dir=/proc/nowhere"], OutputError),
    ],
    ids=str,
)
def test_what_cannot_train_does_not_pass(
    small_config: Config, config_file: ConfigFile, tmp_path: Path, words: list[str], error: type[Exception]
) -> None:
    path = str(config_file(small_config()))
    before = everything_below(tmp_path)

    with pytest.raises(error):
        train.main(["-c", path, "--check", *words])

    assert everything_below(tmp_path) == before


def test_a_disk_without_room_for_the_checkpoints_does_not_pass(
    small_config: Config, config_file: ConfigFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(config_file(small_config()))
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(10**9, 10**9 - 10_000, 10_000))

    with pytest.raises(OutputError, match=r"trainer\.save_dir: 0 MiB are free, and the checkpoints need"):
        train.main(["-c", path, "--check"])

    assert not (tmp_path / "saved").exists()


def test_a_schedule_that_never_acts_is_said_by_the_check(
    small_config: Config, config_file: ConfigFile, capsys: pytest.CaptureFixture
) -> None:
    config = small_config(lr_scheduler={"type": "StepLR", "args": {"step_size": 30}})

    train.main(["-c", str(config_file(config)), "--check"])

    out = capsys.readouterr().out
    assert "warning: " in out
    assert "lr_scheduler: StepLR never changes the learning rate in this run of 3 epochs" in out


def test_the_steps_are_real_ones_and_the_validation_is_cut_short(
    small_config: Config, config_file: ConfigFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {}

    def watched(trainer: Any, options: Any) -> dict[str, str]:
        weights = {name: value.clone() for name, value in trainer.learner.model.state_dict().items()}
        costs = try_run(trainer, options)
        seen["moved"] = any(
            not torch.equal(value, weights[name]) for name, value in trainer.learner.model.state_dict().items()
        )
        seen["validation batches"] = len(trainer.valid_loader)
        return costs

    monkeypatch.setattr(train, "try_run", watched)
    config = small_config()
    config["data_loader"]["args"]["batch_size"] = 4

    train.main(["-c", str(config_file(config)), "--check"])

    assert seen == {"moved": True, "validation batches": 2}


def test_the_estimate_is_epochs_times_batches_times_step(
    small_config: Config, config_file: ConfigFile, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.trial._seconds", lambda work: (work(), 6.0)[1])
    config = small_config()
    config["trainer"] |= {"epochs": 4, "accumulate_steps": 2}

    train.main(["-c", str(config_file(config)), "--check"])

    # 72 images in batches of 10 are 8 batches, 4 steps; 3 timed steps in 6 s are 2 s each; 24 validation images are
    # 3 batches of which 2 were timed with 6 s.
    out = capsys.readouterr().out
    assert "step        2 s (mean of 3 steps)" in out
    assert "epoch       about 17 s, of which validation 9 s" in out
    assert "run         about 1 min 8 s for 4 epochs" in out


def test_first_batches_are_the_loaders_own() -> None:
    class Loader(list):
        seed = 5

    first = FirstBatches(Loader([1, 2, 3]), 2)

    assert (list(first), len(first), first.seed) == ([1, 2], 2, 5)
    assert len(FirstBatches(Loader([1]), 2)) == 1


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0123, "0.012 s"),
        (9.94, "9.9 s"),
        (59.4, "59 s"),
        (60, "1 min 0 s"),
        (3599, "59 min 59 s"),
        (7320, "2 h 2 min"),
    ],
)
def test_a_duration_has_two_units_at_most(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_the_check_reads_the_config_as_the_run_does(small_config: Config, config_file: ConfigFile) -> None:
    path = config_file(small_config())
    path.write_text(json.dumps(json.loads(path.read_text()) | {"unknown": 1}), encoding="utf-8")

    with pytest.raises(ConfigError, match="unknown: unknown key"):
        train.main(["-c", str(path), "--check"])
