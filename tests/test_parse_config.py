"""A checked config is read-only, takes what only the data knows, and builds what it describes; errors have a place."""

import argparse
import json
import re
import sys

import pytest
import torch
from torch import nn

from base.training_parts import TrainerOptions
from parse_config import ROOT, ConfigParser
from tests.whole_config import in_file, whole
from utils.config_tree import path_of, set_by_path, to_json
from utils.errors import ConfigError, DataError


def changed(path, value):
    """The whole config with the value at one dotted path."""
    return set_by_path(whole(), path_of(path), value)


def parameters():
    return [nn.Parameter(torch.ones(2, 2))]


# --- what is taken -----------------------------------------------------------------------------------------------


def test_a_whole_config_is_taken_and_told_back_as_it_was_written():
    config = ConfigParser(whole())

    assert config.resolved == whole() | {"device": "auto", "n_gpu": 1, "deterministic": False, "weights_file": None}
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


def test_a_schema_for_the_editor_is_taken_and_not_passed_on():
    config = ConfigParser(whole(**{"$schema": "config.schema.json"}))

    assert config.resolved == ConfigParser(whole()).resolved


def test_layers_of_plain_data_and_the_data_itself_are_the_same():
    assert ConfigParser(in_file(whole())).resolved == ConfigParser(whole()).resolved


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


def test_without_a_command_line_nothing_is_resumed_or_allowed():
    config = ConfigParser(whole())

    assert (config.resume, config.checkpoint, config.changes, config.offered_paths) == (None, None, [], [])
    assert (config.args.device, config.args.allow) == (None, [])


@pytest.mark.parametrize(
    ("spec", "interval"),
    [
        (whole()["lr_scheduler"], "epoch"),
        ({"type": "StepLR", "args": {"step_size": 1}, "interval": "step"}, "step"),
        ({"type": "StepLR", "args": {"step_size": 1}}, "epoch"),
        ("ReduceLROnPlateau", "epoch"),
        (None, "epoch"),
    ],
)
def test_the_interval_is_an_epoch_unless_the_schedule_says_otherwise(spec, interval):
    assert ConfigParser(whole(lr_scheduler=spec)).interval == interval


# --- what is wrong -----------------------------------------------------------------------------------------------


def test_all_that_is_wrong_is_told_at_once_in_the_order_of_the_lines():
    config = whole(loss="no_such_loss", colour="red")
    config["optimizer"]["args"]["momentun"] = 0.9
    config["arch"]["args"]["dropout"] = 7

    with pytest.raises(ConfigError) as caught:
        ConfigParser(in_file(config))

    lines = str(caught.value).split("\n")
    places = [line.split(": ")[:2] for line in lines if line.startswith("config.json")]
    assert [path for _, path in places] == ["arch.args.dropout", "optimizer.args.momentun", "loss", "colour"]
    numbers = [int(place.split(":")[1]) for place, _ in places]
    assert numbers == sorted(numbers)
    assert lines[-1] == "4 problems in the config; nothing was started."


def test_of_two_places_that_contradict_each_other_both_lines_are_shown():
    config = whole(lr_scheduler={"type": "OneCycleLR", "args": {"max_lr": 0.5}, "interval": "step"})

    with pytest.raises(ConfigError) as caught:
        ConfigParser(in_file(config))

    marked = [line.partition("|")[2].strip() for line in str(caught.value).split("\n") if re.match(r" +\d+ \|", line)]
    assert marked == ['"max_lr": 0.5', '"lr": 0.1,']
    assert "optimizer.args.lr: see here" in str(caught.value)


@pytest.fixture
def guest(tmp_path, monkeypatch):
    """Writes a package `guest_parts` with the given code, and gives a command line that allows it."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(code):
        (tmp_path / "guest_parts.py").write_text(code)
        return argparse.Namespace(resume=None, device=None, allow=["guest_parts"])

    yield write
    sys.modules.pop("guest_parts", None)


def test_a_package_that_the_command_line_allows_can_be_named(guest):
    args = guest("def sharp(output, target): return output.sum()\n")

    config = ConfigParser(whole(loss="guest_parts.sharp"), args=args)

    assert config.init_criterion()(torch.ones(2, 3), torch.zeros(2)) == 6.0
    with pytest.raises(ConfigError, match=r"'guest_parts\.sharp' is not a loss.* --allow PACKAGE"):
        ConfigParser(whole(loss="guest_parts.sharp"))


@pytest.mark.parametrize(
    ("section", "build"),
    [
        ("arch", lambda config: config.init_model()),
        ("loss", lambda config: config.init_criterion()),
        ("optimizer", lambda config: config.init_obj("optimizer", params=parameters())),
        ("optimizer", lambda config: config.init_ftn("optimizer", params=parameters())),
    ],
)
def test_what_a_class_of_ones_own_raises_later_keeps_its_traceback_and_is_told_the_line(guest, section, build):
    args = guest(
        "import torch\nfrom base.base_model import BaseModel\nFAIL = []\n"
        "class Loss(torch.nn.MSELoss):\n    def __init__(self): super().__init__(); FAIL and FAIL[0]()\n"
        "class Optimizer(torch.optim.SGD):\n"
        "    def __init__(self, params, lr: float = 0.1): super().__init__(params, lr); FAIL and FAIL[0]()\n"
        "class Model(BaseModel):\n    def __init__(self): super().__init__(); FAIL and FAIL[0]()\n"
        "    def forward(self, x): return x\n"
    )
    name = {"arch": "Model", "loss": "Loss", "optimizer": "Optimizer"}[section]
    layers = in_file(whole(**{section: name}))
    config = ConfigParser(layers, args=args)
    sys.modules["guest_parts"].FAIL.append(lambda: 1 / 0)

    with pytest.raises(ZeroDivisionError) as caught:
        build(config)

    line = json.dumps(whole(**{section: name}), indent=1).split("\n").index(f' "{section}": "{name}",') + 1
    assert caught.value.__notes__ == [f"This came of {section} at config.json:{line}:2"]
    assert "guest_parts.py" in [entry.path.name for entry in caught.traceback]


# --- errors that come later get a place --------------------------------------------------------------------------


def test_an_error_about_an_entry_is_told_with_its_line_and_with_the_line_that_it_contradicts():
    config = ConfigParser(in_file(whole()))
    cause = RuntimeError("x")

    with pytest.raises(ConfigError) as caught, config.locating():
        raise ConfigError("must be odd", "data_loader.args.batch_size", "optimizer.args.lr") from cause

    text = json.dumps(whole(), indent=1).split("\n")
    first, second = text.index('   "batch_size": 4,') + 1, text.index('   "lr": 0.1,') + 1
    assert str(caught.value).split("\n") == [
        f"config.json:{first}:4: data_loader.args.batch_size: must be odd",
        f'{first:>6} |    "batch_size": 4,',
        "       |    ^^^^^^^^^^^^",
        f"config.json:{second}:4: optimizer.args.lr: see here",
        f'{second:>6} |    "lr": 0.1,',
        "       |    ^^^^",
        "1 problem in the config; nothing was started.",
    ]
    assert caught.value.__cause__ is cause


def test_an_error_about_what_is_not_in_the_file_points_to_what_is_around_it():
    config = ConfigParser(in_file(whole()))

    with pytest.raises(ConfigError) as caught, config.locating():
        raise ConfigError("too long", "trainer.len_epoch")

    assert re.match(r"config\.json:\d+:2: trainer\.len_epoch: too long\n.* \"trainer\": \{", str(caught.value))


@pytest.mark.parametrize("error", [ConfigError("no place"), DataError("x"), RuntimeError("x"), ValueError("x")])
def test_other_errors_pass_as_they_are(error):
    config = ConfigParser(in_file(whole()))

    with pytest.raises(type(error)) as caught, config.locating():
        raise error

    assert caught.value is error


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
    config = ConfigParser(changed("arch.args.image_size", [9, 9]))

    config.offer(image_size=[28, 28], in_channels=1)

    assert config.resolved["arch"]["args"]["image_size"] == [9, 9]
    assert config.plans["arch"].args["image_size"] == [9, 9]
    assert config.offered_paths == ["arch.args.in_channels"]


@pytest.mark.parametrize(
    ("name", "asked", "data", "what"), [("num_classes", 5, 10, "classes"), ("in_channels", 3, 1, "channels")]
)
def test_what_contradicts_the_data_is_refused_with_both_numbers(name, asked, data, what):
    config = ConfigParser(changed(f"arch.args.{name}", asked))

    with pytest.raises(ConfigError) as caught:
        config.offer(**{name: data})

    said = f"{asked}, yet the data has {data} {what}; leave it out and it is taken from the data"
    assert (caught.value.message, caught.value.path) == (said, f"arch.args.{name}")
    assert caught.value.also == "data_loader"


def test_what_agrees_with_the_data_is_taken():
    config = ConfigParser(changed("arch.args.num_classes", 10))

    config.offer(num_classes=10, in_channels=1)

    assert config.plans["arch"].args["num_classes"] == 10
    assert config.offered_paths == ["arch.args.in_channels"]


@pytest.mark.parametrize(
    ("spec", "monitor", "written"),
    [
        ("ReduceLROnPlateau", "max val_accuracy", {"mode": "max"}),
        ("ReduceLROnPlateau", "min val_loss", None),
        ({"type": "ReduceLROnPlateau", "args": {"mode": "max"}}, "max val_accuracy", {"mode": "max"}),
        (
            {"type": "CyclicLR", "args": {"base_lr": 0.1, "max_lr": 1}},
            "max val_accuracy",
            {"base_lr": 0.1, "max_lr": 1},
        ),
    ],
)
def test_a_plateau_looks_the_way_in_which_the_monitor_does(spec, monitor, written):
    config = ConfigParser(whole(lr_scheduler=spec, trainer={"epochs": 1, "monitor": monitor}))

    config.offer()

    spec = config.resolved["lr_scheduler"]
    assert (spec["args"] if isinstance(spec, dict) else None) == written


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
