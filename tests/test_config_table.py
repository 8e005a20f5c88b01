"""A name in a config finds what its table holds and nothing else, and every type of the menus can be written out."""

import dataclasses
import enum
import importlib
import inspect
import json
import pkgutil
import sys
from pathlib import Path

import pytest
import torch
from torch import nn, optim
from torch.optim import lr_scheduler
from torchvision import models
from torchvision.transforms import v2

import utils.config_table
from parse_config import NESTED, SECTIONS
from utils.config_signature import checked_arguments
from utils.config_table import Table

EVERY_SECTION = {**SECTIONS, **{key: NESTED[key] for key in ("transform", "sampler", "collate_fn")}}
HOSTILE = [
    # calls that would do harm, in every spelling that other programs have followed
    "os.system",
    "os.getcwd",
    "posix.system",
    "subprocess.Popen",
    "builtins.eval",
    "builtins.exec",
    "builtins.print",
    "eval",
    "exec",
    "__import__",
    "pickle.loads",
    "functools.partial",
    "importlib.import_module",
    "torch.load",
    "torch.hub.load",
    "torch.serialization.load",
    "torch.jit.load",
    "torchvision.models.get_model_weights",
    "http://example.org/model.py",
    "file:///etc/passwd",
    "antigravity.fly",
    "this.s",
    # ways out of a class or a module
    "__builtins__",
    "__loader__",
    "__spec__",
    "MLP.__init__",
    "MLP.__class__",
    "MLP.__init__.__globals__",
    "SGD.__mro__",
    "().__class__.__bases__",
    "model.mlp.nn.Linear",
    "model.mlp:MLP",
    "model/mlp",
    "../model.mlp.MLP",
    "torch.optim.sgd.SGD",
    "torch.nn.modules.loss.CrossEntropyLoss",
    "torchvision.models.resnet.resnet18",
    # modules, and what the rooms have imported
    "torch",
    "nn",
    "F",
    "v2",
    "math",
    "functional",
    "modules",
    "lr_scheduler",
    "swa_utils",
    "segmentation",
    "parse_config",
    "Path",
    "Callable",
    "Any",
    "DataLoader",
    "decode_image",
    "get_model",
    "get_weight",
    "list_models",
    "find_head",
    "build_torchvision",
    "load_weights",
    "default_collate",
    "split_indices",
    "seed_for",
    "evaluate",
    "check_model",
    # of a kind that does not fit
    "Module",
    "Linear",
    "Sequential",
    "torch.nn.Linear",
    "torch.nn.Module",
    "ResNet",
    "BaseModel",
    "BaseDataLoader",
    "BaseSampler",
    "BaseTrainer",
    "Optimizer",
    "LRScheduler",
    "Transform",
    "Metric",
    "Criterion",
    "MetricSet",
    "TorchMetric",
    "MeanOverSamples",
    "loss_weight",
    "Table",
    "Section",
    "SECTIONS",
    "_Loss",
    "_WeightedLoss",
    "_EvaluationDataLoader",
    "_require_class_indices",
    # look-alikes: full-width, Cyrillic, a Roman numeral, joiners, blanks, other case
    "ＳＧＤ",
    "\u0405GD",
    "SG\u216e",
    "ML\u0420",
    "SG\u200dD",
    "SGD\0",
    "SGD\n",
    " SGD",
    "SGD ",
    "sgd",
    "mlp",
    "Cross_Entropy",
    "cross_entropу",
    "",
    " ",
    ".",
    "..",
    ".SGD",
    "SGD.",
    "SGD()",
    "${SGD}",
    "*",
    "S" * 100_000,
]


@pytest.fixture(scope="module", autouse=True)
def _everything_is_imported_that_the_menus_need():
    for section in EVERY_SECTION.values():
        section.table.menu()


@pytest.fixture
def imported(monkeypatch):
    """Names of the modules that are asked for."""
    names = []
    import_module = importlib.import_module

    def recording(name, *arguments):
        names.append(name)
        return import_module(name, *arguments)

    monkeypatch.setattr(utils.config_table.importlib, "import_module", recording)
    return names


def allowed_places(table):
    """The modules of a table and of its base, and those below packages of our own."""
    for name in (*table.modules, (table.base or "utils").partition(":")[0]):
        yield name
        if name in table.own_packages:
            yield from (below.name for below in pkgutil.iter_modules(sys.modules[name].__path__, name + "."))


# --- what can be named -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: ascii(name[:40]))
def test_a_name_outside_the_tables_is_refused_and_nothing_is_imported_for_it(name, imported):
    before = set(sys.modules)

    found = {label: section.table.find(name) for label, section in EVERY_SECTION.items()}

    assert found == dict.fromkeys(EVERY_SECTION)
    assert set(sys.modules) == before
    tables = [section.table for section in EVERY_SECTION.values()]
    assert set(imported) <= {place for table in tables for place in allowed_places(table)}


@pytest.mark.parametrize("label", EVERY_SECTION)
def test_the_menu_of_a_table_is_what_can_be_found_in_it(label):
    table = EVERY_SECTION[label].table

    assert table.menu()
    assert all(table.find(name) is not None for name in table.menu())
    assert not any(name.startswith("_") for name in table.menu())


def concrete(module, base, leave_out=()):
    """Public names of the subclasses of `base` in a module."""
    return sorted(
        name
        for name, thing in vars(module).items()
        if inspect.isclass(thing) and issubclass(thing, base) and thing is not base and not name.startswith("_")
        if name not in leave_out
    )


REFUSED_OPTIMIZERS = {"LBFGS", "SparseAdam"}
REFUSED_TRANSFORMS = {"ToTensor", "ToImage", "PILToTensor", "ToPILImage", "ToPureTensor", "MixUp", "CutMix", "Lambda"}


@pytest.mark.parametrize(
    ("label", "module", "names"),
    [
        ("optimizer", optim, concrete(optim, optim.Optimizer, REFUSED_OPTIMIZERS)),
        ("loss", nn, [name for name in nn.modules.loss.__all__ if hasattr(nn, name)]),
        ("lr_scheduler", lr_scheduler, concrete(lr_scheduler, lr_scheduler.LRScheduler)),
        ("transform", v2, concrete(v2, v2.Transform, REFUSED_TRANSFORMS)),
        ("arch", models, models.list_models(module=models)),
    ],
)
def test_everything_of_its_kind_in_torch_and_torchvision_is_found(label, module, names):
    table = EVERY_SECTION[label].table

    assert len(names) >= 13
    for name in names:
        assert table.find(name) is getattr(module, name)
        assert table.find(f"{module.__name__}.{name}") is getattr(module, name)


def writable(default):
    """A default as one would write it into a config; ValueError where JSON cannot say it."""
    if isinstance(default, enum.Enum):
        return default.value
    if isinstance(default, torch.dtype):
        return str(default).removeprefix("torch.")
    if isinstance(default, Path):
        return str(default)
    try:
        return json.loads(json.dumps(default, allow_nan=False))
    except TypeError as error:
        raise ValueError from error


@pytest.mark.parametrize("label", EVERY_SECTION)
def test_the_defaults_of_every_type_can_be_written_out_and_arrive_as_they_are(label):
    section, num_written = EVERY_SECTION[label], 0
    for name in section.table.menu():
        target, written, defaults = section.table.find(name), {}, {}
        parameters = inspect.signature(target).parameters
        for parameter in parameters.values():
            if parameter.default is not parameter.empty and parameter.name not in section.given:
                try:
                    written[parameter.name] = writable(parameter.default)
                except ValueError:
                    continue
                defaults[parameter.name] = parameter.default

        converted, problems = checked_arguments(
            target, written, label, supplied=set(parameters), given=set(section.given)
        )

        assert problems == [], name
        for key, default in defaults.items():
            arrived = tuple(converted[key]) if isinstance(default, tuple) else converted[key]
            # A builder's enum of weights is the one thing that a config names and model/pretrained.py looks up.
            assert key == "weights" or arrived in (default, writable(default)), (name, key)
            num_written += 1
    assert num_written > 0 or label == "trainer"


@pytest.mark.parametrize(
    ("label", "module", "refused"),
    [("transform", v2, REFUSED_TRANSFORMS), ("optimizer", optim, REFUSED_OPTIMIZERS)],
)
def test_what_makes_no_sense_here_is_not_found_by_any_name_and_has_a_reason(label, module, refused):
    table = EVERY_SECTION[label].table

    assert set(table.refused) == refused
    for name, reason in table.refused.items():
        assert table.find(name) is None
        assert table.find(f"{module.__name__}.{name}") is None
        assert len(reason) > 20


def test_a_short_name_is_another_name_for_a_type():
    table = NESTED["sampler"].table

    assert table.find("balanced") is table.find("BalancedSampler") is not None
    assert table.find("random") is table.find("RandomSampler") is not None
    assert table.find("sequential") is table.find("SequentialSampler") is not None


# --- a room of one's own -----------------------------------------------------------------------------------------


@pytest.fixture
def room(tmp_path, monkeypatch):
    """A package with a loss, a metric-like helper, classes of three kinds, and things imported from elsewhere."""
    folder = tmp_path / "spare_room"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "things.py").write_text(
        """
from abc import ABC, abstractmethod
from os import system
from torch import nn
from torch.nn.functional import cross_entropy

def focal(output, target, gamma: float = 2.0):
    return gamma

def renamed(outputs_NK, targets_N):
    return 0

def swapped(target, output):
    return 0

def too_few(output):
    return 0

def _hidden(output, target):
    return 0

def builder(width: int = 3) -> nn.Linear:
    return nn.Linear(width, width)

def vague() -> nn.Module:
    return nn.Linear(1, 1)

class Promise(nn.modules.loss._Loss, ABC):
    @abstractmethod
    def forward(self, output, target): ...

class Kept(Promise):
    def __init__(self, power: int = 2):
        super().__init__()
        self.power = power

    def forward(self, output, target):
        return 0

instance = Kept()
"""
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield Table(
        "a loss", ("spare_room",), "torch.nn.modules.loss:_Loss", ("spare_room",), function_takes=("output", "target")
    )
    for name in ("spare_room", "spare_room.things"):
        sys.modules.pop(name, None)


def test_functions_are_found_by_where_they_are_written_and_what_they_take(room):
    assert room.menu() == ["Kept", "focal", "renamed"]


def test_a_builder_is_found_where_it_says_what_it_builds(room):
    table = dataclasses.replace(room, base="torch.nn:Module", function_takes=(), builders=True)

    assert table.menu() == ["Kept", "builder"]


def test_a_table_without_a_base_has_functions_only(room):
    assert dataclasses.replace(room, base=None).menu() == ["focal", "renamed"]


def test_a_module_of_an_own_package_that_is_broken_keeps_its_own_error(room, tmp_path):
    (tmp_path / "spare_room/broken.py").write_text("1 / 0")

    with pytest.raises(ZeroDivisionError):
        room.find("focal")
