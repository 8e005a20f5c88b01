"""A checkpoint survives kills, full disks and flipped bits, opens without running code, and says why it does not."""

import errno
import io
import os
import pickle
import random
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn, optim

from tests import disk_faults, plain_values
from tests.small_checkpoint import EVIL_FORMS, names_in, same, save_evil, saved, tiny_state
from utils import checkpoint
from utils.checkpoint import DIGEST, FORMAT, load_checkpoint, load_plain, save_checkpoint
from utils.durable_file import link, remove_leftovers
from utils.errors import CheckpointError, OutputError
from utils.monitor import Monitor
from utils.plain import digest_of

ROOT = Path(__file__).resolve().parent.parent
FULL = os.environ.get("FAULTS") == "full"
# The example overwrites its own file, so that one folder does for all of them.
repeatable = settings(plain_values.repeatable, suppress_health_check=list(HealthCheck))


def with_digest(state):
    """What `save_checkpoint` writes, for files that are written otherwise."""
    state = {"format": FORMAT, **state}
    return state | {DIGEST: digest_of(state)}


# --- written and read --------------------------------------------------------------------------------------------


def test_a_checkpoint_comes_back_on_the_cpu_with_its_format(tmp_path):
    state = load_checkpoint(saved(tmp_path, 3.0))

    assert same(state, {"format": FORMAT, **tiny_state(3.0)})


@settings(repeatable, max_examples=30)
@given(plain_values.values)
def test_what_is_saved_comes_back_as_it_was(tmp_path, value):
    path = tmp_path / "last.pth"

    save_checkpoint(path, tiny_state() | {"input": {"value": value}})

    assert same(load_checkpoint(path)["input"], {"value": value})


def test_what_is_not_plain_is_refused_with_its_key_path_and_nothing_is_written(tmp_path):
    state = tiny_state() | {"optimizer": {"state": [{"x": 1}, {"rate": (0, {1, 2})}]}}

    with pytest.raises(TypeError, match=r"^checkpoint\['optimizer'\]\['state'\]\[1\]\['rate'\]\[1\] is a builtins.set"):
        save_checkpoint(tmp_path / "last.pth", state)

    assert names_in(tmp_path) == []


def test_saving_leaves_the_state_in_memory_as_it_is(tmp_path):
    state = tiny_state()

    save_checkpoint(tmp_path / "last.pth", state)

    assert same(state, tiny_state())


@pytest.mark.parametrize("load", [load_checkpoint, load_plain])
def test_what_was_read_can_be_saved_again_with_a_change(tmp_path, load):
    state = load(saved(tmp_path, 1.0))

    save_checkpoint(tmp_path / "again.pth", state | {"steps_done": 9})

    assert same(load_checkpoint(tmp_path / "again.pth"), {"format": FORMAT, **tiny_state(1.0), "steps_done": 9})


def test_a_copy_of_the_file_is_a_checkpoint_too(tmp_path):
    shutil.copy(saved(tmp_path, 5.0), tmp_path / "elsewhere.pth")

    assert load_checkpoint(tmp_path / "elsewhere.pth")["model"]["w"].tolist() == [5.0, 5.0, 5.0]


def test_a_file_that_is_replaced_while_it_is_read_is_read_as_it_was(tmp_path, monkeypatch):
    """A run that goes on may do so at any moment: here by a larger file, once the size of the first is known."""
    path = saved(tmp_path, 1.0)
    looked = checkpoint._claims_more_than_it_has

    def after_a_save(file, size):
        save_checkpoint(path, tiny_state(2.0) | {"more": torch.zeros(10_000)})
        return looked(file, size)

    monkeypatch.setattr(checkpoint, "_claims_more_than_it_has", after_a_save)

    assert load_checkpoint(path)["model"]["w"].tolist() == [1.0, 1.0, 1.0]


def test_saving_again_replaces_the_file_and_leaves_no_other(tmp_path):
    path = saved(tmp_path, 1.0)

    saved(tmp_path, 2.0)

    assert load_checkpoint(path)["model"]["w"].tolist() == [2.0, 2.0, 2.0]
    assert names_in(tmp_path) == ["last.pth"]


# --- each operation on the disk, one after the other -------------------------------------------------------------


def save_the_best(folder):
    """What a trainer does after the best epoch so far."""
    link(saved(folder, 2.0), folder / "best.pth")


def two_checkpoints(folder):
    """Of an earlier epoch, of which best.pth is older than last.pth."""
    folder.mkdir()
    saved(folder, 0.0, "best.pth")
    saved(folder, 1.0)
    return folder


def in_turn(folder, template):
    """For each operation of the saving: its number, and the folder as it was before."""
    number = disk_faults.count(lambda: save_the_best(shutil.copytree(template, folder)))
    for k in range(number):
        shutil.rmtree(folder)
        shutil.copytree(template, folder)
        yield k


def weights_in(folder):
    """The first weight in each of the two, which load, and of which each is the old one or the new one."""
    return [load_checkpoint(folder / name)["model"]["w"][0].item() for name in ("best.pth", "last.pth")]


def expected_after(replacements_done):
    return [[0.0, 1.0], [0.0, 2.0], [2.0, 2.0]][replacements_done]


def test_a_process_that_dies_at_any_operation_loses_no_checkpoint(tmp_path):
    folder, template = tmp_path / "folder", two_checkpoints(tmp_path / "template")

    for k in in_turn(folder, template):
        with disk_faults.dying_at(k) as disk:
            save_the_best(folder)

        assert disk.died
        assert weights_in(folder) == expected_after(disk.kinds[:k].count("replace")), disk.operations[k]
        remove_leftovers(folder)
        assert names_in(folder) == ["best.pth", "last.pth"], disk.operations[k]
    assert disk.kinds.count("replace") == 2


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EDQUOT], ids=errno.errorcode.get)
def test_a_disk_that_fails_at_any_operation_is_one_line_and_loses_no_checkpoint(tmp_path, error):
    folder, template = tmp_path / "folder", two_checkpoints(tmp_path / "template")

    for k in in_turn(folder, template):
        said = None
        with disk_faults.failing_at(k, error) as disk:
            try:
                save_the_best(folder)
            except OutputError as caught:
                said = str(caught)

        failed = disk.operations[k]
        replaced = disk.kinds.count("replace") - (failed.kind == "replace")
        assert weights_in(folder) == expected_after(replaced), failed
        assert names_in(folder) == ["best.pth", "last.pth"], failed
        if said is None:  # a link became a copy, or what is done after all is done was not
            assert failed.kind in ("link", "unlink"), failed
            assert replaced == 2, failed
        else:
            assert said.startswith((f"{folder / 'last.pth'}: ", f"{folder / 'best.pth'}: ")), failed
            assert os.strerror(error) in said, failed
            assert "\n" not in said, failed


def test_a_checkpoint_is_on_the_disk_before_it_gets_its_name_and_the_name_before_the_call_returns(tmp_path):
    folder = two_checkpoints(tmp_path / "folder")

    with disk_faults.recording() as disk:
        saved(folder, 2.0)

    aside = folder / f".last.pth.{os.getpid()}.tmp"
    of_the_file = [kind for kind, path in disk.operations if path == aside]
    written = of_the_file[2 : of_the_file.index("fsync")]
    assert of_the_file == ["unlink", "open xb", *written, "fsync", "close", "replace", "unlink"]
    assert set(written) == {"write", "flush"}
    assert written[-1] == "flush"
    assert disk.operations[-3:] == [("open", folder), ("fsync", folder), ("close", folder)]
    assert len(disk.operations) == len(of_the_file) + 3


# --- disks that are full in truth --------------------------------------------------------------------------------


def test_files_that_may_not_grow_are_an_output_error_and_the_previous_checkpoint_is_whole(tmp_path):
    # The kernel answers EFBIG at the limit, in the middle of a write, as it would ENOSPC on a full disk.
    path = saved(tmp_path, 1.0)
    before = path.read_bytes()
    code = """if True:
        import resource, signal, sys
        from pathlib import Path
        from tests.small_checkpoint import saved, tiny_state
        from utils.checkpoint import save_checkpoint
        from utils.errors import OutputError

        path, size = Path(sys.argv[1]), int(sys.argv[2])
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        for share in range(20):
            resource.setrlimit(resource.RLIMIT_FSIZE, (share * size // 20, resource.RLIM_INFINITY))
            try:
                saved(path.parent, 2.0)
            except OutputError as error:
                print(len(list(path.parent.iterdir())), error)
    """

    command = [sys.executable, "-W", "error", "-c", code, str(path), str(len(before))]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)

    start, end = f"1 {path}: cannot write the checkpoint (File too large; ", "; the previous one is whole"
    assert len(child.stdout.splitlines()) == 20
    assert all(line.startswith(start) and line.endswith(end) for line in child.stdout.splitlines())
    assert child.stderr == ""
    assert path.read_bytes() == before


@pytest.mark.parametrize("elements", [1, 10**6])
def test_a_device_without_space_is_an_output_error_and_the_previous_checkpoint_is_whole(
    tmp_path, monkeypatch, elements
):
    # torch hides the cause in the chain of a RuntimeError that does not mention the disk.
    path = saved(tmp_path, 1.0)
    save = torch.save

    def save_to_the_device(state, file):
        with open("/dev/full", "wb") as full:
            save(state, full)

    monkeypatch.setattr(torch, "save", save_to_the_device)

    with pytest.raises(OutputError, match=r"last\.pth: cannot write the checkpoint \(No space left on device; "):
        save_checkpoint(path, tiny_state() | {"model": {"w": torch.zeros(elements)}})

    assert load_checkpoint(path)["model"]["w"].tolist() == [1.0, 1.0, 1.0]
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


# --- flipped bits and missing ends -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A checkpoint of about 100 kB as a training makes it: its bytes, its digest, and a path to damage it at."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.Flatten(), nn.Linear(16 * 6 * 6, 20))
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=10)
    model(torch.randn(4, 3, 8, 8)).square().mean().backward()
    optimizer.step()
    scheduler.step()
    state = tiny_state() | {
        "config": {"name": "x", "arch": {"type": "VGG", "args": {"layers": [16, "M"], "dropout": None}}, "seed": 7},
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": scheduler.state_dict(),
        "monitor": Monitor("val_loss", False, 3, best=0.5, best_epoch=2).state_dict(),
        "rng": {"torch": torch.get_rng_state(), "python": random.Random(1).getstate()},
    }
    path = tmp_path_factory.mktemp("trained") / "last.pth"
    save_checkpoint(path, state)
    return path.read_bytes(), digest_of({"format": FORMAT, **state}), path


def test_a_flipped_bit_is_found_or_changes_nothing(trained):
    content, digest, path = trained
    assert 90_000 < len(content) < 130_000
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        end_of_the_names = file.infolist()[0].file_size + 200
    # Anywhere is mostly in a tensor; names, sizes and types are at the start, the table of contents at the end.
    places = [range(len(content)), range(end_of_the_names), range(len(content) - 3000, len(content))]
    chance = random.Random(20)
    said = []

    for _ in range(500 if FULL else 100):
        place, bit = chance.choice(chance.choice(places)), chance.randrange(8)
        damaged = bytearray(content)
        damaged[place] ^= 1 << bit
        path.write_bytes(damaged)

        try:
            state = load_checkpoint(path)
        except CheckpointError as error:
            said.append(str(error))
        else:
            assert digest_of(state) == digest, (place, bit)

    assert all(text.startswith(f"{path}: ") and "\n" not in text for text in said)
    assert len(said) > 50  # the others hit what torch does not read: check sums, times, the space between parts


def test_a_flipped_bit_in_a_weight_is_always_found(trained):
    # This is the damage that torch itself never sees.
    content, _, path = trained
    weights = torch.load(io.BytesIO(content), weights_only=True)["model"]["3.weight"].numpy().tobytes()
    start = content.index(weights)
    chance = random.Random(21)

    for _ in range(100 if FULL else 20):
        damaged = bytearray(content)
        damaged[start + chance.randrange(len(weights))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)

        with pytest.raises(CheckpointError, match=r"damaged, it does not hold what was written \(its digest differs\)"):
            load_checkpoint(path)


def test_a_missing_end_is_always_found(trained):
    content, _, path = trained
    chance = random.Random(22)
    lengths = [0, 1, len(content) - 1, len(content) - 22]  # 22 bytes are the end record of a zip file
    lengths += [chance.randrange(len(content)) for _ in range((200 if FULL else 40) - len(lengths))]

    for length in lengths:
        path.write_bytes(content[:length])

        with pytest.raises(CheckpointError, match=r"^\S*last\.pth: .*(truncated|empty|damaged|not a checkpoint)"):
            load_checkpoint(path)


@pytest.mark.parametrize("share", [0.001, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.999])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_truncated_checkpoint_of_either_layout_of_torch_is_refused(tmp_path, share, legacy):
    buffer = io.BytesIO()
    whole = with_digest(tiny_state() | {"big": torch.zeros(1000)})
    torch.save(whole, buffer, _use_new_zipfile_serialization=not legacy)
    path = tmp_path / "cut.pth"
    path.write_bytes(buffer.getvalue())
    load_checkpoint(path)

    path.write_bytes(buffer.getvalue()[: int(share * len(buffer.getvalue()))])

    with pytest.raises(CheckpointError, match=r"cut\.pth: .*(truncated|damaged)"):
        load_checkpoint(path)


@settings(repeatable, max_examples=150)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=3), st.booleans())
def test_changed_bytes_give_a_checkpoint_error_or_what_was_written(tmp_path, changes, legacy):
    buffer = io.BytesIO()
    whole = with_digest(tiny_state())
    torch.save(whole, buffer, _use_new_zipfile_serialization=not legacy)
    content = bytearray(buffer.getvalue())
    for position, value in changes:
        content[position % len(content)] = value
    path = tmp_path / "changed.pth"
    path.write_bytes(content)

    try:
        state = load_checkpoint(path)
    except CheckpointError:
        return
    assert digest_of(state) == whole[DIGEST]


@pytest.mark.parametrize("digest", ["", "0" * 64, "x"])
def test_a_checkpoint_with_the_digest_of_another_is_damaged(tmp_path, digest):
    path = tmp_path / "last.pth"
    torch.save(with_digest(tiny_state()) | {DIGEST: digest}, path)

    with pytest.raises(CheckpointError, match=r"last\.pth: damaged, .* \(its digest differs\)"):
        load_checkpoint(path)


def holding_itself():
    ring = []
    ring.append(ring)
    return ring


@pytest.mark.parametrize("part", [{1, 2}, b"bytes", torch.eye(2).to_sparse(), holding_itself()], ids=type)
def test_what_we_would_not_have_written_is_damaged_too(tmp_path, part):
    path = tmp_path / "last.pth"
    torch.save(with_digest(tiny_state()) | {"extra": {"part": part}}, path)

    with pytest.raises(CheckpointError, match=r"last\.pth: damaged, .* \(its digest differs\)"):
        load_checkpoint(path)


# --- what cannot be opened ---------------------------------------------------------------------------------------


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


@settings(repeatable, max_examples=150)
@given(
    st.binary(min_size=1, max_size=40), st.sampled_from([b"", b"\x80\x02", b"\x80\x04\x95", b"PK\x03\x04", b"(", b"G"])
)
def test_random_bytes_are_refused_without_any_other_error(tmp_path, content, start):
    path = tmp_path / "random.pth"
    path.write_bytes(start + content)

    with pytest.raises(CheckpointError):
        load_checkpoint(path)


@pytest.mark.parametrize("form", EVIL_FORMS)
def test_code_in_a_checkpoint_is_not_run(tmp_path, form):
    canary, path = tmp_path / "canary", tmp_path / "evil.pth"
    save_evil(path, canary, form)

    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)

    assert not canary.exists()
    assert "refusing to load it" in str(caught.value) or "not a checkpoint" in str(caught.value)
    if form in ("zip", "legacy", "weights"):
        assert "refers to 'posix.system'" in str(caught.value)


def test_the_code_would_have_run_without_care(tmp_path):
    # Else the test above could not fail.
    canary = tmp_path / "canary"
    save_evil(tmp_path / "evil.pth", canary, "bare pickle")

    pickle.loads((tmp_path / "evil.pth").read_bytes())

    assert canary.exists()


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

    with pytest.raises(CheckpointError, match=r"holds weights only, .* \(use it with --weights"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (0, "format 0"),
        (1, "format 1"),
        (FORMAT + 1, f"format {FORMAT + 1}"),
        (str(FORMAT), "format a str"),
        (None, "format a NoneType"),
        (torch.ones(3), "format a Tensor"),
        ([FORMAT], "format a list"),
    ],
    ids=str,
)
def test_another_format_is_refused_with_both_numbers(tmp_path, found, said):
    path = tmp_path / "other.pth"
    torch.save({**tiny_state(), "format": found}, path)

    with pytest.raises(CheckpointError, match=f"other.pth: {said}, this version reads {FORMAT}$"):
        load_checkpoint(path)


@pytest.mark.parametrize("key", [DIGEST, *tiny_state()])
def test_a_checkpoint_without_one_of_its_parts_is_refused_by_that_name(tmp_path, key):
    state = with_digest(tiny_state())
    del state[key]
    torch.save(state, tmp_path / "part.pth")

    with pytest.raises(CheckpointError, match=f"incomplete, it has no '{key}'"):
        load_checkpoint(tmp_path / "part.pth")


@pytest.mark.parametrize("key", [DIGEST, *tiny_state()])
@pytest.mark.parametrize("value", [None, b"x", 1.5])
def test_a_checkpoint_with_a_part_of_another_kind_is_refused_by_that_name(tmp_path, key, value):
    torch.save(with_digest(tiny_state()) | {key: value}, tmp_path / "part.pth")

    with pytest.raises(CheckpointError, match=f"incomplete, its '{key}' is a {type(value).__name__}"):
        load_checkpoint(tmp_path / "part.pth")
