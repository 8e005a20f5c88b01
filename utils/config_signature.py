"""A constructor's signature as a schema: which arguments it takes, and whether JSON values fit their annotations.

Used by config_check.py; what a type may be and where it is looked up is decided there.
"""

import enum
import inspect
import json
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pydantic
import torch

from utils.config_file import suggest

REQUIRED = inspect.Parameter.empty


@dataclass(frozen=True)
class Parameter:
    """One parameter of a constructor: its annotation (None where unknown) and its default, or REQUIRED."""

    annotation: Any
    default: Any


def parameters_of(target: Callable[..., Any]) -> dict[str, Parameter]:
    """The named parameters of a class or function; those behind `**options: Unpack[...]` are written out.

    A model builder of torchvision passes its `**kwargs` on to the class that it returns.
    """
    parameters: dict[str, Parameter] = {}
    for name, parameter in inspect.signature(target).parameters.items():
        annotation = evaluated(parameter.annotation, target)
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            parameters |= _behind_kwargs(annotation, target, parameters)
        elif name == "weights" and _mentions_enum(annotation):
            # torchvision's builders take an enum of weights; a config gives the member's name.
            parameters[name] = Parameter(str | None, None)
        elif parameter.kind is not inspect.Parameter.VAR_POSITIONAL:
            parameters[name] = Parameter(annotation, parameter.default)
    return parameters


def _behind_kwargs(annotation: Any, target: Callable[..., Any], known: dict[str, Parameter]) -> dict[str, Parameter]:
    if typing.get_origin(annotation) is typing.Unpack:
        hints = typing.get_type_hints(typing.get_args(annotation)[0])
        return {name: Parameter(hint, None) for name, hint in hints.items() if name not in known}
    returned = evaluated(inspect.signature(target).return_annotation, target)
    if inspect.isclass(returned) and issubclass(returned, torch.nn.Module):
        given_by_builder = ("self", "block", "layers", "stage_sizes")
        return {
            name: parameter
            for name, parameter in parameters_of(returned).items()
            if name not in known and name not in given_by_builder and parameter.default is not REQUIRED
        }
    return {}


def checked_arguments(
    target: Callable[..., Any], args: Mapping[str, Any], where: str, *, supplied: set[str], given: set[str]
) -> tuple[dict[str, Any], list[str]]:
    """Holds a section's arguments against the signature that will receive them.

    Args:
        target: the class or function.
        args: plain JSON values.
        where: the section's path, for messages.
        supplied: names that the program can fill in where the config is silent.
        given: names that the program always passes, which a config must not.

    Returns:
        The arguments, converted where the annotation asks for it (lists to tuples, strings to enums and paths), and
        the problems found.
    """
    parameters = parameters_of(target)
    problems, converted = [], {}
    takes = [name for name in parameters if name not in given]
    name_of_target = target.__name__
    for name, value in args.items():
        place = f"{where}.args.{name}"
        if name in given:
            problems.append(f"{place}: is passed by the program; remove it from the config")
        elif name not in parameters:
            listed = f" It takes: {', '.join(takes)}." if takes else " It takes nothing."
            problems.append(f"{place}: {name_of_target} has no '{name}'.{suggest(name, takes)}{listed}")
        else:
            converted[name], problem = _converted(value, parameters[name].annotation)
            if problem:
                problems.append(f"{place}: {problem}")
    for name, parameter in parameters.items():
        if parameter.default is REQUIRED and name not in args and name not in supplied | given:
            problems.append(f"{where}.args: {name_of_target} needs '{name}'")
    return converted, problems


def checked_value(value: Any, annotation: Any, where: str) -> tuple[Any, list[str]]:
    """The same for a single value, such as a key of the top level."""
    converted, problem = _converted(value, annotation)
    return converted, [f"{where}: {problem}"] if problem else []


def _converted(value: Any, annotation: Any) -> tuple[Any, str | None]:
    """The value as its annotation wants it, or what is wrong with it."""
    if (
        isinstance(value, str)
        and _mentions(annotation, torch.dtype)
        and isinstance(getattr(torch, value, 0), torch.dtype)
    ):
        return getattr(torch, value), None
    numbers = isinstance(value, list) and value and all(type(item) in (int, float) for item in value)
    if numbers and _mentions(annotation, torch.Tensor):
        return torch.tensor(value, dtype=torch.float32), None
    adapter = _adapter(annotation)
    if adapter is None:
        return value, None
    try:
        converted = adapter.validate_json(json.dumps(value), strict=True)
    except pydantic.ValidationError as error:
        # Of a union every branch complains; the first complaint about the value itself is the plainest.
        details = min(error.errors(), key=lambda e: len(e["loc"]))
        reasons = list(dict.fromkeys(e["msg"] for e in error.errors() if len(e["loc"]) == len(details["loc"])))
        text = " or ".join(reason.removeprefix("Input ") for reason in reasons)
        return value, f"{text}, got {json.dumps(value, ensure_ascii=False)[:80]}"
    if type(converted) is int and type(value) is not int:  # pydantic takes true and 1.0 for Literal[1]
        return value, f"should be an integer, got {json.dumps(value)}"
    return converted, None


def _adapter(annotation: Any) -> pydantic.TypeAdapter | None:
    """Checks values of a type; None where JSON cannot say such a thing, or the type is unknown."""
    if annotation is None or annotation is REQUIRED or annotation is Any:
        return None
    try:
        adapter = pydantic.TypeAdapter(annotation)
        # Incomplete with a name inside it that only the target's own module knows, as in `list["Thing"]`.
        return adapter if adapter.pydantic_complete else None
    except (pydantic.PydanticSchemaGenerationError, pydantic.PydanticUserError, NameError):
        pass
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        branches = tuple(branch for branch in typing.get_args(annotation) if _adapter(branch) is not None)
        union: Any = typing.Union[branches] if branches else None  # noqa: UP007  built at run time
        return pydantic.TypeAdapter(union) if branches else None
    return None


def evaluated(annotation: Any, target: Callable[..., Any]) -> Any:
    """An annotation that may be a string, in the names of its module; None where that fails."""
    if not isinstance(annotation, str):
        return annotation
    function = target.__init__ if inspect.isclass(target) else target
    names = {**vars(typing), **getattr(inspect.unwrap(function), "__globals__", {})}
    try:
        return eval(annotation, names)
    except Exception:  # noqa: BLE001  names under TYPE_CHECKING, whatever: an unknown type is not checked
        return None


def _mentions(annotation: Any, wanted: Any) -> bool:
    return annotation is wanted or any(_mentions(branch, wanted) for branch in typing.get_args(annotation))


def _mentions_enum(annotation: Any) -> bool:
    branches = (annotation, *typing.get_args(annotation))
    return any(inspect.isclass(branch) and issubclass(branch, enum.Enum) for branch in branches)
