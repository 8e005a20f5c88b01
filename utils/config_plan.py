"""A checked section: what will be built, of what. Also tries constructors out, so that they judge their values early.

Made by config_check.py. What a section may name, and whether a value has the right type, is decided there.
"""

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from utils.config_layers import Problem
from utils.config_signature import REQUIRED, is_library, parameters_of
from utils.config_tree import KeyPath, dotted
from utils.errors import ConfigError


@dataclass
class Plan:
    """What will be built. Values of `args` may be plans themselves, or lists of plans."""

    path: KeyPath
    target: Callable[..., Any]
    args: dict[str, Any]
    is_whole: bool = True  # false where something inside it is not known

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
        passed = {name: value for name, value in supplied.items() if self.takes(name)}
        args = {name: _built(value, supplied) for name, value in self.args.items()}
        if inspect.isfunction(self.target) and make is None:
            return functools.partial(self.target, **{**passed, **args}) if args or passed else self.target
        try:
            return (make or self.target)(**{**passed, **args})
        except Exception as error:
            if isinstance(error, ConfigError) or not _judges(self.target, error):
                raise
            blamed = self._blamed(args, passed, error) if make is None else None
            raise ConfigError(self._says(error), dotted(self._place(blamed))) from error

    def try_out(
        self, make: Callable[..., Any] | None = None, offered: Mapping[str, Any] | None = None, **supplied: Any
    ) -> tuple[Any, list[Problem]]:
        """Builds to find out what constructors say to their values.

        An argument that is refused is left out then, so that all of them are found.

        Args:
            make: is called instead of the target, with the same arguments.
            offered: for this object alone; objects inside it are not filled in.
            supplied: for them too.

        Returns:
            The object, or None where something is wrong with it, and the problems.
        """
        passed = {name: value for name, value in {**(offered or {}), **supplied}.items() if self.takes(name)}
        args, problems, is_whole = {}, [], self.is_whole
        for name, value in self.args.items():
            args[name], found = _tried_out(value, supplied)
            problems += found
            is_whole &= not _is_lost(value, args[name])
        is_whole &= all(key in args or key in passed for key in parameters_of(self.target) if self._needs(key))
        if problems or not is_whole or (inspect.isfunction(self.target) and not is_library(self.target)):
            return None, problems
        while True:
            try:
                built = (make or self.target)(**{**passed, **args})
            except Exception as error:
                if not _judges(self.target, error):
                    raise
                blamed = self._blamed(args, passed, error, make)
                problems.append(Problem(self._place(blamed), self._says(error)))
                if blamed is None or (self._needs(blamed) and blamed not in passed):
                    return None, problems
                del args[blamed]
            else:
                return None if problems else built, problems

    def on_meta(self, **arguments: Any) -> Any:
        """Builds it without memory for its tensors, to be tried out; None where that tells nothing.

        Some constructors cannot work without numbers in their tensors, and say so; that is not the config's fault.
        """
        if is_library(self.target):
            arguments.pop("weights", None)  # would be fetched
        try:
            with torch.device("meta"):
                return self.target(**arguments)
        except Exception as error:
            if (isinstance(error, RuntimeError) and "meta" in str(error).lower()) or not _judges(self.target, error):
                return None
            raise

    def _blamed(
        self, args: dict[str, Any], passed: dict[str, Any], error: Exception, make: Callable[..., Any] | None = None
    ) -> str | None:
        """The argument that is at fault: without it the complaint is gone, or another. None where it cannot be told."""
        others = {}
        for name in args:
            if not self._needs(name) or name in passed:
                rest = {key: value for key, value in args.items() if key != name}
                try:
                    (make or self.target)(**{**passed, **rest})
                except Exception as other:  # noqa: BLE001  the question is only whether it is the same
                    others[name] = str(other)
                else:
                    return name
        for name, complaint in others.items():
            # Some list all their numbers: another number in it is no other complaint.
            if re.sub(r"[\d.]+", "", complaint) != re.sub(r"[\d.]+", "", str(error)):
                return name
        if len(args) == 1:
            return next(iter(args))
        named = [name for name in args if re.search(rf"\b{re.escape(name)}\b", str(error))]
        return named[0] if len(named) == 1 else None

    def _needs(self, name: str) -> bool:
        return self.takes(name) and parameters_of(self.target)[name].default is REQUIRED

    def _place(self, argument: str | None) -> KeyPath:
        return self.path if argument is None else (*self.path, "args", argument)

    def _says(self, error: Exception) -> str:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return f"{self.type_name} says: {reason[:300]}"


def _judges(target: Callable[..., Any], error: Exception) -> bool:
    """Whether what was raised is a judgement on values, and not a mistake in code.

    A library is not at fault. In one's own class only ValueError is meant for the user of the class; torch says with a
    RuntimeError that something is too large.
    """
    return is_library(target) or isinstance(error, ValueError) or "memory" in str(error)


def _built(value: Any, supplied: dict[str, Any]) -> Any:
    if isinstance(value, Plan):
        return value.build(**supplied)
    return [_built(item, supplied) for item in value] if isinstance(value, list) else value


def _tried_out(value: Any, supplied: dict[str, Any]) -> tuple[Any, list[Problem]]:
    if isinstance(value, Plan):
        return value.try_out(**supplied)
    if not isinstance(value, list) or not any(isinstance(item, Plan) for item in value):
        return value, []
    pairs = [_tried_out(item, supplied) for item in value]
    return [built for built, _ in pairs], [problem for _, problems in pairs for problem in problems]


def _is_lost(value: Any, built: Any) -> bool:
    """Whether a plan, perhaps in a list, could not be tried."""
    if isinstance(value, list):
        return any(map(_is_lost, value, built))
    return isinstance(value, Plan) and built is None
