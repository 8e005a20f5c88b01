"""A checkpoint survives kills and full disks, opens without running code, and says why it cannot be opened."""

import errno
import io
import os
import pickle
import random
import resource
import signal
from collections import Counter, OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn, optim
from torch.optim import lr_scheduler

import utils.checkpoint
from utils.checkpoint import link, load_checkpoint, load_plain, load_weights_file, require_plain, save_checkpoint
from utils.errors import CheckpointError, OutputError

repeatable = settings(
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
OPTIMIZERS = {
    name: cls
    for name, cls in vars(optim).items()
    if isinstance(cls, type) and issubclass(cls, optim.Optimizer) and cls is not optim.Optimizer
}
SCHEDULERS = {
    "StepLR": {"step_size": 2},
    "MultiStepLR": {"milestones": [1, 3]},
    "ConstantLR": {},
    "LinearLR": {},
    "ExponentialLR": {"gamma": 0.9},
    "PolynomialLR": {},
    "CosineAnnealingLR": {"T_max": 5},
    "CosineAnnealingWarmRestarts": {"T_0": 2},
    "CyclicLR": {"base_lr": 0.01, "max_lr": 0.1},
    "OneCycleLR": {"max_lr": 0.1, "total_steps": 10},
    "ReduceLROnPlateau": {},
}


class Killed(BaseException):
    """Stands for SIGKILL: nobody catches it."""


def tiny_state(value=1.0):
    """The keys that every checkpoint has, with as little as possible in them."""
    model = {"w": torch.full((3,), value)}
    passport = {"config": {"name": "x"}, "offered": [], "classes": ["a", "b"], "run": {}}
    return {**passport, "model": model, "monitor": {}, "epochs_done": 2, "steps_done": 8}


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def saved(folder, value=1.0, name="last.pth"):
    path = folder / name
    save_checkpoint(path, tiny_state(value))
    return path


# --- what may be in it -------------------------------------------------------------------------------------------

plain_leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=5)
    | st.just(torch.arange(3))
)
plain_values = st.recursive(
    plain_leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
    ),
    max_leaves=8,
)


def same(a, b):
    """Equal, of equal types, at every depth; NaN equals NaN."""
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b or (a != a and b != b)


@repeatable
@given(plain_values)
def test_what_is_plain_comes_back_as_it_was(tmp_path, value):
    path = tmp_path / "plain.pth"

    save_checkpoint(path, {"value": value})

    assert same(load_plain(path), {"format": 1, "value": value})


class Text(str):
    """Not quite a string."""


@pytest.mark.parametrize(
    ("thing", "kind"),
    [
        (np.float32(0.5), "numpy.float32"),
        (np.zeros(2), "numpy.ndarray"),
        (Path("x"), "pathlib"),
        ({1, 2}, "builtins.set"),
        (defaultdict(int), "collections.defaultdict"),
        (slice(1), "builtins.slice"),
        (1j, "builtins.complex"),
        (b"", "builtins.bytes"),
        (torch.float32, "torch.dtype"),
        (nn.Linear(1, 1), "torch.nn.modules.linear.Linear"),
        (Text("x"), "Text"),
        (torch.__version__, "torch.torch_version.TorchVersion"),
        (os.system, "builtin_function_or_method"),
    ],
)
def test_what_is_not_plain_is_refused_with_its_key_path_and_nothing_is_written(tmp_path, thing, kind):
    state = tiny_state() | {"optimizer": {"state": [{"x": 1}, {"rate": (0, thing)}]}}

    with pytest.raises(TypeError, match=r"^checkpoint\['optimizer'\]\['state'\]\[1\]\['rate'\]\[1\] is a .*" + kind):
        save_checkpoint(tmp_path / "last.pth", state)

    assert names_in(tmp_path) == []


def test_a_key_that_is_not_plain_is_refused():
    with pytest.raises(TypeError, match=r"checkpoint\['a'\] \(a key\) is a pathlib"):
        require_plain({"a": {Path("x"): 1}})


@pytest.mark.parametrize(
    "state", [OrderedDict(a=torch.ones(1)), Counter("aab"), random.getstate(), torch.get_rng_state()]
)
def test_what_torch_and_python_keep_as_state_is_plain_and_opens_again(tmp_path, state):
    path = tmp_path / "plain.pth"

    save_checkpoint(path, {"state": state})

    assert same(load_plain(path)["state"], state)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_state_of_every_optimizer_of_torch_is_plain_and_opens_again(tmp_path, name):
    parameter = nn.Parameter(torch.eye(2))
    optimizer = OPTIMIZERS[name]([parameter], lr=0.1)
    parameter.grad = torch.ones(2, 2).to_sparse() if name == "SparseAdam" else torch.ones(2, 2)
    optimizer.step(lambda: torch.tensor(1.0) if name == "LBFGS" else None)

    save_checkpoint(tmp_path / "plain.pth", {"optimizer": optimizer.state_dict()})

    assert same(load_plain(tmp_path / "plain.pth")["optimizer"], optimizer.state_dict())


@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_state_of_the_schedulers_of_torch_is_plain_and_opens_again(tmp_path, name):
    optimizer = optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1, momentum=0.9)
    scheduler = getattr(lr_scheduler, name)(optimizer, **SCHEDULERS[name])
    optimizer.step()
    scheduler.step(*([0.5] if name == "ReduceLROnPlateau" else []))

    save_checkpoint(tmp_path / "plain.pth", {"schedule": scheduler.state_dict()})

    assert same(load_plain(tmp_path / "plain.pth")["schedule"], scheduler.state_dict())


# --- kept safe ---------------------------------------------------------------------------------------------------


def test_saving_again_replaces_the_file_and_leaves_no_other(tmp_path):
    path = saved(tmp_path, 1.0)

    saved(tmp_path, 2.0)

    assert load_checkpoint(path)["model"]["w"].tolist() == [2.0, 2.0, 2.0]
    assert names_in(tmp_path) == ["last.pth"]


def test_a_kill_between_writing_and_renaming_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path = saved(tmp_path, 1.0)
    before = path.read_bytes()

    def die(*names):
        raise Killed

    monkeypatch.setattr(os, "replace", die)
    with pytest.raises(Killed):
        saved(tmp_path, 2.0)

    assert path.read_bytes() == before


@pytest.mark.parametrize("operation", ["flush", "fsync", "write"])
def test_a_kill_while_writing_leaves_the_old_file_whole(tmp_path, monkeypatch, operation):
    path = saved(tmp_path, 1.0)
    before = path.read_bytes()

    def die(*arguments, **settings):
        raise Killed

    if operation == "fsync":
        monkeypatch.setattr(os, "fsync", die)
    else:
        monkeypatch.setattr(torch, "save", die)
    with pytest.raises(Killed):
        saved(tmp_path, 2.0)

    assert path.read_bytes() == before


def test_a_process_that_dies_before_the_renaming_leaves_the_old_file_whole(tmp_path):
    path = saved(tmp_path, 1.0)
    before = path.read_bytes()

    child = os.fork()
    if child == 0:
        os.replace = lambda *names: os._exit(7)
        saved(tmp_path, 2.0)
        os._exit(0)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 7
    assert path.read_bytes() == before
    assert load_checkpoint(path)["model"]["w"].tolist() == [1.0, 1.0, 1.0]


def test_the_content_is_on_the_disk_before_the_name_is_changed(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace

    def recording_fsync(number):
        calls.append(("fsync", os.fstat(number).st_size))
        fsync(number)

    def recording_replace(source, target):
        calls.append(("replace", os.stat(source).st_size))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", recording_fsync)
    monkeypatch.setattr(os, "replace", recording_replace)
    path = saved(tmp_path)

    size = path.stat().st_size
    assert calls == [("fsync", size), ("replace", size)]


def test_the_file_is_written_in_its_own_folder(tmp_path, monkeypatch):
    # A rename from another file system is a copy, and a copy can be torn.
    seen = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (seen.append(Path(a).parent), replace(a, b)))

    saved(tmp_path)

    assert seen == [tmp_path]


@pytest.fixture
def _full_disk():
    """Files of this process cannot grow beyond 100 kB; the kernel then answers EFBIG, as it would ENOSPC."""
    old_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    old_handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, old_limit[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, old_limit)
    signal.signal(signal.SIGXFSZ, old_handler)


@pytest.mark.usefixtures("_full_disk")
def test_a_full_disk_is_an_output_error_and_the_previous_file_is_whole(tmp_path):
    path = saved(tmp_path, 1.0)
    before = path.read_bytes()
    large = tiny_state() | {"model": {"w": torch.zeros(200_000)}}

    with pytest.raises(
        OutputError, match=r"last\.pth: cannot write the checkpoint \(File too large\); the previous one is"
    ):
        save_checkpoint(path, large)

    assert path.read_bytes() == before
    assert names_in(tmp_path) == ["last.pth"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
def test_a_disk_that_refuses_at_the_end_is_an_output_error_too(tmp_path, monkeypatch, number):
    path = saved(tmp_path, 1.0)
    before = path.read_bytes()

    def refuse(descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OutputError, match=os.strerror(number)):
        saved(tmp_path, 2.0)

    assert path.read_bytes() == before
    assert names_in(tmp_path) == ["last.pth"]


def test_a_folder_that_is_not_there_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match="No such file or directory"):
        saved(tmp_path / "missing")


def test_an_error_that_no_disk_caused_keeps_its_own_type(tmp_path, monkeypatch):
    def broken(*arguments):
        raise RuntimeError("a mistake in code")

    monkeypatch.setattr(torch, "save", broken)

    with pytest.raises(RuntimeError, match="a mistake in code"):
        saved(tmp_path)


# --- opened ------------------------------------------------------------------------------------------------------


def test_a_checkpoint_comes_back_on_the_cpu_with_its_format(tmp_path):
    state = load_checkpoint(saved(tmp_path, 3.0))

    assert same(state, {"format": 1, **tiny_state(3.0)})


GIT_LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"hello\n", "not a checkpoint"),
        (b"G\n", "not a checkpoint"),
        (b"Good morning, this is no checkpoint at all.\n", "not a checkpoint"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "not a checkpoint"),
        (GIT_LFS_POINTER, "a Git LFS pointer; run 'git lfs pull'"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "not a checkpoint"),
        (b"PK\x03\x04" + bytes(100), "not a checkpoint"),
        (b"\x80\x02}q\x00.", "not a checkpoint"),
        (pickle.dumps({"a": 1}), "not a checkpoint"),
        (b'{"name": "a json"}', "not a checkpoint"),
        (bytes(5000), "not a checkpoint"),
    ],
)
def test_what_is_no_checkpoint_is_one_line_that_names_the_file(tmp_path, content, said):
    path = tmp_path / "model.pth"
    path.write_bytes(content)

    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)

    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert said in message
    assert "\n" not in message
    assert "weights_only" not in message


def test_a_missing_file_a_folder_and_an_impossible_name_are_told_apart(tmp_path):
    with pytest.raises(CheckpointError, match=r"none\.pth: no such file or directory"):
        load_checkpoint(tmp_path / "none.pth")
    with pytest.raises(CheckpointError, match=r"is a folder \(give a \.pth file\)"):
        load_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="null byte"):
        load_checkpoint(tmp_path / "a\0b.pth")


@pytest.mark.parametrize("share", [0.001, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.999])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_truncated_checkpoint_is_refused(tmp_path, share, legacy):
    buffer = io.BytesIO()
    torch.save(tiny_state() | {"big": torch.zeros(1000)}, buffer, _use_new_zipfile_serialization=not legacy)
    path = tmp_path / "cut.pth"
    path.write_bytes(buffer.getvalue()[: int(share * len(buffer.getvalue()))])

    with pytest.raises(CheckpointError, match=r"cut\.pth: .*(truncated|damaged)"):
        load_checkpoint(path)


def test_a_checkpoint_that_lacks_its_last_byte_is_refused(tmp_path):
    path = saved(tmp_path)
    path.write_bytes(path.read_bytes()[:-1])

    with pytest.raises(CheckpointError, match="truncated"):
        load_checkpoint(path)


@settings(repeatable, max_examples=150)
@given(
    st.binary(min_size=1, max_size=40), st.sampled_from([b"", b"\x80\x02", b"\x80\x04\x95", b"PK\x03\x04", b"(", b"G"])
)
def test_random_bytes_are_refused_without_any_other_error(tmp_path, content, start):
    path = tmp_path / "random.pth"
    path.write_bytes(start + content)

    with pytest.raises(CheckpointError):
        load_checkpoint(path)


@settings(repeatable, max_examples=150)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=3), st.booleans())
def test_flipped_bytes_give_a_checkpoint_error_or_a_state_and_nothing_else(tmp_path, flips, legacy):
    buffer = io.BytesIO()
    torch.save({"format": 1, **tiny_state()}, buffer, _use_new_zipfile_serialization=not legacy)
    content = bytearray(buffer.getvalue())
    for position, value in flips:
        content[position % len(content)] = value
    path = tmp_path / "flipped.pth"
    path.write_bytes(content)

    try:
        state = load_checkpoint(path)
    except CheckpointError:
        return
    assert isinstance(state, dict)


class Evil:
    """Unpickling it runs a command."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


@pytest.mark.parametrize("form", ["zip", "legacy", "bare pickle", "bare pickle 0", "weights"])
@pytest.mark.parametrize("load", [load_checkpoint, load_weights_file])
def test_code_in_a_checkpoint_is_not_run(tmp_path, form, load):
    canary, path = tmp_path / "canary", tmp_path / "evil.pth"
    evil = tiny_state() | {"format": 1, "extra": Evil(canary)}
    if form.startswith("bare"):
        path.write_bytes(pickle.dumps(evil, 0 if form.endswith("0") else None))
    elif form == "weights":
        torch.save({"w": Evil(canary)}, path)
    else:
        torch.save(evil, path, _use_new_zipfile_serialization=form == "zip")

    with pytest.raises(CheckpointError) as caught:
        load(path)

    assert not canary.exists()
    assert "refusing to load it" in str(caught.value) or "not a checkpoint" in str(caught.value)
    if form in ("zip", "legacy", "weights"):
        assert "refers to 'posix.system'" in str(caught.value)


def test_a_pickle_of_a_whole_model_is_refused_by_its_class(tmp_path):
    path = tmp_path / "whole.pth"
    torch.save(nn.Linear(2, 2), path)

    with pytest.raises(
        CheckpointError, match=r"refers to 'torch\.nn\.modules\.linear\.Linear', which is not plain data"
    ):
        load_checkpoint(path)


def test_a_bare_state_dict_is_told_apart_from_a_checkpoint(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(nn.Linear(2, 2).state_dict(), path)

    with pytest.raises(CheckpointError, match=r"holds weights only, .* \(use it with --weights\)"):
        load_checkpoint(path)


@pytest.mark.parametrize("number", [0, 2, "1", None])
def test_another_format_is_refused_with_both_numbers(tmp_path, number):
    path = tmp_path / "other.pth"
    torch.save({**tiny_state(), "format": number}, path)

    with pytest.raises(CheckpointError, match=f"format {number}, this version reads 1"):
        load_checkpoint(path)


@pytest.mark.parametrize("key", tiny_state())
def test_a_checkpoint_without_one_of_its_parts_is_refused_by_that_name(tmp_path, key):
    state = tiny_state()
    del state[key]
    save_checkpoint(tmp_path / "part.pth", state)

    with pytest.raises(CheckpointError, match=f"incomplete, it has no '{key}'"):
        load_checkpoint(tmp_path / "part.pth")


@pytest.mark.parametrize("key", tiny_state())
@pytest.mark.parametrize("value", [None, "x", 1.5])
def test_a_checkpoint_with_a_part_of_another_kind_is_refused_by_that_name(tmp_path, key, value):
    save_checkpoint(tmp_path / "part.pth", tiny_state() | {key: value})

    with pytest.raises(CheckpointError, match=f"incomplete, its '{key}' is a {type(value).__name__}"):
        load_checkpoint(tmp_path / "part.pth")


# --- weights of others -------------------------------------------------------------------------------------------


def test_weights_come_from_a_checkpoint_with_its_classes(tmp_path):
    weights, classes = load_weights_file(saved(tmp_path, 4.0))

    assert weights["w"].tolist() == [4.0, 4.0, 4.0]
    assert classes == ["a", "b"]


@pytest.mark.parametrize("wrapped", [False, True])
def test_weights_come_from_a_state_dict_also_below_state_dict(tmp_path, wrapped):
    state = nn.Linear(2, 3).state_dict()
    torch.save({"state_dict": state, "epoch": 4} if wrapped else state, tmp_path / "w.pth")

    weights, classes = load_weights_file(tmp_path / "w.pth")

    assert same(dict(weights), dict(state))
    assert classes is None


@pytest.mark.parametrize(
    "content",
    [{}, [], torch.ones(2), {"a": 1}, {"a": torch.ones(1), "b": None}, {"state_dict": {}}, {"format": 1}, None],
)
def test_what_holds_no_named_tensors_is_refused_as_weights(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")

    with pytest.raises(CheckpointError, match=r"w\.pth: holds no state dict"):
        load_weights_file(tmp_path / "w.pth")


# --- other names for it ------------------------------------------------------------------------------------------


def test_a_linked_name_keeps_its_content_when_the_target_is_replaced(tmp_path):
    target = saved(tmp_path, 1.0)

    link(target, tmp_path / "best.pth")
    saved(tmp_path, 2.0)

    assert load_checkpoint(tmp_path / "best.pth")["model"]["w"][0] == 1.0
    assert load_checkpoint(target)["model"]["w"][0] == 2.0


def test_a_linked_name_costs_no_second_copy_on_disk(tmp_path):
    target = saved(tmp_path)

    link(target, tmp_path / "best.pth")

    assert os.path.samefile(target, tmp_path / "best.pth")


def test_a_symbolic_name_follows_its_target(tmp_path):
    (tmp_path / "run").mkdir()
    target = saved(tmp_path / "run", 1.0)

    link(target, tmp_path / "last.pth", symbolic=True)
    saved(tmp_path / "run", 2.0)

    assert load_checkpoint(tmp_path / "last.pth")["model"]["w"][0] == 2.0


def test_a_symbolic_name_still_leads_there_when_the_whole_tree_is_moved(tmp_path):
    (tmp_path / "saved/run").mkdir(parents=True)
    link(saved(tmp_path / "saved/run"), tmp_path / "saved/last.pth", symbolic=True)

    (tmp_path / "saved").rename(tmp_path / "moved")

    assert load_checkpoint(tmp_path / "moved/last.pth")["epochs_done"] == 2


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("times", [1, 2, 3])
def test_linking_takes_the_place_of_an_older_name_and_leaves_nothing_aside(tmp_path, symbolic, times):
    name = tmp_path / "best.pth"
    name.write_text("old")
    target = saved(tmp_path)

    for _ in range(times):
        link(target, name, symbolic=symbolic)

    assert load_checkpoint(name)["epochs_done"] == 2
    assert names_in(tmp_path) == ["best.pth", "last.pth"]


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("error", [OSError(errno.EPERM, "no links here"), NotImplementedError()])
def test_where_there_are_no_links_a_copy_does(tmp_path, monkeypatch, symbolic, error):
    def refuse(*arguments, **settings):
        raise error

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(os, "symlink", refuse)
    target = saved(tmp_path, 1.0)

    link(target, tmp_path / "best.pth", symbolic=symbolic)
    saved(tmp_path, 2.0)

    assert load_checkpoint(tmp_path / "best.pth")["model"]["w"][0] == 1.0
    assert names_in(tmp_path) == ["best.pth", "last.pth"]


def test_a_disk_that_is_full_while_copying_leaves_the_old_name_and_nothing_aside(tmp_path, monkeypatch):
    def refuse(*arguments, **settings):
        raise OSError(errno.ENOSPC, "No space left on device")

    old, target = saved(tmp_path, 1.0, "best.pth"), saved(tmp_path, 2.0)
    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(Path, "write_bytes", refuse)

    with pytest.raises(OutputError, match=r"best\.pth: cannot write \(No space left on device\)"):
        link(target, old)

    assert load_checkpoint(old)["model"]["w"][0] == 1.0
    assert names_in(tmp_path) == ["best.pth", "last.pth"]


def test_a_folder_in_the_way_of_a_link_is_an_output_error(tmp_path):
    (tmp_path / "best.pth/inside").mkdir(parents=True)

    with pytest.raises(OutputError, match=r"best\.pth: cannot write"):
        link(saved(tmp_path), tmp_path / "best.pth")

    assert names_in(tmp_path) == ["best.pth", "last.pth"]


def test_a_kill_before_the_renaming_leaves_the_old_name(tmp_path, monkeypatch):
    old, target = saved(tmp_path, 1.0, "best.pth"), saved(tmp_path, 2.0)

    def die(*names):
        raise Killed

    monkeypatch.setattr(utils.checkpoint.os, "replace", die)
    with pytest.raises(Killed):
        link(target, old)

    assert load_checkpoint(old)["model"]["w"][0] == 1.0
