"""What no signature can see: sections that contradict each other, values that constructors refuse, strangers' names."""

import contextlib
import sys

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from base.run_plan import Planner, learning_rate, stand_in_optimizer, stand_in_parameters
from parse_config import NESTED, ROOT, SECTIONS
from tests.whole_config import unseeded as whole
from utils.config_check import Checker
from utils.config_layers import LayeredConfig
from utils.config_tree import path_of, set_by_path, thaw
from utils.errors import ConfigError


def changed(path, value):
    """The whole config with the value at one dotted path."""
    return set_by_path(whole(), path_of(path), value)


def planned(config, allowed=()):
    """What the planner gives."""
    return Planner(config, Checker(LayeredConfig(config), NESTED, ROOT, allowed), SECTIONS).plan()


def problems_of(config):
    """The lines of the ConfigError, without the last, which counts the problems."""
    with pytest.raises(ConfigError) as caught:
        planned(config)
    *lines, count = str(caught.value).split("\n")
    num_problems = sum(not line.endswith(": see here") for line in lines)
    number = "1 problem" if num_problems == 1 else f"{num_problems} problems"
    assert count == f"{number} in the config; nothing was started."
    return lines


ONE_CYCLE = {"type": "OneCycleLR", "interval": "step"}
CYCLIC = {"type": "CyclicLR", "args": {"base_lr": 0.01, "max_lr": 0.1}}


def mlp(**args):
    return {"type": "MLP", "args": args}


# --- sections that contradict each other -------------------------------------------------------------------------

DATA = {"type": "ImageFolderDataLoader", "args": {"data_dir": "pictures", "channels": 1}}
SHAPES = {"type": "ShapesDataLoader", "args": {"num_classes": 5}}


def digits(**args):
    return {"type": "MnistDataLoader", "args": args}


@pytest.mark.parametrize(
    ("sections", "lines"),
    [
        (
            {"arch": mlp(num_classes=4), "data_loader": SHAPES},
            [
                "arch.args.num_classes: 4, yet the data has 5; leave it out and it is taken from the data",
                "data_loader.args.num_classes: see here",
            ],
        ),
        (
            {"arch": mlp(in_channels=3), "data_loader": DATA},
            [
                "arch.args.in_channels: 3, yet the data has 1; leave it out and it is taken from the data",
                "data_loader.args.channels: see here",
            ],
        ),
        (
            {"lr_scheduler": {"type": "ReduceLROnPlateau", "interval": "step"}},
            ['lr_scheduler.interval: ReduceLROnPlateau watches a score of an epoch; use "epoch"'],
        ),
        (
            {"lr_scheduler": {**ONE_CYCLE, "args": {"max_lr": 0.5}}},
            [
                "lr_scheduler.args.max_lr: 0.5, yet the optimizer's lr is 0.1, which OneCycleLR would not use; leave "
                "max_lr out",
                "optimizer.args.lr: see here",
            ],
        ),
        (
            {"lr_scheduler": {**ONE_CYCLE, "args": {"max_lr": 0.5}}, "optimizer": "Adam"},
            [
                "lr_scheduler.args.max_lr: 0.5, yet the optimizer's lr is 0.001, which OneCycleLR would not use; leave "
                "max_lr out",
            ],
        ),
        (
            {"lr_scheduler": {"type": "ReduceLROnPlateau", "args": {"mode": "max"}}},
            [
                "lr_scheduler.args.mode: max, yet it watches what the monitor does, which is 'min val_loss'; leave "
                "mode out",
                "trainer.monitor: see here",
            ],
        ),
        (
            {"data_loader": digits(sampler="sequential", shuffle=True)},
            [
                "data_loader.args.shuffle: true, yet SequentialSampler decides the order; leave shuffle out",
                "data_loader.args.sampler: see here",
            ],
        ),
        (
            {"data_loader": digits(sampler={"type": "balanced"}, shuffle=False)},
            [
                "data_loader.args.shuffle: false, yet BalancedSampler decides the order; leave shuffle out",
                "data_loader.args.sampler: see here",
            ],
        ),
        (
            {"weights_file": "x.pth", "arch": {"type": "resnet18", "args": {"weights": "DEFAULT"}}},
            [
                "weights_file: replaces the weights that arch fetches; keep one of the two",
                "arch.args.weights: see here",
            ],
        ),
    ],
)
def test_sections_that_contradict_each_other_are_refused_and_both_are_shown(sections, lines):
    assert problems_of(whole(**sections)) == lines


@pytest.mark.parametrize(
    "sections",
    [
        {"arch": mlp(num_classes=5, in_channels=3), "data_loader": SHAPES},
        {"arch": mlp(num_classes=5, in_channels=1), "data_loader": DATA},
        {"arch": mlp(), "data_loader": SHAPES},
        {"lr_scheduler": "ReduceLROnPlateau"},
        {"lr_scheduler": {"type": "ReduceLROnPlateau", "args": {"mode": "min"}}},
        {
            "lr_scheduler": {"type": "ReduceLROnPlateau", "args": {"mode": "max"}},
            "trainer": {"epochs": 1, "monitor": "off"},
        },
        {"lr_scheduler": {"type": "ReduceLROnPlateau", "interval": "epoch"}},
        {"lr_scheduler": {**ONE_CYCLE, "args": {"max_lr": 0.1}}},
        {"lr_scheduler": {**ONE_CYCLE, "args": {"max_lr": 0.001}}, "optimizer": "Adam"},
        *({"data_loader": digits(sampler="sequential", **options)} for options in ({}, {"shuffle": False})),
        *({"data_loader": digits(sampler="balanced", **options)} for options in ({}, {"shuffle": True})),
        *({"data_loader": digits(sampler=None, shuffle=shuffle)} for shuffle in (True, False)),
        {"weights_file": "x.pth", "arch": {"type": "resnet18", "args": {"weights": None}}},
        {"weights_file": "x.pth", "arch": "resnet18"},
        {"arch": {"type": "resnet18", "args": {"weights": "DEFAULT"}}},
    ],
)
def test_sections_that_agree_are_taken(sections):
    plans, _, _ = planned(whole(**sections))

    assert plans.keys() >= sections.keys() - {"weights_file"}


# --- constructors judge values, on stand-ins ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value", "place", "said"),
    [
        ("optimizer.args.lr", -1, "optimizer.args.lr", "SGD says: Invalid learning rate: -1.0"),
        ("lr_scheduler.args.step_size", 0, "lr_scheduler.args.step_size", "StepLR says: integer modulo by zero"),
        (
            "lr_scheduler",
            {**ONE_CYCLE, "args": {"pct_start": 7.0}},
            "lr_scheduler.args.pct_start",
            "OneCycleLR says: Expected float between 0 and 1 pct_start, but got 7.0",
        ),
        ("loss", {"type": "MultiMarginLoss", "args": {"p": 3}}, "loss.args.p", "MultiMarginLoss says: only p == 1"),
        ("arch.args.dropout", 7, "arch.args.dropout", "MLP says: dropout probability has to be between 0 and 1"),
        ("arch", {"type": "resnet18", "args": {"groups": 3}}, "arch.args.groups", "resnet18 says: BasicBlock only"),
        (
            "metrics.0",
            {"type": "MulticlassFBetaScore", "args": {"beta": -1.0}},
            "metrics.0.args.beta",
            "MulticlassFBetaScore says: Expected argument `beta` to be a float larger than 0",
        ),
        (
            "data_loader.args.transform",
            ["RandomHorizontalFlip", {"type": "RandomErasing", "args": {"p": 5.0}}],
            "data_loader.args.transform.1.args.p",
            "RandomErasing says: `p` should be",
        ),
        (
            "data_loader.args.sampler",
            {"type": "balanced", "args": {"num_samples": 0}},
            "data_loader.args.sampler.args.num_samples",
            "BalancedSampler says: num_samples must be at least 1, got 0",
        ),
    ],
)
def test_a_value_that_a_constructor_does_not_like_is_told_before_anything_is_built(path, value, place, said):
    [line] = problems_of(changed(path, value))

    assert line.startswith(f"{place}: {said}")


def test_several_values_that_constructors_do_not_like_are_told_together():
    config = whole(optimizer={"type": "Adam", "args": {"eps": -1.0, "lr": -1.0}}, arch=mlp(dropout=7.0))

    assert {line.partition(":")[0] for line in problems_of(config)} == {
        "arch.args.dropout",
        "optimizer.args.eps",
        "optimizer.args.lr",
    }


def test_a_schedule_keeps_its_own_defaults_where_the_config_is_silent():
    plans, _, _ = planned(whole(lr_scheduler=CYCLIC))

    assert plans["lr_scheduler"].args == CYCLIC["args"]  # its `mode` is another thing than ReduceLROnPlateau's


def test_a_schedule_is_judged_with_the_optimizer_of_the_config():
    lines = problems_of(whole(lr_scheduler=CYCLIC, optimizer="Adagrad"))

    assert [line.partition(":")[0] for line in lines] == ["lr_scheduler"]
    assert "must support momentum" in lines[0]


@pytest.mark.parametrize("optimizer", ["Adamm", {"type": "SGD", "args": {"lr": -1}}, 5, None])
def test_a_wrong_optimizer_is_no_complaint_about_the_schedule(optimizer):
    lines = problems_of(whole(lr_scheduler=CYCLIC, optimizer=optimizer))

    assert len(lines) == 1
    assert lines[0].startswith("optimizer")


@pytest.mark.parametrize("name", SECTIONS["optimizer"].table.menu())
def test_every_optimizer_can_be_built_on_the_stand_in_and_has_a_learning_rate(name):
    plans, _, _ = planned(whole(optimizer=name))

    optimizer = plans["optimizer"].build(params=stand_in_parameters())
    assert learning_rate(plans["optimizer"]) == optimizer.param_groups[0]["lr"]


def test_the_learning_rate_is_the_configs_where_it_says_one():
    plans, _, _ = planned(whole())

    assert learning_rate(plans["optimizer"]) == 0.1
    assert "betas" in stand_in_optimizer().defaults


@pytest.mark.parametrize("top_k", [5, 500])
def test_a_metric_that_asks_for_more_classes_than_may_be_there_is_left_to_the_data(top_k):
    metric = {"type": "MulticlassAccuracy", "args": {"top_k": top_k}}

    planned(whole(metrics=[metric, {"type": "top_k_acc", "args": {"k": top_k}}], arch=mlp(num_classes=3)))


def test_checking_downloads_nothing(monkeypatch):
    asked = []
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *arguments, **_: asked.append(arguments))

    planned(whole(arch={"type": "resnet18", "args": {"weights": "DEFAULT"}}))

    assert asked == []


@pytest.fixture
def own_losses(tmp_path, monkeypatch):
    """Writes code into a package own_losses that may be named, and forgets it after the test."""
    monkeypatch.syspath_prepend(tmp_path)
    yield (tmp_path / "own_losses.py").write_text
    sys.modules.pop("own_losses", None)


def test_checking_draws_no_random_number_whatever_constructors_do(own_losses):
    own_losses(
        "import torch\nclass Noisy(torch.nn.MSELoss):\n"
        "    def __init__(self):\n        super().__init__()\n        self.noise = torch.rand(3)\n"
    )
    config = whole(loss="own_losses.Noisy")
    torch.manual_seed(3)
    before = torch.get_rng_state()

    plans, _, _ = planned(config, allowed=["own_losses"])

    assert torch.equal(torch.get_rng_state(), before)
    assert plans["loss"].build().noise.shape == (3,)


def test_a_mistake_in_a_constructor_of_ones_own_keeps_its_traceback_and_is_told_the_section(own_losses):
    own_losses("import torch\nclass Broken(torch.nn.MSELoss):\n    def __init__(self):\n        self.missing()\n")

    with pytest.raises(AttributeError, match="missing") as caught:
        planned(whole(loss="own_losses.Broken"), allowed=["own_losses"])

    assert "own_losses.py" in [entry.path.name for entry in caught.traceback]
    assert caught.value.__notes__ == ["This came of loss at the config"]


def test_no_folder_is_made_by_checking(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    planned(changed("trainer.save_dir", str(tmp_path / "saved")))

    assert list(tmp_path.iterdir()) == []


# --- strangers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["os.system", "builtins.eval", "torch.hub.load", "torch.load", "__import__", "Module", "MLP.__init__", "ＳＧＤ"],
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
    [line] = problems_of(changed(path, name))

    assert line.startswith(f"{path}: '{name}' is not a")


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
    before = thaw(config)

    with contextlib.suppress(ConfigError):
        planned(config)

    assert {key: config[key] for key in before} == before
