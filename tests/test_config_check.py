"""A name in a config finds what its table holds and nothing else, and every type of the menus can be written out."""

import dataclasses
import enum
import functools
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

import utils.config_check
from parse_config import NESTED, SECTIONS
from utils.config_check import Plan, Section, Table, plan_section
from utils.config_signature import checked_arguments
from utils.errors import ConfigError, DataError

ROOT = Path("/project")
EVERY_SECTION = {**SECTIONS, "transform": NESTED["transform"], "sampler": NESTED["sampler"]}
EVERY_SECTION["collate_fn"] = NESTED["collate_fn"]
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


def plan(spec, section="optimizer", root=ROOT):
    return plan_section(spec, section, EVERY_SECTION.get(section) or NESTED[section], NESTED, root)


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

    monkeypatch.setattr(utils.config_check.importlib, "import_module", recording)
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


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: ascii(name[:40]))
def test_a_name_outside_the_tables_is_one_short_problem(name):
    found, problems = plan({"type": name}, "collate_fn")

    assert found is None
    assert len(problems) == 1
    assert problems[0].startswith(f"collate_fn.type: '{name[:80]}' is not a collate function.")
    assert len(problems[0]) < 200


@pytest.mark.parametrize(
    "spec", [None, True, 0, 1.5, [], ["SGD"], {}, {"type": None}, {"type": 5}, {"type": ["SGD"]}, {"args": {}}]
)
@pytest.mark.parametrize("label", EVERY_SECTION)
def test_what_is_no_name_is_refused(label, spec):
    found, problems = plan(spec, label)

    assert found is None
    assert len(problems) == 1
    assert problems[0].startswith(f'{label}: expected {{"type": NAME, "args": {{...}}}} or a name, got ')


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


REFUSED_TRANSFORMS = {"ToTensor", "ToImage", "PILToTensor", "ToPILImage", "ToPureTensor", "MixUp", "CutMix", "Lambda"}


@pytest.mark.parametrize(
    ("label", "module", "names"),
    [
        ("optimizer", optim, concrete(optim, optim.Optimizer)),
        ("loss", nn, [name for name in nn.modules.loss.__all__ if hasattr(nn, name)]),
        ("lr_scheduler", lr_scheduler, concrete(lr_scheduler, lr_scheduler.LRScheduler)),
        ("transform", v2, concrete(v2, v2.Transform, REFUSED_TRANSFORMS)),
        ("arch", models, models.list_models(module=models)),
    ],
)
def test_everything_of_its_kind_in_torch_and_torchvision_is_found(label, module, names):
    table = EVERY_SECTION[label].table

    assert len(names) >= 14
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


@pytest.mark.parametrize("name", sorted(REFUSED_TRANSFORMS & set(vars(v2))))
def test_a_transform_that_makes_no_sense_here_is_refused_with_the_reason(name):
    found, problems = plan(name, "transform")

    assert found is None
    assert problems[0].startswith(f"transform.type: '{name}' makes no sense here: ")
    assert len(problems[0]) > 60


@pytest.mark.parametrize("short", ["balanced", "random", "sequential"])
def test_a_short_name_is_another_name_for_a_type(short):
    found, problems = plan(short, "sampler")

    assert problems == []
    assert found.type_name.lower().startswith(short)


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


def test_a_function_of_an_own_package_is_planned_without_its_first_two_parameters(room):
    section = Section(room)

    found, problems = plan_section({"type": "focal", "args": {"gamma": 3}}, "loss", section, {}, ROOT)
    _, refused = plan_section({"type": "focal", "args": {"output": 1}}, "loss", section, {}, ROOT)

    assert problems == []
    assert found.build()(None, None) == 3.0
    assert refused == ["loss.args.output: is passed by the program; remove it from the config"]


def test_a_module_of_an_own_package_that_is_broken_keeps_its_own_error(room, tmp_path):
    (tmp_path / "spare_room/broken.py").write_text("1 / 0")

    with pytest.raises(ZeroDivisionError):
        room.find("focal")


# --- a section ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", ["SGD", {"type": "SGD"}, {"type": "SGD", "args": None}, {"type": "SGD", "args": {}}])
def test_a_bare_name_and_a_type_without_arguments_are_the_same(spec):
    found, problems = plan(spec)

    assert problems == []
    assert found == Plan("optimizer", optim.SGD, {})


@pytest.mark.parametrize("args", [[], False, 0, "", "lr=1", [1], 5])
def test_arguments_that_are_no_object_are_refused_also_where_they_are_empty(args):
    found, problems = plan({"type": "SGD", "args": args})

    assert found is None
    assert problems == [f"optimizer.args: expected an object, got {args!r}"]


def test_a_key_beside_type_and_args_is_refused_with_the_nearest():
    _, problems = plan({"type": "StepLR", "args": {"step_size": 1}, "intervall": "step", "arg": 1}, "lr_scheduler")

    assert problems == [
        "lr_scheduler.intervall: unknown key. Did you mean 'interval'?",
        "lr_scheduler.arg: unknown key. Did you mean 'args'?",
    ]


def test_a_misspelt_type_is_told_with_the_nearest():
    _, problems = plan({"type": "AdamWW"})

    assert problems[0].startswith("optimizer.type: 'AdamWW' is not an optimizer. Did you mean 'AdamW'")


def test_objects_inside_arguments_are_planned_at_any_depth():
    spec = {
        "type": "Compose",
        "args": {"transforms": [{"type": "RandomApply", "args": {"transforms": ["RandomHorizontalFlip"], "p": 0.25}}]},
    }

    found, problems = plan(spec, "transform")
    built = found.build()

    assert problems == []
    assert isinstance(built, v2.Compose)
    assert isinstance(built.transforms[0], v2.RandomApply)
    assert built.transforms[0].p == 0.25
    assert isinstance(built.transforms[0].transforms[0], v2.RandomHorizontalFlip)


def test_a_problem_inside_arguments_is_told_by_its_whole_path():
    inner = [
        {"type": "RandomCrop", "args": {"sise": 3}},
        "NoSuch",
        {"type": "ToTensor"},
        {"type": "RandomErasing", "x": 1},
    ]

    _, problems = plan({"type": "Compose", "args": {"transforms": inner}}, "transform")

    wheres = [problem.partition(":")[0] for problem in problems]
    assert wheres == [
        "transform.args.transforms.0.args.sise",
        "transform.args.transforms.0.args",
        "transform.args.transforms.1.type",
        "transform.args.transforms.2.type",
        "transform.args.transforms.3.x",
    ]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"transform": "RandomHorizontalFlip"}, "transform: expected a list, got 'RandomHorizontalFlip'"),
        ({"transform": {"type": "RandomHorizontalFlip"}}, "transform: expected a list, got {'type'"),
        ({"transform": [None]}, "transform.0: expected {"),
        ({"transform": [["RandomHorizontalFlip"]]}, "transform.0: expected {"),
        ({"transform": 5}, "transform: expected a list, got 5"),
        ({"sampler": ["balanced"]}, "sampler: expected one object, not a list, got ['balanced']"),
        ({"sampler": 5}, "sampler: expected {"),
        ({"collate_fn": ["pad_to_largest"]}, "collate_fn: expected one object, not a list"),
        ({"collate_fn": None}, "collate_fn: must not be null"),
    ],
)
def test_a_list_where_one_object_is_wanted_is_refused_and_the_other_way_round(args, said):
    _, problems = plan({"type": "MnistDataLoader", "args": args}, "data_loader")

    assert len(problems) == 1
    assert problems[0].startswith(f"data_loader.args.{said}")


@pytest.mark.parametrize("args", [{"transform": None}, {"transform": []}, {"sampler": None}, {"eval_transform": None}])
def test_null_and_an_empty_list_stand_for_nothing_where_that_makes_sense(args):
    found, problems = plan({"type": "MnistDataLoader", "args": args}, "data_loader")

    assert problems == []
    assert found.args["data_dir"] == ROOT / "data"
    assert all(found.args[key] == value for key, value in args.items())


@pytest.mark.parametrize(
    ("written", "path"),
    [("pictures", "/project/pictures"), ("/data/x", "/data/x"), ("~/x", "/home/ann/x"), ("", "/project")],
)
def test_a_path_is_relative_to_the_project_also_where_it_is_a_default(monkeypatch, written, path):
    monkeypatch.setenv("HOME", "/home/ann")

    found, _ = plan({"type": "MnistDataLoader", "args": {"data_dir": written}}, "data_loader")
    silent, _ = plan({"type": "MnistDataLoader"}, "data_loader")

    assert found.args["data_dir"] == Path(path)
    assert silent.args["data_dir"] == Path("/project/data")


# --- building ----------------------------------------------------------------------------------------------------


def test_a_plan_builds_with_what_it_is_supplied_and_what_is_not_taken_is_left():
    found, _ = plan({"type": "SGD", "args": {"lr": 0.25}})

    optimizer = found.build(params=[nn.Parameter(torch.ones(1))], num_classes=3)

    assert optimizer.param_groups[0]["lr"] == 0.25


def test_what_the_config_says_wins_over_what_is_supplied():
    found, _ = plan({"type": "SGD", "args": {"lr": 0.25}})

    assert found.build(params=[nn.Parameter(torch.ones(1))], lr=9.0).param_groups[0]["lr"] == 0.25


def test_inner_objects_are_supplied_too():
    found, problems = plan(
        {
            "type": "SequentialLR",
            "args": {
                "schedulers": [
                    {"type": "ConstantLR", "args": {"factor": 0.5}},
                    {"type": "StepLR", "args": {"step_size": 1}},
                ],
                "milestones": [2],
            },
        },
        "lr_scheduler",
    )
    optimizer = optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0)

    built = found.build(optimizer=optimizer)

    assert problems == []
    assert built.optimizer is optimizer
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_a_function_becomes_itself_or_a_partial_of_itself():
    plain, _ = plan("cross_entropy", "loss")
    smoothed, _ = plan({"type": "cross_entropy", "args": {"label_smoothing": 0.5}}, "loss")
    scores_NK, targets_N = torch.tensor([[2.0, 0.0]]), torch.tensor([0])

    assert plain.build() is plain.target
    assert isinstance(smoothed.build(), functools.partial)
    expected = nn.functional.cross_entropy(scores_NK, targets_N, label_smoothing=0.5)
    assert smoothed.build()(scores_NK, targets_N) == expected


def test_a_value_that_the_constructor_does_not_like_is_a_config_error_in_its_words():
    found, _ = plan({"type": "SGD", "args": {"lr": -1.0}})

    with pytest.raises(ConfigError, match=r"^optimizer: SGD says: Invalid learning rate: -1\.0$"):
        found.build(params=[nn.Parameter(torch.ones(1))])


def test_a_value_that_an_inner_constructor_does_not_like_is_told_by_its_path():
    found, _ = plan(
        {"type": "Compose", "args": {"transforms": [{"type": "RandomErasing", "args": {"p": 5.0}}]}}, "transform"
    )

    with pytest.raises(ConfigError, match=r"^transform\.args\.transforms\.0: RandomErasing says: "):
        found.build()


@pytest.mark.parametrize("error", [RuntimeError("x"), DataError("x"), OSError("x"), AttributeError("x")])
def test_other_errors_of_a_constructor_pass_unchanged(error):
    def raising():
        raise error

    with pytest.raises(type(error)) as caught:
        Plan("here", dict, {}).build(make=raising)

    assert caught.value is error


def test_make_is_called_instead_with_the_same_arguments():
    found, _ = plan({"type": "resnet18", "args": {"groups": 1}}, "arch")

    assert found.build(make=dict, num_classes=3, optimizer=None) == {"groups": 1, "num_classes": 3}


def test_takes_tells_the_parameters_of_the_constructor():
    found, _ = plan("SGD")

    assert found.takes("momentum")
    assert not found.takes("num_classes")
