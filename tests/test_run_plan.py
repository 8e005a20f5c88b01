"""A whole config is checked at once: the keys of the top level, all sections, the metrics' names, the trainer."""

import json

import pytest

from base.run_plan import Planner
from base.training_parts import TrainerOptions
from parse_config import NESTED, ROOT, SECTIONS
from tests.whole_config import unseeded as whole
from utils.config_check import Checker
from utils.config_layers import LayeredConfig
from utils.config_plan import Plan
from utils.config_tree import path_of, set_by_path
from utils.errors import ConfigError


def changed(path, value):
    """The whole config with the value at one dotted path."""
    return set_by_path(whole(), path_of(path), value)


def planned(config):
    """What the planner gives."""
    return Planner(config, Checker(LayeredConfig(config), NESTED, ROOT), SECTIONS).plan()


def problems_of(config):
    """The lines of the ConfigError, without the last, which counts the problems."""
    with pytest.raises(ConfigError) as caught:
        planned(config)
    *lines, count = str(caught.value).split("\n")
    num_problems = sum(not line.endswith(": see here") for line in lines)
    number = "1 problem" if num_problems == 1 else f"{num_problems} problems"
    assert count == f"{number} in the config; nothing was started."
    return lines


# --- the top level -----------------------------------------------------------------------------------------------


def test_a_right_config_becomes_plans_of_all_sections_and_the_trainers_options():
    plans, metric_plans, options = planned(whole())

    assert {name: plan.type_name for name, plan in plans.items()} == {
        "arch": "MLP",
        "data_loader": "MnistDataLoader",
        "optimizer": "SGD",
        "loss": "cross_entropy",
        "lr_scheduler": "StepLR",
        "trainer": "Trainer",
    }
    assert [(name, plan.path, plan.args) for name, plan in metric_plans] == [
        ("accuracy", ("metrics", 0), {}),
        ("top2", ("metrics", 1), {"k": 2}),
    ]
    assert options == TrainerOptions(epochs=3, save_dir=ROOT / "saved")


def test_what_may_be_left_out_is_filled_in():
    config = whole()
    del config["lr_scheduler"]

    plans, _, _ = planned(config)

    filled_in = {key: config[key] for key in config.keys() - whole().keys()}
    assert filled_in == {"seed": 123, "device": "auto", "n_gpu": 1, "deterministic": False, "weights_file": None}
    assert config["lr_scheduler"] is None
    assert "lr_scheduler" not in plans


@pytest.mark.parametrize("key", ["name", "arch", "data_loader", "optimizer", "loss", "metrics", "trainer"])
def test_a_section_that_must_be_there_is_missed_by_name_also_as_null(key):
    config = whole()
    del config[key]

    missing, null = problems_of(config), problems_of(whole(**{key: None}))

    assert missing == [f"'{key}' is missing"]
    assert null == [f"{key}: must not be null"]


@pytest.mark.parametrize(("written", "meant"), [("optimzer", "optimizer"), ("Loss", "loss"), ("metric", "metrics")])
def test_a_key_that_is_missing_and_only_misspelt_is_one_problem(written, meant):
    config = whole()
    config[written] = config.pop(meant)

    assert problems_of(config) == [f"{written}: unknown key. Did you mean '{meant}'?"]


@pytest.mark.parametrize("device", ["tpu", "cuda:x", "", "0,0", "-1", "0;1"])
def test_a_device_that_there_is_on_no_machine_is_refused(device):
    [line] = problems_of(whole(device=device))

    assert line.startswith(f"device: '{device}' is not a device: use auto, cpu, cuda:1, or indices of GPUs")


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:7", "0", "0,1"])
def test_a_device_that_this_machine_may_not_have_is_taken(device):
    planned(whole(device=device))


def test_an_empty_config_is_missing_everything():
    assert len(problems_of({})) == 7


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("optimzer", "optimzer: unknown key. Did you mean 'optimizer'?"),
        ("n_gpus", "n_gpus: unknown key. Did you mean 'n_gpu'?"),
        (
            "xyz",
            "xyz: unknown key. It takes: name, seed, device, n_gpu, deterministic, arch, weights_file, data_loader, ",
        ),
        ("arch.arg", "arch.arg: unknown key. Did you mean 'args'?"),
        ("arch.args.hidden_width", "arch.args.hidden_width: MLP has no 'hidden_width'. Did you mean 'hidden_widths'?"),
        (
            "data_loader.args.batchsize",
            "data_loader.args.batchsize: MnistDataLoader has no 'batchsize'. Did you mean 'batch_size' or ",
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
def test_a_misspelt_type_is_told_where_it_is_written_with_the_nearest_name(path, value, said):
    lines = problems_of(changed(path, value))

    assert len(lines) == 1
    assert lines[0].startswith(f"{path}: ")
    assert said in lines[0]


def test_all_problems_are_told_at_once():
    config = whole(name="a/b", seed="1", loss="no_such_loss", trainer={"epochs": 0, "monitr": "x", "save_period": 0.5})
    config["optimizer"] = {"type": "SGD", "args": {"lr": "0.1", "momentun": 0.9}}
    del config["arch"]

    wheres = [line.partition(": ")[0] for line in problems_of(config)]

    assert sorted(wheres) == [
        "'arch' is missing",
        "loss",
        "name",
        "optimizer.args.lr",
        "optimizer.args.momentun",
        "seed",
        "trainer.epochs",
        "trainer.monitr",
        "trainer.save_period",
    ]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *(("seed", value) for value in ("7", 7.0, True, None, 2**63, -(2**63) - 1)),
        *(("n_gpu", value) for value in ("1", 1.0, True, None, -1)),
        *(("device", value) for value in (0, None)),
        ("name", 5),
        ("weights_file", 5),
        *(("metrics", value) for value in ("accuracy", {"type": "accuracy"})),
        ("trainer", []),
        *(("trainer.epochs", value) for value in ("3", 3.0, True, None, 0)),
        *((f"trainer.{name}", 0) for name in ("save_period", "keep_checkpoints", "len_epoch", "accumulate_steps")),
        *(("trainer.verbosity", value) for value in (3, True)),
        ("trainer.monitor", None),
        ("trainer.min_delta", -0.5),
        *(("trainer.early_stop", value) for value in (-1, 2.5)),
        *(("trainer.tensorboard", value) for value in (1, "true")),
        ("trainer.max_grad_norm", 0),
        ("trainer.save_dir", 5),
        *(("optimizer.args.lr", value) for value in ("0.001", True, None)),
        ("optimizer.args.nesterov", 1),
        ("arch.args.hidden_widths", 8),
        ("arch.args.hidden_widths.0", 8.5),
        ("arch.args.activation", "relu"),
        *(("data_loader.args.batch_size", value) for value in ("4", 4.0, None)),
        ("data_loader.args.shuffle", "yes"),
        *(("data_loader.args.validation_split", value) for value in (True, "0.1")),
        *(("metrics.1.args.k", value) for value in ("2", 2.5)),
        *(("lr_scheduler.interval", value) for value in ("batch", None)),
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
    assert problems_of(whole(name=name)) == [f"name: {name!r} must be a folder's name, without / and \\"]


@pytest.mark.parametrize("name", ["x", "Mnist_LeNet", "...", "a b", "실험 1", "a.b-c", "with'quote"])
@pytest.mark.parametrize("seed", [0, 2**63 - 1, -(2**63)])
def test_any_other_name_and_any_seed_of_64_bits_are_taken(name, seed):
    planned(whole(name=name, seed=seed))


def test_a_needed_argument_that_is_missing_is_named():
    assert problems_of(whole(lr_scheduler="StepLR")) == ["lr_scheduler.args: StepLR needs 'step_size'"]
    assert problems_of(whole(trainer={})) == ["trainer: trainer needs 'epochs'"]


@pytest.mark.parametrize(
    "path",
    [
        "optimizer.args.params",
        "lr_scheduler.args.optimizer",
        "data_loader.args.seed",
        "data_loader.args.training",
        *(f"trainer.args.{name}" for name in ("learner", "loaders", "options", "context")),
        "loss.args.output_NK",
        "loss.args.target_N",
        "metrics.1.args.output_NK",
    ],
)
def test_what_the_program_passes_must_not_be_written(path):
    assert problems_of(changed(path, 1)) == [f"{path}: is passed by the program; remove it from the config"]


# --- metrics, trainer --------------------------------------------------------------------------------------------


def test_two_scores_of_one_name_are_refused():
    lines = problems_of(whole(metrics=["accuracy", "accuracy", {"type": "top_k_acc", "name": "loss"}]))

    assert lines == [
        "metrics.1: a score named 'accuracy' is there already; give a \"name\"",
        "metrics.2: a score named 'loss' is there already; give a \"name\"",
    ]


@pytest.mark.parametrize("name", [5, None, "", "a b", "a/b", "1st", ["x"]])
def test_a_name_of_a_score_is_a_word(name):
    assert problems_of(whole(metrics=[{"type": "accuracy", "name": name}])) == [
        f"metrics.0.name: must be a word of letters, digits and _, got {name!r}"
    ]


@pytest.mark.parametrize(
    ("save_dir", "path"),
    [
        ("runs", ROOT / "runs"),
        ("/runs", "/runs"),
        ("~/runs", "/ann/runs"),
        ("~nobody_here/runs", ROOT / "~nobody_here/runs"),
    ],
)
def test_results_go_to_a_folder_of_the_project_unless_the_path_is_whole(monkeypatch, save_dir, path):
    monkeypatch.setenv("HOME", "/ann")

    _, _, options = planned(whole(trainer={"epochs": 1, "save_dir": save_dir}))

    assert str(options.save_dir) == str(path)


def test_a_trainer_of_another_type_is_planned_with_its_own_arguments():
    plans, _, _ = planned(changed("trainer.type", "Trainer"))
    [line] = problems_of(changed("trainer.args", {"epochs": 3}))

    assert plans["trainer"] == Plan(("trainer",), plans["trainer"].target, {})
    assert line == "trainer.args.epochs: Trainer has no 'epochs'. It takes nothing."


SCORES = "train_loss, train_accuracy, train_top2, val_loss, val_accuracy, val_top2, loss, accuracy, top2"


@pytest.mark.parametrize("name", SCORES.split(", "))
@pytest.mark.parametrize("mode", ["min", "max"])
def test_every_score_that_there_will_be_can_be_watched(mode, name):
    _, _, options = planned(changed("trainer.monitor", f"{mode} {name}"))

    assert options.monitor == f"{mode} {name}"


@pytest.mark.parametrize(
    ("name", "hint"),
    [("val_acc", " Did you mean 'val_accuracy'"), ("vall_loss", " Did you mean 'val_loss'"), ("epoch", "")],
)
def test_a_misspelt_score_is_refused_with_the_nearest_and_all_that_there_are(name, hint):
    [line] = problems_of(changed("trainer.monitor", f"max {name}"))

    assert line.startswith(f"trainer.monitor: no score '{name}'.{hint}")
    assert line.endswith(f" There are {SCORES}, or 'off'")
    assert ("Did you mean" in line) == bool(hint)


@pytest.mark.parametrize("setting", ["", "max", "val_loss", "best val_loss", "max val_loss now", "OFF"])
def test_a_monitor_of_another_form_is_refused(setting):
    assert problems_of(changed("trainer.monitor", setting)) == [
        f"trainer.monitor: '{setting}' is not 'min NAME', 'max NAME' or 'off'"
    ]


def test_patience_with_nothing_to_watch_is_refused_and_both_places_are_shown():
    assert problems_of(whole(trainer={"epochs": 1, "monitor": "off", "early_stop": 3})) == [
        "trainer.early_stop: needs a monitor, and trainer.monitor is 'off'",
        "trainer.monitor: see here",
    ]


@pytest.mark.parametrize("early_stop", [None, 0])
def test_nothing_is_watched_and_no_patience_is_null_or_0(early_stop):
    _, _, options = planned(whole(trainer={"epochs": 1, "monitor": "off", "early_stop": early_stop}))

    assert options.early_stop == early_stop


def test_of_a_monitor_nothing_is_said_where_a_metric_is_not_known():
    assert [line.partition(":")[0] for line in problems_of(changed("metrics", ["acuracy"]))] == ["metrics.0"]
