"""train.py from the command line to the files: what must work as typed, and what must stop before anything is made."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import train
from utils.checkpoint import load_checkpoint
from utils.errors import ConfigError, DataError, DeviceError, OutputError, TrainingError, UserError

Config = Callable[..., dict[str, Any]]
ConfigFile = Callable[[dict[str, Any]], Path]


@pytest.mark.draws
def test_a_run_leaves_what_it_promises(small_config: Config, config_file: ConfigFile) -> None:
    config = small_config()
    config["trainer"] |= {"tensorboard": True, "monitor": "max val_accuracy"}

    trained = train.main(["-c", str(config_file(config))])

    models = {path.name for path in trained.models_dir.iterdir()}
    assert models >= {"config.json", "class_index.json", "best.pth", "last.pth", "checkpoint-epoch3.pth"}
    log = {path.name for path in trained.recorder.run.log.iterdir()}
    assert log >= {"info.log", "results.csv", "results.png", "report.html", "train", "valid"}
    assert (trained.recorder.run.log / "results.png").read_bytes().startswith(b"\x89PNG")
    names = json.loads((trained.models_dir / "class_index.json").read_text())
    assert list(names) == ["0", "1", "2"]
    newest = trained.recorder.run.save_dir / "models"
    assert (newest / "best.pth").resolve() == trained.models_dir / "best.pth"
    assert not [path for path in newest.rglob("*") if path.name.endswith(".tmp")]


def test_the_saved_config_alone_repeats_the_run_bit_for_bit(small_config: Config, config_file: ConfigFile) -> None:
    first = train.main(["-c", str(config_file(small_config())), "--lr", "0.02", "--bs", "8"])

    second = train.main(["-c", str(first.models_dir / "config.json")])

    weights, again = first.learner.model.state_dict(), second.learner.model.state_dict()
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert first.recorder.history.frame.drop(columns="time_s").equals(
        second.recorder.history.frame.drop(columns="time_s")
    )


def test_another_seed_gives_another_run(small_config: Config, config_file: ConfigFile) -> None:
    path = str(config_file(small_config()))

    losses = [train.main(["-c", path, f"seed={seed}"]).recorder.history.last_row()["train/loss"] for seed in (1, 2)]

    assert losses[0] != losses[1]


def test_the_number_of_workers_never_changes_the_result(small_config: Config, config_file: ConfigFile) -> None:
    path = str(config_file(small_config()))

    rows = [
        train.main(["-c", path, f"data_loader.args.num_workers={number}"]).recorder.history.frame for number in (0, 2)
    ]

    assert rows[0].drop(columns="time_s").equals(rows[1].drop(columns="time_s"))


def test_flags_words_and_whole_sections_override_the_file(small_config: Config, config_file: ConfigFile) -> None:
    words = ["--lr", "0.01", "--bs", "64", "trainer.epochs=1", 'arch={"type": "MLP"}', "metrics.0=top_k_acc"]

    trained = train.main(["-c", str(config_file(small_config())), *words])

    saved = json.loads((trained.models_dir / "config.json").read_text())
    assert saved["optimizer"]["args"]["lr"] == 0.01
    assert saved["data_loader"]["args"]["batch_size"] == 64
    assert saved["arch"] == {"type": "MLP", "args": {"image_size": [16, 16], "in_channels": 3, "num_classes": 3}}
    assert saved["metrics"] == ["top_k_acc"]
    assert trained.epochs_done == 1


def test_works_from_any_folder(
    small_config: Config, config_file: ConfigFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = config_file(small_config())
    elsewhere = tmp_path / "somewhere" / "else"
    elsewhere.mkdir(parents=True)
    monkeypatch.chdir(elsewhere)

    trained = train.main(["-c", "../../config.json", "trainer.save_dir=here", "trainer.epochs=1"])

    assert trained.models_dir.is_relative_to(elsewhere / "here")
    assert path.exists()


def test_fine_tuning_starts_from_the_weights_with_a_new_head(
    small_config: Config, config_file: ConfigFile, shapes_dir: Path, tmp_path: Path
) -> None:
    first = train.main(["-c", str(config_file(small_config()))])
    two_classes = tmp_path / "two"
    for part in ("train", "val"):
        for folder in sorted((shapes_dir / part).iterdir())[:2]:
            shutil.copytree(folder, two_classes / part / folder.name)
    config = small_config(name="tuned")
    config["data_loader"]["args"]["data_dir"] = str(two_classes)
    config["optimizer"]["args"]["lr"] = 0.0

    tuned = train.main(["-c", str(config_file(config)), "--weights", str(first.models_dir / "best.pth")])

    old, new = first.learner.model.state_dict(), tuned.learner.model.state_dict()
    best = load_checkpoint(first.models_dir / "best.pth")["model"]
    assert torch.equal(new["features.0.weight"], best["features.0.weight"])
    head = [name for name in new if new[name].shape != old[name].shape]
    assert {new[name].shape[0] for name in head} == {2}
    assert tuned.models_dir.parent.name == "tuned"


def test_weights_file_in_a_config_does_the_same(small_config: Config, config_file: ConfigFile) -> None:
    first = train.main(["-c", str(config_file(small_config()))])
    best = first.models_dir / "best.pth"
    config = small_config(name="tuned", weights_file=str(best), optimizer={"type": "SGD", "args": {"lr": 0.0}})

    tuned = train.main(["-c", str(config_file(config))])

    weights = load_checkpoint(best)["model"]
    assert all(torch.equal(value, weights[name]) for name, value in tuned.learner.model.named_parameters())


def test_template_config_is_taken_as_it_is(
    config_file: ConfigFile, real_images: Callable[[str], Path], tmp_path: Path
) -> None:
    real_images("MNIST")
    words = ["trainer.epochs=1", "trainer.len_epoch=20", f"trainer.save_dir={tmp_path}", "trainer.verbosity=0"]

    trained = train.main(["-c", str(train.ROOT / "configs" / "pytorch_template_mnist.json"), *words, "-d", "cpu"])

    assert trained.steps_done == 20
    assert set(trained.recorder.history.frame.columns) >= {"val/loss", "val/accuracy", "val/top_k_acc"}


BAD_CONFIGS: dict[str, tuple[dict[str, Any], type[UserError], str]] = {
    "no data folder": ({"data_loader.args.data_dir": "/nowhere"}, DataError, "/nowhere: no such folder"),
    "unknown key": ({"trainer.early_stopp": 3}, ConfigError, "Did you mean 'early_stop'"),
    "unknown top-level key": ({"optimzer": {}}, ConfigError, "optimzer: unknown key. Did you mean 'optimizer'"),
    "unknown type": ({"arch.type": "VGGG"}, ConfigError, "arch.type: 'VGGG' is not a model. Did you mean 'VGG'"),
    "unknown argument": ({"optimizer.args.weigth_decay": 0}, ConfigError, "Did you mean 'weight_decay'"),
    "misspelt monitor": ({"trainer.monitor": "max val_acc"}, ConfigError, "no score 'val_acc'.*val_accuracy"),
    "malformed monitor": ({"trainer.monitor": "val_accuracy"}, ConfigError, "'min NAME'"),
    "early stop without monitor": (
        {"trainer.monitor": "off", "trainer.early_stop": 3},
        ConfigError,
        "trainer.early_stop",
    ),
    "no such device": ({"device": "tpu"}, ConfigError, "device: 'tpu' is not a device"),
    "text for a number": ({"optimizer.args.lr": "0.1"}, ConfigError, r"optimizer.args.lr: .*number"),
    "a value its constructor dislikes": ({"optimizer.args.lr": -1}, ConfigError, "SGD says: Invalid learning rate"),
    "zero epochs": ({"trainer.epochs": 0}, ConfigError, "trainer.epochs: .*greater than or equal to 1"),
    "wrong number of classes": (
        {"arch.args.num_classes": 9},
        ConfigError,
        "num_classes: 9, yet the data has 3 classes",
    ),
    "wrong channels": ({"arch.args.in_channels": 1}, ConfigError, "in_channels: 1, yet the data has 3 channels"),
    "images too small for the network": (
        {"arch.args.layers": [8, "M", 8, "M", 8, "M", 8, "M", 8, "M"]},
        ConfigError,
        r"arch: VGG cannot take an image of 3x16x16 \(C x H x W\): images of 16x16 px are too small",
    ),
    "a split beside a validation folder": (
        {"data_loader.args.validation_split": 0.5},
        ConfigError,
        "validation part of its own",
    ),
    "batch larger than the data": (
        {"data_loader.args.batch_size": 999, "data_loader.args.drop_last": True},
        ConfigError,
        "batch_size: 999, yet there are 72 training images: drop_last leaves all out",
    ),
    "two metrics of one name": ({"metrics": ["accuracy", "accuracy"]}, ConfigError, "is there already"),
    "loss without mean": (
        {"loss": {"type": "CrossEntropyLoss", "args": {"reduction": "sum"}}},
        ConfigError,
        "needs reduction='mean'",
    ),
    "a name that is a path": ({"name": "../x"}, ConfigError, "must be a folder's name"),
    "a transform that makes no sense": ({"data_loader.args.transform": ["ToTensor"]}, ConfigError, "makes no sense"),
    "plateau by step": (
        {"lr_scheduler": {"type": "ReduceLROnPlateau", "interval": "step"}},
        ConfigError,
        "watches a score of an epoch",
    ),
    "a learning rate that would not be used": (
        {"lr_scheduler": {"type": "OneCycleLR", "args": {"max_lr": 0.5}, "interval": "step"}},
        ConfigError,
        "OneCycleLR would not use",
    ),
    "a metric of two classes on three": (
        {"metrics": ["BinaryAccuracy"]},
        ConfigError,
        "metrics.0: 'BinaryAccuracy' makes no",
    ),
    "a metric of many numbers": ({"metrics": ["MulticlassConfusionMatrix"]}, ConfigError, "gives 9 numbers"),
    "a metric as loss": ({"loss": "accuracy"}, ConfigError, "one number that has a gradient"),
    "a loss for other targets": ({"loss": "MSELoss"}, ConfigError, "MSELoss cannot judge"),
    "log-probabilities that are none": ({"loss": "nll_loss"}, ConfigError, "use cross_entropy"),
    "class weights of another number": (
        {"loss": {"type": "CrossEntropyLoss", "args": {"weight": [1, 2]}}},
        ConfigError,
        "cannot judge",
    ),
    "an optimizer of another kind": ({"optimizer": {"type": "LBFGS"}}, ConfigError, "several times a step"),
    "crops too small for the network": (
        {"data_loader.args.transform": [{"type": "RandomCrop", "args": {"size": 3}}]},
        ConfigError,
        "cannot take training images",
    ),
    "a transform that fails": (
        {"data_loader.args.transform": [{"type": "RandomCrop", "args": {"size": 300}}]},
        DataError,
        "a training transform or collate_fn fails",
    ),
    "one image for the last batch": (
        {"arch": {"type": "resnet18"}, "data_loader.args.batch_size": 71},
        ConfigError,
        "leaves one image for the last batch",
    ),
    "a schedule of another length": (
        {"lr_scheduler": {"type": "OneCycleLR", "args": {"total_steps": 3}, "interval": "step"}},
        ConfigError,
        "made for 3 steps, and this run has 24",
    ),
    "a name for a score that is none": ({"metrics": [{"type": "accuracy", "name": 5}]}, ConfigError, "must be a word"),
    "missing section": ({"loss": None}, ConfigError, "loss"),
}


@pytest.mark.parametrize("case", BAD_CONFIGS)
def test_bad_input_stops_with_one_message_and_leaves_nothing(
    case: str, small_config: Config, config_file: ConfigFile
) -> None:
    changes, kind, message = BAD_CONFIGS[case]
    config = small_config()
    for path, value in changes.items():
        *keys, last = path.split(".")
        section = config
        for key in keys:
            section = section[key]
        section[last] = value

    path = config_file(config)

    with pytest.raises(kind, match=message) as caught:
        train.main(["-c", str(path)])

    lines = str(caught.value).splitlines()
    assert len(lines) <= 3
    if kind is ConfigError:
        assert lines[0].startswith(f"{path}:1:")
        assert lines[-1] == "1 problem in the config; nothing was started."
    assert not Path(config["trainer"]["save_dir"]).exists()


def test_a_score_of_validation_without_validation_images_is_told_so(
    tree_config: dict[str, Any], config_file: ConfigFile
) -> None:
    tree_config["data_loader"]["args"]["validation_split"] = 0

    said = r"trainer\.monitor=min val_loss: no score 'val_loss' \(there are no validation images\)\."
    with pytest.raises(ConfigError, match=said):
        train.main(["-c", str(config_file(tree_config)), "trainer.monitor=min val_loss"])


def test_what_is_odd_about_the_schedule_is_said_with_its_line_and_the_run_goes_on(
    small_config: Config, config_file: ConfigFile, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config_file(small_config(lr_scheduler={"type": "StepLR", "args": {"step_size": 3}}))

    trained = train.main(["-c", str(path)])

    said = "lr_scheduler: StepLR never changes the learning rate in this run of 3 epochs"
    assert re.search(rf"warning: {re.escape(str(path))}:1:\d+: {said}\n", capsys.readouterr().out)
    assert {row["lr"] for _, row in trained.recorder.history.frame.iterrows()} == {0.05}


def test_a_loss_of_ones_own_that_fails_keeps_its_traceback_and_leaves_nothing(
    small_config: Config, config_file: ConfigFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lossy_parts.py").write_text("def lossy(output, target):\n    return output[target + 100].sum()\n")
    monkeypatch.syspath_prepend(tmp_path)
    config = small_config(loss="lossy_parts.lossy")

    with pytest.raises(IndexError) as caught:
        train.main(["-c", str(config_file(config)), "--allow", "lossy_parts"])

    assert "lossy_parts.py" in [entry.path.name for entry in caught.traceback]
    [note] = caught.value.__notes__
    assert note.startswith("This came of loss 'lossy', which was shown scores (2, 3) against class indices (2,)")
    assert not Path(config["trainer"]["save_dir"]).exists()


def test_class_weights_and_a_schedule_by_score_work_as_written(small_config: Config, config_file: ConfigFile) -> None:
    config = small_config(
        loss={"type": "CrossEntropyLoss", "args": {"weight": [1, 2, 3.5]}},
        lr_scheduler={"type": "ReduceLROnPlateau", "args": {"patience": 0}},
    )
    config["trainer"] |= {"monitor": "max val_accuracy"}

    trained = train.main(["-c", str(config_file(config))])

    assert trained.learner.criterion.function.weight.tolist() == [1, 2, 3.5]
    assert trained.learner.schedule.scheduler.mode == "max"


def test_a_loss_that_is_no_number_ends_the_run_before_it_is_learned_from(
    small_config: Config, config_file: ConfigFile
) -> None:
    config = small_config(optimizer={"type": "SGD", "args": {"lr": 1e30}}, lr_scheduler=None)

    with pytest.raises(
        TrainingError, match=r"^step 2 \(epoch 1\): the loss is (nan|inf), at a learning rate of 1e\+30"
    ):
        train.main(["-c", str(config_file(config))])

    last = Path(config["trainer"]["save_dir"]) / "models" / "last.pth"
    assert load_checkpoint(last)["steps_done"] == 0


def test_all_problems_are_told_at_once(small_config: Config, config_file: ConfigFile) -> None:
    config = small_config(loss="cros_entropy", metrics=["acuracy"], colour="red")

    with pytest.raises(ConfigError) as caught:
        train.main(["-c", str(config_file(config))])

    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    assert lines[-1] == "3 problems in the config; nothing was started."


def test_a_save_dir_that_cannot_be_made_is_named(small_config: Config, config_file: ConfigFile, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    config = small_config()
    config["trainer"]["save_dir"] = str(tmp_path / "file" / "saved")

    with pytest.raises(OutputError, match=r"cannot write .*trainer\.save_dir"):
        train.main(["-c", str(config_file(config))])


def test_an_absent_gpu_is_an_error_by_flag_and_a_note_by_config(
    small_config: Config, config_file: ConfigFile, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small_config(device="cuda:7")
    config["trainer"] |= {"verbosity": 2, "epochs": 1}
    path = str(config_file(config))

    with pytest.raises(DeviceError, match="Use -d cpu"):
        train.main(["-c", path, "-d", "cuda:7"])
    train.main(["-c", path])

    assert "using the CPU" in capsys.readouterr().out


def test_no_control_characters_and_one_line_an_epoch_in_a_pipe(
    small_config: Config, config_file: ConfigFile, capfd: pytest.CaptureFixture[str]
) -> None:
    config = small_config()
    config["trainer"]["verbosity"] = 2

    train.main(["-c", str(config_file(config))])

    out, err = capfd.readouterr()
    assert err == ""
    assert all(character.isprintable() or character == "\n" for character in out)
    assert sum(line.startswith("epoch ") for line in out.splitlines()) == 3


@pytest.mark.parametrize("path", sorted((train.ROOT / "configs").glob("*.json")), ids=lambda path: path.stem)
def test_every_ready_config_is_right_up_to_its_data(path: Path) -> None:
    from parse_config import ConfigParser
    from utils.config_file import read_json

    text = path.read_text(encoding="utf-8")

    parsed = ConfigParser(read_json(path).data)

    assert parsed.plans["arch"]
    assert "//" in text.split('"', 1)[0], "its first comment says what comes out and how long it takes"
