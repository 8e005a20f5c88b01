"""Which names a config may use: a table says in which modules a type is looked up, and what it must be.

A config, or a checkpoint's config, can name nothing outside its table; the tables are the menus of the rooms.
"""

import fnmatch
import importlib
import importlib.util
import inspect
import pkgutil
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from utils.config_signature import evaluated
from utils.errors import ConfigError

MAX_NAME = 200  # characters of a module: Python looks it up part by part, and at hundreds raises a RecursionError


@dataclass(frozen=True)
class Table:
    """What the types of one section may be.

    Args:
        what: one such thing, for messages ("an optimizer").
        modules: names of modules to look in, in order; all modules of a package of ours count.
        base: "module:Class" that a class must be a proper subclass of; None where only functions will do.
        own_packages: packages whose functions count too, if their first two parameters are `function_takes`.
        function_takes: beginnings of the names of a function's first parameters.
        builders: whether a function counts that returns a model (`resnet18(...) -> ResNet`).
        short_names: other names for types.
        refused: types that are of the kind and make no sense here ("Binary*"), with the reason.
    """

    what: str
    modules: tuple[str, ...]
    base: str | None
    own_packages: tuple[str, ...] = ()
    function_takes: tuple[str, ...] = ()
    builders: bool = False
    short_names: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)

    def find(self, name: str, allowed: Sequence[str] = ()) -> Callable[..., Any] | None:
        """The class or function of a name, or None.

        Args:
            name: "Name", or "module.Name" with one of the table's modules or a module of an allowed package.
            allowed: packages that the command line allows, beyond the table's. Nothing else is ever imported.
        """
        wanted = self.short_names.get(name, name)
        place, _, bare = wanted.rpartition(".")
        if not bare.isidentifier() or bare.startswith("_") or self.reason_against(bare):
            return None
        for module in self._modules(place, allowed):
            if wanted in (bare, f"{module.__name__}.{bare}"):
                found = vars(module).get(bare)
                if found is not None and self._is_of_the_kind(found, module, allowed):
                    return found
        return None

    def reason_against(self, name: str) -> str | None:
        """Why a type makes no sense here."""
        return next((why for like, why in self.refused.items() if fnmatch.fnmatchcase(name, like)), None)

    def almost(self, name: str, allowed: Sequence[str] = ()) -> str | None:
        """Why a class of one's own with that name is not of the kind: another base, or an abstract method left."""
        place, _, bare = name.rpartition(".")
        for module in self._modules(place, allowed):
            found = vars(module).get(bare) if place in ("", module.__name__) else None
            is_own = module.__name__.partition(".")[0] in (*self.own_packages, *allowed)
            if not is_own or not inspect.isclass(found) or found.__module__ != module.__name__ or self.base is None:
                continue
            if not issubclass(found, _import(self.base)):
                return f"class {bare} of {module.__name__} is not a subclass of {self.base.rpartition(':')[2]}"
            if inspect.isabstract(found):
                missing = ", ".join(sorted(getattr(found, "__abstractmethods__", ())))
                return f"class {bare} of {module.__name__} does not define {missing}"
        return None

    def menu(self) -> list[str]:
        """Every name that `find` finds."""
        names = {
            name
            for module in self._modules()
            for name, found in vars(module).items()
            if not name.startswith("_") and not self.reason_against(name) and self._is_of_the_kind(found, module, ())
        }
        return sorted(names | set(self.short_names))

    def _modules(self, place: str = "", allowed: Sequence[str] = ()) -> Iterator[types.ModuleType]:
        for name in self.modules:
            module = importlib.import_module(name)
            if name in self.own_packages:
                for below in pkgutil.iter_modules(module.__path__, name + "."):
                    yield importlib.import_module(below.name)
            yield module
        for name in allowed:
            yield importlib.import_module(name)
        if "." in place and len(place) <= MAX_NAME and place.partition(".")[0] in allowed and _exists(place):
            yield importlib.import_module(place)

    def _is_of_the_kind(self, found: Any, module: types.ModuleType, allowed: Sequence[str]) -> bool:
        if inspect.isclass(found):
            if self.base is None:
                return False
            base = _import(self.base)
            return issubclass(found, base) and found is not base and not inspect.isabstract(found)
        if not inspect.isfunction(found) or (found.__module__ != module.__name__ and not self.builders):
            return False
        if self.builders and _builds_module(found):
            return True
        if module.__name__.split(".")[0] not in (*self.own_packages, *allowed) or not self.function_takes:
            return False
        parameters = list(inspect.signature(found).parameters)
        return len(parameters) >= len(self.function_takes) and all(
            name.startswith(start) for name, start in zip(parameters, self.function_takes, strict=False)
        )


def check_allowed(packages: Sequence[str]) -> None:
    """Refuses to allow what would let a config reach further than its author's own code.

    Raises:
        ConfigError: no package of that name, or one of Python's or torch's own.
    """
    for name in packages:
        if not name.isidentifier():
            raise ConfigError(f"command line: --allow {name[:80]}: expecting the name of a package, such as my_models")
        if name in sys.stdlib_module_names or name in ("__main__", "torch", "torchvision", "torchmetrics"):
            raise ConfigError(
                f"command line: --allow {name}: only packages of models, loaders and the like; not this one"
            )
        if not _exists(name):
            raise ConfigError(f"command line: --allow {name}: there is no such package on Python's path")


def _exists(module: str) -> bool:
    """Whether a module is there; imports its parents, which must be allowed already."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError as error:
        if error.name is not None and (module + ".").startswith(error.name + "."):
            return False
        raise


def _builds_module(function: Callable[..., Any]) -> bool:
    returned = evaluated(inspect.signature(function).return_annotation, function)
    return inspect.isclass(returned) and issubclass(returned, torch.nn.Module) and returned is not torch.nn.Module


def _import(path: str) -> type:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)
