"""Constructors as schemas: JSON values are held against annotations strictly, and converted where those ask for it."""

import enum
import json
import math
from collections.abc import Callable, Iterable, Sequence
from numbers import Number
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, TypedDict, Unpack

import pytest
import torch
from annotated_types import Ge, Gt
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn, optim
from torchvision import models
from torchvision.transforms.v2 import InterpolationMode, RandomResizedCrop

from model.vgg import VGG
from utils.config_layers import Problem
from utils.config_signature import (
    REQUIRED,
    Parameter,
    adapter_of,
    checked_arguments,
    checked_value,
    is_library,
    parameters_of,
)
from utils.config_tree import ABSENT

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


class OfLibrary:
    """Looks as if it came from torch, whose annotations name things that only type checkers import."""

    __module__ = "torch.somewhere"

    def __init__(self, size: "NoSuchName", rate: "float" = 0.1, parts: "list[NoSuchName]" = ()):  # noqa: F821
        pass


def function(output, target: torch.Tensor, top: int = 3) -> float:
    return 0.0


def check(target, args, *, supplied=(), given=()):
    """The right arguments, and of each problem the path behind "section.args" and the message."""
    found, problems = checked_arguments(
        target, args, ("section", "args"), supplied=frozenset(supplied), given=frozenset(given)
    )
    assert all(problem.path[:2] == ("section", "args") for problem in problems)
    return found, [(*problem.path[2:], problem.message) for problem in problems]


# --- parameters --------------------------------------------------------------------------------------------------


def test_a_class_has_the_named_parameters_of_its_constructor_with_the_typed_options_written_out():
    assert parameters_of(Thing) == {
        "size": Parameter(int, REQUIRED),
        "name": Parameter(str, "x"),
        "scale": Parameter(float | None, None),
        "rate": Parameter(float, ABSENT),
        "flag": Parameter(bool, ABSENT),
    }


def test_a_function_has_its_own():
    assert parameters_of(function) == {
        "output": Parameter(REQUIRED, REQUIRED),
        "target": Parameter(torch.Tensor, REQUIRED),
        "top": Parameter(int, 3),
    }


def test_an_annotation_of_a_library_that_cannot_be_evaluated_is_unknown():
    assert parameters_of(OfLibrary) == {
        "size": Parameter(None, REQUIRED),
        "rate": Parameter(float, 0.1),
        "parts": Parameter(None, ()),
    }
    assert check(OfLibrary, {"size": {"any": "thing"}, "rate": 1}) == ({"size": {"any": "thing"}, "rate": 1.0}, [])


@pytest.mark.parametrize("annotation", ["NoSuchName", "list[NoSuchName]", "int |", "1 / 0"])
def test_an_annotation_of_ones_own_that_cannot_be_evaluated_is_a_mistake_in_code(annotation):
    class Mine:
        def __init__(self, size):
            pass

    Mine.__init__.__annotations__["size"] = annotation

    with pytest.raises((NameError, SyntaxError, ZeroDivisionError)):
        parameters_of(Mine)


@pytest.mark.parametrize(
    ("target", "expected"),
    [(optim.SGD, True), (models.resnet18, True), (nn.CrossEntropyLoss, True), (OfLibrary, True), (VGG, False)],
)
def test_a_library_is_known_by_its_module(target, expected):
    assert is_library(target) == expected


def test_a_module_of_ones_own_whose_name_begins_like_a_librarys_is_none():
    class Mine:
        __module__ = "torch_extras.models"

    assert not is_library(Mine)


def test_a_builder_of_torchvision_has_the_keywords_of_the_class_that_it_returns():
    names = set(parameters_of(models.resnet18))

    assert {"weights", "progress", "num_classes", "zero_init_residual", "groups", "norm_layer"} <= names
    assert not names & {"self", "block", "layers", "kwargs"}


@pytest.mark.parametrize(
    ("builder", "given"),
    [
        (models.densenet121, {"growth_rate", "block_config", "num_init_features"}),
        (models.squeezenet1_1, {"version"}),
        (models.mobilenet_v3_small, {"last_channel"}),
    ],
)
def test_what_a_builder_of_torchvision_gives_to_its_class_is_no_parameter(builder, given):
    defaults = {name: parameter.default for name, parameter in parameters_of(builder).items()}

    assert not given & defaults.keys()
    with torch.device("meta"):
        builder(**defaults)  # a TypeError where something is given twice


def test_weights_of_a_builder_are_named_as_its_enum_names_them():
    weights = parameters_of(models.resnet50)["weights"]

    assert weights.default is None
    assert weights.annotation == Literal["IMAGENET1K_V1", "IMAGENET1K_V2", "DEFAULT"] | None
    assert set(models.ResNet50_Weights.__members__) == {"IMAGENET1K_V1", "IMAGENET1K_V2", "DEFAULT"}


@pytest.mark.parametrize("weights", [None, "DEFAULT", "IMAGENET1K_V1"])
def test_weights_that_a_builder_has_are_passed_on_by_their_name(weights):
    assert check(models.resnet18, {"weights": weights}) == ({"weights": weights}, [])


@pytest.mark.parametrize("weights", ["IMAGENET1K_V2", "default", "", True, 1])
def test_weights_that_a_builder_does_not_have_are_told_with_those_that_it_has(weights):
    _, [problem] = check(models.resnet18, {"weights": weights})

    assert problem == ("weights", f"should be 'IMAGENET1K_V1' or 'DEFAULT', got {json.dumps(weights)}")


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
    converted, problems = checked_value(value, annotation, ("key",))

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
    _, problems = checked_value(value, annotation, ("a", 0))

    assert len(problems) == 1
    assert problems[0].path[:2] == ("a", 0)
    assert ", got " in problems[0].message


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
        ([1, 0.25], tuple[float | torch.Tensor, float | torch.Tensor], (1.0, 0.25)),
        ({"a": [1]}, dict[str, tuple[int, ...]], {"a": (1,)}),
    ],
)
def test_what_json_cannot_say_is_converted(value, annotation, converted):
    found, problems = checked_value(value, annotation, ("key",))

    assert problems == []
    assert found == converted
    assert type(found) is type(converted)


@pytest.mark.parametrize("annotation", [None, REQUIRED, Any, nn.Module, "NoSuchName", Optional["NoSuchName"]])  # noqa: F821
@pytest.mark.parametrize("value", [None, True, 3, "x", [1], {"a": 1}])
def test_of_an_unknown_type_everything_is_taken_as_it_is(annotation, value):
    assert checked_value(value, annotation, ("key",)) == (value, [])


@pytest.mark.parametrize(
    ("value", "annotation", "is_right"),
    [
        ([None, 3, "x", [1]], list["NoSuchName"], True),  # noqa: F821
        ({"a": None, "b": [1]}, dict[str, "NoSuchName"], True),  # noqa: F821
        ((1, "x"), tuple["NoSuchName", ...], True),  # noqa: F821
        ("x", list["NoSuchName"], False),  # noqa: F821
        ([1], dict[str, "NoSuchName"], False),  # noqa: F821
    ],
)
def test_a_list_or_a_dict_of_an_unknown_type_holds_anything(value, annotation, is_right):
    assert (checked_value(value, annotation, ("key",))[1] == []) == is_right


@pytest.mark.parametrize("name", ["float33", "Tensor", "nn", "__name__", "load"])
def test_only_a_dtype_is_read_as_one(name):
    converted, _ = checked_value(name, torch.dtype, ("key",))

    assert converted == name


@pytest.mark.parametrize("annotation", [torch.Tensor, torch.Tensor | None, int | list[float] | torch.Tensor])
@pytest.mark.parametrize("value", [[1, 2.5], [0.5]])
def test_a_list_of_numbers_is_a_tensor_where_one_is_wanted(annotation, value):
    converted, problems = checked_value(value, annotation, ("key",))

    assert problems == []
    assert isinstance(converted, torch.Tensor)
    assert converted.dtype == torch.float32
    assert converted.tolist() == value


@pytest.mark.parametrize("value", ["x", [1, "x"], [[1.0]], True, 3])
def test_what_is_no_list_of_numbers_is_refused_in_words_where_a_tensor_is_wanted(value):
    _, problems = checked_value(value, torch.Tensor | None, ("key",))

    assert problems == [Problem(("key",), f"should be a list of numbers or null, got {json.dumps(value)}")]


@pytest.mark.parametrize(
    ("annotation", "right", "wrong"),
    [
        (Number, [1, 0.5], ["1", None, True, [1]]),
        (Number | Sequence, [1, 0.5, [1, 2]], ["1", True]),
        (Iterable[int], [[], [1, 2]], [["x"], [1.5], 1, "12"]),
        (Path, ["a b", ""], ["a\0b", 5]),
    ],
)
def test_words_of_libraries_for_numbers_lists_and_paths_are_understood(annotation, right, wrong):
    assert [checked_value(value, annotation, ("key",))[1] for value in right] == [[]] * len(right)
    assert [len(checked_value(value, annotation, ("key",))[1]) for value in wrong] == [1] * len(wrong)


def test_a_list_of_numbers_is_no_number_that_may_be_a_tensor():
    _, problems = checked_value([0.1, 0.2], float | torch.Tensor, ("key",))

    assert problems == [Problem(("key",), "should be a valid number, got [0.1, 0.2]")]


def test_a_pair_of_numbers_for_an_optimizer_stays_as_exact_as_it_is_written():
    found, problems = check(optim.Adam, {"betas": [0.9, 0.999]}, given=["params"])

    assert problems == []
    assert found == {"betas": (0.9, 0.999)}
    assert [type(beta) for beta in found["betas"]] == [float, float]


def test_inside_a_tuple_what_json_can_say_of_a_union_is_checked():
    pair = tuple[float | torch.Tensor, float | torch.Tensor]

    wrong = [checked_value(value, pair, ("key",))[1] for value in ([0.9, "x"], [True, 0.9], [0.9], [1, 2, 3], "ab")]

    paths = [[problem.path for problem in problems] for problems in wrong]
    assert paths == [[("key", 1)], [("key", 0)], [("key",)], [("key",)], [("key",)]]


def test_a_function_cannot_be_named_where_one_is_wanted():
    _, problems = checked_value("os.system", Callable[[int], float], ("key",))

    assert problems == [Problem(("key",), 'should be callable, got "os.system"')]


def test_each_branch_of_a_union_says_what_it_wants():
    _, problems = checked_value("3", int | None | list[int], ("key",))

    assert problems == [Problem(("key",), 'should be a valid integer or a valid array, got "3"')]


@pytest.mark.parametrize(
    ("value", "annotation", "path", "said"),
    [
        ([1, "3"], list[int], (1,), 'should be a valid integer, got "3"'),
        ([1, "3"], int | None | list[int], (1,), 'should be a valid integer, got "3"'),
        ([1, "N"], Literal["x", "y"] | list[int | Literal["M"]], (1,), "should be a valid integer or 'M', "),
        ({"a": [1, None]}, dict[str, list[int]], ("a", 1), "should be a valid integer, got null"),
        ({"a": [1, None]}, dict[str, list[int]] | None, ("a", 1), "should be a valid integer, got null"),
        ([[1], [2, "x"]], list[tuple[int, ...]], (1, 1), 'should be a valid integer, got "x"'),
        ([5, "x"], list[Annotated[int, Ge(9)]], (0,), "should be greater than or equal to 9, got 5"),
        ({"b": 1}, list[int], (), 'should be a valid array, got {"b": 1}'),
    ],
)
def test_the_deepest_place_of_what_is_wrong_is_told(value, annotation, path, said):
    _, [problem] = checked_value(value, annotation, ("key",))

    assert problem.path == ("key", *path)
    assert problem.message.startswith(said)


def test_a_wrong_layer_of_a_network_is_pointed_at():
    _, [problem] = check(VGG, {"layers": [16, "N", 32]}, supplied=["num_classes"])

    assert problem == ("layers", 1, "should be a valid integer or 'M', got \"N\"")


def test_a_long_value_is_cut_in_the_message():
    _, problems = checked_value("x" * 10_000, int, ("key",))

    assert len(problems[0].message) < 150


def test_text_in_a_message_is_shown_as_it_was_written():
    _, [problem] = checked_value("숫자", int, ("key",))

    assert problem.message.endswith(', got "숫자"')


def test_a_type_that_cannot_be_hashed_is_checked_too():
    assert checked_value(3, Annotated[int, Ge(1), []], ("key",)) == (3, [])
    assert checked_value("x", Annotated[int, Ge(1), []], ("key",))[1] != []


def test_what_json_cannot_say_has_no_adapter():
    assert [adapter_of(annotation) for annotation in (None, REQUIRED, Any, nn.Module)] == [None] * 4
    assert adapter_of(int) is not None


# --- a section ---------------------------------------------------------------------------------------------------


def test_arguments_that_fit_are_converted_and_nothing_is_added():
    converted, problems = check(RandomResizedCrop, {"size": [8, 8], "scale": [0.5, 1], "interpolation": "nearest"})

    assert problems == []
    assert converted == {"size": [8, 8], "scale": (0.5, 1.0), "interpolation": "nearest"}


def test_only_right_values_are_in_the_result():
    converted, problems = check(Thing, {"size": "1", "name": "y", "scale": 0.5, "flag": 0, "other": 1})

    assert converted == {"name": "y", "scale": 0.5}
    assert [problem[0] for problem in problems] == ["size", "flag", "other"]


def test_an_unknown_name_is_told_with_the_nearest_and_all_there_are():
    _, problems = check(Thing, {"size": 1, "nmae": "y"})

    assert problems == [("nmae", "Thing has no 'nmae'. Did you mean 'name'? It takes: size, name, scale, rate, flag.")]


def test_a_target_whose_name_says_nothing_to_a_user_is_given_one():
    _, problems = checked_arguments(Thing, {"other": 1}, ("box",), name="a box")

    assert problems == [
        Problem(("box", "other"), "a box has no 'other'. It takes: size, name, scale, rate, flag."),
        Problem(("box",), "a box needs 'size'"),
    ]


def test_a_target_that_takes_nothing_says_so():
    assert check(object, {"x": 1}) == ({}, [("x", "object has no 'x'. It takes nothing.")])


def test_what_is_missing_and_only_misspelt_is_one_problem():
    _, problems = check(Thing, {"name": 5, "sise": 1})

    assert problems == [
        ("name", "should be a valid string, got 5"),
        ("sise", "Thing has no 'sise'. Did you mean 'size'? It takes: size, name, scale, rate, flag."),
    ]


def test_what_is_missing_and_not_meant_by_anything_is_told_after_the_others():
    _, problems = check(Thing, {"colour": 1})

    assert [problem[0] for problem in problems] == ["colour", "Thing needs 'size'"]


def test_what_is_there_and_wrong_is_not_missing():
    _, problems = check(Thing, {"size": None})

    assert problems == [("size", "should be a valid integer, got null")]


def test_what_the_program_supplies_or_gives_need_not_be_written():
    assert check(Thing, {}, supplied=["size"]) == ({}, [])
    assert check(Thing, {}, given=["size"]) == ({}, [])


def test_what_the_program_gives_must_not_be_written_and_is_not_listed():
    converted, problems = check(Thing, {"size": 1, "x": 2}, given=["size"])

    assert converted == {}
    assert problems == [
        ("size", "is passed by the program; remove it from the config"),
        ("x", "Thing has no 'x'. It takes: name, scale, rate, flag."),
    ]


def test_what_the_program_supplies_may_be_written_and_is_checked():
    assert check(Thing, {"size": 4}, supplied=["size"]) == ({"size": 4}, [])
    assert len(check(Thing, {"size": "4"}, supplied=["size"])[1]) == 1


@repeatable
@given(
    st.dictionaries(st.sampled_from(["size", "name", "scale", "rate", "flag", "rest", "options", "self"]), json_values)
)
def test_any_arguments_are_right_or_told_of_by_name_and_never_an_error(args):
    converted, problems = check(Thing, args)

    told = {problem[0] for problem in problems if len(problem) > 1}
    assert set(converted) | told == set(args)
    assert not set(converted) & told
    assert converted.keys() <= {"size", "name", "scale", "rate", "flag"}


def test_a_number_beyond_all_floats_is_a_problem_or_a_number_but_no_error():
    converted, problems = checked_value(10**400, float, ("key",))

    assert problems or math.isinf(converted)
