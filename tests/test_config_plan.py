"""A plan builds what was checked; tried out before, it lets constructors judge values and tells which they dislike."""

import functools
from collections.abc import Sequence

import pytest
import torch
from torch import nn, optim
from torch.optim import lr_scheduler
from torchvision import models
from torchvision.transforms import v2

from model.loss import cross_entropy
from model.mlp import MLP
from model.vgg import VGG
from utils.config_layers import Problem
from utils.config_plan import Plan
from utils.errors import ConfigError, DataError

HERE = ("part",)


class Box:
    """Of one's own; says of all its values at once what is wrong, as VGG does."""

    def __init__(self, width: int, height: int = 1, depth: int = 1, name: str = "box"):
        if min(width, height, depth) < 1:
            raise ValueError(f"all sides must be 1 or more; received {width}, {height} and {depth}\nsecond line")
        if not name:
            raise ValueError("a box has a name")
        self.sides = (width, height, depth)


class Between:
    """Takes two numbers that only together can be wrong."""

    def __init__(self, low: float, high: float):
        if low == 7:
            raise ValueError("low is not to be 7")
        if low > high:
            raise ValueError("low must be below high")


class Raising:
    """Raises what it is given."""

    def __init__(self, error: Exception):
        raise error


def parameters():
    return [nn.Parameter(torch.ones(2, 2))]


def transform(target, **args):
    return Plan((*HERE, "args", "transforms", 0), target, args)


# --- building ----------------------------------------------------------------------------------------------------


def test_a_plan_builds_with_what_it_is_supplied_and_what_is_not_taken_is_left():
    optimizer = Plan(HERE, optim.SGD, {"lr": 0.25}).build(params=parameters(), num_classes=3)

    assert optimizer.param_groups[0]["lr"] == 0.25


def test_what_the_config_says_wins_over_what_is_supplied():
    optimizer = Plan(HERE, optim.SGD, {"lr": 0.25}).build(params=parameters(), lr=9.0)

    assert optimizer.param_groups[0]["lr"] == 0.25


def test_inner_objects_are_built_first_and_supplied_too():
    inner = [
        Plan((*HERE, "args", "schedulers", 0), lr_scheduler.ConstantLR, {"factor": 0.5}),
        Plan((*HERE, "args", "schedulers", 1), lr_scheduler.StepLR, {"step_size": 1}),
    ]
    optimizer = optim.SGD(parameters(), lr=1.0)

    built = Plan(HERE, lr_scheduler.SequentialLR, {"schedulers": inner, "milestones": [2]}).build(optimizer=optimizer)

    assert built.optimizer is optimizer
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_a_function_becomes_itself_or_a_partial_of_itself():
    scores_NK, targets_N = torch.tensor([[2.0, 0.0]]), torch.tensor([0])

    plain = Plan(HERE, cross_entropy, {}).build(num_classes=3)
    smoothed = Plan(HERE, cross_entropy, {"label_smoothing": 0.5}).build()

    assert plain is cross_entropy
    assert isinstance(smoothed, functools.partial)
    assert smoothed(scores_NK, targets_N) == nn.functional.cross_entropy(scores_NK, targets_N, label_smoothing=0.5)


def test_a_value_that_the_constructor_does_not_like_is_told_in_its_words_by_its_path():
    plan = Plan(("optimizer",), optim.SGD, {"momentum": 0.5, "lr": -1.0})

    with pytest.raises(ConfigError, match=r"^optimizer\.args\.lr: SGD says: Invalid learning rate: -1\.0$") as caught:
        plan.build(params=parameters())

    assert caught.value.path == "optimizer.args.lr"
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_value_that_an_inner_constructor_does_not_like_is_told_by_its_whole_path():
    plan = Plan(HERE, v2.Compose, {"transforms": [transform(v2.RandomErasing, p=5.0)]})

    with pytest.raises(ConfigError, match=r"^part\.args\.transforms\.0\.args\.p: RandomErasing says: "):
        plan.build()


@pytest.mark.parametrize(
    "error",
    [RuntimeError("x"), DataError("x"), OSError("x"), AttributeError("x"), TypeError("x"), ConfigError("x", "there")],
)
def test_what_ones_own_constructor_raises_besides_a_value_error_passes_unchanged(error):
    with pytest.raises(type(error)) as caught:
        Plan(HERE, Raising, {"error": error}).build()

    assert caught.value is error


@pytest.mark.parametrize("error", [ValueError("x"), RuntimeError("not enough memory: you tried to allocate 9 TB")])
def test_a_judgement_of_ones_own_constructor_is_told_as_a_config_error(error):
    with pytest.raises(ConfigError) as caught:
        Plan(HERE, Raising, {"error": error}).build()

    assert str(caught.value) == f"part.args.error: Raising says: {error}"
    assert caught.value.__cause__ is error


def test_whatever_a_library_raises_at_a_value_is_told_as_a_config_error():
    with pytest.raises(ConfigError, match=r"^part\.args\.p: RandomErasing says: '<=' not supported"):
        Plan(HERE, v2.RandomErasing, {"p": "x"}).build()


def test_make_is_called_instead_with_the_same_arguments():
    plan = Plan(HERE, models.resnet18, {"groups": 1})

    assert plan.build(make=dict, num_classes=3, optimizer=None) == {"groups": 1, "num_classes": 3}


def test_an_object_that_something_else_makes_is_made_once_even_where_it_fails():
    calls = []

    def make(**arguments):
        calls.append(arguments)
        raise ValueError("x")

    with pytest.raises(ConfigError, match=r"^part: resnet18 says: x$"):
        Plan(HERE, models.resnet18, {"groups": 1, "weights": "DEFAULT"}).build(make=make)

    assert len(calls) == 1


def test_takes_tells_the_parameters_of_the_constructor():
    plan = Plan(HERE, optim.SGD, {})

    assert plan.takes("momentum")
    assert not plan.takes("num_classes")
    assert plan.type_name == "SGD"


# --- trying out --------------------------------------------------------------------------------------------------


def test_what_is_right_is_built_and_has_no_problems():
    built, problems = Plan(HERE, Box, {"height": 2}).try_out(width=4, height=9, colour="red")

    assert problems == []
    assert built.sides == (4, 2, 1)


def test_all_wrong_values_are_found_and_not_only_the_one_that_the_constructor_sees_first():
    args = {"eps": -1.0, "lr": -2.0, "weight_decay": -3.0, "betas": (0.9, 4.0), "amsgrad": True}

    built, problems = Plan(HERE, optim.Adam, args).try_out(params=parameters())

    assert built is None
    assert problems == [
        Problem((*HERE, "args", "lr"), "Adam says: Invalid learning rate: -2.0"),
        Problem((*HERE, "args", "eps"), "Adam says: Invalid epsilon value: -1.0"),
        Problem((*HERE, "args", "betas"), "Adam says: Invalid beta parameter at index 1: 4.0"),
        Problem((*HERE, "args", "weight_decay"), "Adam says: Invalid weight_decay value: -3.0"),
    ]


@pytest.mark.parametrize("wrong", [["height"], ["depth"], ["name"], ["name", "height"], ["depth", "name"]])
@pytest.mark.parametrize("order", [1, -1])
def test_the_argument_at_fault_is_named_even_if_the_complaint_lists_all(wrong, order):
    right = {"width": 4, "height": 5, "depth": 6, "name": "x"}
    args = {key: (type(value)() if key in wrong else value) for key, value in right.items()}
    args = dict(list(args.items())[::order])

    built, problems = Plan(HERE, Box, args).try_out()

    assert built is None
    assert sorted(problem.path[-1] for problem in problems) == sorted(wrong)


@pytest.mark.parametrize(
    ("target", "args", "blamed"),
    [
        (VGG, {"classifier_width": 64, "pool_size": 0}, "pool_size"),
        (VGG, {"classifier_width": 64, "num_classes": 0}, "num_classes"),
        (VGG, {"layers": ["M"], "dropout": 0.5}, "layers"),
        (MLP, {"hidden_widths": [8], "num_classes": 0}, "num_classes"),
        (MLP, {"hidden_widths": [8], "dropout": 7.0}, "dropout"),
        (models.resnet18, {"num_classes": 5, "groups": 3}, "groups"),
        (nn.CrossEntropyLoss, {"weight": [1.0], "label_smoothing": 0.5}, "weight"),
    ],
)
def test_constructors_of_models_and_losses_are_understood(target, args, blamed):
    _, problems = Plan(HERE, target, args).try_out(num_classes=10, in_channels=3)

    assert [problem.path for problem in problems] == [(*HERE, "args", blamed)]


def test_a_value_is_at_fault_where_what_the_program_would_supply_is_taken():
    _, problems = Plan(HERE, Box, {"depth": 3, "width": 0}).try_out(width=4)

    assert [problem.path for problem in problems] == [(*HERE, "args", "width")]


def test_behind_a_value_that_the_program_could_supply_others_are_found():
    _, problems = Plan(HERE, Box, {"name": "", "width": 0}).try_out(width=4)

    assert [problem.path for problem in problems] == [(*HERE, "args", "width"), (*HERE, "args", "name")]


@pytest.mark.parametrize(
    ("args", "blamed"),
    [
        ({"width": 0}, "width"),
        ({"low": 7.0, "high": 9.0}, "low"),
        ({"low": 5.0, "high": 3.0}, None),
    ],
    ids=["the only argument", "named in the complaint", "both named in the complaint"],
)
def test_among_needed_arguments_one_is_blamed_only_if_it_can_be_told(args, blamed):
    target = Box if "width" in args else Between

    built, [problem] = Plan(HERE, target, args).try_out()

    assert built is None
    assert problem.path == ((*HERE, "args", blamed) if blamed else HERE)


def test_of_a_complaint_the_first_line_is_told_and_no_novel():
    _, [several_lines] = Plan(HERE, Box, {"width": 0}).try_out()
    _, [long] = Plan(HERE, Raising, {"error": ValueError("x" * 9000)}).try_out()
    _, [empty] = Plan(HERE, Raising, {"error": ValueError()}).try_out()

    assert several_lines.message == "Box says: all sides must be 1 or more; received 0, 1 and 1"
    assert long.message == "Raising says: " + "x" * 300
    assert empty.message == "Raising says: ValueError"


def test_what_is_not_complete_is_not_tried():
    error = ValueError("x")

    assert Plan(HERE, Box, {"height": 0}).try_out() == (None, [])
    assert Plan(HERE, Raising, {"error": error}, is_whole=False).try_out() == (None, [])
    assert Plan(HERE, Raising, {"error": error}).try_out()[1] != []


def test_a_function_of_ones_own_is_not_called_and_a_builder_of_torchvision_is():
    def loss(output, target, width: int = 3):
        raise ValueError("x")

    built, _ = Plan(HERE, models.resnet18, {"num_classes": 3}).try_out()

    assert Plan(HERE, loss, {"width": 3}).try_out(output=1, target=2) == (None, [])
    assert built.fc.out_features == 3


@pytest.mark.parametrize("error", [TypeError("x"), AttributeError("x"), RuntimeError("x"), DataError("x")])
def test_a_mistake_in_ones_own_constructor_is_no_problem_of_the_config(error):
    with pytest.raises(type(error)) as caught:
        Plan(HERE, Raising, {"error": error}).try_out()

    assert caught.value is error


def test_what_is_offered_fills_in_this_object_and_none_inside_it():
    inner = Plan((*HERE, "args", "parts"), Box, {"height": 2})
    step = Plan(HERE, Holder, {"parts": inner})

    alone, _ = Plan(HERE, Box, {"height": 2}).try_out(offered={"width": 4, "height": 9, "colour": "red"})

    assert alone.sides == (4, 2, 1)
    assert step.try_out(offered={"width": 4}) == (None, [])
    assert isinstance(step.try_out(width=4)[0], Holder)


def test_make_is_tried_instead_and_asked_who_is_at_fault():
    optimizer = optim.SGD(parameters(), lr=0.1)

    def stepped(**arguments):
        scheduler = lr_scheduler.StepLR(**arguments)
        optimizer.step()
        scheduler.step()

    plain, silent = Plan(HERE, lr_scheduler.StepLR, {"gamma": 0.5, "step_size": 0}).try_out(optimizer=optimizer)
    _, problems = Plan(HERE, lr_scheduler.StepLR, {"step_size": 0}).try_out(make=stepped, optimizer=optimizer)

    assert plain is not None
    assert silent == []
    assert problems == [Problem((*HERE, "args", "step_size"), "StepLR says: integer modulo by zero")]


# --- objects inside ----------------------------------------------------------------------------------------------


def test_values_of_inner_objects_are_judged_and_told_by_their_paths():
    def inner(index, target, **args):
        return Plan((*HERE, "args", "transforms", index), target, args)

    crops = [inner(0, v2.RandomErasing, p=5.0), inner(1, v2.CenterCrop, size=3), inner(2, v2.GaussianBlur, sigma=-1)]
    crops[2].args["kernel_size"] = 3

    built, problems = Plan(HERE, v2.RandomOrder, {"transforms": crops}).try_out()

    assert built is None
    assert [problem.path for problem in problems] == [
        (*HERE, "args", "transforms", 0, "args", "p"),
        (*HERE, "args", "transforms", 2, "args", "sigma"),
    ]


class Holder:
    """Of one's own; what it is given must be there."""

    def __init__(self, parts: Sequence[Box] | Box | None = None):
        for part in parts if isinstance(parts, list) else [parts]:
            assert part is None or part.sides


class Strict(Holder):
    """Cannot do without parts."""

    def __init__(self, parts: Sequence[Box] | Box):
        if parts is None or (isinstance(parts, list) and None in parts):
            raise ValueError("a part is missing")


@pytest.mark.parametrize("wrap", [lambda plan: plan, lambda plan: [plan]], ids=["one", "list"])
@pytest.mark.parametrize(
    "inner",
    [Plan((*HERE, "args", "parts"), Box, {}), Plan((*HERE, "args", "parts"), Box, {"width": 1}, is_whole=False)],
    ids=["an argument is missing", "something inside is not known"],
)
def test_an_inner_object_that_cannot_be_tried_is_no_fault_of_the_outer_one(inner, wrap):
    assert Plan(HERE, Strict, {"parts": wrap(inner)}).try_out() == (None, [])


def test_an_inner_argument_that_is_missing_is_no_complaint_about_the_schedule():
    step = Plan((*HERE, "args", "schedulers", 0), lr_scheduler.StepLR, {})  # its step_size was misspelt
    constant = Plan((*HERE, "args", "schedulers", 1), lr_scheduler.ConstantLR, {})
    plan = Plan(HERE, lr_scheduler.SequentialLR, {"schedulers": [step, constant], "milestones": [2]})

    assert plan.try_out(optimizer=optim.SGD(parameters(), lr=0.1)) == (None, [])


@pytest.mark.parametrize("parts", [None, [], [Plan(HERE, Box, {"width": 1})], Plan(HERE, Box, {"width": 1})])
def test_null_and_an_empty_list_are_values_like_others(parts):
    built, problems = Plan(HERE, Holder, {"parts": parts}).try_out()

    assert isinstance(built, Holder)
    assert problems == []


# --- on the meta device ------------------------------------------------------------------------------------------


def test_on_meta_a_model_takes_no_memory():
    model = Plan(HERE, VGG, {}).on_meta(num_classes=3, layers="vgg19")

    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert model.classifier[-1].out_features == 3


@pytest.mark.parametrize("weights", ["DEFAULT", "IMAGENET1K_V1"])
def test_on_meta_weights_are_never_downloaded(weights, monkeypatch):
    asked = []
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *arguments, **_: asked.append(arguments))

    model = Plan(HERE, models.resnet18, {"weights": weights}).on_meta(weights=weights, num_classes=7)

    assert asked == []
    assert model.fc.out_features == 7


def test_on_meta_an_argument_of_ones_own_that_is_called_weights_is_passed():
    class Weighted(nn.Module):
        def __init__(self, weights: float):
            super().__init__()
            self.weights = weights

    assert Plan(HERE, Weighted, {}).on_meta(weights=0.5).weights == 0.5


@pytest.mark.parametrize("error", [RuntimeError("meta"), NotImplementedError("meta"), TypeError("x"), KeyError("x")])
def test_what_a_model_of_ones_own_cannot_do_on_meta_tells_nothing(error):
    assert Plan(HERE, Raising, {}).on_meta(error=error) is None


def test_a_judgement_on_meta_is_passed_on():
    with pytest.raises(ValueError, match="groups"):
        Plan(HERE, models.resnet18, {}).on_meta(groups=3)
    with pytest.raises(RuntimeError, match="negative dimension"):
        Plan(HERE, nn.Linear, {}).on_meta(in_features=-1, out_features=2)


def test_a_model_that_needs_numbers_in_its_tensors_is_left_to_the_run():
    class Orthogonal(nn.Module):
        def __init__(self, width: int):
            super().__init__()
            self.scale = float(torch.ones(width).sum())

    plan = Plan(HERE, Orthogonal, {"width": 3})

    assert plan.try_out(make=plan.on_meta) == (None, [])
    assert plan.build().scale == 3.0
