"""From a `{"type", "args"}` section to the class it names and checked arguments: a plan of what will be built.

Sections are described in the menu of each room and joined in parse_config.py; nothing is built before all are checked.
"""

import inspect
import os
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from utils.config_layers import LayeredConfig, Word
from utils.config_plan import Plan
from utils.config_signature import REQUIRED, branches_of, checked_arguments, parameters_of
from utils.config_table import Table
from utils.config_tree import KeyPath, dotted, suggest
from utils.errors import UserError


@dataclass(frozen=True)
class Section:
    """How one section, or one kind of nested object, is understood.

    Args:
        table: what its type may be.
        given: arguments that the program always passes where the constructor takes them; a config must not.
        offered: arguments that the program fills in where the constructor takes them and the config is silent.
        keys: keys that may stand beside "type" and "args", with the annotations of their values.
    """

    table: Table
    given: frozenset[str] = frozenset()
    offered: frozenset[str] = frozenset()
    keys: Mapping[str, Any] = field(default_factory=dict)

    def given_to(self, target: Callable[..., Any]) -> set[str]:
        """Those arguments of a class or function that the program passes: of a function its first ones too."""
        parameters, given = list(parameters_of(target)), set(self.given)
        if inspect.isfunction(target) and self.table.function_takes and not self.table.builders:
            given |= set(parameters[: len(self.table.function_takes)])
        return given & set(parameters)


class Checker:
    """Checks sections and everything inside them; nothing is built.

    Args:
        config: for places in messages; problems are added to its list.
        nested: parameters (by name) whose values are objects to build, and what those may be.
        root: relative paths are relative to it.
        allowed: packages that the command line allows, see `Table.find`.
    """

    def __init__(self, config: LayeredConfig, nested: Mapping[str, Section], root: Path, allowed: Sequence[str] = ()):
        self.config = config
        self.nested = nested
        self.root = root
        self.allowed = allowed

    def plan(self, spec: Any, path: KeyPath, section: Section) -> Plan | None:
        """The plan of a section, or None where the type is not known.

        Args:
            spec: `{"type", "args"}`, or a bare name.
            path: its own, for messages.
            section: see `Section`.
        """
        type_path, args_path = (*path, "type"), (*path, "args")
        if isinstance(spec, str):
            spec, type_path = {"type": spec}, path
        if not isinstance(spec, Mapping) or not isinstance(spec.get("type"), str):
            self._add(path, f'expected {{"type": NAME, "args": {{...}}}} or a name, got {spec!r:.80}')
            return None
        keys = ["type", "args", *sorted(section.keys)]
        for key in spec:
            if key not in keys:
                self.unknown_key((*path, key), keys)
        name, args = spec["type"], spec.get("args")
        args = {} if args is None else args
        with self.noting(type_path):
            target = section.table.find(name, self.allowed)
        if target is None:
            self._add(type_path, _unknown_type(name, section.table, self.allowed))
            return None
        if not isinstance(args, Mapping):
            self._add(args_path, f"expected an object, got {args!r:.80}")
            return None
        with self.noting(type_path):
            plan = Plan(path, target, {})
            self._fill(plan, args, section)
        return plan

    def _fill(self, plan: Plan, args: Mapping[str, Any], section: Section) -> None:
        """Checks the arguments and puts those that are right into the plan."""
        path, parameters, given = plan.path, parameters_of(plan.target), section.given_to(plan.target)
        inner = {key: args[key] for key in args if key in self.nested and key in parameters and key not in given}
        plain = {key: value for key, value in args.items() if key not in inner}
        supplied = section.offered | inner.keys()
        plan.args, problems = checked_arguments(plan.target, plain, (*path, "args"), supplied=supplied, given=given)
        for problem in problems:
            self._add(problem.path, problem.message + self._type_elsewhere(path, problem.path))
        for key, parameter in parameters.items():
            value = plan.args.get(key, parameter.default)
            if isinstance(value, Path):
                plan.args[key] = self.root / os.path.expanduser(value)  # Path's own raises for an unknown user
        for key, value in inner.items():
            place, wrong = (*path, "args", key), _wrong_shape(value, parameters[key].annotation)
            if wrong:
                self._add(place, wrong)
            found = None if wrong else self._plan_nested(value, place, self.nested[key])
            plan.args |= {key: found}
            lost = None in found if isinstance(found, list) else found is None and value is not None
            plan.is_whole &= not lost

    def _plan_nested(self, value: Any, path: KeyPath, section: Section) -> Any:
        if value is None:
            return None
        if isinstance(value, list | tuple):
            return [self.plan(item, (*path, index), section) for index, item in enumerate(value)]
        return self.plan(value, path, section)

    def unknown_key(self, path: KeyPath, known: Iterable[str]) -> None:
        """Adds the problem of a key that means nothing where it stands."""
        key, where = path[-1], "the config" if len(path) == 1 else dotted(path[:-1])
        is_word = isinstance(self.config.source(path), Word)
        said = f"there is no '{key}' in {where}." if is_word else "unknown key."
        listed = "" if len(path) == 1 and suggest(str(key), known) else f" It takes: {', '.join(known)}."
        self._add(path, f"{said}{suggest(str(key), known)}{listed}")

    @contextmanager
    def noting(self, path: KeyPath) -> Iterator[None]:
        """Lets what one's own code raises pass with its traceback, and adds the line of the config that led there."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            note = f"This came of {dotted(path)} at {self.config.where(path)}"
            if note not in getattr(error, "__notes__", []):
                error.add_note(note)
            raise

    def _add(self, path: KeyPath, message: str) -> None:
        self.config.add(path, message)

    def _type_elsewhere(self, section: KeyPath, path: KeyPath) -> str:
        """Where the type was given, if not by who wrote the argument: `optimizer.type=SGD` leaves Adam's behind."""
        of_type, of_argument = self.config.source((*section, "type")), self.config.source(path)
        if of_type in (of_argument, self.config.source(section)):
            return ""
        return f" (The type is from {self.config.where((*section, 'type'))}.)"


def _wrong_shape(value: Any, annotation: Any) -> str | None:
    """What is wrong where a parameter takes a list of objects and is given one, or the other way round, or null."""
    kinds = {typing.get_origin(branch) or branch for branch in branches_of(annotation)}
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


def _unknown_type(name: str, table: Table, allowed: Sequence[str]) -> str:
    bare = name.rpartition(".")[2]
    reason = table.reason_against(bare)
    if reason:
        return f"'{name[:80]}' makes no sense here: {reason}"
    almost = table.almost(name, allowed)
    if almost:
        return f"{almost}, so it is not {table.what}"
    message = f"'{name[:80]}' is not {table.what}.{suggest(name, table.menu())}"
    return f"{message} A package of your own must be allowed: --allow PACKAGE" if "." in name else message
