"""A constructor's signature as a schema: which arguments it takes, and whether JSON values fit their annotations.

Used by config_check.py; what a type may be and where it is looked up is decided there.
"""

import collections.abc
import enum
import functools
import inspect
import json
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from numbers import Number
from pathlib import Path
from typing import Any

import pydantic
import torch

from utils.config_layers import Problem
from utils.config_tree import ABSENT, KeyPath, get_by_path, suggest

REQUIRED = inspect.Parameter.empty
LIBRARIES = ("torch", "torchvision", "torchmetrics", "timm")


@dataclass(frozen=True)
class Parameter:
    """Of a constructor: annotation (None where unknown) and default (REQUIRED for none, ABSENT where unknown)."""

    annotation: Any
    default: Any


@functools.cache
def parameters_of(target: Callable[..., Any]) -> dict[str, Parameter]:
    """The named parameters of a class or function; those behind `**options: Unpack[...]` are written out.

    A model builder of torchvision passes its `**kwargs` on to the class that it returns.
    """
    parameters: dict[str, Parameter] = {}
    for name, parameter in inspect.signature(target).parameters.items():
        annotation = evaluated(parameter.annotation, target)
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            parameters |= _behind_kwargs(annotation, target, parameters)
        elif name == "weights" and (weights := _enum_in(annotation)):
            # torchvision's builders take an enum of weights; a config gives the member's name.
            names = typing.Literal[tuple(weights.__members__)]  # type: ignore[valid-type]
            parameters[name] = Parameter(names | None, None)
        elif parameter.kind is not inspect.Parameter.VAR_POSITIONAL:
            parameters[name] = Parameter(annotation, parameter.default)
    return parameters


def _behind_kwargs(annotation: Any, target: Callable[..., Any], known: dict[str, Parameter]) -> dict[str, Parameter]:
    if typing.get_origin(annotation) is typing.Unpack:
        hints = typing.get_type_hints(typing.get_args(annotation)[0], include_extras=True)
        return {name: Parameter(hint, ABSENT) for name, hint in hints.items() if name not in known}
    returned = evaluated(inspect.signature(target).return_annotation, target)
    if inspect.isclass(returned) and issubclass(returned, torch.nn.Module):
        by_builder = ["self", "block", "layers", "stage_sizes", "version", "last_channel"]
        by_builder += ["growth_rate", "block_config", "num_init_features"]
        return {
            name: parameter
            for name, parameter in parameters_of(returned).items()  # type: ignore[arg-type]
            if name not in known and name not in by_builder and parameter.default is not REQUIRED
        }
    return {}


def checked_arguments(
    target: Callable[..., Any],
    args: Mapping[str, Any],
    path: KeyPath,
    *,
    name: str = "",
    supplied: Set[str] = frozenset(),
    given: Set[str] = frozenset(),
) -> tuple[dict[str, Any], list[Problem]]:
    """Holds arguments in a config against the signature that will receive them.

    Args:
        target: the class or function.
        args: plain JSON values.
        path: of `args` in the config.
        name: of the target in messages, where its own says nothing to a user.
        supplied: names that the program can fill in where the config is silent.
        given: names that the program always passes, which a config must not.

    Returns:
        The right arguments, converted where the annotation asks for it (lists to tuples, strings to enums and paths),
        and the problems found. What is missing and only misspelt is one problem, not two.
    """
    parameters = parameters_of(target)
    name = name or target.__name__
    takes = [parameter for parameter in parameters if parameter not in given]
    converted: dict[str, Any] = {}
    problems, meant = [], set()
    for key, value in args.items():
        if key in given:
            problems.append(Problem((*path, key), "is passed by the program; remove it from the config"))
        elif key not in parameters:
            listed = f" It takes: {', '.join(takes)}." if takes else " It takes nothing."
            hint = suggest(key, takes)
            meant |= {parameter for parameter in takes if f"'{parameter}'" in hint}
            problems.append(Problem((*path, key), f"{name} has no '{key}'.{hint}{listed}"))
        else:
            as_wanted, found = checked_value(value, parameters[key].annotation, (*path, key))
            problems += found
            converted |= {} if found else {key: as_wanted}
    for key, parameter in parameters.items():
        if parameter.default is REQUIRED and key not in {*args, *supplied, *given, *meant}:
            problems.append(Problem(path, f"{name} needs '{key}'"))
    return converted, problems


def checked_value(value: Any, annotation: Any, path: KeyPath) -> tuple[Any, list[Problem]]:
    """The value as its annotation wants it, and what is wrong with it."""
    # Not getattr: torch imports some of its modules by that, and warns of old names.
    named_dtype = vars(torch).get(value) if isinstance(value, str) and mentions(annotation, torch.dtype) else None
    if isinstance(named_dtype, torch.dtype):
        return named_dtype, []
    numbers = isinstance(value, list) and value and all(type(item) in (int, float) for item in value)
    # `float | Tensor` is one number: a list of one would train, and be saved and shown as something else.
    if numbers and torch.Tensor in branches_of(annotation) and float not in branches_of(annotation):
        return torch.tensor(value, dtype=torch.float32), []
    adapter = adapter_of(annotation)
    if adapter is None:
        return value, []
    try:
        converted = adapter.validate_json(json.dumps(value), strict=True)
    except pydantic.ValidationError as error:
        # Of a union every branch complains; the branch that came furthest is the one that was meant.
        told = [(_place_in(value, detail["loc"]), detail["msg"].removeprefix("Input ")) for detail in error.errors()]
        inside = max((place for place, _ in told), key=len)
        text = " or ".join(dict.fromkeys(reason for place, reason in told if place == inside))
        if not inside and torch.Tensor in branches_of(annotation) and float not in branches_of(annotation):
            text = f"should be a list of numbers or {text.removeprefix('should be ')}"
        text = text.replace(" or should be ", " or ")
        shown = json.dumps(get_by_path(value, inside), ensure_ascii=False)[:80]
        return value, [Problem((*path, *inside), f"{text}, got {shown}")]
    if type(converted) is int and type(value) is not int:  # pydantic takes true and 1.0 for Literal[1]
        return value, [Problem(path, f"should be an integer, got {json.dumps(value)}")]
    if isinstance(converted, Path) and "\0" in str(converted):
        return value, [Problem(path, f"no path has a NUL in it, got {json.dumps(value)[:80]}")]
    return converted, []


def _place_in(value: Any, location: tuple[str | int, ...]) -> KeyPath:
    """Where a complaint of pydantic points to: between keys and indices it names branches of unions."""
    place: KeyPath = ()
    for key in location:
        if get_by_path(value, (*place, key), ABSENT) is not ABSENT:
            place = (*place, key)
    return place


def adapter_of(annotation: Any) -> pydantic.TypeAdapter | None:
    """Checks values of a type; None where JSON cannot say such a thing, or the type is unknown."""
    try:
        return _adapter_of(annotation)
    except TypeError:  # not hashable, such as a Literal of lists
        return _adapter_of.__wrapped__(annotation)


@functools.cache
def _adapter_of(annotation: Any) -> pydantic.TypeAdapter | None:
    known = _in_json(annotation)
    return None if known is None else pydantic.TypeAdapter(known)


def _in_json(annotation: Any) -> Any:
    """The annotation without what JSON cannot say, as in `float | Tensor`; None where nothing is left."""
    if annotation is None or annotation is REQUIRED or annotation is Any:
        return None
    if annotation is Number:  # torchvision's word for it, as in `Number | Sequence`
        return int | float
    origin, branches = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        if any(isinstance(branch, typing.ForwardRef) and _in_json(branch) is None for branch in branches):
            return None  # a name that only the target's own module knows may be of anything
        left = tuple(branch for branch in map(_in_json, branches) if branch is not None)
        return typing.Union[left] if left else None  # noqa: UP007  built at run time
    if origin in (list, tuple, dict, Sequence, Iterable, Mapping):
        inner = tuple(branch if branch is ... else _in_json(branch) for branch in branches)
        if inner != branches:
            annotation = origin[tuple(Any if branch is None else branch for branch in inner)]
    if origin is Iterable:  # pydantic would only look at the items when they are asked for
        annotation = list[typing.get_args(annotation)[0]]  # type: ignore[misc]  # made at run time
    try:
        # Incomplete with a name inside it that only the target's own module knows, as in `list["Thing"]`.
        return annotation if pydantic.TypeAdapter(annotation).pydantic_complete else None
    except (pydantic.PydanticSchemaGenerationError, pydantic.PydanticUserError, NameError):
        return None


def evaluated(annotation: Any, target: Callable[..., Any]) -> Any:
    """An annotation that may be a string, in the names of its module.

    None where a library's cannot be evaluated, because its name is only known to type checkers: such a value is not
    checked. What one's own class gets wrong is raised.
    """
    if not isinstance(annotation, str):
        return annotation
    function = target.__init__ if inspect.isclass(target) else target
    names = {**vars(typing), **vars(collections.abc), **getattr(inspect.unwrap(function), "__globals__", {})}
    try:
        return eval(annotation, names)
    except Exception:
        if is_library(target):
            return None
        raise


def is_library(target: Any) -> bool:
    """Whether this is not one's own code, so that what it raises at a value is the value's fault."""
    return str(target.__module__).partition(".")[0] in LIBRARIES


def mentions(annotation: Any, wanted: Any) -> bool:
    return annotation is wanted or any(mentions(branch, wanted) for branch in typing.get_args(annotation))


def branches_of(annotation: Any) -> tuple[Any, ...]:
    """What a union may be, or the annotation alone."""
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return typing.get_args(annotation) if is_union else (annotation,)


def _enum_in(annotation: Any) -> type[enum.Enum] | None:
    branches = (annotation, *typing.get_args(annotation))
    return next((branch for branch in branches if inspect.isclass(branch) and issubclass(branch, enum.Enum)), None)
