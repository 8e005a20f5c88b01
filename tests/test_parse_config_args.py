"""The command line, files and a checkpoint are laid over each other; what is asked for is printed instead."""

import json
import logging
import re
from pathlib import Path

import pytest

from base.run_plan import TOP_LEVEL
from model.mlp import MLP
from parse_config import ROOT, ConfigParser, schema
from tests.whole_config import whole
from utils.checkpoint import save_checkpoint
from utils.command_line import CustomArgs, Parser
from utils.config_file import parse_json_text
from utils.config_tree import ABSENT
from utils.errors import CheckpointError, ConfigError, exit_on_user_error
from utils.monitor import Monitor

FLAGS = [
    CustomArgs(["--lr"], float, "optimizer.args.lr"),
    CustomArgs(["--bs", "--batch_size"], int, "data_loader.args.batch_size"),
]


def from_args(*words, training=True):
    return ConfigParser.from_args(Parser(prog="train.py").read(FLAGS, words), training=training)


# --- the command line --------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path):
    """The whole config in a file."""
    path = tmp_path / "config.json"
    path.write_text("// a comment\n" + json.dumps(whole()))
    return str(path)


def test_words_and_flags_change_what_the_file_says(file):
    config = from_args(
        "-c",
        file,
        "optimizer.args.lr=0.5",
        "metrics.0=top_k_acc",
        "--bs",
        "32",
        "lr_scheduler=null",
        "-d",
        "cpu",
        "name=other",
    )

    assert config["optimizer"]["args"] == {"lr": 0.5, "momentum": 0.9}
    assert config["metrics"][0] == "top_k_acc"
    assert config["data_loader"]["args"]["batch_size"] == 32
    assert (config["lr_scheduler"], config["device"], config["name"]) == (None, "cpu", "other")
    assert config.args.device == "cpu"


def test_what_is_not_mentioned_stays_as_in_the_file(file):
    config = from_args("-c", file)

    assert config.resolved == ConfigParser(whole()).resolved
    assert config.args.device is None
    assert config.changes == []


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("trainer.epoch=3", "trainer has no 'epoch'. Did you mean 'epochs'"),
        ("optimzer.args.lr=1", "there is no 'optimzer' in the config. Did you mean 'optimizer'?"),
        ("optimizer.args.lr=ten", 'should be a valid number, got "ten"'),
        ("optimizer.args.lr=-1", "SGD says: Invalid learning rate: -1.0"),
        ("trainer.epochs=1.5", "should be a valid integer, got"),
        ("seed=None", 'should be a valid integer, got "None"'),
        ("metrics.7=accuracy", "metrics is ["),
        ("name.x=1", 'name is "digits" and has no'),
        ("loss=os.system", "'os.system' is not a loss. A package of your own must be allowed: --allow PACKAGE"),
    ],
)
def test_a_word_is_checked_like_the_file_and_named_as_the_place(file, word, said):
    with pytest.raises(ConfigError) as caught:
        from_args("-c", file, word)

    first, *_, last = str(caught.value).split("\n")
    assert first.startswith(f"command line: {word}: {said}")
    assert last == "1 problem in the config; nothing was started."


def test_a_short_flag_is_named_as_it_was_typed(file):
    with pytest.raises(ConfigError, match=r"^command line: --lr -1\.0: SGD says: Invalid learning rate: -1\.0\n"):
        from_args("-c", file, "--lr", "-1")


def test_another_type_by_a_word_leaves_arguments_that_are_told_by_their_lines(file):
    with pytest.raises(ConfigError) as caught:
        from_args("-c", file, "optimizer.type=AdamW")

    first = str(caught.value).split("\n")[0]
    assert first.startswith(f"{file}:2:")
    assert "optimizer.args.momentum: AdamW has no 'momentum'." in first
    assert first.endswith("(The type is from the command line: optimizer.type=AdamW.)")


def test_a_reference_that_leads_nowhere_is_told_with_the_rest(file):
    with pytest.raises(ConfigError) as caught:
        from_args("-c", file, "optimizer.args.lr=${optimizer.args.rate}", "seed=x")

    lines = str(caught.value).split("\n")
    assert lines[0].startswith(
        "command line: optimizer.args.lr=${optimizer.args.rate}: there is no 'optimizer.args.rate'"
    )
    assert lines[1].startswith("command line: seed=x: ")
    assert lines[2] == "2 problems in the config; nothing was started."


def test_bases_are_laid_below_the_file(file, tmp_path):
    (tmp_path / "child.json").write_text('{"_base_": "config.json", "optimizer": {"args": {"lr": 0.5}}}')

    config = from_args("-c", str(tmp_path / "child.json"))

    assert config["optimizer"] == {"type": "SGD", "args": {"lr": 0.5, "momentum": 0.9}}


@pytest.mark.parametrize("package", ["os", "torch", "no_such_package_anywhere", "a.b"])
def test_what_cannot_be_allowed_is_refused_before_anything_is_looked_up(file, package):
    with pytest.raises(ConfigError, match=f"^command line: --allow {package}: "):
        from_args("-c", file, "--allow", package, "loss=no_such_loss")


# --- printing ----------------------------------------------------------------------------------------------------


def left_with(*words):
    """The exit code of an entry script that is given these words."""
    with pytest.raises(SystemExit) as left, exit_on_user_error():
        from_args(*words)
    return left.value.code


def test_the_checked_config_is_printed_as_json_and_the_process_ends(file, capsys):
    code = left_with("-c", file, "--lr", "0.5", "--print-config")

    printed = capsys.readouterr()
    assert code == 0
    assert json.loads(printed.out) == from_args("-c", file, "--lr", "0.5").resolved
    assert printed.err == ""


def test_with_origins_each_value_is_printed_with_where_it_was_written(file, capsys):
    code = left_with("-c", file, "--lr", "0.5", "seed=8", "--print-origins")

    printed = capsys.readouterr().out
    comments = dict(re.findall(r'"(\w+)": [^{\[].*?,?  // (.*)', printed))
    assert code == 0
    assert parse_json_text(printed).data == from_args("-c", file, "--lr", "0.5", "seed=8").resolved
    assert comments["lr"] == "the command line: --lr 0.5"
    assert comments["seed"] == "the command line: seed=8"
    assert comments["momentum"].startswith(f"{file}:2:")
    assert comments["device"] == "filled in"


@pytest.mark.parametrize("option", ["--print-config", "--print-origins"])
def test_a_wrong_config_is_printed_too_and_then_refused(file, capsys, option):
    code = left_with("-c", file, "seed=x", option)

    printed = capsys.readouterr()
    assert code == 2
    assert parse_json_text(printed.out).data == whole(seed="x")
    assert printed.err.split("\n")[0] == 'command line: seed=x: should be a valid integer, got "x"'


def test_a_wrong_config_is_not_printed_where_nobody_asks(file, capsys):
    code = left_with("-c", file, "seed=x")

    assert code == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("words", [[], ["loss=os.system"]])
def test_the_schema_is_printed_whatever_else_is_said_and_the_process_ends(file, capsys, words):
    code = left_with("-c", file, "--schema", *words)

    printed = capsys.readouterr().out
    assert code == 0
    assert json.loads(printed) == json.loads(json.dumps(schema()))
    assert set(schema()["properties"]) == {*TOP_LEVEL, "_base_"}


def test_the_schema_needs_no_config(capsys):
    assert left_with("--schema") == 0
    assert json.loads(capsys.readouterr().out)["$schema"].startswith("http://json-schema.org/draft-07/")


def test_neither_a_config_nor_a_checkpoint_is_an_error_that_says_what_to_give():
    with pytest.raises(ConfigError, match=r"^command line: give -c CONFIG .* or -r CHECKPOINT"):
        from_args("trainer.epochs=3")


def test_a_missing_config_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.json: no such file"):
        from_args("-c", str(tmp_path / "none.json"))


def test_paths_of_the_file_are_the_projects_and_paths_of_words_the_shells(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    silent = from_args("-c", file)
    said = from_args("-c", file, "data_loader.args.data_dir=mine", "trainer.save_dir=out")

    assert silent.plans["data_loader"].args["data_dir"] == ROOT / "data"
    assert silent.trainer_options.save_dir == ROOT / "saved"
    assert said.plans["data_loader"].args["data_dir"] == tmp_path / "mine"
    assert said.trainer_options.save_dir == tmp_path / "out"


# --- with a checkpoint -------------------------------------------------------------------------------------------


def saved(folder, config, offered):
    """The path of a checkpoint of a run that has not learnt anything."""
    path = folder / "last.pth"
    passport = {"config": config, "offered": offered, "classes": ["a"], "run": {"name": "digits", "run_id": "1"}}
    monitor = Monitor(None, False, None).state_dict()
    save_checkpoint(path, {**passport, "model": {}, "monitor": monitor, "epochs_done": 1, "steps_done": 8})
    return str(path)


@pytest.fixture
def checkpoint(tmp_path):
    """A checkpoint whose config had its number of classes and its schedule's length filled in."""
    config = ConfigParser(
        whole(arch="MLP", lr_scheduler={"type": "OneCycleLR", "args": {"pct_start": 0.25}, "interval": "step"})
    )
    config.offer(num_classes=4, in_channels=1, image_size=[28, 28], epochs=3, steps_per_epoch=5)
    return saved(tmp_path, config.resolved, config.offered_paths)


def test_a_checkpoint_brings_its_config_and_what_the_data_filled_in_is_filled_in_anew(checkpoint):
    config = from_args("-r", checkpoint)

    assert config.resume == Path(checkpoint)
    assert config.checkpoint["epochs_done"] == 1
    assert config.resolved["arch"] == {"type": "MLP", "args": {}}
    assert config.resolved["lr_scheduler"]["args"] == {"pct_start": 0.25}
    assert config.changes == []
    config.require_same_model(training=True)


def test_for_a_test_the_config_stays_as_it_was_trained(checkpoint):
    config = from_args("-r", checkpoint, training=False)

    assert config.resolved["arch"]["args"]["num_classes"] == 4
    assert config.init_model().num_trainable_parameters == MLP(4, 1, image_size=(28, 28)).num_trainable_parameters


def test_changes_at_a_resume_are_listed_with_old_and_new(checkpoint):
    config = from_args("-r", checkpoint, "trainer.epochs=9", "--lr", "0.5", "loss=cross_entropy")

    assert [(path, new) for path, _, new in config.changes] == [
        ("loss.args.label_smoothing", ABSENT),
        ("optimizer.args.lr", 0.5),
        ("trainer.epochs", 9),
    ]
    config.require_same_model(training=True)


def test_a_section_that_is_removed_at_a_resume_is_one_change(checkpoint):
    config = from_args("-r", checkpoint, "lr_scheduler=null")

    assert [(path, new) for path, _, new in config.changes] == [("lr_scheduler", None)]


def test_a_config_given_with_a_checkpoint_is_laid_over_the_checkpoints_own(checkpoint, tmp_path):
    (tmp_path / "more.json").write_text('{"trainer": {"epochs": 20}}')

    config = from_args("-r", checkpoint, "-c", str(tmp_path / "more.json"))

    assert config["trainer"] == {"epochs": 20, "save_dir": "saved", "monitor": "min val_loss"}
    assert config.changes == [("trainer.epochs", 3, 20)]


@pytest.mark.parametrize(
    "word", ["name=other", "arch.args.hidden_widths=[3]", "arch.type=VGG", "arch=VGG", "trainer.save_dir=/elsewhere"]
)
def test_what_a_checkpoint_cannot_follow_is_refused_with_what_would_do(checkpoint, word):
    config = from_args("-r", checkpoint, word)

    with pytest.raises(CheckpointError, match=f"^{word.partition('=')[0]}.*that cannot change.*--weights"):
        config.require_same_model(training=True)


def test_a_strangers_checkpoint_can_name_nothing_outside_the_tables(tmp_path):
    evil = saved(tmp_path, whole(loss="os.system"), [])

    with pytest.raises(ConfigError) as caught:
        from_args("-r", evil)

    assert str(caught.value).startswith(f"the config in {evil}: loss: 'os.system' is not a loss")


def test_parsing_says_nothing_by_itself(file, capsys, caplog):
    with caplog.at_level(logging.DEBUG):
        from_args("-c", file)

    assert capsys.readouterr() == ("", "")
    assert caplog.records == []
