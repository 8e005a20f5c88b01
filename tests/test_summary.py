"""summary.py: the first and last lines, and the small files, word by word."""

import json
import platform
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torchvision

from logger.run_dir import RunDir
from logger.summary import aligned, data_in_words, first_lines, last_lines, save_run_files, shown, versions
from utils.config_tree import freeze
from utils.monitor import Monitor

RUN = RunDir(Path("saved"), "digits", "20260102_030405")
FACTS = {
    "device": "CPU, 2 threads",
    "precision": "fp32 (auto: why)",
    "data": "data/x: 6 images",
    "model": "MLP, 10 parameters",
}
CONFIG = {
    "seed": 123,
    "optimizer": {"type": "SGD", "args": {"lr": 0.1}},
    "lr_scheduler": {"type": "StepLR", "args": {"step_size": 1}},
    "trainer": {"epochs": 3, "len_epoch": None},
}


def lines_of(text):
    """Rows of aligned lines, as {first word or words: the rest}."""
    return dict(line.split("  ", 1) for line in text.splitlines())


def words(text, name):
    return lines_of(text)[name].strip()


def part(num_images, classes=("ant", "bee"), **attributes):
    return SimpleNamespace(indices=range(num_images), classes=list(classes), **attributes)


def test_versions_are_those_of_the_libraries_that_run():
    found = versions()

    assert list(found) == ["python", "torch", "torchvision"]
    assert found["python"] == platform.python_version()
    assert found["torch"] == torch.__version__
    # The package's version may lack the build's suffix ("+cpu").
    assert torchvision.__version__.split("+")[0] == found["torchvision"].split("+")[0]


def test_rows_are_aligned_below_each_other():
    assert aligned({"run": "a", "device": "b"}) == "run     a\ndevice  b"


@pytest.mark.parametrize(
    ("train", "valid", "expected"),
    [
        (part(1234, source="data/x"), part(56), "data/x: 1,234 training, 56 validation images of 2 classes (ant, bee)"),
        (part(4, source="data/x"), None, "data/x: 4 training, no validation images of 2 classes (ant, bee)"),
        (
            part(4, source="data/x", num_test_samples=7),
            part(2),
            "data/x: 4 training, 2 validation, 7 test images of 2 classes (ant, bee)",
        ),
        (part(4), None, "SimpleNamespace: 4 training, no validation images of 2 classes (ant, bee)"),
    ],
)
def test_data_are_said_with_their_parts_and_classes(train, valid, expected):
    assert data_in_words(train, valid) == expected


def test_many_classes_are_cut_short_and_counted():
    said = data_in_words(part(1, [str(number) for number in range(12)], source="d"), None)

    assert said.endswith("of 12 classes (0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more)")


def test_path_is_shown_as_one_would_type_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert shown(tmp_path / "saved" / "log") == "saved/log"
    assert shown(Path("saved/log")) == "saved/log"
    assert shown(tmp_path.parent) == str(tmp_path.parent)


def test_run_files_are_the_config_and_the_class_names_by_index(tmp_path):
    run = RunDir.create(tmp_path, "digits")

    save_run_files(run, freeze(CONFIG), ["개미", "bee"])

    assert json.loads((run.models / "config.json").read_text(encoding="utf-8")) == CONFIG
    text = (run.models / "class_index.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"0": "개미", "1": "bee"}
    assert "개미" in text


def test_first_lines_say_what_will_happen_on_what_and_where_it_goes():
    text = first_lines(RUN, FACTS, CONFIG, num_batches=1500, epochs_done=0)

    assert words(text, "run") == "digits/20260102_030405, seed 123"
    assert words(text, "device") == "CPU, 2 threads"
    assert words(text, "precision") == "fp32 (auto: why)"
    assert words(text, "versions") == ", ".join(f"{name} {number}" for name, number in versions().items())
    assert words(text, "data") == "data/x: 6 images"
    assert words(text, "model") == "MLP, 10 parameters"
    assert words(text, "training") == "3 epochs of 1,500 batches, SGD, StepLR"
    assert words(text, "files") == "saved/models/digits/20260102_030405, saved/log/digits/20260102_030405"
    assert words(text, "continue") == "python train.py -r saved/models/digits/20260102_030405/last.pth"
    assert "weights" not in lines_of(text)


@pytest.mark.parametrize(
    ("changes", "training"),
    [
        ({"lr_scheduler": None}, "3 epochs of 1,500 batches, SGD"),
        ({"lr_scheduler": "ReduceLROnPlateau"}, "3 epochs of 1,500 batches, SGD, ReduceLROnPlateau"),
        ({"optimizer": "Adam"}, "3 epochs of 1,500 batches, Adam, StepLR"),
        ({"trainer": {"epochs": 1, "len_epoch": 20}}, "1 epochs of 20 batches, SGD, StepLR"),
        ({"trainer": {"epochs": 3}}, "3 epochs of 1,500 batches, SGD, StepLR"),
    ],
)
def test_first_lines_take_every_form_that_a_config_may_have(changes, training):
    for config in (CONFIG | changes, freeze(CONFIG | changes)):
        assert words(first_lines(RUN, FACTS, config, num_batches=1500, epochs_done=0), "training") == training


def test_first_lines_of_a_continued_run_say_so_and_name_the_weights_where_there_are_some():
    text = first_lines(RUN, FACTS | {"weights": "x.pth: all"}, CONFIG, num_batches=1, epochs_done=2)

    assert words(text, "run") == "digits/20260102_030405, seed 123, continued after 2 epochs"
    assert words(text, "weights") == "x.pth: all"


ROW = {"epoch": 2.0, "time_s": 1.0, "lr": 0.1, "train/loss": 0.5, "train/top/5": 0.9, "val/loss": 0.25}


FIRST = {"epoch": 1.0, "train/loss": 0.75, "val/loss": 0.375}
WATCHING = {"higher_is_better": False, "patience": None, "best_epoch": 2}


@pytest.mark.parametrize(
    ("monitor", "row", "which", "says"),
    [
        (
            Monitor("val_loss", best=0.25, **WATCHING),
            ROW,
            "verdict",
            "best val_loss 0.2500 at epoch 2; improved 0.3750 → 0.2500",
        ),
        (
            Monitor("train_loss", best=0.5, **WATCHING),
            ROW,
            "verdict",
            "best train_loss 0.5000 at epoch 2; improved 0.7500 → 0.5000",
        ),
        # A bare name is the training score.
        (
            Monitor("loss", best=0.5, **WATCHING),
            ROW,
            "verdict",
            "best loss 0.5000 at epoch 2; improved 0.7500 → 0.5000",
        ),
        (Monitor("train_loss", best=0.5, **WATCHING), ROW, "best.pth", "val_loss 0.2500; AGAIN"),
        (Monitor("val_loss", best=0.25, **WATCHING), ROW, "best.pth", "AGAIN"),
        (Monitor(None, False, None), ROW, "last epoch", "2: val_loss 0.2500"),
        (Monitor(None, False, None), ROW, "last.pth", "AGAIN"),
        (
            Monitor(None, False, None),
            {key: value for key, value in ROW.items() if not key.startswith("val")},
            "last epoch",
            "2: train_loss 0.5000 train_top/5 0.9000",
        ),
        # A checkpoint that was copied elsewhere left the row of its best epoch behind.
        (Monitor("val_loss", False, None, best=0.1, best_epoch=1), ROW, "last epoch", "2: val_loss 0.2500"),
    ],
)
def test_last_lines_say_how_it_ended_and_what_to_type_next(monitor, row, which, says):
    text = last_lines(RUN, monitor, row, FIRST, "AGAIN")

    file = "best.pth" if monitor.best_epoch else "last.pth"
    assert words(text, which) == says
    assert (
        words(text, "results") == "saved/log/digits/20260102_030405/results.csv, results.png and report.html beside it"
    )
    assert words(text, "curves") == "tensorboard --logdir saved/log"
    assert words(text, "test it") == f"python test.py -r saved/models/digits/20260102_030405/{file}"


def test_the_first_epoch_has_improved_on_nothing_and_what_was_not_done_is_not_said():
    monitor = Monitor("val_loss", False, None, best=0.375, best_epoch=1)

    text = last_lines(RUN, monitor, FIRST, FIRST)

    assert words(text, "verdict") == "best val_loss 0.3750 at epoch 1"
    assert [line.split("  ")[0] for line in text.splitlines()] == ["verdict", "results", "curves", "test it"]


def test_a_first_score_that_is_no_number_is_nothing_to_improve_on():
    monitor = Monitor("val_loss", best=0.25, **WATCHING)

    text = last_lines(RUN, monitor, ROW, FIRST | {"val/loss": float("nan")})

    assert words(text, "verdict") == "best val_loss 0.2500 at epoch 2"
