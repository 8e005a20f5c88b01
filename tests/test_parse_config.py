"""A config is checked as a whole before anything is built, and what is wrong is told at once, by its path."""

import contextlib
import json
import logging
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn, optim

from base.base_trainer import TrainerOptions, checked_monitor
from model.loss import Criterion
from model.mlp import MLP
from parse_config import ROOT, ConfigParser
from trainer.schedule import NoSchedule
from utils.checkpoint import save_checkpoint
from utils.command_line import CustomArgs, Parser
from utils.config_file import ABSENT, set_by_path, to_json
from utils.errors import CheckpointError, ConfigError

FLAGS = [
    CustomArgs(["--lr"], float, "optimizer.args.lr"),
    CustomArgs(["--bs", "--batch_size"], int, "data_loader.args.batch_size"),
]


def whole(**sections):
    """A config in which every section is there; sections replace those of that name."""
    return {
        "name": "digits",
        "seed": 7,
        "arch": {"type": "MLP", "args": {"hidden_widths": [8]}},
        "data_loader": {"type": "MnistDataLoader", "args": {"data_dir": "data", "batch_size": 4, "transform": []}},
        "optimizer": {"type": "SGD", "args": {"lr": 0.1, "momentum": 0.9}},
        "loss": {"type": "cross_entropy", "args": {"label_smoothing": 0.1}},
        "metrics": ["accuracy", {"type": "top_k_acc", "args": {"k": 2}, "name": "top2"}],
        "lr_scheduler": {"type": "StepLR", "args": {"step_size": 2}, "interval": "epoch"},
        "trainer": {"epochs": 3, "save_dir": "saved", "monitor": "min val_loss"},
    } | sections


def changed(path, value):
    """The whole config with the value at one dotted path."""
    return set_by_path(whole(), tuple(int(key) if key.isdigit() else key for key in path.split(".")), value)


def problems_of(config):
    """The lines of the ConfigError, without the last, which counts them."""
    with pytest.raises(ConfigError) as caught:
        ConfigParser(config)
    *lines, count = str(caught.value).split("\n")
    number = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
    assert count == f"{number} in the config; nothing was started."
    return lines


def from_args(*words, training=True):
    return ConfigParser.from_args(Parser(prog="train.py"), FLAGS, words, training=training)


# --- what is taken -----------------------------------------------------------------------------------------------


def test_a_whole_config_is_taken_and_told_back_as_it_was_written():
    config = ConfigParser(whole())

    assert config.resolved == whole() | {"device": "auto", "n_gpu": 1, "weights_file": None}
    assert config["name"] == "digits"
    assert config["optimizer"]["args"]["lr"] == 0.1


def test_the_short_forms_of_pytorch_template_mean_the_long_ones():
    short = ConfigParser(whole(arch="MLP", loss="cross_entropy", metrics=["accuracy"], optimizer="AdamW"))
    long = ConfigParser(
        whole(
            arch={"type": "MLP", "args": {}},
            loss={"type": "cross_entropy", "args": None},
            metrics=[{"type": "accuracy"}],
            optimizer={"type": "AdamW", "args": {}},
        )
    )

    assert short.plans == long.plans
    assert short.metric_plans == long.metric_plans


def test_what_may_be_left_out_is_filled_in():
    config = whole()
    for key in ("seed", "lr_scheduler"):
        del config[key]

    parsed = ConfigParser(config)

    assert (parsed["seed"], parsed["device"], parsed["n_gpu"], parsed["lr_scheduler"]) == (123, "auto", 1, None)
    assert parsed.trainer_options == TrainerOptions(epochs=3, save_dir=ROOT / "saved")


def test_a_schema_for_the_editor_is_taken_and_not_invented():
    assert ConfigParser(whole(**{"$schema": "config.schema.json"}))["$schema"] == "config.schema.json"
    assert "$schema" not in ConfigParser(whole()).resolved


def test_the_resolved_config_is_json_that_parses_to_itself():
    first = ConfigParser(whole())

    second = ConfigParser(json.loads(to_json(first.resolved)))

    assert second.resolved == first.resolved


def test_the_config_cannot_be_changed_and_does_not_follow_what_it_was_made_from():
    source = whole()
    config = ConfigParser(source)

    source["optimizer"]["args"]["lr"] = 9.0

    assert config["optimizer"]["args"]["lr"] == 0.1
    assert config.resolved["optimizer"]["args"]["lr"] == 0.1
    with pytest.raises(TypeError):
        config["optimizer"]["args"]["lr"] = 9.0
    with pytest.raises(TypeError):
        config.config["name"] = "x"
    assert config["metrics"][0] == "accuracy"
    assert isinstance(config["metrics"], tuple)


# --- what is wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("optimzer", "optimzer: unknown key. Did you mean 'optimizer'?"),
        ("n_gpus", "n_gpus: unknown key. Did you mean 'n_gpu'?"),
        ("xyz", "xyz: unknown key."),
        ("arch.arg", "arch.arg: unknown key. Did you mean 'args'?"),
        ("arch.args.hidden_width", "arch.args.hidden_width: MLP has no 'hidden_width'. Did you mean 'hidden_widths'?"),
        (
            "data_loader.args.batchsize",
            "data_loader.args.batchsize: MnistDataLoader has no 'batchsize'. Did you mean 'batch_size'?",
        ),
        (
            "optimizer.args.weigth_decay",
            "optimizer.args.weigth_decay: SGD has no 'weigth_decay'. Did you mean 'weight_decay'?",
        ),
        (
            "loss.args.smoothing",
            "loss.args.smoothing: cross_entropy has no 'smoothing'. Did you mean 'label_smoothing'?",
        ),
        ("metrics.1.nmae", "metrics.1.nmae: unknown key. Did you mean 'name'?"),
        ("metrics.1.args.kk", "metrics.1.args.kk: top_k_acc has no 'kk'."),
        ("lr_scheduler.intervall", "lr_scheduler.intervall: unknown key. Did you mean 'interval'?"),
        ("lr_scheduler.args.step", "lr_scheduler.args.step: StepLR has no 'step'. Did you mean 'step_size'?"),
        ("trainer.epoch", "trainer.epoch: trainer has no 'epoch'. Did you mean 'epochs'"),
        ("trainer.early_stopp", "trainer.early_stopp: trainer has no 'early_stopp'. Did you mean 'early_stop'?"),
        ("trainer.args.x", "trainer.args.x: Trainer has no 'x'."),
    ],
)
def test_an_unknown_key_is_refused_everywhere_with_the_nearest_name(path, said):
    lines = problems_of(changed(path, 1))

    assert len(lines) == 1
    assert lines[0].startswith(said)


def test_an_unknown_key_inside_a_transform_is_told_by_its_whole_path():
    lines = problems_of(
        changed("data_loader.args.transform", ["RandomHorizontalFlip", {"type": "RandomCrop", "args": {"siz": 3}}])
    )

    assert [line.partition(": ")[0] for line in lines] == [
        "data_loader.args.transform.1.args.siz",
        "data_loader.args.transform.1.args",
    ]
    assert "Did you mean 'size'?" in lines[0]
    assert lines[1].endswith("RandomCrop needs 'size'")


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("arch.type", "MPL", "'MPL' is not a model. Did you mean 'MLP'?"),
        ("arch.type", "resnet81", "'resnet81' is not a model. Did you mean 'resnet18'"),
        ("data_loader.type", "ImageFolder", "'ImageFolderDataLoader'"),
        ("optimizer.type", "Sgd", "Did you mean 'SGD'"),
        ("loss", "crossentropy", "Did you mean 'cross_entropy'"),
        ("metrics.0", "acuracy", "Did you mean 'accuracy'"),
        ("lr_scheduler.type", "StepLr", "Did you mean 'StepLR'"),
        ("trainer.type", "Trainr", "Did you mean 'Trainer'"),
    ],
)
def test_a_misspelt_type_is_told_with_the_nearest_name(path, value, said):
    lines = problems_of(changed(path, value))

    assert len(lines) == 1
    assert lines[0].startswith(path.removesuffix(".type") + ".type: ")
    assert said in lines[0]


def test_all_problems_are_told_at_once():
    config = whole(name="a/b", seed="1", loss="no_such_loss", trainer={"epochs": 0, "monitr": "x", "save_period": 0.5})
    config["optimizer"] = {"type": "SGD", "args": {"lr": "0.1", "momentun": 0.9}}
    del config["arch"]

    wheres = [line.partition(": ")[0] for line in problems_of(config)]

    assert sorted(wheres) == [
        "arch",
        "loss.type",
        "name",
        "optimizer.args.lr",
        "optimizer.args.momentun",
        "seed",
        "trainer.epochs",
        "trainer.monitr",
        "trainer.save_period",
    ]


@pytest.mark.parametrize("key", ["name", "arch", "data_loader", "optimizer", "loss", "metrics", "trainer"])
def test_a_section_that_must_be_there_is_missed_by_name_also_as_null(key):
    config = whole()
    del config[key]

    missing, null = problems_of(config), problems_of(whole(**{key: None}))

    assert missing == [f"{key}: missing"]
    assert len(null) == 1
    assert null[0].startswith(f"{key}: ")
    assert "null" in null[0]


def test_an_empty_config_is_missing_everything():
    assert len(problems_of({})) == 7


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("seed", "7"),
        ("seed", 7.0),
        ("seed", True),
        ("seed", None),
        ("seed", 2**63),
        ("seed", -(2**63) - 1),
        ("n_gpu", "1"),
        ("n_gpu", 1.0),
        ("n_gpu", True),
        ("n_gpu", None),
        ("n_gpu", -1),
        ("device", 0),
        ("device", None),
        ("name", 5),
        ("weights_file", 5),
        ("metrics", "accuracy"),
        ("metrics", {"type": "accuracy"}),
        ("trainer", []),
        ("trainer.epochs", "3"),
        ("trainer.epochs", 3.0),
        ("trainer.epochs", True),
        ("trainer.epochs", None),
        ("trainer.epochs", 0),
        ("trainer.save_period", 0),
        ("trainer.keep_checkpoints", 0),
        ("trainer.verbosity", 3),
        ("trainer.verbosity", True),
        ("trainer.monitor", None),
        ("trainer.min_delta", -0.5),
        ("trainer.early_stop", -1),
        ("trainer.early_stop", 2.5),
        ("trainer.tensorboard", 1),
        ("trainer.tensorboard", "true"),
        ("trainer.len_epoch", 0),
        ("trainer.accumulate_steps", 0),
        ("trainer.max_grad_norm", 0),
        ("trainer.save_dir", 5),
        ("optimizer.args.lr", "0.001"),
        ("optimizer.args.lr", True),
        ("optimizer.args.lr", None),
        ("optimizer.args.nesterov", 1),
        ("arch.args.hidden_widths", 8),
        ("arch.args.hidden_widths", [8.5]),
        ("arch.args.activation", "relu"),
        ("data_loader.args.batch_size", "4"),
        ("data_loader.args.batch_size", 4.0),
        ("data_loader.args.batch_size", None),
        ("data_loader.args.shuffle", "yes"),
        ("data_loader.args.validation_split", True),
        ("data_loader.args.validation_split", "0.1"),
        ("metrics.1.args.k", "2"),
        ("metrics.1.args.k", 2.5),
        ("lr_scheduler.interval", "batch"),
        ("lr_scheduler.interval", None),
        ("lr_scheduler.args.step_size", "2"),
    ],
)
def test_a_value_of_another_type_or_range_is_refused_and_never_converted(path, value):
    lines = problems_of(changed(path, value))

    assert len(lines) == 1
    assert lines[0].startswith(f"{path}: ")
    assert lines[0].endswith((f", got {json.dumps(value)}", f", got {value!r}"))


@pytest.mark.parametrize("name", ["", " ", "\t", ".", "..", "a/b", "/", "../up", "a\\b", "a\0b"])
def test_a_name_that_is_no_folders_name_is_refused(name):
    lines = problems_of(whole(name=name))

    assert lines == [f"name: {name!r} must be a folder's name, without / and \\"]


@pytest.mark.parametrize("seed", [0, -1, 2**63 - 1, -(2**63)])
def test_any_seed_of_64_bits_is_taken(seed):
    assert ConfigParser(whole(seed=seed))["seed"] == seed


@pytest.mark.parametrize("name", ["x", "Mnist_LeNet", "...", "a b", "실험 1", "a.b-c", "with'quote"])
def test_any_other_name_is_taken(name):
    assert ConfigParser(whole(name=name))["name"] == name


@pytest.mark.parametrize(
    "path",
    [
        "optimizer.args.params",
        "lr_scheduler.args.optimizer",
        "data_loader.args.seed",
        "data_loader.args.training",
        "trainer.args.learner",
        "trainer.args.loaders",
        "trainer.args.options",
        "trainer.args.context",
        "loss.args.output_NK",
        "loss.args.target_N",
        "metrics.1.args.output_NK",
    ],
)
def test_what_the_program_passes_must_not_be_written(path):
    assert problems_of(changed(path, 1)) == [f"{path}: is passed by the program; remove it from the config"]


def test_a_needed_argument_that_is_missing_is_named():
    assert problems_of(whole(lr_scheduler="StepLR")) == ["lr_scheduler.args: StepLR needs 'step_size'"]
    assert problems_of(whole(trainer={})) == ["trainer: trainer needs 'epochs'"]


def test_two_metrics_of_one_name_and_one_named_loss_are_refused():
    lines = problems_of(whole(metrics=["accuracy", "accuracy", {"type": "top_k_acc", "name": "loss"}]))

    assert [line.partition(":")[0] for line in lines] == ["metrics.1", "metrics.2"]
    assert "'accuracy' is there already" in lines[0]
    assert "'loss' is there already" in lines[1]


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "builtins.eval",
        "torch.hub.load",
        "torch.load",
        "__import__",
        "Module",
        "Linear",
        "MLP.__init__",
        "ＳＧＤ",
    ],
)
@pytest.mark.parametrize(
    "path",
    [
        "arch.type",
        "data_loader.type",
        "optimizer.type",
        "loss",
        "loss.type",
        "metrics.0",
        "lr_scheduler.type",
        "trainer.type",
        "data_loader.args.sampler",
        "data_loader.args.collate_fn",
        "data_loader.args.transform.0",
    ],
)
def test_a_strangers_config_can_name_nothing_outside_the_tables(path, name):
    lines = problems_of(changed(path, name))

    assert lines[0].startswith(path.removesuffix(".type") + ".type: ")
    assert f"'{name}' is not a" in lines[0]


def test_no_folder_is_made_by_checking(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    ConfigParser(changed("trainer.save_dir", str(tmp_path / "saved")))

    assert list(tmp_path.iterdir()) == []


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(-2, 2)
    | st.sampled_from(["SGD", "type", "accuracy", "x", ""]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["type", "args", "name", "x"]), inner, max_size=3)
    ),
    max_leaves=4,
)


def paths_in(value, path=()):
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else []
    for key, inner in items:
        yield from paths_in(inner, (*path, key))


@settings(derandomize=True, deadline=None, database=None, max_examples=70, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(list(paths_in(whole()))[1:]), json_values), min_size=1, max_size=2))
def test_a_config_with_anything_anywhere_is_taken_or_refused_in_words(changes):
    config = whole()
    for path, value in changes:
        with contextlib.suppress(ConfigError):  # the first value may have taken away where the second would go
            config = set_by_path(config, path, value)

    with contextlib.suppress(ConfigError):
        to_json(ConfigParser(config).resolved)


# --- what only the data knows ------------------------------------------------------------------------------------


def test_what_is_offered_is_used_where_the_config_is_silent_and_written_down():
    config = ConfigParser(
        whole(arch="MLP", lr_scheduler={"type": "OneCycleLR", "args": {"pct_start": 0.25}, "interval": "step"})
    )

    config.offer(num_classes=10, in_channels=1, image_size=[28, 28], epochs=3, steps_per_epoch=5)
    model = config.init_model()

    assert config.resolved["arch"] == {
        "type": "MLP",
        "args": {"image_size": [28, 28], "in_channels": 1, "num_classes": 10},
    }
    assert config.resolved["lr_scheduler"] == {
        "type": "OneCycleLR",
        "args": {"pct_start": 0.25, "epochs": 3, "steps_per_epoch": 5},
        "interval": "step",
    }
    assert sorted(config.offered_paths) == [
        "arch.args.image_size",
        "arch.args.in_channels",
        "arch.args.num_classes",
        "lr_scheduler.args.epochs",
        "lr_scheduler.args.steps_per_epoch",
    ]
    assert model(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_what_the_config_says_is_kept_and_not_counted_as_offered():
    config = ConfigParser(changed("arch.args.num_classes", 5))

    config.offer(num_classes=10, in_channels=1)

    assert config.resolved["arch"]["args"]["num_classes"] == 5
    assert config.plans["arch"].args["num_classes"] == 5
    assert config.offered_paths == ["arch.args.in_channels"]


def test_what_a_constructor_does_not_take_is_not_written():
    config = ConfigParser(whole(arch="resnet18"))

    config.offer(num_classes=10, in_channels=1, image_size=[28, 28], epochs=3, steps_per_epoch=5)

    assert config.resolved["arch"] == {"type": "resnet18", "args": {"num_classes": 10}}
    assert config.resolved["lr_scheduler"] == whole()["lr_scheduler"]


def test_a_config_with_what_was_offered_is_right_again():
    config = ConfigParser(whole(arch="MLP"))
    config.offer(num_classes=10, in_channels=1, image_size=[28, 28])

    again = ConfigParser(json.loads(to_json(config.resolved)))

    assert again.plans["arch"].build(num_classes=3)(torch.zeros(1, 1, 28, 28)).shape == (1, 10)


# --- what is built -----------------------------------------------------------------------------------------------


def test_sections_are_built_with_what_they_are_given():
    config = ConfigParser(whole())
    model = nn.Linear(2, 2)

    optimizer = config.init_obj("optimizer", params=model.parameters())
    schedule = config.init_schedule(optimizer, has_validation=True)

    assert isinstance(optimizer, optim.SGD)
    assert (optimizer.defaults["lr"], optimizer.defaults["momentum"]) == (0.1, 0.9)
    assert isinstance(schedule.scheduler, optim.lr_scheduler.StepLR)
    assert (schedule.scheduler.optimizer, schedule.interval) == (optimizer, "epoch")


def test_without_a_schedule_the_learning_rate_stays():
    config = ConfigParser(whole(lr_scheduler=None))

    assert isinstance(config.init_schedule(None, has_validation=True), NoSchedule)


@pytest.mark.parametrize(
    ("monitor", "has_validation", "watched"),
    [
        ("max val_accuracy", True, "val_accuracy"),
        ("min train_loss", True, "train_loss"),
        ("off", True, "val_loss"),
        ("off", False, "train_loss"),
    ],
)
def test_reduce_on_plateau_watches_what_the_monitor_does_or_else_the_loss(monitor, has_validation, watched):
    config = ConfigParser(whole(lr_scheduler="ReduceLROnPlateau", trainer={"epochs": 1, "monitor": monitor}))
    optimizer = config.init_obj("optimizer", params=[nn.Parameter(torch.ones(1))])

    assert config.init_schedule(optimizer, has_validation=has_validation).watched == watched


def test_reduce_on_plateau_after_each_step_is_refused():
    config = ConfigParser(whole(lr_scheduler={"type": "ReduceLROnPlateau", "interval": "step"}))
    optimizer = config.init_obj("optimizer", params=[nn.Parameter(torch.ones(1))])

    with pytest.raises(ConfigError, match=r"^lr_scheduler\.interval: ReduceLROnPlateau"):
        config.init_schedule(optimizer, has_validation=True)


@pytest.mark.parametrize("loss", ["cross_entropy", "CrossEntropyLoss", {"type": "CrossEntropyLoss", "args": {}}])
def test_a_loss_is_a_function_or_a_class_of_torch(loss):
    scores_NK, targets_N = torch.tensor([[1.0, 2.0], [0.5, 0.0]]), torch.tensor([0, 1])

    criterion = ConfigParser(whole(loss=loss)).init_criterion()

    assert isinstance(criterion, Criterion)
    torch.testing.assert_close(criterion(scores_NK, targets_N), nn.functional.cross_entropy(scores_NK, targets_N))


@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_a_loss_that_is_no_mean_is_refused(reduction):
    config = ConfigParser(whole(loss={"type": "CrossEntropyLoss", "args": {"reduction": reduction}}))

    with pytest.raises(ConfigError, match=f"^loss: .*reduction='{reduction}'"):
        config.init_criterion()


def test_metrics_have_their_names_and_their_values():
    metrics, notes = ConfigParser(whole()).init_metrics(num_classes=3)

    metrics.update(torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]]), torch.tensor([1, 2]))

    assert notes == []
    assert metrics.compute() == {"accuracy": 0.0, "top2": 0.5}


@pytest.mark.parametrize(("k", "is_cut"), [(2, False), (3, False), (4, True), (50, True)])
def test_a_metric_that_asks_for_more_classes_than_there_are_is_cut_with_a_note(k, is_cut):
    config = ConfigParser(whole(metrics=[{"type": "top_k_acc", "args": {"k": k}}]))

    _, notes = config.init_metrics(num_classes=3)

    assert notes == ([f"metric top_k_acc: k {k} cut to the 3 classes that there are"] if is_cut else [])


def test_a_metric_of_torchmetrics_is_told_the_number_of_classes():
    config = ConfigParser(whole(metrics=[{"type": "MulticlassF1Score", "args": {"average": "macro"}, "name": "f1"}]))

    metrics, _ = config.init_metrics(num_classes=2)
    metrics.update(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), torch.tensor([0, 0, 1, 1]))

    # Class 0: 2 of 3 right, both found, F1 = 4/5; class 1: 1 of 1 right, 1 of 2 found, F1 = 2/3.
    assert metrics.compute() == {"f1": pytest.approx((4 / 5 + 2 / 3) / 2, rel=1e-6)}


# --- the monitor -------------------------------------------------------------------------------------------------

SCORES = ["train_loss", "train_accuracy", "val_loss", "val_accuracy", "loss", "accuracy"]


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("mode", ["min", "max"])
def test_every_score_that_there_will_be_can_be_watched(mode, name):
    assert checked_monitor(TrainerOptions(1, monitor=f"{mode} {name}"), SCORES).name == name


@pytest.mark.parametrize("name", ["val_acc", "val_los", "accuracy_val", "epoch"])
def test_a_misspelt_score_is_refused_with_all_that_there_are(name):
    with pytest.raises(ConfigError) as caught:
        checked_monitor(TrainerOptions(1, monitor=f"max {name}"), SCORES)

    assert str(caught.value) == f"trainer.monitor: no score '{name}'; there are {', '.join(SCORES)}, or 'off'"


def test_a_score_of_validation_without_validation_images_is_told_so():
    with pytest.raises(ConfigError, match=r"no score 'val_loss' \(there are no validation images\); there are loss, "):
        checked_monitor(TrainerOptions(1, monitor="min val_loss"), ["loss", "train_loss"])


@pytest.mark.parametrize("early_stop", [None, 0])
def test_off_watches_nothing_and_no_early_stop_is_null_or_0(early_stop):
    monitor = checked_monitor(TrainerOptions(1, monitor="off", early_stop=early_stop), SCORES)

    assert (monitor.name, monitor.patience) == (None, None)


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
    assert config.device_by_command_line


def test_what_is_not_mentioned_stays_as_in_the_file(file):
    config = from_args("-c", file)

    assert config.resolved == ConfigParser(whole()).resolved
    assert not config.device_by_command_line
    assert config.changes == []


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("trainer.epoch=3", "trainer.epoch: trainer has no 'epoch'"),
        ("optimzer.args.lr=1", "optimzer: unknown key. Did you mean 'optimizer'?"),
        ("optimizer.args.lr=ten", 'optimizer.args.lr: should be a valid number, got "ten"'),
        ("trainer.epochs=1.5", "trainer.epochs: "),
        ("optimizer.type=AdamW", "optimizer.args.momentum: AdamW has no 'momentum'"),
        ("seed=None", "seed: "),
        ("metrics.7=accuracy", "command line: metrics.7: "),
        ("name.x=1", "command line: name.x: "),
    ],
)
def test_a_word_is_checked_like_the_file(file, word, said):
    with pytest.raises(ConfigError) as caught:
        from_args("-c", file, word)

    assert str(caught.value).startswith(said)


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
    save_checkpoint(path, {**passport, "model": {}, "monitor": {}, "epochs_done": 1, "steps_done": 8})
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

    with pytest.raises(ConfigError, match=r"^loss\.type: 'os\.system' is not a loss"):
        from_args("-r", evil)


def test_parsing_says_nothing_by_itself(file, capsys, caplog):
    with caplog.at_level(logging.DEBUG):
        from_args("-c", file)

    assert capsys.readouterr() == ("", "")
    assert caplog.records == []
