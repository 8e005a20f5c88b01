"""Constructors as schemas: JSON values are held against annotations strictly, and converted where those ask for it."""

import enum
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, TypedDict, Unpack

import pytest
import torch
from annotated_types import Ge, Gt
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision import models
from torchvision.transforms.v2 import InterpolationMode, RandomResizedCrop

from utils.config_signature import REQUIRED, Parameter, checked_arguments, checked_value, parameters_of

repeatable = settings(derandomize=True, deadline=None, database=None, max_examples=100)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Options(TypedDict, total=False):
    rate: float
    flag: bool


class Thing:
    def __init__(
        self, size: int, name: str = "x", *rest: int, scale: "float | None" = None, **options: Unpack[Options]
    ):
        pass


def function(output, target: torch.Tensor, top: int = 3, unknown: "NoSuchName" = 1) -> float:  # noqa: F821
    return 0.0


def check(target, args, *, supplied=(), given=()):
    return checked_arguments(target, args, "section", supplied=set(supplied), given=set(given))


# --- parameters --------------------------------------------------------------------------------------------------


def test_a_class_has_the_named_parameters_of_its_constructor_with_the_typed_options_written_out():
    assert parameters_of(Thing) == {
        "size": Parameter(int, REQUIRED),
        "name": Parameter(str, "x"),
        "scale": Parameter(float | None, None),
        "rate": Parameter(float, None),
        "flag": Parameter(bool, None),
    }


def test_a_function_has_its_own_and_an_annotation_that_means_nothing_is_unknown():
    assert parameters_of(function) == {
        "output": Parameter(REQUIRED, REQUIRED),
        "target": Parameter(torch.Tensor, REQUIRED),
        "top": Parameter(int, 3),
        "unknown": Parameter(None, 1),
    }


def test_a_builder_of_torchvision_has_the_keywords_of_the_class_that_it_returns():
    names = set(parameters_of(models.resnet18))

    assert {"weights", "progress", "num_classes", "zero_init_residual", "groups", "norm_layer"} <= names
    assert not names & {"self", "block", "layers", "kwargs"}


def test_weights_of_a_builder_are_named_by_a_string():
    assert parameters_of(models.resnet18)["weights"] == Parameter(str | None, None)


def test_a_class_without_a_constructor_takes_nothing():
    class Plain:
        pass

    assert parameters_of(Plain) == {}


# --- values ------------------------------------------------------------------------------------------------------

json_scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=4)
)
json_values = st.recursive(
    json_scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
# Which JSON values each annotation means, written down by hand: nothing is read into a value.
MEANS = {
    int: lambda v: type(v) is int,
    float: lambda v: type(v) in (int, float),
    bool: lambda v: type(v) is bool,
    str: lambda v: type(v) is str,
    list: lambda v: type(v) is list,
    dict: lambda v: type(v) is dict,
    int | None: lambda v: v is None or type(v) is int,
    float | int | None: lambda v: v is None or type(v) in (int, float),
    list[int]: lambda v: type(v) is list and all(type(item) is int for item in v),
    Sequence[float]: lambda v: type(v) is list and all(type(item) in (int, float) for item in v),
    Literal[0, 1, 2]: lambda v: type(v) is int and v in (0, 1, 2),
    Annotated[int, Ge(1)]: lambda v: type(v) is int and v >= 1,
    Annotated[float, Gt(0)] | None: lambda v: v is None or (type(v) in (int, float) and v > 0),
}


@repeatable
@given(json_values, st.sampled_from(list(MEANS)))
def test_a_value_is_taken_exactly_where_its_json_type_is_the_annotations(value, annotation):
    converted, problems = checked_value(value, annotation, "key")

    assert (problems == []) == MEANS[annotation](value)
    assert converted == value


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        ("0.001", float),
        ("1", int),
        (1.0, int),
        (True, int),
        (True, float),
        (1, bool),
        ("true", bool),
        (5, str),
        (None, str),
        (True, Literal[1, 3]),
        (False, Literal[0] | None),
        (1.0, Literal[1, 3]),
        ("abc", list[str]),
        ([1, 2], tuple[int, int, int]),
    ],
)
def test_nothing_is_read_into_a_value_of_another_type(value, annotation):
    _, problems = checked_value(value, annotation, "a.b")

    assert len(problems) == 1
    assert problems[0].startswith("a.b: ")
    assert ", got " in problems[0]


@pytest.mark.parametrize(
    ("value", "annotation", "converted"),
    [
        ([0.9, 0.999], tuple[float, float], (0.9, 0.999)),
        ([1, 2], tuple[int, ...], (1, 2)),
        (1, float, 1.0),
        (1, float | int, 1),
        (1.0, float | int, 1.0),
        ("red", Colour, Colour.RED),
        ("blue", Colour | None, Colour.BLUE),
        ("bilinear", InterpolationMode | int, InterpolationMode.BILINEAR),
        ("data/x", Path, Path("data/x")),
        ("data/x", Path | None, Path("data/x")),
        ("float32", torch.dtype, torch.float32),
        ("uint8", torch.dtype | dict[str, torch.dtype], torch.uint8),
        (0.1, float | torch.Tensor, 0.1),
        ({"a": [1]}, dict[str, tuple[int, ...]], {"a": (1,)}),
    ],
)
def test_what_json_cannot_say_is_converted(value, annotation, converted):
    found, problems = checked_value(value, annotation, "key")

    assert problems == []
    assert found == converted
    assert type(found) is type(converted)


@pytest.mark.parametrize(
    "annotation",
    [None, REQUIRED, Any, nn.Module, "NoSuchName", list["NoSuchName"], Optional["NoSuchName"], dict[str, "NoSuchName"]],  # noqa: F821
)
@pytest.mark.parametrize("value", [None, True, 3, "x", [1], {"a": 1}])
def test_of_an_unknown_type_everything_is_taken_as_it_is(annotation, value):
    assert checked_value(value, annotation, "key") == (value, [])


@pytest.mark.parametrize("name", ["float33", "Tensor", "nn", "__name__", "load"])
def test_only_a_dtype_is_read_as_one(name):
    converted, _ = checked_value(name, torch.dtype, "key")

    assert converted == name


def test_a_function_cannot_be_named_where_one_is_wanted():
    _, problems = checked_value("os.system", Callable[[int], float], "key")

    assert problems == ['key: should be callable, got "os.system"']


def test_each_branch_of_a_union_says_what_it_wants():
    _, problems = checked_value("3", int | None | list[int], "key")

    assert problems == ['key: should be a valid integer or should be a valid array, got "3"']


def test_a_long_value_is_cut_in_the_message():
    _, problems = checked_value("x" * 10_000, int, "key")

    assert len(problems[0]) < 150


# --- a section ---------------------------------------------------------------------------------------------------


def test_arguments_that_fit_are_converted_and_nothing_is_added():
    converted, problems = check(RandomResizedCrop, {"size": [8, 8], "scale": [0.5, 1], "interpolation": "nearest"})

    assert problems == []
    assert converted == {"size": [8, 8], "scale": (0.5, 1.0), "interpolation": "nearest"}


def test_an_unknown_name_is_told_with_the_nearest_and_all_there_are():
    _, problems = check(Thing, {"size": 1, "nmae": "y"})

    assert problems == [
        "section.args.nmae: Thing has no 'nmae'. Did you mean 'name'? It takes: size, name, scale, rate, flag."
    ]


def test_a_target_that_takes_nothing_says_so():
    _, problems = check(nn.Identity.__mro__[-1], {"x": 1})

    assert problems == ["section.args.x: object has no 'x'. It takes nothing."]


def test_a_missing_argument_is_named_after_what_is_wrong_with_the_others():
    _, problems = check(Thing, {"name": 5, "sise": 1})

    assert [problem.split(":")[0] for problem in problems] == ["section.args.name", "section.args.sise", "section.args"]
    assert problems[-1] == "section.args: Thing needs 'size'"


def test_all_problems_are_told_at_once():
    _, problems = check(Thing, {"size": "1", "name": 2, "scale": "x", "flag": 0, "other": 1})

    assert len(problems) == 5


def test_what_the_program_supplies_or_gives_need_not_be_written():
    assert check(Thing, {}, supplied=["size"]) == ({}, [])
    assert check(Thing, {}, given=["size"]) == ({}, [])


def test_what_the_program_gives_must_not_be_written_and_is_not_listed():
    _, problems = check(Thing, {"size": 1, "x": 2}, given=["size"])

    assert problems[0] == "section.args.size: is passed by the program; remove it from the config"
    assert problems[1].endswith("It takes: name, scale, rate, flag.")


def test_what_the_program_supplies_may_be_written_and_is_checked():
    assert check(Thing, {"size": 4}, supplied=["size"]) == ({"size": 4}, [])
    assert len(check(Thing, {"size": "4"}, supplied=["size"])[1]) == 1


@repeatable
@given(
    st.dictionaries(st.sampled_from(["size", "name", "scale", "rate", "flag", "rest", "options", "self"]), json_values)
)
def test_any_arguments_give_problems_and_never_an_error(args):
    converted, problems = check(Thing, args)

    assert all(problem.startswith("section.args") for problem in problems)
    assert set(converted) == set(args) & {"size", "name", "scale", "rate", "flag"}


def test_a_number_beyond_all_floats_is_a_problem_or_a_number_but_no_error():
    converted, problems = checked_value(10**400, float, "key")

    assert problems or math.isinf(converted)
