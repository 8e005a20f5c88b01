"""A section is checked with everything inside it, all problems are told by their paths, and then it can be built."""

import functools
from pathlib import Path

import pytest
import torch
from torch import nn, optim
from torchvision.transforms import v2

from parse_config import NESTED, SECTIONS
from utils.config_check import Plan, plan_section
from utils.errors import ConfigError, DataError

ROOT = Path("/project")
EVERY_SECTION = {**SECTIONS, **{key: NESTED[key] for key in ("transform", "sampler", "collate_fn")}}


def plan(spec, section="optimizer", root=ROOT):
    return plan_section(spec, section, EVERY_SECTION.get(section) or NESTED[section], NESTED, root)


# --- a section ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", ["SGD", {"type": "SGD"}, {"type": "SGD", "args": None}, {"type": "SGD", "args": {}}])
def test_a_bare_name_and_a_type_without_arguments_are_the_same(spec):
    found, problems = plan(spec)

    assert problems == []
    assert found == Plan("optimizer", optim.SGD, {})


@pytest.mark.parametrize(
    "spec", [None, True, 0, 1.5, [], ["SGD"], {}, {"type": None}, {"type": 5}, {"type": ["SGD"]}, {"args": {}}]
)
@pytest.mark.parametrize("label", EVERY_SECTION)
def test_what_is_no_name_is_refused(label, spec):
    found, problems = plan(spec, label)

    assert found is None
    assert len(problems) == 1
    assert problems[0].startswith(f'{label}: expected {{"type": NAME, "args": {{...}}}} or a name, got ')


@pytest.mark.parametrize("name", ["os.system", "__import__", "Module", "\u0405GD", "SGD\n", "", "S" * 100_000])
@pytest.mark.parametrize("label", EVERY_SECTION)
def test_a_name_outside_the_table_is_one_short_problem(label, name):
    found, problems = plan({"type": name}, label)

    assert found is None
    assert len(problems) == 1
    assert problems[0].startswith(f"{label}.type: '{name[:80]}' is not a")
    assert len(problems[0]) < 250


@pytest.mark.parametrize("name", ["ToTensor", "PILToTensor", "MixUp", "Lambda"])
def test_a_transform_that_makes_no_sense_here_is_refused_with_the_reason(name):
    found, problems = plan(name, "transform")

    assert found is None
    assert problems[0].startswith(f"transform.type: '{name}' makes no sense here: ")
    assert len(problems[0]) > 60


@pytest.mark.parametrize("args", [[], False, 0, "", "lr=1", [1], 5])
def test_arguments_that_are_no_object_are_refused_also_where_they_are_empty(args):
    found, problems = plan({"type": "SGD", "args": args})

    assert found is None
    assert problems == [f"optimizer.args: expected an object, got {args!r}"]


def test_a_function_of_a_room_is_planned_without_the_parameters_that_it_is_called_with():
    found, problems = plan({"type": "top_k_acc", "args": {"k": 2}}, "metrics")
    _, refused = plan({"type": "top_k_acc", "args": {"output_NK": 1}}, "metrics")

    assert problems == []
    assert found.build()(torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([1])) == 1.0
    assert refused == ["metrics.args.output_NK: is passed by the program; remove it from the config"]


def test_a_key_beside_type_and_args_is_refused_with_the_nearest():
    _, problems = plan({"type": "StepLR", "args": {"step_size": 1}, "intervall": "step", "arg": 1}, "lr_scheduler")

    assert problems == [
        "lr_scheduler.intervall: unknown key. Did you mean 'interval'?",
        "lr_scheduler.arg: unknown key. Did you mean 'args'?",
    ]


def test_a_misspelt_type_is_told_with_the_nearest():
    _, problems = plan({"type": "AdamWW"})

    assert problems[0].startswith("optimizer.type: 'AdamWW' is not an optimizer. Did you mean 'AdamW'")


def test_objects_inside_arguments_are_planned_at_any_depth():
    spec = {
        "type": "Compose",
        "args": {"transforms": [{"type": "RandomApply", "args": {"transforms": ["RandomHorizontalFlip"], "p": 0.25}}]},
    }

    found, problems = plan(spec, "transform")
    built = found.build()

    assert problems == []
    assert isinstance(built, v2.Compose)
    assert isinstance(built.transforms[0], v2.RandomApply)
    assert built.transforms[0].p == 0.25
    assert isinstance(built.transforms[0].transforms[0], v2.RandomHorizontalFlip)


def test_a_problem_inside_arguments_is_told_by_its_whole_path():
    inner = [
        {"type": "RandomCrop", "args": {"sise": 3}},
        "NoSuch",
        {"type": "ToTensor"},
        {"type": "RandomErasing", "x": 1},
    ]

    _, problems = plan({"type": "Compose", "args": {"transforms": inner}}, "transform")

    wheres = [problem.partition(":")[0] for problem in problems]
    assert wheres == [
        "transform.args.transforms.0.args.sise",
        "transform.args.transforms.0.args",
        "transform.args.transforms.1.type",
        "transform.args.transforms.2.type",
        "transform.args.transforms.3.x",
    ]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"transform": "RandomHorizontalFlip"}, "transform: expected a list, got 'RandomHorizontalFlip'"),
        ({"transform": {"type": "RandomHorizontalFlip"}}, "transform: expected a list, got {'type'"),
        ({"transform": [None]}, "transform.0: expected {"),
        ({"transform": [["RandomHorizontalFlip"]]}, "transform.0: expected {"),
        ({"transform": 5}, "transform: expected a list, got 5"),
        ({"sampler": ["balanced"]}, "sampler: expected one object, not a list, got ['balanced']"),
        ({"sampler": 5}, "sampler: expected {"),
        ({"collate_fn": ["pad_to_largest"]}, "collate_fn: expected one object, not a list"),
        ({"collate_fn": None}, "collate_fn: must not be null"),
    ],
)
def test_a_list_where_one_object_is_wanted_is_refused_and_the_other_way_round(args, said):
    _, problems = plan({"type": "MnistDataLoader", "args": args}, "data_loader")

    assert len(problems) == 1
    assert problems[0].startswith(f"data_loader.args.{said}")


@pytest.mark.parametrize("args", [{"transform": None}, {"transform": []}, {"sampler": None}, {"eval_transform": None}])
def test_null_and_an_empty_list_stand_for_nothing_where_that_makes_sense(args):
    found, problems = plan({"type": "MnistDataLoader", "args": args}, "data_loader")

    assert problems == []
    assert found.args["data_dir"] == ROOT / "data"
    assert all(found.args[key] == value for key, value in args.items())


@pytest.mark.parametrize(
    ("written", "path"),
    [("pictures", "/project/pictures"), ("/data/x", "/data/x"), ("~/x", "/home/ann/x"), ("", "/project")],
)
def test_a_path_is_relative_to_the_project_also_where_it_is_a_default(monkeypatch, written, path):
    monkeypatch.setenv("HOME", "/home/ann")

    found, _ = plan({"type": "MnistDataLoader", "args": {"data_dir": written}}, "data_loader")
    silent, _ = plan({"type": "MnistDataLoader"}, "data_loader")

    assert found.args["data_dir"] == Path(path)
    assert silent.args["data_dir"] == Path("/project/data")


# --- building ----------------------------------------------------------------------------------------------------


def test_a_plan_builds_with_what_it_is_supplied_and_what_is_not_taken_is_left():
    found, _ = plan({"type": "SGD", "args": {"lr": 0.25}})

    optimizer = found.build(params=[nn.Parameter(torch.ones(1))], num_classes=3)

    assert optimizer.param_groups[0]["lr"] == 0.25


def test_what_the_config_says_wins_over_what_is_supplied():
    found, _ = plan({"type": "SGD", "args": {"lr": 0.25}})

    assert found.build(params=[nn.Parameter(torch.ones(1))], lr=9.0).param_groups[0]["lr"] == 0.25


def test_inner_objects_are_supplied_too():
    found, problems = plan(
        {
            "type": "SequentialLR",
            "args": {
                "schedulers": [
                    {"type": "ConstantLR", "args": {"factor": 0.5}},
                    {"type": "StepLR", "args": {"step_size": 1}},
                ],
                "milestones": [2],
            },
        },
        "lr_scheduler",
    )
    optimizer = optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0)

    built = found.build(optimizer=optimizer)

    assert problems == []
    assert built.optimizer is optimizer
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_a_function_becomes_itself_or_a_partial_of_itself():
    plain, _ = plan("cross_entropy", "loss")
    smoothed, _ = plan({"type": "cross_entropy", "args": {"label_smoothing": 0.5}}, "loss")
    scores_NK, targets_N = torch.tensor([[2.0, 0.0]]), torch.tensor([0])

    assert plain.build() is plain.target
    assert isinstance(smoothed.build(), functools.partial)
    expected = nn.functional.cross_entropy(scores_NK, targets_N, label_smoothing=0.5)
    assert smoothed.build()(scores_NK, targets_N) == expected


def test_a_value_that_the_constructor_does_not_like_is_a_config_error_in_its_words():
    found, _ = plan({"type": "SGD", "args": {"lr": -1.0}})

    with pytest.raises(ConfigError, match=r"^optimizer: SGD says: Invalid learning rate: -1\.0$"):
        found.build(params=[nn.Parameter(torch.ones(1))])


def test_a_value_that_an_inner_constructor_does_not_like_is_told_by_its_path():
    found, _ = plan(
        {"type": "Compose", "args": {"transforms": [{"type": "RandomErasing", "args": {"p": 5.0}}]}}, "transform"
    )

    with pytest.raises(ConfigError, match=r"^transform\.args\.transforms\.0: RandomErasing says: "):
        found.build()


@pytest.mark.parametrize("error", [RuntimeError("x"), DataError("x"), OSError("x"), AttributeError("x")])
def test_other_errors_of_a_constructor_pass_unchanged(error):
    def raising():
        raise error

    with pytest.raises(type(error)) as caught:
        Plan("here", dict, {}).build(make=raising)

    assert caught.value is error


def test_make_is_called_instead_with_the_same_arguments():
    found, _ = plan({"type": "resnet18", "args": {"groups": 1}}, "arch")

    assert found.build(make=dict, num_classes=3, optimizer=None) == {"groups": 1, "num_classes": 3}


def test_takes_tells_the_parameters_of_the_constructor():
    found, _ = plan("SGD")

    assert found.takes("momentum")
    assert not found.takes("num_classes")
