"""A run that is continued ends as the run that was not interrupted: bit for bit, in one folder, with one history."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import train
from trainer.trainer import Trainer
from utils.checkpoint import load_checkpoint, save_checkpoint
from utils.errors import CheckpointError, UserError

Config = Callable[..., dict[str, Any]]
ConfigFile = Callable[[dict[str, Any]], Path]

DROPOUT_MLP = {"type": "MLP", "args": {"hidden_widths": [16], "dropout": 0.4}}
SCHEDULES = {
    "none": None,
    "epoch": {"type": "CosineAnnealingLR", "args": {"T_max": 4}},
    "step": {"type": "OneCycleLR", "interval": "step"},
    "score": {"type": "ReduceLROnPlateau", "args": {"patience": 0, "factor": 0.3}},
    "warm-up": {
        "type": "SequentialLR",
        "args": {
            "schedulers": [
                {"type": "LinearLR", "args": {"start_factor": 0.1, "total_iters": 2}},
                {"type": "StepLR", "args": {"step_size": 1}},
            ],
            "milestones": [2],
        },
    },
}


def same(left: Any, right: Any) -> bool:
    """Equal to the last bit, through dicts and lists."""
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


def assert_same_run(left: dict[str, Any], right: dict[str, Any]) -> None:
    """Everything that training made is the same in two checkpoints."""
    for name in ("model", "optimizer", "schedule", "monitor", "epochs_done", "steps_done"):
        assert same(left[name], right[name]), name
    histories = [[{**row, "time_s": 0} for row in state["history"]] for state in (left, right)]
    assert same(*histories), "history"


def stop_after(epochs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupts the next run as Ctrl-C would, in the epoch after so many."""
    train_epoch = Trainer._train_epoch

    def interrupted(self: Trainer, epoch: int) -> dict[str, float]:
        if epoch > epochs:
            raise KeyboardInterrupt
        return train_epoch(self, epoch)

    monkeypatch.setattr(Trainer, "_train_epoch", interrupted)


@pytest.mark.parametrize(
    ("schedule", "stops"), [("step", (0, 1, 2, 3)), ("none", (2,)), ("epoch", (1,)), ("score", (2,)), ("warm-up", (3,))]
)
def test_resume_at_any_epoch_gives_the_bits_of_the_uninterrupted_run(
    schedule: str,
    stops: tuple[int, ...],
    small_config: Config,
    config_file: ConfigFile,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = small_config(lr_scheduler=SCHEDULES[schedule], arch=DROPOUT_MLP)
    config["trainer"] |= {"epochs": 4, "keep_checkpoints": None}
    path = str(config_file(config))
    whole = train.main(["-c", path])
    expected = load_checkpoint(whole.models_dir / "last.pth")

    for epochs in stops:
        with monkeypatch.context() as patch:
            stop_after(epochs, patch)
            with pytest.raises(KeyboardInterrupt):
                train.main(["-c", path])
        newest = Path(config["trainer"]["save_dir"]) / "models" / "last.pth"
        assert load_checkpoint(newest)["epochs_done"] == epochs
        continued = train.main(["-r", str(newest)])

        assert_same_run(load_checkpoint(continued.models_dir / "last.pth"), expected)


def test_resume_with_len_epoch_goes_on_in_the_middle_of_a_pass(
    small_config: Config, config_file: ConfigFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config(arch=DROPOUT_MLP)
    config["trainer"] |= {"epochs": 4, "len_epoch": 5, "accumulate_steps": 2}  # a pass has 8 batches
    path = str(config_file(config))
    whole = train.main(["-c", path])

    with monkeypatch.context() as patch:
        stop_after(2, patch)
        with pytest.raises(KeyboardInterrupt):
            train.main(["-c", path])
    continued = train.main(["-r", str(Path(config["trainer"]["save_dir"]) / "models" / "last.pth")])

    assert continued.steps_done == whole.steps_done == 4 * 3
    assert_same_run(continued.state_dict(), whole.state_dict())


def test_resume_with_other_workers_changes_nothing(
    small_config: Config, config_file: ConfigFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(config_file(small_config()))
    whole = train.main(["-c", path])

    with monkeypatch.context() as patch:
        stop_after(1, patch)
        with pytest.raises(KeyboardInterrupt):
            train.main(["-c", path])
    last = Path(small_config()["trainer"]["save_dir"]) / "models" / "last.pth"
    continued = train.main(["-r", str(last), "data_loader.args.num_workers=2"])

    assert_same_run(continued.state_dict(), whole.state_dict())


@pytest.mark.parametrize("entry", ["model", "optimizer", "schedule", "monitor", "epochs_done", "steps_done", "history"])
def test_no_entry_of_a_checkpoint_is_superfluous(
    entry: str, small_config: Config, config_file: ConfigFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config(arch=DROPOUT_MLP)
    path = str(config_file(config))
    whole = train.main(["-c", path])
    fresh = load_checkpoint_of_epoch_0(path, config, monkeypatch)
    with monkeypatch.context() as patch:
        stop_after(2, patch)
        with pytest.raises(KeyboardInterrupt):
            train.main(["-c", path])
    last = (Path(config["trainer"]["save_dir"]) / "models" / "last.pth").resolve()
    state = load_checkpoint(last)

    save_checkpoint(last, {key: value for key, value in state.items() if key != "format"} | {entry: fresh[entry]})
    continued = train.main(["-r", str(last)])

    assert not same(continued.state_dict(), whole.state_dict() | {"rng": continued.state_dict()["rng"]})
    with pytest.raises(AssertionError):
        assert_same_run(continued.state_dict(), whole.state_dict())


def load_checkpoint_of_epoch_0(path: str, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What an untrained run starts with."""
    with monkeypatch.context() as patch:
        stop_after(0, patch)
        with pytest.raises(KeyboardInterrupt):
            train.main(["-c", path])
    return load_checkpoint(Path(config["trainer"]["save_dir"]) / "models" / "last.pth")


def test_a_continued_run_has_one_folder_and_one_history(
    small_config: Config, config_file: ConfigFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(config_file(small_config()))
    with monkeypatch.context() as patch:
        stop_after(2, patch)
        with pytest.raises(KeyboardInterrupt):
            train.main(["-c", path])
    save_dir = Path(small_config()["trainer"]["save_dir"])

    continued = train.main(["-r", str(save_dir / "models" / "last.pth")])

    assert len(list((save_dir / "models" / "small").iterdir())) == 1
    assert pd.read_csv(continued.recorder.run.log / "results.csv")["epoch"].tolist() == [1, 2, 3]


def test_a_finished_run_says_so_and_goes_on_when_asked(small_config: Config, config_file: ConfigFile) -> None:
    last = train.main(["-c", str(config_file(small_config()))]).models_dir / "last.pth"

    with pytest.raises(CheckpointError, match=r"finished, 3 of 3 epochs are done.*trainer\.epochs=6"):
        train.main(["-r", str(last)])
    continued = train.main(["-r", str(last), "trainer.epochs=5"])

    assert continued.epochs_done == 5
    assert continued.recorder.history.frame["epoch"].tolist() == [1, 2, 3, 4, 5]


def test_changes_at_a_resume_are_printed(
    small_config: Config, config_file: ConfigFile, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small_config()
    config["trainer"]["verbosity"] = 2
    last = train.main(["-c", str(config_file(config))]).models_dir / "last.pth"
    capsys.readouterr()

    train.main(["-r", str(last), "trainer.epochs=4", "optimizer.args.momentum=0.5"])

    screen = capsys.readouterr().out
    assert "changed: trainer.epochs: 3 -> 4" in screen
    assert "changed: optimizer.args.momentum: 0.9 -> 0.5" in screen


def test_a_new_learning_rate_at_a_resume_is_used_as_if_from_the_start(
    small_config: Config, config_file: ConfigFile
) -> None:
    last = train.main(["-c", str(config_file(small_config()))]).models_dir / "last.pth"

    continued = train.main(["-r", str(last), "trainer.epochs=4", "--lr", "0.2", "optimizer.args.momentum=0.5"])

    rates = continued.recorder.history.frame["lr"].tolist()
    assert rates[:3] == [0.05, 0.025, 0.0125]
    assert rates[3] == pytest.approx(0.2 * 0.5**3)
    assert continued.learner.optimizer.param_groups[0]["momentum"] == 0.5


def test_a_longer_schedule_at_a_resume_is_followed_to_its_new_end(
    small_config: Config, config_file: ConfigFile
) -> None:
    config = small_config(lr_scheduler=SCHEDULES["step"])
    path = str(config_file(config))
    last = train.main(["-c", path]).models_dir / "last.pth"

    continued = train.main(["-r", str(last), "trainer.epochs=6", "--bs", "5"])

    rates = continued.recorder.history.frame["lr"].tolist()
    whole = train.main(["-c", path, "trainer.epochs=6", "--bs", "5"]).recorder.history.frame["lr"].tolist()
    assert rates[3:] == pytest.approx(whole[3:], rel=1e-12)


@pytest.mark.parametrize(
    ("word", "match"),
    [
        ('arch={"type": "MLP"}', r"arch\.type: the checkpoint .* has VGG, now it is MLP.*--weights"),
        ("arch.args.batch_norm=false", r"arch\.args\.batch_norm"),
        ("name=other", r"name: the checkpoint .* has small"),
        ("seed=8", r"seed: the checkpoint .* has 7, now it is 8"),
        ("arch=MLP", r"arch\.type: the checkpoint .* has VGG, now it is MLP"),
        ("trainer.save_dir=/elsewhere", r"trainer\.save_dir"),
        (
            'optimizer={"type": "Adam", "args": {"lr": 0.1}}',
            r"optimizer\.type: the checkpoint .* has SGD, now it is Adam",
        ),
    ],
)
def test_what_a_checkpoint_cannot_follow_is_refused(
    word: str, match: str, small_config: Config, config_file: ConfigFile
) -> None:
    last = train.main(["-c", str(config_file(small_config()))]).models_dir / "last.pth"

    with pytest.raises(CheckpointError, match=match):
        train.main(["-r", str(last), "trainer.epochs=4", word])


def test_other_classes_are_refused_by_name(small_config: Config, config_file: ConfigFile, tmp_path: Path) -> None:
    config = small_config()
    last = train.main(["-c", str(config_file(config))]).models_dir / "last.pth"
    other = tmp_path / "other"
    for part in Path(config["data_loader"]["args"]["data_dir"]).glob("[tv]*"):
        for index, folder in enumerate(sorted(part.iterdir())):
            target = other / part.name / ("wolf" if index == 0 else folder.name)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(folder, target_is_directory=True)

    with pytest.raises(UserError, match=r"(?s)wolf.*--weights"):
        train.main(["-r", str(last), "trainer.epochs=4", f"data_loader.args.data_dir={other}"])


def test_images_added_to_a_tree_that_was_split_are_noticed(
    tree_config: dict[str, Any], config_file: ConfigFile
) -> None:
    config = tree_config
    last = train.main(["-c", str(config_file(config))]).models_dir / "last.pth"
    folder = next(Path(config["data_loader"]["args"]["data_dir"]).iterdir())
    shutil.copy(next(folder.iterdir()), folder / "new.png")

    with pytest.raises(CheckpointError, match=r"(?s)images, were .*--allow-data-change"):
        train.main(["-r", str(last), "trainer.epochs=4"])


def test_a_bare_name_is_the_same_as_its_section(small_config: Config, config_file: ConfigFile) -> None:
    config = small_config(arch={"type": "MLP", "args": {}}, loss={"type": "cross_entropy"})
    last = train.main(["-c", str(config_file(config))]).models_dir / "last.pth"
    same_again = small_config(arch="MLP", loss="cross_entropy", trainer=config["trainer"] | {"epochs": 4})

    continued = train.main(["-r", str(last), "-c", str(config_file(same_again))])

    assert continued.epochs_done == 4


def test_going_back_to_an_older_checkpoint_keeps_the_later_best_aside(
    small_config: Config, config_file: ConfigFile
) -> None:
    config = small_config()
    config["trainer"] |= {"epochs": 4, "keep_checkpoints": None, "monitor": "min train_loss"}
    whole = train.main(["-c", str(config_file(config))])
    assert whole.monitor.best_epoch == 4

    continued = train.main(["-r", str(whole.models_dir / "checkpoint-epoch2.pth"), "trainer.epochs=3"])

    assert continued.recorder.history.frame["epoch"].tolist() == [1, 2, 3]
    assert load_checkpoint(whole.models_dir / "best.pth")["epochs_done"] == continued.monitor.best_epoch
    aside = whole.models_dir / "best-before-going-back-to-epoch2.pth"
    assert load_checkpoint(aside)["epochs_done"] == 4


def test_a_checkpoint_that_was_moved_away_continues_its_run(
    small_config: Config, config_file: ConfigFile, tmp_path: Path
) -> None:
    first = train.main(["-c", str(config_file(small_config()))])
    moved = tmp_path / "elsewhere.pth"
    moved.write_bytes((first.models_dir / "last.pth").read_bytes())

    continued = train.main(["-r", str(moved), "trainer.epochs=4"])

    assert continued.models_dir == first.models_dir
