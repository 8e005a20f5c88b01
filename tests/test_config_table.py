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
import torchmetrics.classification
from torch import nn, optim
from torch.optim import lr_scheduler
from torchvision import models
from torchvision.transforms import v2

import utils.config_table
from parse_config import NESTED, SECTIONS
from utils.config_signature import checked_arguments
from utils.config_table import Table, check_allowed
from utils.errors import ConfigError

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


REFUSED_SCHEDULERS = {"LambdaLR", "MultiplicativeLR"}
REFUSED_OPTIMIZERS = {"LBFGS", "SparseAdam"}
REFUSED_TRANSFORMS = {"ToTensor", "ToImage", "PILToTensor", "ToPILImage", "ToPureTensor", "MixUp", "CutMix", "Lambda"}


@pytest.mark.parametrize(
    ("label", "module", "names"),
    [
        ("optimizer", optim, concrete(optim, optim.Optimizer, REFUSED_OPTIMIZERS)),
        ("loss", nn, [name for name in nn.modules.loss.__all__ if hasattr(nn, name)]),
        ("lr_scheduler", lr_scheduler, concrete(lr_scheduler, lr_scheduler.LRScheduler, REFUSED_SCHEDULERS)),
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
            target, written, (label,), supplied=frozenset(parameters), given=section.given
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
    [
        ("transform", v2, REFUSED_TRANSFORMS),
        ("optimizer", optim, REFUSED_OPTIMIZERS),
        ("lr_scheduler", lr_scheduler, REFUSED_SCHEDULERS),
    ],
)
def test_what_makes_no_sense_here_is_not_found_by_any_name_and_has_a_reason(label, module, refused):
    table = EVERY_SECTION[label].table

    assert set(table.refused) == refused
    for name, reason in table.refused.items():
        assert table.find(name) is None
        assert table.find(f"{module.__name__}.{name}") is None
        assert len(reason) > 20


@pytest.mark.parametrize("kind", ["Binary", "Multilabel"])
def test_a_pattern_keeps_out_all_types_of_one_kind(kind):
    table = SECTIONS["metrics"].table
    names = [name for name in concrete(torchmetrics.classification, torchmetrics.Metric) if name.startswith(kind)]

    assert len(names) >= 10
    for name in names:
        assert table.find(name) is None
        assert table.find(f"torchmetrics.classification.{name}") is None
        assert len(table.reason_against(name)) > 20
    assert not {*names, *table.refused} & set(table.menu())


@pytest.mark.parametrize("name", ["MulticlassAccuracy", "NotBinary", "binaryAccuracy", "Binar", ""])
def test_a_pattern_keeps_out_nothing_else(name):
    assert SECTIONS["metrics"].table.reason_against(name) is None


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


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Vague", "class Vague of spare_room.almost is not a subclass of _Loss"),
        ("spare_room.almost.Vague", "class Vague of spare_room.almost is not a subclass of _Loss"),
        ("Halfway", "class Halfway of spare_room.almost does not define forward, name"),
        ("Kept", None),
        ("focal", None),
        ("NoSuch", None),
        ("Linear", None),
    ],
)
def test_what_a_class_of_ones_own_lacks_to_be_of_the_kind_is_told(room, tmp_path, name, said):
    (tmp_path / "spare_room/almost.py").write_text(
        """
from abc import ABC, abstractmethod
from torch import nn
from torch.nn import Linear

class Vague: ...

class Halfway(nn.modules.loss._Loss, ABC):
    @abstractmethod
    def forward(self, output, target): ...
    @abstractmethod
    def name(self): ...
"""
    )

    assert room.almost(name) == said


@pytest.mark.parametrize("name", ["Linear", "Sequential", "MSELoss", "torch.nn.Linear"])
def test_a_class_of_a_library_is_not_explained(room, name):
    table = dataclasses.replace(room, modules=("spare_room", "torch.nn"))

    assert table.almost(name) is None


# --- packages that the command line allows -----------------------------------------------------------------------

ROOM_OF_MODELS = Table("a model", ("model",), "torch.nn:Module", ("model",), builders=True)
ROOM_OF_LOSSES = Table(
    "a loss", ("model",), "torch.nn.modules.loss:_Loss", ("model",), function_takes=("output", "target")
)


@pytest.fixture
def guest(tmp_path, monkeypatch):
    """A package guest_nets on Python's path, with files that are asked for and files that are not."""
    files = {
        "guest_nets/__init__.py": "from os import system\nfrom guest_nets.nets import Wide",
        "guest_nets/nets.py": """
from torch import nn
class Wide(nn.Linear): ...
class Helper: ...
""",
        "guest_nets/losses.py": """
from model.loss import cross_entropy
def sharp(output, target): return 0
def dull(target, output): return 0
""",
        "guest_nets/deep/__init__.py": "",
        "guest_nets/deep/far.py": "from torch import nn\nclass Far(nn.Linear): ...",
        "guest_nets/unasked.py": "raise AssertionError('nobody asked for this file')",
        "guest_nets/broken.py": "1 / 0",
        "guest_nets/hungry.py": "import no_such_package_anywhere",
        "guest_nets_of_a_stranger/__init__.py": "raise AssertionError('nobody allowed this')",
        "guest_nets_of_a_stranger/nets.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("guest_nets"):
            del sys.modules[name]


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("Wide", "guest_nets.nets"),
        ("guest_nets.Wide", "guest_nets.nets"),
        ("guest_nets.nets.Wide", "guest_nets.nets"),
        ("guest_nets.deep.far.Far", "guest_nets.deep.far"),
    ],
)
def test_an_allowed_package_is_looked_through_by_bare_and_by_dotted_names(guest, name, module):
    found = ROOM_OF_MODELS.find(name, ["guest_nets"])

    assert found.__module__ == module
    assert issubclass(found, nn.Linear)


def test_a_function_of_an_allowed_package_is_found_by_what_it_takes(guest):
    names = [f"guest_nets.losses.{name}" for name in ("sharp", "dull", "cross_entropy")]

    found = [ROOM_OF_LOSSES.find(name, ["guest_nets"]) for name in names]

    assert [thing and thing.__name__ for thing in found] == ["sharp", None, None]


@pytest.mark.parametrize(
    "name",
    [
        "Far",
        "Helper",
        "system",
        "guest_nets.system",
        "guest_nets.nets.Helper",
        "guest_nets.nets.nn",
        "guest_nets.nets.nn.Linear",
        "guest_nets.nets.Wide.forward",
        "guest_nets.no_such_file.Wide",
        "guest_nets.deep.no_such_file.Wide",
        "guest_nets.deep.no_such_folder.no_such_file.Wide",
        "guest_nets..Wide",
        ".guest_nets.Wide",
        "guest_nets",
        "guest_nets.nets",
        "guest_nets_of_a_stranger.Wide",
        "guest_nets_of_a_stranger.nets.Wide",
    ],
)
def test_an_allowed_package_gives_nothing_but_what_is_of_the_kind_where_it_is(guest, name):
    assert ROOM_OF_MODELS.find(name, ["guest_nets"]) is None


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: ascii(name[:40]))
def test_with_an_allowed_package_nothing_else_is_imported_for_a_name(guest, name):
    ROOM_OF_MODELS.menu()
    before = set(sys.modules)

    found = [table.find(name, ["guest_nets"]) for table in (ROOM_OF_LOSSES, SECTIONS["optimizer"].table)]

    assert found == [None, None]
    assert set(sys.modules) - before <= {"guest_nets", "guest_nets.nets"}


@pytest.mark.parametrize(
    "name", ["Wide", "guest_nets.Wide", "guest_nets.nets.Wide", "guest_nets.broken.X", "guest_nets_of_a_stranger.X"]
)
@pytest.mark.parametrize("allowed", [[], ["annotated_types"]])
def test_a_package_that_is_not_allowed_is_never_imported(guest, name, allowed):
    ROOM_OF_MODELS.menu()
    before = set(sys.modules)

    found = ROOM_OF_MODELS.find(name, allowed)

    assert found is None
    assert set(sys.modules) == before


def test_of_an_allowed_package_only_the_file_in_question_is_imported(guest):
    before = set(sys.modules)

    ROOM_OF_MODELS.find("guest_nets.deep.far.Far", ["guest_nets"])

    new = {name for name in set(sys.modules) - before if name.startswith("guest_nets")}
    assert new == {"guest_nets", "guest_nets.nets", "guest_nets.deep", "guest_nets.deep.far"}


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("guest_nets.broken.Wide", ZeroDivisionError),
        ("guest_nets.hungry.Wide", ModuleNotFoundError),
        ("guest_nets.broken.deeper.Wide", ZeroDivisionError),
        ("guest_nets.hungry.deeper.Wide", ModuleNotFoundError),
    ],
)
def test_a_file_of_an_allowed_package_that_breaks_on_import_keeps_its_own_error(guest, name, error):
    with pytest.raises(error) as caught:
        ROOM_OF_MODELS.find(name, ["guest_nets"])

    assert caught.traceback[-1].path.is_relative_to(guest)


def test_an_allowed_package_that_breaks_on_import_keeps_its_own_error(guest):
    (guest / "guest_nets/__init__.py").write_text("import no_such_package_anywhere")

    with pytest.raises(ModuleNotFoundError, match="no_such_package_anywhere"):
        ROOM_OF_MODELS.find("Wide", ["guest_nets"])


def test_what_can_be_allowed_is_found_without_being_imported(guest):
    before = set(sys.modules)

    check_allowed(["guest_nets", "guest_nets_of_a_stranger", "annotated_types"])

    assert set(sys.modules) == before


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("os", "only packages of models, loaders and the like; not this one"),
        ("builtins", "only packages of models, loaders and the like; not this one"),
        ("subprocess", "only packages of models, loaders and the like; not this one"),
        ("torch", "only packages of models, loaders and the like; not this one"),
        ("torchvision", "only packages of models, loaders and the like; not this one"),
        ("torchmetrics", "only packages of models, loaders and the like; not this one"),
        ("guest_nets.nets", "expecting the name of a package, such as my_models"),
        ("os.path", "expecting the name of a package, such as my_models"),
        ("../guest_nets", "expecting the name of a package, such as my_models"),
        ("guest-nets", "expecting the name of a package, such as my_models"),
        ("", "expecting the name of a package, such as my_models"),
        ("no_such_package_anywhere", "there is no such package on Python's path"),
    ],
)
def test_what_would_reach_further_than_ones_own_code_cannot_be_allowed(guest, name, said):
    with pytest.raises(ConfigError) as caught:
        check_allowed(["guest_nets", name])

    assert str(caught.value) == f"command line: --allow {name}: {said}"
