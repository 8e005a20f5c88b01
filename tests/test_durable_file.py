"""A file is whole, the old one or the new one, whatever operation on the disk fails or is the last of its process."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import disk_faults
from tests.small_checkpoint import names_in
from utils.durable_file import link, remove_leftovers, replace_file, sync_folder
from utils.errors import OutputError

ROOT = Path(__file__).resolve().parent.parent
OLD, NEW, BEST = b"old " * 1000, b"new " * 2000, b"the best so far " * 10
FULL_DISKS = [errno.ENOSPC, errno.EIO, errno.EDQUOT]


def write_new(file):
    for start in range(0, len(NEW), 3000):
        file.write(NEW[start : start + 3000])


def refuse(*arguments, **options):
    raise OSError(errno.EPERM, "no links here")


def run(code, folder, **options):
    """Starts Python on lines that find the folder in sys.argv[1]."""
    command = [sys.executable, "-c", code, str(folder)]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options)


# --- each operation, one after the other -------------------------------------------------------------------------


def replacing(folder):
    replace_file(folder / "last", write_new)


def linking(folder):
    link(folder / "last", folder / "best")


def linking_symbolically(folder):
    link(folder / "last", folder / "best", symbolic=True)


def copying(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "link", refuse)
        link(folder / "last", folder / "best")


# By name: what is done, the name that it changes, and what that name shows afterwards.
ACTIONS = {
    "replacing": (replacing, "last", NEW),
    "linking": (linking, "best", OLD),
    "linking again": (linking, "best", OLD),
    "linking symbolically": (linking_symbolically, "best", OLD),
    "copying": (copying, "best", OLD),
}
# What has another way to its end, or comes after it.
NOT_NEEDED = {"link", "symlink", "unlink"}


def prepared(folder, action):
    """Two files, in which only what the action changes will change."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "last").write_bytes(OLD)
    (folder / "best").write_bytes(BEST)
    if action == "linking again":
        linking(folder)
    return folder


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("action", ACTIONS)
def test_a_process_that_dies_at_any_operation_leaves_the_old_file_or_the_new_one(tmp_path, action):
    act, name, new = ACTIONS[action]
    folder = tmp_path / "folder"
    prepared(folder, action)

    for k in range(disk_faults.count(lambda: act(folder))):
        before = contents(prepared(folder, action))

        with disk_faults.dying_at(k) as disk:
            act(folder)
        remove_leftovers(folder)

        assert disk.died
        replaced = "replace" in disk.kinds[:k]
        assert contents(folder) == (before | {name: new} if replaced else before), disk.operations[k]
        act(folder)
        assert contents(folder) == before | {name: new}, disk.operations[k]


@pytest.mark.parametrize("error", FULL_DISKS, ids=errno.errorcode.get)
@pytest.mark.parametrize("action", ACTIONS)
def test_a_disk_that_fails_at_any_operation_is_one_line_and_leaves_the_old_file_or_the_new_one(tmp_path, action, error):
    act, name, new = ACTIONS[action]
    folder = tmp_path / "folder"
    prepared(folder, action)

    for k in range(disk_faults.count(lambda: act(folder))):
        before = contents(prepared(folder, action))

        said = None
        with disk_faults.failing_at(k, error) as disk:
            try:
                act(folder)
            except OutputError as caught:
                said = str(caught)
        kind = disk.operations[k].kind
        if kind == "unlink":  # that one is still there, and is removed at the next start
            remove_leftovers(folder)

        replaced = "replace" in disk.kinds and disk.operations[k].kind != "replace"
        assert contents(folder) == (before | {name: new} if replaced else before), disk.operations[k]
        if said is None:
            assert replaced, disk.operations[k]
            assert kind in NOT_NEEDED, disk.operations[k]
        else:
            assert said.startswith(f"{folder / name}: "), disk.operations[k]
            assert os.strerror(error) in said
            assert "\n" not in said


def test_the_message_tells_which_of_the_two_is_there(tmp_path):
    folder = prepared(tmp_path / "folder", "replacing")
    said = {}

    for k in range(disk_faults.count(lambda: replacing(folder))):
        prepared(folder, "replacing")
        try:
            with disk_faults.failing_at(k, errno.EIO):
                replacing(folder)
        except OutputError as error:
            said[k] = (contents(folder)["last"] == OLD, str(error))

    assert {is_old for is_old, _ in said.values()} == {True, False}
    for is_old, text in said.values():
        assert text.endswith("; the previous one is whole") == is_old
        assert ("the file is written, but not safe from a loss of power" in text) == (not is_old)


# --- the order ---------------------------------------------------------------------------------------------------


def recorded(action, folder):
    """The operations with what they act on: the folder, a name in it, or the one file aside."""
    with disk_faults.recording() as disk:
        action(folder)
    aside = f".tmp of {os.getpid()}"
    names = {folder: "folder"} | {folder / f".{name}.{os.getpid()}.tmp": aside for name in ("last", "best")}
    return [(kind, names.get(path, path.name)) for kind, path in disk.operations], aside


def test_the_content_is_on_the_disk_before_it_gets_its_name_and_the_name_before_the_call_returns(tmp_path):
    folder = prepared(tmp_path / "folder", "replacing")

    operations, aside = recorded(replacing, folder)

    assert operations == [
        ("unlink", aside),
        ("open xb", aside),
        *[("write", aside)] * 3,
        ("flush", aside),
        ("fsync", aside),
        ("close", aside),
        ("replace", aside),
        ("unlink", aside),
        ("open", "folder"),
        ("fsync", "folder"),
        ("close", "folder"),
    ]


@pytest.mark.parametrize(("action", "kind"), [(linking, "link"), (linking_symbolically, "symlink")])
def test_a_link_is_made_aside_and_its_name_is_on_the_disk_before_the_call_returns(tmp_path, action, kind):
    folder = prepared(tmp_path / "folder", "linking")

    operations, aside = recorded(action, folder)

    on_the_folder = [("open", "folder"), ("fsync", "folder"), ("close", "folder")]
    assert operations == [("unlink", aside), (kind, "last"), ("replace", aside), *on_the_folder, ("unlink", aside)]


def test_a_copy_is_on_the_disk_before_it_gets_its_name(tmp_path):
    folder = prepared(tmp_path / "folder", "copying")

    operations, aside = recorded(copying, folder)

    of_the_copy = [kind for kind, path in operations if path == aside]
    assert of_the_copy == ["unlink", "open xb", "write", "flush", "fsync", "close", "replace", "unlink"]
    assert operations.index(("replace", aside)) < operations.index(("fsync", "folder"))


# --- replacing ---------------------------------------------------------------------------------------------------


def test_a_process_that_is_killed_in_the_middle_leaves_the_old_file_whole(tmp_path):
    folder = prepared(tmp_path / "folder", "replacing")
    code = """if True:
        import sys
        from pathlib import Path
        from utils.durable_file import replace_file

        def write(file):
            file.write(b"half")
            file.flush()
            print("half", flush=True)
            sys.stdin.read()

        replace_file(Path(sys.argv[1]) / "last", write)
    """

    with run(code, folder) as child:
        assert child.stdout.readline() == "half\n"
        child.kill()
        child.wait()

    assert (folder / "last").read_bytes() == OLD
    assert names_in(folder) == [f".last.{child.pid}.tmp", "best", "last"]
    remove_leftovers(folder)
    assert names_in(folder) == ["best", "last"]


def test_files_that_may_not_grow_are_an_output_error_and_leave_the_old_file_whole(tmp_path):
    # The kernel answers EFBIG at the limit, in the middle of a write, as it would ENOSPC on a full disk.
    folder = prepared(tmp_path / "folder", "replacing")
    code = """if True:
        import resource, signal, sys
        from pathlib import Path
        from utils.durable_file import replace_file
        from utils.errors import OutputError

        path = Path(sys.argv[1]) / "last"
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        for limit in range(0, 8000, 400):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            try:
                replace_file(path, lambda file: [file.write(b"x" * 1000) for _ in range(8)])
            except OutputError as error:
                print(len(path.read_bytes()), len(list(path.parent.iterdir())), error)
    """

    with run(code, folder) as child:
        lines = child.stdout.read().splitlines()

    start = f"{len(OLD)} 2 {folder / 'last'}: cannot write the file (File too large; "
    assert len(lines) == 20
    assert all(line.startswith(start) and line.endswith("; the previous one is whole") for line in lines)
    assert (folder / "last").read_bytes() == OLD


def test_the_message_of_a_full_disk_says_how_much_was_written_and_is_free(tmp_path, monkeypatch):
    def write(file):
        file.write(b"x" * 2_600_000)
        file.flush()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 7_000_000, 7_000_000)
    )

    with pytest.raises(OutputError) as caught:
        replace_file(tmp_path / "last.pth", write, "the weights")

    expected = "cannot write the weights (No space left on device; 2.6 MB of it were written, 7 MB are free)"
    assert str(caught.value) == f"{tmp_path / 'last.pth'}: {expected}; the previous one is whole"


def test_a_full_disk_is_found_behind_the_error_of_a_library(tmp_path):
    def wrapped(file):
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError:
            raise RuntimeError("unexpected pos 64 vs 0")  # noqa: B904

    with pytest.raises(OutputError, match="No space left on device"):
        replace_file(tmp_path / "last", wrapped)


@pytest.mark.parametrize("mistake", [RuntimeError("a mistake in code"), TypeError("a mistake"), KeyboardInterrupt()])
def test_an_error_that_no_disk_caused_keeps_its_own_type_and_leaves_nothing_aside(tmp_path, mistake):
    folder = prepared(tmp_path / "folder", "replacing")

    def broken(file):
        file.write(b"half")
        raise mistake

    with pytest.raises(type(mistake)) as caught:
        replace_file(folder / "last", broken)

    assert caught.value is mistake
    assert contents(folder) == {"last": OLD, "best": BEST}


def test_a_folder_that_is_not_there_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match=r"missing/last: cannot write the file \(No such file or directory"):
        replace_file(tmp_path / "missing/last", write_new)


def test_a_folder_in_the_way_is_an_output_error(tmp_path):
    (tmp_path / "last").mkdir()

    with pytest.raises(OutputError, match=r"last: cannot write the file \(Is a directory"):
        replace_file(tmp_path / "last", write_new)

    assert names_in(tmp_path) == ["last"]


def test_what_a_dead_process_of_the_same_number_left_is_no_hindrance(tmp_path):
    (tmp_path / f".last.{os.getpid()}.tmp").write_bytes(b"half of it")

    replace_file(tmp_path / "last", write_new)

    assert contents(tmp_path) == {"last": NEW}


def test_a_link_elsewhere_that_waits_under_the_name_aside_is_not_written_through(tmp_path):
    (tmp_path / "elsewhere").write_bytes(OLD)
    (tmp_path / f".last.{os.getpid()}.tmp").symlink_to(tmp_path / "elsewhere")

    replace_file(tmp_path / "last", write_new)

    assert contents(tmp_path) == {"last": NEW, "elsewhere": OLD}


# --- other names -------------------------------------------------------------------------------------------------


def test_a_linked_name_keeps_its_content_when_the_target_is_replaced(tmp_path):
    folder = prepared(tmp_path / "folder", "linking")

    linking(folder)
    replacing(folder)

    assert contents(folder) == {"best": OLD, "last": NEW}


def test_a_linked_name_costs_no_second_copy_on_disk(tmp_path):
    folder = prepared(tmp_path / "folder", "linking")

    linking(folder)

    assert os.path.samefile(folder / "last", folder / "best")


def test_a_symbolic_name_follows_its_target(tmp_path):
    folder = prepared(tmp_path / "folder", "linking")

    link(folder / "last", tmp_path / "newest", symbolic=True)
    replacing(folder)

    assert (tmp_path / "newest").read_bytes() == NEW


def test_a_symbolic_name_still_leads_there_when_the_whole_tree_is_moved(tmp_path):
    (tmp_path / "saved").mkdir()
    folder = prepared(tmp_path / "saved/run", "linking")
    link(folder / "last", tmp_path / "saved/newest", symbolic=True)

    (tmp_path / "saved").rename(tmp_path / "moved")

    assert (tmp_path / "moved/newest").read_bytes() == OLD


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("times", [1, 2, 3])
def test_linking_takes_the_place_of_an_older_name_and_leaves_nothing_aside(tmp_path, symbolic, times):
    folder = prepared(tmp_path / "folder", "linking")

    for _ in range(times):
        link(folder / "last", folder / "best", symbolic=symbolic)

    assert contents(folder) == {"best": OLD, "last": OLD}


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("error", [OSError(errno.EPERM, "no links here"), NotImplementedError()])
def test_where_there_are_no_links_a_copy_does(tmp_path, monkeypatch, symbolic, error):
    def refuse(*arguments, **options):
        raise error

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(os, "symlink", refuse)
    folder = prepared(tmp_path / "folder", "copying")

    link(folder / "last", folder / "best", symbolic=symbolic)
    replacing(folder)

    assert contents(folder) == {"best": OLD, "last": NEW}
    assert not (folder / "best").is_symlink()


def test_a_target_that_is_not_there_is_an_output_error_and_the_older_name_stays(tmp_path):
    (tmp_path / "best").write_bytes(BEST)

    with pytest.raises(OutputError, match=r"best: cannot write \(No such file or directory\)"):
        link(tmp_path / "last", tmp_path / "best")

    assert contents(tmp_path) == {"best": BEST}


def test_a_folder_in_the_way_of_a_link_is_an_output_error(tmp_path):
    (tmp_path / "best/inside").mkdir(parents=True)
    (tmp_path / "last").write_bytes(OLD)

    with pytest.raises(OutputError, match=r"best: cannot write"):
        linking(tmp_path)

    assert names_in(tmp_path) == ["best", "last"]


# --- leftovers, and folders --------------------------------------------------------------------------------------


def test_only_what_was_left_aside_is_removed(tmp_path):
    kept = ["a.tmp", ".hidden", ".tmp.pth", "last.pth", "events.tmp.1"]
    for name in [*kept, ".last.pth.123.tmp", ".best.pth.4.tmp"]:
        (tmp_path / name).touch()
    (tmp_path / ".a-folder.tmp").mkdir()

    remove_leftovers(tmp_path)

    assert names_in(tmp_path) == sorted([*kept, ".a-folder.tmp"])


def test_there_may_be_no_folder_to_remove_leftovers_from(tmp_path):
    remove_leftovers(tmp_path / "missing")

    assert names_in(tmp_path) == []


def test_a_file_system_that_cannot_force_a_folder_is_no_error(tmp_path):
    # As on some network file systems; another answer of the disk is an error.
    fsync_of_the_folder = 1

    with disk_faults.failing_at(fsync_of_the_folder, errno.EINVAL) as disk:
        sync_folder(tmp_path)

    assert disk.kinds == ["open", "fsync", "close"]
    with disk_faults.failing_at(fsync_of_the_folder, errno.EIO) as disk, pytest.raises(OSError, match="Input/output"):
        sync_folder(tmp_path)
    assert disk.kinds == ["open", "fsync", "close"]
