"""tools/convert.py: checkpoints as pytorch-template writes them become ours, and nothing that they bring is run."""

import csv
import json
import os
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

import train
from data_loader.transforms import IMAGENET_MEAN, IMAGENET_STD
from model.vgg import VGG
from parse_config import ConfigParser
from tools.convert import main, read_words
from tools.old_checkpoint import ALLOWED, StandIn, read_old_checkpoint
from tools.old_config import converted
from utils.checkpoint import load_checkpoint
from utils.errors import CheckpointError, ConfigError, OutputError

ROOT = train.ROOT
EPOCH = 3
LAYERS = {"layers": [8, "M", 8, "M"], "batch_norm": True, "classifier_width": 16, "pool_size": 2}


class Logger:
    """As pytorch-template's first versions had one."""

    def __init__(self):
        self.entries = {1: {"loss": 0.5}}


class TheirConfigParser:
    """The attributes of pytorch-template's ConfigParser, set as its constructor does."""

    def __init__(self, config, resume=None):
        self._config = config
        self.resume = resume
        self._save_dir = Path("saved/models") / config["name"] / "0907_120000"
        self._log_dir = Path("/home/she/saved/log") / config["name"] / "0907_120000"
        self.log_levels = {0: 30, 1: 20, 2: 10}


TheirConfigParser.__name__ = TheirConfigParser.__qualname__ = "ConfigParser"
TheirConfigParser.__module__ = "parse_config"
Logger.__module__ = "logger.logger"


@pytest.fixture
def save_as_they_do(monkeypatch):
    """`save(path, state)`: torch.save in a process whose modules are those of pytorch-template."""

    def save(path, state, *, zipped=True):
        theirs = {"parse_config": ModuleType("parse_config"), "logger.logger": ModuleType("logger.logger")}
        theirs["parse_config"].ConfigParser, theirs["logger.logger"].Logger = TheirConfigParser, Logger
        with monkeypatch.context() as patch:
            for name, module in theirs.items():
                patch.setitem(sys.modules, name, module)
            torch.save(state, path, _use_new_zipfile_serialization=zipped)
        return path

    return save


@pytest.fixture
def their_config(shapes_dir, tmp_path):
    """In the shape of the config.json that pytorch-template comes with."""
    return OrderedDict(
        name="Shapes_Old",
        n_gpu=0,
        arch=OrderedDict(type="VGG", args=OrderedDict(LAYERS)),
        data_loader={"type": "ImageFolderDataLoader", "args": {"data_dir": str(shapes_dir), "eval_transform": []}},
        optimizer={"type": "Adam", "args": {"lr": 0.001, "weight_decay": 0, "amsgrad": True}},
        loss="cross_entropy",
        metrics=["accuracy", "top_k_acc"],
        lr_scheduler={"type": "StepLR", "args": {"step_size": 2, "gamma": 0.1}},
        trainer=OrderedDict(
            epochs=100, save_dir=str(tmp_path / "saved"), save_period=1, verbosity=2, monitor="min val_loss",
            early_stop=10, tensorboard=False,
        ),
    )  # fmt: skip


def trained_there():
    """A network and its optimizer after some steps, with the learning rate of epoch 3 as StepLR had left it."""
    torch.manual_seed(11)
    model = VGG(3, **LAYERS)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001, amsgrad=True)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.1)
    for _ in range(EPOCH):
        optimizer.zero_grad()
        model(torch.rand(4, 3, 16, 16)).square().mean().backward()
        optimizer.step()
        schedule.step()
    return model.eval(), optimizer


def their_state(settings, model, optimizer, **changes):
    """As BaseTrainer._save_checkpoint put it together."""
    return {
        "arch": type(model).__name__,
        "epoch": EPOCH,
        "state_dict": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "monitor_best": np.float64(0.25),
        "config": TheirConfigParser(settings, resume=Path("saved/x.pth")),
    } | changes


@pytest.fixture
def old(save_as_they_do, their_config, tmp_path):
    """A file of theirs, and the network and the optimizer that it was made of."""
    model, optimizer = trained_there()
    path = save_as_they_do(tmp_path / "model_best.pth", their_state(their_config, model, optimizer))
    return path, model, optimizer


def test_weights_moments_schedule_counters_and_best_are_taken_over(old, capsys):
    path, model, optimizer = old

    last = main([str(path)])

    state = load_checkpoint(last)
    config = ConfigParser(state["config"])
    again = config.init_model().eval()
    again.load_state_dict(state["model"])
    images_NCHW = torch.rand(5, 3, 16, 16)
    assert torch.equal(again(images_NCHW), model(images_NCHW))
    moments = optimizer.state_dict()["state"]
    for index, expected in moments.items():
        found = state["optimizer"]["state"][index]
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    # StepLR by a tenth after every second epoch: once in three.
    assert state["optimizer"]["param_groups"][0]["lr"] == pytest.approx(1e-4)
    assert state["schedule"]["last_epoch"] == EPOCH
    # 72 training images in batches of 16 are 5 steps.
    assert (state["epochs_done"], state["steps_done"]) == (EPOCH, 15)
    monitor = {"name": "val_loss", "higher_is_better": False, "best": 0.25, "best_epoch": 3, "bad_epochs": 0}
    assert state["monitor"] == monitor
    assert load_checkpoint(last.with_name("best.pth"))["monitor"] == monitor
    assert (last.parents[1] / "last.pth").resolve() != last.with_name("best.pth")
    said = capsys.readouterr().out
    assert "3 of 100 epochs, the best val_loss, 0.25" in said
    assert f"python train.py -r {last}" in said
    assert f"python test.py -r {last.with_name('best.pth')}" in said
    assert "learning rate" not in said


def test_it_goes_on_for_one_more_epoch(old):
    last = main([str(old[0])])

    trained = train.main(["-r", str(last), "trainer.epochs=4", "trainer.verbosity=0"])

    assert (trained.epochs_done, trained.steps_done) == (4, 20)
    assert trained.models_dir == last.parent
    with open(trained.recorder.history.path) as file:
        [row] = csv.DictReader(file)
    assert (row["epoch"], float(row["lr"])) == ("4", pytest.approx(1e-4))


def test_it_is_judged_as_the_old_network_would_be(old, shapes_dir):
    path, model, _ = old
    best = main([str(path)]).with_name("best.pth")

    subprocess.run([sys.executable, str(ROOT / "test.py"), "-r", str(best)], check=True, cwd=ROOT, capture_output=True)

    folders = sorted((shapes_dir / "test").iterdir())
    right = []
    for label, folder in enumerate(folders):
        for file in sorted(folder.iterdir()):
            pixels_HWC = np.asarray(Image.open(file).convert("RGB"), np.float32) / 255
            pixels_HWC = (pixels_HWC - np.float32(IMAGENET_MEAN)) / np.float32(IMAGENET_STD)
            logits_NK = model(torch.from_numpy(pixels_HWC).permute(2, 0, 1)[None])
            right.append(int(logits_NK.argmax()) == label)
    [found] = best.parents[3].glob("log/*/*/metrics.json")
    assert json.loads(found.read_text())["accuracy"] == pytest.approx(np.mean(right))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.module."])
def test_old_containers_prefixes_and_plain_configs_are_read(
    save_as_they_do, their_config, tmp_path, zipped, prefix
):  # fmt: skip
    model, optimizer = trained_there()
    weights = OrderedDict((prefix + name, value) for name, value in model.state_dict().items())
    state = their_state(their_config, model, optimizer, state_dict=weights, config=dict(their_config), logger=Logger())
    path = save_as_they_do(tmp_path / "checkpoint-epoch3.pth", state, zipped=zipped)

    last = main([str(path)])

    expected = model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in load_checkpoint(last)["model"].items())


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float64(0.1), 0.1),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3.0),
        (torch.tensor(0.75), 0.75),
        (2, 2.0),
        (float("inf"), None),
        (np.float64("nan"), None),
        (10**400, None),
        (None, None),
        ("0.5", None),
    ],
    ids=repr,
)
def test_best_scores_of_any_kind_are_numbers(save_as_they_do, their_config, tmp_path, value, expected):
    path = save_as_they_do(tmp_path / "a.pth", their_state(their_config, *trained_there(), monitor_best=value))

    assert read_old_checkpoint(path).monitor_best == expected


@pytest.mark.parametrize(
    ("name", "other_name"),
    [
        (b"numpy._core.multiarray\n", b"numpy.core.multiarray\n"),  # numpy 1
        (b"pathlib\nPosixPath", b"pathlib._local\nPosixPath"),  # Python 3.13
        (b"pathlib\nPosixPath", b"pathlib\nWindowsPath"),
    ],
)
def test_files_of_other_versions_and_systems_are_read(save_as_they_do, their_config, tmp_path, name, other_name):
    path = save_as_they_do(tmp_path / "a.pth", their_state(their_config, *trained_there()), zipped=False)
    content = path.read_bytes()
    assert name in content
    path.write_bytes(content.replace(name, other_name))

    old = read_old_checkpoint(path)

    assert (old.epoch, old.monitor_best, old.config["name"]) == (3, 0.25, "Shapes_Old")


# --- configs -----------------------------------------------------------------------------------------------------


def test_settings_of_the_first_versions_are_renamed_or_dropped_with_a_line_each():
    old = {
        "name": "x",
        "cuda": True,
        "visualization": {"tensorboardX": True},
        "metrics": ["my_metric", "my_metric2", "accuracy"],
        "trainer": {
            "epochs": 5, "save_freq": 2, "tensorboardX": False, "log_dir": "saved/runs", "monitor": "val_my_metric",
            "monitor_mode": "max", "early_stop": -1, "verbosity": 2,
        },
    }  # fmt: skip

    config, lines = converted(old)

    assert config == {
        "name": "x",
        "metrics": [
            {"type": "accuracy", "name": "my_metric"}, {"type": "top_k_acc", "name": "my_metric2"}, "accuracy"
        ],
        "trainer": {
            "epochs": 5, "save_period": 2, "tensorboard": False, "monitor": "max val_my_metric", "early_stop": None,
            "verbosity": 2,
        },
    }  # fmt: skip
    assert [line.split(":")[0] for line in lines] == [
        "cuda", "visualization", "trainer.save_freq", "trainer.tensorboardX", "trainer.log_dir", "trainer.monitor_mode",
        "trainer.early_stop", "metrics", "metrics",
    ]  # fmt: skip


def test_the_config_that_the_template_comes_with_is_taken_as_it_is():
    from utils.config_file import read_json

    theirs = read_json(ROOT / "configs" / "pytorch_template_mnist.json").data

    config, lines = converted(theirs)

    assert lines == []
    assert config == {key: value for key, value in theirs.items() if key != "$schema"}


def test_another_config_and_overrides_are_used_and_what_differs_is_said(
    old, small_config, config_file, capsys
):  # fmt: skip
    config = small_config(optimizer={"type": "Adam", "args": {"lr": 0.5, "amsgrad": True}})
    path = config_file(config)

    last = main([str(old[0]), "-c", str(path), "name=other", "trainer.monitor=max val_accuracy"])

    state = load_checkpoint(last)
    # Halved after each of three epochs.
    assert state["optimizer"]["param_groups"][0]["lr"] == pytest.approx(0.0625)
    assert state["monitor"]["best"] is None
    assert not last.with_name("best.pth").exists()
    said = capsys.readouterr().out
    assert "learning rate: 0.0625 by the config after 3 epochs; the file had 0.0001" in said
    assert "best score: the config watches another score" in said
    assert f"trainer.epochs={2 * EPOCH}" in said  # its three epochs are done
    assert last.parent.parent.name == "other"


def test_a_schedule_by_score_begins_at_the_rate_of_the_file(save_as_they_do, their_config, tmp_path, capsys):
    their_config["lr_scheduler"] = {"type": "ReduceLROnPlateau", "args": {}}
    path = save_as_they_do(tmp_path / "a.pth", their_state(their_config, *trained_there()))

    last = main([str(path)])

    assert load_checkpoint(last)["optimizer"]["param_groups"][0]["lr"] == pytest.approx(1e-4)
    assert "the schedule goes by a score and begins anew" in capsys.readouterr().out


def test_images_held_back_anew_are_warned_of(save_as_they_do, their_config, shapes_dir, tmp_path, capsys):
    their_config["data_loader"]["args"] |= {"data_dir": str(shapes_dir / "train"), "validation_split": 0.25}
    path = save_as_they_do(tmp_path / "a.pth", their_state(their_config, *trained_there()))

    main([str(path)])

    assert "validation scores are too good from here on" in capsys.readouterr().out


def test_the_converted_config_can_be_printed(old, capsys):
    assert main([str(old[0]), "--print-config", "trainer.epochs=7"]) is None

    printed = json.loads(capsys.readouterr().out)
    assert (printed["name"], printed["trainer"]["epochs"]) == ("Shapes_Old", 7)


# --- weights only ------------------------------------------------------------------------------------------------


def test_weights_alone_need_no_network_and_no_data(save_as_they_do, their_config, tmp_path, capsys):
    model, optimizer = trained_there()
    their_config["arch"], their_config["data_loader"] = {"type": "NoSuchNet"}, {"type": "Nowhere"}
    weights = {f"module.{name}": value for name, value in model.state_dict().items()}
    path = save_as_they_do(tmp_path / "a.pth", their_state(their_config, model, optimizer, state_dict=weights))
    out = tmp_path / "out.pth"

    assert main([str(path), "--weights-only", str(out)]) == out

    written = torch.load(out, weights_only=True)
    expected = model.state_dict()
    assert written.keys() == expected.keys()
    assert all(torch.equal(written[name], value) for name, value in expected.items())
    assert f"python train.py -c CONFIG --weights {out}\n" in capsys.readouterr().out
    with pytest.raises(OutputError, match="is there already; give another name"):
        main([str(path), "--weights-only", str(out)])
    with pytest.raises(OutputError, match=r"not a \.pth file"):
        main([str(path), "--weights-only", str(tmp_path / "out.safetensors")])


# --- refused -----------------------------------------------------------------------------------------------------


class Hostile:
    """Unpickling it calls something."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("place", ["top", "weights", "config", "path", "state", "moments"])
@pytest.mark.parametrize("how", ["os.system", "eval", "getattr", "StandIn"])
def test_code_in_an_old_checkpoint_is_not_run(save_as_they_do, their_config, tmp_path, zipped, place, how):
    canary = tmp_path / "canary"
    evil = {
        "os.system": Hostile(os.system, f"touch {canary}"),
        "eval": Hostile(eval, f"open({str(canary)!r}, 'w')"),
        "getattr": Hostile(getattr, "text", "upper"),
        "StandIn": StandIn(1),  # by its own name it is not on the list
    }[how]
    model, optimizer = trained_there()
    state = their_state(their_config, model, optimizer)
    if place == "top":
        state["logger"] = evil
    elif place == "weights":
        state["state_dict"]["evil"] = evil
    elif place == "config":
        state["config"]._config["trainer"]["evil"] = evil
    elif place == "path":
        state["config"].resume = Hostile(Path, evil)
    elif place == "state":
        state["config"].__dict__["__class__"] = evil
    else:
        state["optimizer"]["state"][0]["exp_avg"] = evil
    path = save_as_they_do(tmp_path / "evil.pth", state, zipped=zipped)

    for words in ([str(path)], [str(path), "--weights-only", str(tmp_path / "out.pth")]):
        with pytest.raises(CheckpointError, match=r"evil\.pth: .*refusing to load it$") as caught:
            main(words)
        assert "\n" not in str(caught.value)

    assert not canary.exists()
    assert not (tmp_path / "out.pth").exists()
    assert not (tmp_path / "saved").exists()


def test_the_list_of_what_may_be_named_ends_with_the_reading(old):
    read_old_checkpoint(old[0])

    assert not set(ALLOWED) & set(torch.serialization.get_safe_globals())
    with pytest.raises(CheckpointError, match=r"not plain data; refusing to load it\n.*python -m tools\.convert"):
        load_checkpoint(old[0])


def test_a_state_cannot_set_attributes_of_a_stand_in():
    stand_in = StandIn("a")

    stand_in.__setstate__({"args": ("b",), "__class__": int})

    assert (stand_in.args, type(stand_in)) == (("a",), StandIn)


def endless():
    config = {"name": "x", "arch": {"type": "VGG"}}
    config["arch"]["args"] = config
    return config


def broad():
    value = ["x"] * 10
    for _ in range(20):
        value = [value] * 10
    return {"name": "x", "arch": {"type": "VGG", "args": {"layers": value}}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"epoch": 0}, "its 'epoch' is not a number from 1 to 1,000,000"),
        ({"epoch": 10**12}, "its 'epoch' is not a number"),
        ({"epoch": [1]}, "its 'epoch' is not a number"),
        ({"state_dict": {}}, "its 'state_dict' is no dict of names and tensors"),
        ({"state_dict": {"a": 1}}, "its 'state_dict' is no dict of names and tensors"),
        ({"optimizer": {"lr": 1}}, "its 'optimizer' is no state of an optimizer"),
        ("endless", "its config is larger or nested deeper than any config file"),
        ("broad", "its config is larger or nested deeper than any config file"),
        ({"config": {"name": "x", 5: 1}}, "its config is no JSON"),
        ({"format": 2}, "is a checkpoint of this project already"),
    ],
    ids=str,  # of a broad config itself that would take all memory
)
def test_files_that_are_no_old_checkpoint_are_refused_in_a_line(
    save_as_they_do, their_config, tmp_path, changes, said
):  # fmt: skip
    made = {"endless": endless, "broad": broad}.get(str(changes))
    changes = {"config": made()} if made is not None else changes
    path = save_as_they_do(tmp_path / "a.pth", their_state(their_config, *trained_there()) | changes)

    with pytest.raises(CheckpointError) as caught:
        main([str(path)])

    assert str(caught.value).startswith(f"{path}: {said}")
    assert "\n" not in str(caught.value)


def test_bare_weights_are_told_where_they_belong(tmp_path):
    torch.save(VGG(3, **LAYERS).state_dict(), tmp_path / "w.pth")

    with pytest.raises(CheckpointError, match=r"train\.py takes it with --weights as it is"):
        main([str(tmp_path / "w.pth")])


def test_weights_and_moments_of_another_network_or_optimizer_are_reported_and_leave_nothing(old, tmp_path):
    said = {
        "arch.args.classifier_width=8": r"a\.pth: the weights do not fit VGG: 3 of another shape \(classifier",
        "arch.args.batch_norm=false": r"do not fit VGG: 3 missing \(features.0.bias, .*\), 11 unexpected \(",
        'optimizer={"type": "SGD", "args": {"lr": 0.1}}': "holds the state of Adam, the config has SGD; --weights-only",
    }
    path = old[0].rename(tmp_path / "a.pth")

    for word, message in said.items():
        with pytest.raises(CheckpointError, match=message):
            main([str(path), word])

    assert not (tmp_path / "saved").exists()


@pytest.mark.parametrize("spoil", ["shape", "settings", "groups"])
def test_a_state_of_other_parameters_is_refused(save_as_they_do, their_config, tmp_path, spoil):
    model, optimizer = trained_there()
    state = their_state(their_config, model, optimizer)
    if spoil == "shape":
        state["optimizer"]["state"][0]["exp_avg"] = torch.zeros(5)
    elif spoil == "settings":
        del state["config"]._config["optimizer"]["type"]
        their_config["optimizer"] = {"type": "Adam"}
        state["config"] = their_config
        state["optimizer"]["param_groups"][0]["momentum"] = 0.9
    else:
        state["optimizer"]["param_groups"] = []
    path = save_as_they_do(tmp_path / "a.pth", state)

    with pytest.raises(CheckpointError, match=r"a\.pth: the optimizer's state does not fit Adam: "):
        main([str(path)])

    assert not (tmp_path / "saved").exists()


def test_a_network_that_is_not_here_is_a_config_error_with_what_would_do(save_as_they_do, their_config, tmp_path):
    their_config["arch"] = {"type": "MyNet", "args": {}}
    path = save_as_they_do(tmp_path / "a.pth", their_state(their_config, *trained_there()))

    with pytest.raises(ConfigError) as caught:
        main([str(path)])

    first, *_, hint = str(caught.value).splitlines()
    assert first.startswith(f"the config in {path}: arch.type: 'MyNet' is not a model")
    assert hint.startswith("Classes of one's own must be brought along")


def test_a_disk_that_is_full_leaves_no_run(old, tmp_path, monkeypatch):
    def full(path, state):
        raise OutputError(f"{path}: cannot write")

    monkeypatch.setattr("tools.convert.save_checkpoint", full)

    with pytest.raises(OutputError, match=r"last\.pth: cannot write"):
        main([str(old[0])])

    assert not any((tmp_path / "saved").glob("*/*/*"))


def test_a_file_without_a_config_asks_for_one(save_as_they_do, their_config, tmp_path):
    path = save_as_they_do(tmp_path / "a.pth", their_state(their_config, *trained_there(), config=None))

    with pytest.raises(ConfigError, match=r"holds no config; give one of this project with -c"):
        main([str(path)])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "the following arguments are required: FILE"),
        (["a.pth", "-r", "b.pth"], "the file goes without -r"),
        (["a.pth", "--schema"], "are of train.py"),
        (["a.pth", "--weights-only", "b.pth", "trainer.epochs=3"], "--weights-only reads no config"),
        (["a.pth", "--wieghts-only", "b.pth"], "Did you mean '--weights-only'"),
    ],
)
def test_words_that_mean_nothing_here_are_errors(words, said):
    with pytest.raises(ConfigError) as caught:
        read_words(words)

    assert said in str(caught.value)


def test_help_and_errors_in_the_words_do_not_wait_for_torch(tmp_path):
    def run(*words):
        command = [sys.executable, "-X", "importtime", "-m", "tools.convert", *words]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    shown, wrong = run("--help"), run("a.pth", "--schema")

    assert shown.returncode == 0
    assert "--weights-only OUT" in shown.stdout
    assert "| torch\n" not in shown.stderr + wrong.stderr
    assert wrong.returncode == 2
    assert [line for line in wrong.stderr.splitlines() if not line.startswith("import time:")] == [
        "command line: the file goes without -r, and --schema and --print-origins are of train.py"
    ]
