"""A config, also one in a stranger's checkpoint, can name nothing but what its tables hold, and exhausts nothing.

Every hostile name goes into every place where a type can stand, and it is watched that nothing is imported for it.
"""

import builtins
import importlib
import importlib.util
import json
import pickle
import re
import resource
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import pytest
import torch

from parse_config import NESTED, ROOT, SECTIONS, ConfigParser
from utils.checkpoint import DIGEST, FORMAT
from utils.command_line import Parser
from utils.config_table import check_allowed
from utils.errors import CheckpointError, ConfigError, UserError
from utils.plain import digest_of

LIMIT_S = 30  # of processor time; each takes under 3 s on one slow core, and what this guards against takes minutes
LIMIT_KB = 700_000  # beyond what torch takes

PLACES = {
    "arch": lambda spec: {"arch": spec},
    "data_loader": lambda spec: {"data_loader": spec},
    "loss": lambda spec: {"loss": spec},
    "metrics": lambda spec: {"metrics": ["accuracy", spec]},
    "optimizer": lambda spec: {"optimizer": spec},
    "lr_scheduler": lambda spec: {"lr_scheduler": spec},
    "schedulers": lambda spec: {"lr_scheduler": {"type": "ChainedScheduler", "args": {"schedulers": [spec]}}},
    "transform": lambda spec: loader(transform=[spec]),
    "eval_transform": lambda spec: loader(eval_transform=[spec]),
    "batch_transform": lambda spec: loader(batch_transform=[spec]),
    "transforms": lambda spec: loader(transform=[{"type": "Compose", "args": {"transforms": [spec]}}]),
    "sampler": lambda spec: loader(sampler=spec),
    "inner sampler": lambda spec: loader(sampler={"type": "BatchSampler", "args": {"sampler": spec, "batch_size": 4}}),
    "collate_fn": lambda spec: loader(collate_fn=spec),
    "trainer": lambda spec: {"trainer": {"epochs": 1, **(spec if isinstance(spec, dict) else {"type": spec})}},
}
TABLES = {place: {**SECTIONS, **NESTED}[place.split()[-1]].table for place in PLACES}

# What is said of a class in one's own package that is of another kind, or that is only there to be derived from.
ALMOST = {
    place: re.compile(rf": class \w+ of [\w.]+ .*, so it is not {re.escape(table.what)}$", re.M)
    for place, table in TABLES.items()
}

HOSTILE = [
    # calls that would do harm
    "os.system",
    "posix.system",
    "builtins.eval",
    "builtins.exec",
    "builtins.open",
    "builtins.__import__",
    "eval",
    "exec",
    "__import__",
    "subprocess.Popen",
    "subprocess.run",
    "pickle.loads",
    "marshal.loads",
    "shutil.rmtree",
    "pathlib.Path.unlink",
    "ctypes.CDLL",
    "runpy.run_path",
    "code.interact",
    "webbrowser.open",
    "antigravity.fly",
    "functools.partial",
    "operator.attrgetter",
    "torch.load",
    "torch.hub.load",
    "torch.jit.load",
    "torch.package.PackageImporter",
    "torch.utils.cpp_extension.load",
    "torch.utils.data.DataLoader",
    "torch.optim.swap_in_optimizer_params_and_state",
    "swap_in_optimizer_params_and_state",
    "torchvision.models.get_weight",
    "torchvision.models.get_model",
    "torchvision.models.list_models",
    "get_weight",
    "get_model",
    # dunder chains, and other ways from one object to the next
    "VGG.__init__.__globals__",
    "VGG.__init__",
    "VGG.__class__",
    "VGG.__subclasses__",
    "SGD.__mro__",
    "model.vgg.VGG.__init__.__globals__",
    "__builtins__",
    "__loader__",
    "__spec__",
    "__dict__",
    "_STAGE_WIDTHS",
    "().__class__.__bases__",
    "model.vgg.nn.Linear",
    "model.vgg.torch.load",
    "torch.optim.Adam.step",
    "torch.optim.adam.torch.load",
    "data_loader.folder.os.system",
    # names that are modules, or that allowed modules have imported
    "nn",
    "torch",
    "torch.nn",
    "torch.optim",
    "torch.optim.lr_scheduler",
    "lr_scheduler",
    "model.vgg",
    "functional",
    "v2",
    "Path",
    "Any",
    "Sequence",
    "Literal",
    "model.vgg.Sequence",
    "model.vgg.nn",
    "torch.optim.lr_scheduler.Counter",
    "Counter",
    "ConfigError",
    "seed_for",
    "dataclass",
    # what the kinds are derived from, and what is of no kind
    "BaseModel",
    "BaseDataLoader",
    "BaseTrainer",
    "BaseSampler",
    "ImageDataLoader",
    "LoaderOptions",
    "Optimizer",
    "torch.optim.Optimizer",
    "LRScheduler",
    "Metric",
    "Module",
    "Transform",
    "_Loss",
    "_LRScheduler",
    "torch.optim.lr_scheduler._LRScheduler",
    "torch.nn.modules.loss._Loss",
    "object",
    "type",
    "ConfigParser",
    # the import system
    "importlib.import_module",
    "importlib.util.module_from_spec",
    "importlib",
    "sys.modules",
    "sys.path",
    "pkgutil.resolve_name",
    "model.__path__",
    "model.build.build_model",
    # what an attacker can put on the path or beside the config
    "trapdoor",
    "trapdoor.Model",
    "trapdoor.inner.Model",
    "beside.Model",
    "beside",
    # dots, slashes and addresses
    ".",
    "..",
    ".VGG",
    "..VGG",
    "VGG.",
    "model..VGG",
    "model.vgg.",
    ".model.vgg.VGG",
    "...trapdoor.Model",
    "../x",
    "../beside.Model",
    "./beside",
    "model/vgg",
    "model/vgg.py",
    "model.vgg:VGG",
    "model\\vgg",
    "/etc/passwd",
    "file:///etc/passwd",
    "http://example.org/model.py",
    "\\\\server\\share\\model",
    "",
    " ",
    # look-alikes and what a reader does not see
    "VGG ",
    " VGG",
    "VGG\n",
    "VGG\0",
    "VGG\0.py",
    "VG\0G",
    "VGG\r\n",
    "VGG\t",
    "VGG\u200b",
    "VGG\u202e",
    "\ufeffVGG",
    "VG\u0413",  # a Cyrillic letter
    "\u0405GD",  # a Cyrillic S
    "\u0410dam",  # a Cyrillic A
    "\u039cLP",  # a Greek M
    "\uff36\uff27\uff27",  # full width; Python's own parser takes these for VGG
    "\U0001d415\U0001d406\U0001d406",  # bold
    "\uff4fs.system",
    "o\u0455.system",
    "MLP\u0301",
    "mlp",
    "vgg",
    "VGG()",
    "VGG;import os",
    "lambda: 0",
    "${name}",
    "{0}",
    "%s",
    "*",
    "?",
    "[A-Z]*",
    # long ones
    "x" * 100_000,
    "a." * 50_000 + "b",
    "VGG" * 10_000,
    "os.system" + "." * 1000,
]


def loader(**args):
    return {"data_loader": {"type": "ImageFolderDataLoader", "args": {"data_dir": "data/pictures", **args}}}


def whole(**sections):
    return {
        "name": "safe",
        "arch": {"type": "MLP", "args": {"hidden_widths": [8]}},
        **loader(batch_size=4),
        "optimizer": {"type": "SGD", "args": {"lr": 0.1, "momentum": 0.9}},
        "loss": "cross_entropy",
        "metrics": ["accuracy"],
        "trainer": {"epochs": 1},
    } | sections


def checkpoint_of(config, max_bytes=100_000_000, **parts):
    """What a stranger can put into a file that `weights_only=True` opens, with the digest that goes with it."""
    state = {
        "format": FORMAT,
        "config": config,
        "offered": [],
        "classes": ["a", "b"],
        "run": {"name": "safe", "run_id": "20260101_000000"},
        "model": {},
        "monitor": {"name": "val_loss", "higher_is_better": False, "best": None, "best_epoch": None, "bad_epochs": 0},
        "input": {},
        "epochs_done": 1,
        "steps_done": 1,
    } | parts
    try:
        return state | {DIGEST: digest_of(state, max_bytes=max_bytes)}
    except (TypeError, ValueError, RecursionError):  # then no digest is right
        return state | {DIGEST: "0" * 64}


def from_args(*words):
    return ConfigParser.from_args(Parser(prog="train.py").read([], list(map(str, words))))


def allowing(*packages):
    return Namespace(resume=None, device=None, allow=list(packages))


@pytest.fixture(scope="module", autouse=True)
def _everything_imported_that_a_good_config_needs():
    """Some libraries import parts of themselves late; that must not look like a consequence of a name."""
    for known in TABLES.values():
        known.menu()
    ConfigParser(whole())


@pytest.fixture
def traps(tmp_path, monkeypatch):
    """A package on Python's path and a file beside the config; each leaves a mark when it is imported."""
    code = f"import pathlib\npathlib.Path({str(tmp_path / 'sprung')!r}).touch()\n"
    code += "from base.base_model import BaseModel\nclass Model(BaseModel):\n    pass\n"
    package = tmp_path / "trapdoor"
    package.mkdir()
    for file in (package / "__init__.py", package / "inner.py", tmp_path / "beside.py"):
        file.write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    yield tmp_path / "sprung"
    for name in [name for name in sys.modules if name.split(".")[0] in ("trapdoor", "beside", "good", "half")]:
        del sys.modules[name]


# What torch's own C++ code imports in the name of whoever calls it.
BY_TORCH = {"torch.utils._device"}


class Imports:
    """What the project itself asks Python to import, and what Python begins to import for anybody."""

    def __init__(self, monkeypatch):
        self.asked, self.begun, self.before = [], [], set(sys.modules)
        import_module, find_spec, import_statement = importlib.import_module, importlib.util.find_spec, __import__

        def recorded_module(name, package=None):
            self.asked.append(name)
            return import_module(name, package)

        def recorded_spec(name, package=None):
            self.asked.append(name)
            return find_spec(name, package)

        def recorded_statement(name, names=None, *rest):
            if (names or {}).get("__name__", "").split(".")[0] in ("utils", "base", "parse_config"):
                self.asked.append(name)
            return import_statement(name, names, *rest)

        monkeypatch.setattr(importlib, "import_module", recorded_module)
        monkeypatch.setattr(importlib.util, "find_spec", recorded_spec)
        monkeypatch.setattr(builtins, "__import__", recorded_statement)
        monkeypatch.setattr(sys, "meta_path", [self, *sys.meta_path])

    def find_spec(self, name, path=None, target=None):
        """Python asks this for each module that it does not have yet."""
        self.begun.append(name)

    def strange(self):
        """All that no table names."""
        rooms = ("base", "data_loader", "logger", "model", "trainer", "utils")
        known = {module for table in TABLES.values() for module in table.modules}
        known |= {table.base.partition(":")[0] for table in TABLES.values() if table.base}
        asked = [name for name in self.asked if name not in known | BY_TORCH and name.split(".")[0] not in rooms]
        return [*asked, *self.begun, *(set(sys.modules) - self.before)]


# --- names ---------------------------------------------------------------------------------------------------------


def test_there_are_enough_names_and_every_table_is_tried():
    assert len(set(HOSTILE)) == len(HOSTILE) >= 45
    assert {*SECTIONS, *NESTED} == {place.split()[-1] for place in PLACES}


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: ascii(name[:40])[1:-1])
def test_a_hostile_name_is_refused_everywhere_and_nothing_is_imported(name, traps, monkeypatch):
    imports = Imports(monkeypatch)

    said = {}
    for place, within in PLACES.items():
        for spec in (name, {"type": name, "args": {"cmd": "id"}}):
            with pytest.raises(ConfigError) as caught:
                ConfigParser(whole(**within(spec)))
            said[place, str(spec)] = str(caught.value)

    for (place, _), message in said.items():
        assert f": '{name[:80]}' is not {TABLES[place].what}." in message or ALMOST[place].search(message)
        assert message.endswith("\n1 problem in the config; nothing was started.")
        assert len(message) < 1000
    assert imports.strange() == []
    assert not traps.exists()


def test_the_watch_sees_what_is_imported(traps, monkeypatch):
    """Else nothing above would mean anything."""
    imports = Imports(monkeypatch)

    importlib.import_module("trapdoor.inner")

    assert traps.exists()
    assert {"trapdoor", "trapdoor.inner"} <= set(imports.strange())


NO_NAMES = [1, True, [], ["SGD"], {}, {"args": {}}, {"type": 1}, {"type": ["SGD"]}, {"type": None}]
# The type of the trainer stands beside its options, and may be left out.
WITHOUT_NAME = [(place, spec) for place in PLACES for spec in NO_NAMES if place != "trainer" or "type" in str(spec)]


@pytest.mark.parametrize(("place", "spec"), WITHOUT_NAME)
def test_what_is_no_name_is_refused(place, spec):
    with pytest.raises(ConfigError, match=r"expected|got"):
        ConfigParser(whole(**PLACES[place](spec)))


def test_a_name_that_one_table_holds_is_no_name_for_another():
    menus = {place: set(TABLES[place].menu()) for place in PLACES}

    for place, within in PLACES.items():
        for other in ("MLP", "resnet18", "SGD", "StepLR", "RandomCrop", "balanced", "pad_to_largest", "Trainer"):
            if other not in menus[place]:
                with pytest.raises(ConfigError, match="is not"):
                    ConfigParser(whole(**within(other)))


@pytest.mark.parametrize(
    "key", ["allow", "--allow", "_target_", "_partial_", "_import_", "import", "custom_imports", "eval"]
)
def test_a_config_cannot_allow_a_package_or_switch_anything_on(key, traps):
    for config in (whole(**{key: ["trapdoor"]}), whole(optimizer={"type": "SGD", "args": {}, key: "trapdoor"})):
        with pytest.raises(ConfigError, match="unknown key"):
            ConfigParser(config)
    with pytest.raises(ConfigError, match="has no"):
        ConfigParser(whole(optimizer={"type": "SGD", "args": {key: "trapdoor"}}))

    assert not traps.exists()


@pytest.mark.parametrize(
    "word", ["_dynamo", "_inductor", "onnx", "has_mps", "has_cuda", "load", "hub", "os", "__dict__"]
)
def test_a_word_for_a_dtype_is_looked_up_and_no_attribute_of_torch_is_made(word, monkeypatch):
    asked = []
    monkeypatch.setitem(vars(torch), "__getattr__", lambda name: asked.append(name))

    with pytest.raises(ConfigError, match=r"transform\.0\.args\.dtype"):
        ConfigParser(whole(**loader(transform=[{"type": "ToDtype", "args": {"dtype": word}}])))

    assert asked == []


# --- packages that the command line allows -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "package",
    [
        *(
            "os",
            "sys",
            "torch",
            "torchvision",
            "torchmetrics",
            "builtins",
            "importlib",
            "subprocess",
            "pickle",
            "shutil",
        ),
        *("ctypes", "runpy", "_io", "__main__", "torch.hub", "torch.utils", "a.b", "trapdoor.inner", "../trapdoor"),
        *("", " ", ".", "trapdoor ", "trapdoor\0", "my-models", "no_such_package_at_all", "\u043es", "trapdoor/inner"),
    ],
)
def test_a_package_that_reaches_too_far_cannot_be_allowed(package, traps, config_file):
    file = config_file(whole())

    with pytest.raises(ConfigError, match=r"^command line: --allow "):
        check_allowed([package])
    with pytest.raises(ConfigError, match=r"^command line: --allow "):
        from_args("-c", file, f"--allow={package}")

    assert not traps.exists()


GOOD = """
import os
import subprocess
from os import system
from subprocess import call, Popen
import torch
from torch import nn, hub
from torch.hub import load
from base.base_model import BaseModel
def output_of(command, target): return os.system(command)
def loss_of(output, target): return output
class Model(BaseModel):
    def __init__(self, num_classes: int = 2, in_channels: int = 1):
        super().__init__()
    def forward(self, images_NCHW): return images_NCHW
class _Hidden(Model): pass
class Other: pass
def __getattr__(name):
    if name == "Made":
        return Model
    raise AttributeError(name)
"""


@pytest.fixture
def good(traps, tmp_path):
    """A package of one's own, which imports what any package does."""
    package = tmp_path / "good"
    package.mkdir()
    (package / "__init__.py").write_text(GOOD, encoding="utf-8")
    (package / "nets.py").write_text(GOOD, encoding="utf-8")
    return allowing("good")


def test_an_allowed_package_is_named_and_without_leave_it_is_not_even_imported(good, monkeypatch):
    with pytest.raises(ConfigError, match="must be allowed: --allow PACKAGE"):
        ConfigParser(whole(arch="good.nets.Model"))
    assert "good" not in sys.modules

    config = ConfigParser(whole(arch="good.nets.Model", loss="good.loss_of"), args=good)

    assert config.plans["arch"].target.__module__ == "good.nets"
    assert config.plans["loss"].target.__module__ == "good"


@pytest.mark.parametrize(
    "name",
    [
        *(
            "good.os.system",
            "good.system",
            "good.call",
            "good.Popen",
            "good.subprocess.run",
            "good.load",
            "good.hub.load",
        ),
        *("good.nn", "good.nn.Linear", "good.torch.load", "good.Other", "good.BaseModel", "good.Model.__init__"),
        *(
            "good.Model.forward",
            "good.__builtins__",
            "good.__loader__",
            "good.nets",
            "good",
            "good.",
            "good._Hidden",
            "good.Made",
            "good..Model",
        ),
        *(
            "good.nets..Model",
            ".good.Model",
            "good.nothing.Model",
            "good.nets\0.Model",
            "good.ne ts.Model",
            "good/nets.Model",
        ),
        *(
            "good:Model",
            "trapdoor.Model",
            "goods.Model",
            "os.system",
            "torch.hub.load",
            "system",
            "Popen",
            "load",
            "Other",
        ),
        *("good.output_of", "good." + "x." * 20_000 + "Model", "good.\u041codel", "good.\ud7ff.Model"),
    ],
    ids=lambda name: ascii(name[:40])[1:-1],
)
def test_an_allowed_package_opens_nothing_but_its_own_things_of_the_right_kind(name, good, traps):
    with pytest.raises(ConfigError, match=rf"'{re.escape(name[:80])}' is not a model\.|(?m:{ALMOST['arch'].pattern})"):
        ConfigParser(whole(arch=name), args=good)
    for place in ("optimizer", "lr_scheduler", "transform", "sampler", "data_loader", "trainer"):
        with pytest.raises(ConfigError, match="is not"):
            ConfigParser(whole(**PLACES[place](name)), args=good)

    assert not traps.exists()


def test_a_package_that_breaks_on_import_keeps_its_traceback_and_says_where_it_was_named(traps, tmp_path):
    (tmp_path / "half.py").write_text("raise RuntimeError('half')", encoding="utf-8")

    with pytest.raises(RuntimeError, match="half") as caught:
        ConfigParser(whole(arch="half.Model"), args=allowing("half"))

    assert any("arch" in note for note in caught.value.__notes__)


# --- checkpoints ---------------------------------------------------------------------------------------------------


def test_hostile_names_in_a_checkpoint_are_refused_like_those_in_a_file(traps, tmp_path, monkeypatch):
    file = tmp_path / "stranger.pth"
    kept = [name for name in HOSTILE[:100] if len(name) < 1000]
    cases = [(place, kept[index :: len(PLACES)]) for index, place in enumerate(PLACES)]
    imports = Imports(monkeypatch)

    for place, names in cases:
        for name in names:
            torch.save(checkpoint_of(whole(**PLACES[place]({"type": name}))), file)
            with pytest.raises(ConfigError) as caught:
                from_args("-r", file)
            assert f": '{name}' is not {TABLES[place].what}." in str(caught.value) or ALMOST[place].search(
                str(caught.value)
            )
            assert str(caught.value).startswith(f"the config in {file}: ")
            with pytest.raises(ConfigError, match="is not"):
                ConfigParser(whole(**PLACES[place](name)), checkpoint=checkpoint_of({}))

    assert [name for name in imports.strange() if "trap" in name or "beside" in name] == []
    assert not traps.exists()


def test_an_honest_checkpoint_is_opened(tmp_path):
    torch.save(checkpoint_of(whole()), tmp_path / "honest.pth")

    assert from_args("-r", tmp_path / "honest.pth").resolved["arch"]["type"] == "MLP"


def test_a_checkpoint_cannot_bring_an_allowed_package_with_it(traps, tmp_path):
    state = checkpoint_of(whole(arch="trapdoor.Model"), allow=["trapdoor"], args={"allow": ["trapdoor"]})
    torch.save(state, tmp_path / "stranger.pth")

    with pytest.raises(ConfigError, match="is not a model"):
        from_args("-r", tmp_path / "stranger.pth")

    assert not traps.exists()


class Harmful:
    """Its pickle runs a command, where a file is opened without care."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return (__import__("os").system, (self.command,))


def test_code_in_a_checkpoint_does_not_run(tmp_path):
    mark = tmp_path / "ran"
    state = checkpoint_of(whole(name=Harmful(f"touch {mark}")))
    torch.save(state, tmp_path / "zip.pth")
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(state))

    for name in ("zip.pth", "bare.pth"):
        with pytest.raises(CheckpointError, match="refusing to load it"):
            from_args("-r", tmp_path / name)

    assert not mark.exists()


def of_itself():
    ring = []
    ring.append(ring)
    return ring


def nested(depth):
    value = 1
    for _ in range(depth):
        value = [value]
    return value


def laughs():
    value = [1]
    for _ in range(12):
        value = [value] * 10
    return value


STRANGE = {
    "a list in itself": of_itself,
    "nested": lambda: nested(200),
    "a billion laughs": laughs,
    "one long text a thousand times": lambda: ["x" * 10_000] * 1000,
    "a tensor": lambda: torch.zeros(2),
    "not a number": lambda: float("nan"),
    "infinite": lambda: float("-inf"),
    "no JSON number": lambda: 10**400,
    "bytes": lambda: b"abc",
    "a set": lambda: {1, 2},
    "complex": lambda: 1j,
    "a dtype": lambda: torch.float32,
    "a device": lambda: torch.device("cpu"),
    "a number for a key": lambda: {1: "a"},
    "null for a key": lambda: {None: "a"},
    "a tuple for a key": lambda: {(1, 2): "a"},
}
# These have no digest, or none within the bounds, and are refused for that already.
WITHOUT_DIGEST = ("a list in itself", "a billion laughs", "bytes", "a set", "complex", "a dtype", "a device")


@pytest.mark.parametrize("kind", STRANGE)
@pytest.mark.parametrize("path", ["name", "optimizer", "trainer", "metrics.0", "optimizer.args.lr", "zzz", "arch.args"])
def test_what_no_json_can_say_is_refused_in_a_checkpoint(kind, path, tmp_path):
    config = whole()
    *above, last = path.split(".")
    inside = config
    for key in above:
        inside = inside[int(key) if isinstance(inside, list) else key]
    inside[int(last) if isinstance(inside, list) else last] = STRANGE[kind]()
    # Nobody waits for the digest of a billion laughs.
    checkpoint = checkpoint_of(config, max_bytes=1_000 if kind == "a billion laughs" else 100_000_000)
    torch.save(checkpoint, tmp_path / "stranger.pth")

    start = time.process_time()
    reason = r"its digest differs" if kind in WITHOUT_DIGEST else "its config is"
    with pytest.raises(CheckpointError, match=reason) as caught:
        from_args("-r", tmp_path / "stranger.pth")

    assert time.process_time() - start < LIMIT_S
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "offered",
    [
        1,
        None,
        "a",
        "a.b.c",
        "metrics.0.a",
        "name.args.x",
        "optimizer.type.x",
        "arch.args.x",
        "a.b.c.d",
        ["x"],
        "metrics.args.0",
    ],
)
def test_names_of_filled_in_values_that_are_none_are_refused_in_a_checkpoint(offered, tmp_path):
    torch.save(checkpoint_of(whole(), offered=[offered]), tmp_path / "stranger.pth")

    reason = (
        "was filled in and is not in its config" if isinstance(offered, str) else "incomplete, its 'offered.0' is a"
    )
    with pytest.raises(CheckpointError, match=reason):
        from_args("-r", tmp_path / "stranger.pth")


@pytest.mark.parametrize("script", ["train.py", "test.py"])
def test_a_script_refuses_a_hostile_checkpoint_in_one_line_and_leaves_nothing_behind(script, traps, tmp_path):
    file = tmp_path / "stranger.pth"
    torch.save(
        checkpoint_of(whole(arch={"type": "trapdoor.Model"}, trainer={"epochs": 2, "save_dir": str(tmp_path)})), file
    )
    there = sorted(tmp_path.iterdir())

    done = subprocess.run(
        [sys.executable, "-W", "ignore", ROOT / script, "-r", file],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )

    assert done.returncode == 2
    assert "arch.type: 'trapdoor.Model' is not a model." in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(tmp_path.iterdir()) == there


# --- size ----------------------------------------------------------------------------------------------------------


def compact(config):
    return json.dumps(config, separators=(",", ":"))


def in_a_row(count):
    return whole(**{f"l{i}": [f"${{l{i + 1}}}"] * 10 for i in range(count)} | {f"l{count}": [1]})


BIG = {
    "over 1 MB": (lambda: compact(whole(name="x" * 1_000_000)), "larger than 1 MB"),
    "over 1 MB of blanks": (lambda: "{" + " " * 1_000_000 + "}", "larger than 1 MB"),
    "deep objects": (lambda: '{"a":' * 190_000, "nested deeper than 32 levels"),
    "deep lists": (lambda: '{"a":' + "[" * 900_000, "nested deeper than 32 levels"),
    "closed deep lists": (lambda: '{"a":' + "[" * 400_000 + "]" * 400_000 + "}", "nested deeper than 32 levels"),
    "a key twice": (lambda: '{"name": "a", "name": "b"}', "name: this key is on line 1 and again on line 1"),
    "a key twice, deep": (lambda: '{"arch": {"args": {"a": 1, "a": 1}}}', "arch.args.a: this key is on"),
    "a key twice, escaped": (lambda: r'{"name": "a", "n\u0061me": "b"}', "name: this key is on"),
    "a key many times": (lambda: "{" + '"a":1,' * 150_000 + "}", "a: this key is on"),
    "many digits": (lambda: '{"seed": ' + "9" * 900_000 + "}", "not valid JSON"),
    "a large exponent": (lambda: '{"seed": 1e999999999}', "not a finite number"),
    "open quotes": (lambda: '{"a":"' + "\\" * 900_001, "not valid JSON"),
    "open comments": (lambda: "/*" * 400_000, "not valid JSON"),
    "unknown keys": (lambda: compact(whole(**{f"k{i}": 1 for i in range(70_000)})), "more than 100 problems"),
    "unknown arguments": (
        lambda: compact(whole(optimizer={"type": "SGD", "args": {f"k{i}": 1 for i in range(20_000)}})),
        "more than 100 problems",
    ),
    "unknown options": (
        lambda: compact(whole(trainer={f"epoch{i}": 1 for i in range(20_000)})),
        "more than 100 problems",
    ),
    "unknown metrics": (lambda: compact(whole(metrics=["accurac"] * 80_000)), "more than 100 problems"),
    "one metric often": (lambda: compact(whole(metrics=["accuracy"] * 80_000)), "more than 100 problems"),
    "more values than there are": (
        lambda: compact(whole(arch={"type": "VGG", "args": {"layers": [8] * 300_000}})),
        "100,000 values",
    ),
    "unknown references": (
        lambda: compact(whole(metrics=["${metrix}"] * 40_000)),
        "there is no 'metrix' in the config",
    ),
    "a reference to itself": (lambda: compact(whole(name="${name}" * 100_000)), "name: refers to itself: name -> name"),
    "references in a ring": (
        lambda: compact(whole(**{f"l{i}": f"${{l{(i + 1) % 20}}}${{l{(i + 2) % 20}}}" for i in range(20)})),
        "the references",
    ),
    "references in a ring of lists": (
        lambda: compact(whole(**{f"l{i}": [f"${{l{j}}}" for j in range(20)] for i in range(20)})),
        "the references",
    ),
    "references that multiply": (lambda: compact(in_a_row(30)), "the references"),
    "texts that double": (
        lambda: compact(whole(**{f"l{i}": f"${{l{i + 1}}}" * 2 for i in range(60)} | {"l60": "x"})),
        "the references",
    ),
    "nothing that doubles": (
        lambda: compact(whole(**{f"l{i}": f"${{l{i + 1}}}" * 2 for i in range(28)} | {"l28": ""})),
        "the references",
    ),
    "a long text often": (lambda: compact(whole(name="x" * 90_000, metrics=["x${name}"] * 80_000)), "the references"),
    "a long value often": (
        lambda: compact(whole(zz={"x": "y" * 90_000}, arch={"type": "VGG", "args": {"layers": ["${zz}"] * 30_000}})),
        "the references",
    ),
    "a long key often": (
        lambda: compact(whole(zz={"y" * 90_000: 1}, arch={"type": "VGG", "args": {"layers": ["${zz}"] * 30_000}})),
        "the references",
    ),
    "references that nest": (
        lambda: compact(whole(**{f"l{i}": json.loads("[" * 25 + f'"${{l{i + 1}}}"' + "]" * 25) for i in range(29)})),
        "the references",
    ),
}


@pytest.mark.parametrize(("make", "reason"), BIG.values(), ids=BIG)
def test_a_config_that_would_exhaust_something_is_refused_in_bounded_time_and_memory(make, reason, tmp_path):
    file = tmp_path / "big.json"
    file.write_text(make(), encoding="utf-8")
    before_kb, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()

    with pytest.raises(ConfigError) as caught:
        from_args("-c", file)

    assert reason in str(caught.value)
    assert time.process_time() - start < LIMIT_S
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < LIMIT_KB
    assert len(str(caught.value)) < 10 * 1_000_000


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"c.json": {"_base_": "c.json"}}, "is its own base"),
        ({"c.json": {"_base_": "d.json"}, "d.json": {"_base_": "c.json"}}, "is its own base"),
        ({"c.json": {"_base_": "sub/../c.json"}, "sub/x.json": {}}, "is its own base"),
        ({"c.json": {"_base_": "nothing.json"}}, "no such file"),
        ({"c.json": {"_base_": "."}}, "no such file"),
        ({"c.json": {"_base_": "/dev/zero"}}, "no such file"),
        ({"c.json": {"_base_": "x" * 5000}}, "no such file"),
        ({"c.json": {"_base_": "a\0b"}}, "expected the path of a config file"),
        ({"c.json": {"_base_": "~nobody-of-that-name/c.json"}}, "no such file"),
        ({"c.json": {"_base_": "http://example.org/c.json"}}, "no such file"),
        ({"c.json": {"_base_": "file:///etc/passwd"}}, "no such file"),
        ({"c.json": {"_base_": 1}}, "expected the path of a config file"),
        ({"c.json": {"_base_": {"a": 1}}}, "expected the path of a config file"),
        ({"c.json": {"_base_": ["d.json"] * 60}, "d.json": {}}, "more than 50 files"),
        ({"c.json": {"_base_": [["d.json"]]}, "d.json": {}}, "expected the path of a config file"),
        (
            {"c.json": {"_base_": "0.json"}} | {f"{i}.json": {"_base_": f"{i + 1}.json"} for i in range(1500)},
            "more than 50",
        ),
        (
            {"c.json": {"_base_": "0.json"}}
            | {f"{i}.json": {"_base_": [f"{i + 1}.json"] * 2} for i in range(40)}
            | {"40.json": {}},
            "more than 50 files",
        ),
        ({"c.json": {"_base_": "d.json"}, "d.json": []}, "must be an object"),
    ],
)
def test_bases_end(files, reason, tmp_path):
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps(data), encoding="utf-8")

    start = time.process_time()
    with pytest.raises(ConfigError, match=re.escape(reason)):
        from_args("-c", tmp_path / "c.json")

    assert time.process_time() - start < LIMIT_S


def test_a_base_in_a_checkpoint_is_an_unknown_key_and_is_not_read(tmp_path):
    (tmp_path / "secret.json").write_text('{"name": "secret"}', encoding="utf-8")
    torch.save(checkpoint_of(whole(_base_=str(tmp_path / "secret.json"))), tmp_path / "stranger.pth")

    with pytest.raises(UserError, match="_base_: unknown key") as caught:
        from_args("-r", tmp_path / "stranger.pth")

    assert "'secret'" not in str(caught.value)


@pytest.mark.parametrize("key", ["data_loader.args.data_dir", "trainer.save_dir", "weights_file"])
def test_the_home_of_nobody_is_a_path_like_any_other(key, config_file):
    config = from_args("-c", config_file(whole()), f"{key}=~nobody-of-that-name/x")

    assert isinstance(config.trainer_options.save_dir, Path)
