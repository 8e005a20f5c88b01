"""Which names a config may use: a table says in which modules a type is looked up, and what it must be.

A config, or a checkpoint's config, can name nothing outside its table; the tables are the menus of the rooms.
"""

import importlib
import inspect
import pkgutil
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from utils.config_signature import evaluated


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
        refused: types that are of the kind and make no sense here, with the reason.
    """

    what: str
    modules: tuple[str, ...]
    base: str | None
    own_packages: tuple[str, ...] = ()
    function_takes: tuple[str, ...] = ()
    builders: bool = False
    short_names: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)

    def find(self, name: str) -> Callable[..., Any] | None:
        """The class or function of a name, or None. "module.Name" must name one of the table's modules."""
        wanted = self.short_names.get(name, name)
        bare = wanted.rpartition(".")[2]
        if not bare.isidentifier() or bare.startswith("_") or bare in self.refused:
            return None
        for module in self._modules():
            if wanted in (bare, f"{module.__name__}.{bare}"):
                found = vars(module).get(bare)
                if found is not None and self._is_of_the_kind(found, module):
                    return found
        return None

    def menu(self) -> list[str]:
        """Every name that `find` finds."""
        names = {
            name
            for module in self._modules()
            for name, found in vars(module).items()
            if not name.startswith("_") and name not in self.refused and self._is_of_the_kind(found, module)
        }
        return sorted(names | set(self.short_names))

    def _modules(self) -> Iterator[types.ModuleType]:
        for name in self.modules:
            module = importlib.import_module(name)
            if name in self.own_packages:
                for below in pkgutil.iter_modules(module.__path__, name + "."):
                    yield importlib.import_module(below.name)
            yield module

    def _is_of_the_kind(self, found: Any, module: types.ModuleType) -> bool:
        if inspect.isclass(found):
            if self.base is None:
                return False
            base = _import(self.base)
            return issubclass(found, base) and found is not base and not inspect.isabstract(found)
        if not inspect.isfunction(found) or (found.__module__ != module.__name__ and not self.builders):
            return False
        if self.builders and _builds_module(found):
            return True
        if module.__name__.split(".")[0] not in self.own_packages or not self.function_takes:
            return False
        parameters = list(inspect.signature(found).parameters)
        return len(parameters) >= len(self.function_takes) and all(
            name.startswith(start) for name, start in zip(parameters, self.function_takes, strict=False)
        )


def _builds_module(function: Callable[..., Any]) -> bool:
    returned = evaluated(inspect.signature(function).return_annotation, function)
    return inspect.isclass(returned) and issubclass(returned, torch.nn.Module) and returned is not torch.nn.Module


def _import(path: str) -> type:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)
