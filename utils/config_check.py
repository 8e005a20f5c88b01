"""From a `{"type", "args"}` section to the class it names and checked arguments: a plan of what will be built.

Sections are described in the menu of each room and joined in parse_config.py; nothing is built before all are checked.
"""

import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.config_file import suggest
from utils.config_signature import REQUIRED, checked_arguments, parameters_of
from utils.config_table import Table
from utils.errors import ConfigError

# What a constructor raises when it does not like a value; anything else is a mistake in code. Only libraries are known
# to use the last three for that: in one's own class they are mistakes too, and keep their traceback.
JUDGEMENTS = (ValueError, TypeError, KeyError, AssertionError)
LIBRARIES = ("torch", "torchvision", "torchmetrics")


@dataclass(frozen=True)
class Section:
    """How one section, or one kind of nested object, is understood.

    Args:
        table: what its type may be.
        given: arguments that the program always passes where the constructor takes them; a config must not.
        offered: arguments that the program fills in where the constructor takes them and the config is silent.
        keys: keys that may stand beside "type" and "args".
    """

    table: Table
    given: frozenset[str] = frozenset()
    offered: frozenset[str] = frozenset()
    keys: frozenset[str] = frozenset()


@dataclass
class Plan:
    """A checked section: what will be built, of what. Values of `args` may be plans themselves, or lists of plans."""

    where: str
    target: Callable[..., Any]
    args: dict[str, Any]

    @property
    def type_name(self) -> str:
        """The class's or function's own name."""
        return self.target.__name__

    def takes(self, name: str) -> bool:
        """Whether the constructor has such a parameter."""
        return name in parameters_of(self.target)

    def build(self, make: Callable[..., Any] | None = None, **supplied: Any) -> Any:
        """Calls the constructor, inner objects first; each receives those of `supplied` that it takes.

        A function becomes a partial of it.

        Args:
            make: is called instead of the target, with the same arguments.

        Raises:
            ConfigError: the constructor does not like a value.
        """
        passed = {name: value for name, value in supplied.items() if name not in self.args and self.takes(name)}
        args = {name: _built(value, supplied) for name, value in self.args.items()}
        if inspect.isfunction(self.target) and make is None:
            return functools.partial(self.target, **args, **passed) if args or passed else self.target
        judgements = JUDGEMENTS if self.target.__module__.split(".")[0] in LIBRARIES else ValueError
        try:
            return (make or self.target)(**args, **passed)
        except judgements as error:
            raise ConfigError(f"{self.where}: {self.type_name} says: {error}") from error


def plan_section(
    spec: Any, where: str, section: Section, nested: Mapping[str, Section], root: Path
) -> tuple[Plan | None, list[str]]:
    """Checks a section and everything inside it; nothing is built.

    Args:
        spec: `{"type", "args"}`, or a bare name.
        where: its path in the config, for messages.
        section: see `Section`.
        nested: parameters (by name) whose values are objects to build, and what those may be.
        root: relative paths are relative to it.

    Returns:
        The plan, or None where the type is not known, and all problems found.
    """
    spec = {"type": spec} if isinstance(spec, str) else spec
    if not isinstance(spec, Mapping) or not isinstance(spec.get("type"), str):
        return None, [f'{where}: expected {{"type": NAME, "args": {{...}}}} or a name, got {spec!r:.80}']
    allowed = ["type", "args", *sorted(section.keys)]
    problems = [f"{where}.{key}: unknown key.{suggest(key, allowed)}" for key in spec if key not in allowed]
    name, args = spec["type"], spec.get("args")
    args = {} if args is None else args
    target = section.table.find(name)
    if target is None:
        return None, [*problems, _unknown_type(name, where, section.table)]
    if not isinstance(args, Mapping):
        return None, [*problems, f"{where}.args: expected an object, got {args!r:.80}"]
    parameters = parameters_of(target)
    given = set(section.given)
    if inspect.isfunction(target) and section.table.function_takes and not section.table.builders:
        given |= set(list(parameters)[: len(section.table.function_takes)])
    inner = {key: value for key, value in args.items() if key in nested and key in parameters and key not in given}
    plain = {key: value for key, value in args.items() if key not in inner}
    converted, found = checked_arguments(
        target, plain, where, supplied=set(section.offered) | set(inner), given=given & set(parameters)
    )
    problems += found
    for key, parameter in parameters.items():
        value = converted.get(key, parameter.default)
        if isinstance(value, Path):
            converted[key] = root / value.expanduser()
    for key, value in inner.items():
        place, problem = f"{where}.args.{key}", _wrong_shape(value, parameters[key].annotation)
        if problem:
            problems.append(f"{place}: {problem}")
            continue
        converted[key], found = _plan_nested(value, place, nested[key], nested, root)
        problems += found
    return Plan(where, target, converted), problems


def _plan_nested(
    value: Any, where: str, section: Section, nested: Mapping[str, Section], root: Path
) -> tuple[Any, list[str]]:
    if value is None:
        return None, []
    if isinstance(value, list | tuple):
        pairs = [plan_section(item, f"{where}.{i}", section, nested, root) for i, item in enumerate(value)]
        return [plan for plan, _ in pairs], [problem for _, problems in pairs for problem in problems]
    return plan_section(value, where, section, nested, root)


def _wrong_shape(value: Any, annotation: Any) -> str | None:
    """What is wrong where a parameter takes a list of objects and is given one, or the other way round, or null."""
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    branches = typing.get_args(annotation) if is_union else (annotation,)
    kinds = {typing.get_origin(branch) or branch for branch in branches}
    if kinds & {None, Any, REQUIRED}:
        return None
    takes_list = bool(kinds & {list, tuple, Sequence, Iterable})
    if value is None:
        return None if types.NoneType in kinds else "must not be null"
    if takes_list and not isinstance(value, list | tuple):
        return f"expected a list, got {value!r:.80}"
    if not takes_list and isinstance(value, list | tuple):
        return f"expected one object, not a list, got {value!r:.80}"
    return None


def _unknown_type(name: str, where: str, table: Table) -> str:
    reason = table.refused.get(name.rpartition(".")[2])
    if reason:
        return f"{where}.type: '{name}' makes no sense here: {reason}"
    return f"{where}.type: '{name[:80]}' is not {table.what}.{suggest(name, table.menu())}"


def _built(value: Any, supplied: dict[str, Any]) -> Any:
    if isinstance(value, Plan):
        return value.build(**supplied)
    return [_built(item, supplied) for item in value] if isinstance(value, list) else value
