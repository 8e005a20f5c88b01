"""run_dir.py: folders of new and of continued runs, and what the newest run shows to all."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from logger.run_dir import RunDir
from utils.errors import OutputError


@pytest.fixture
def stopped_clock(monkeypatch):
    """Every run starts at 2026-01-02 03:04:05."""
    moment = time.struct_time((2026, 1, 2, 3, 4, 5, 4, 2, 0))
    strftime = time.strftime
    monkeypatch.setattr(time, "strftime", lambda form: strftime(form, moment))


def test_new_run_has_two_folders_named_by_experiment_and_start(tmp_path, stopped_clock):
    run = RunDir.create(tmp_path / "saved", "digits")

    assert run.models == tmp_path / "saved/models/digits/20260102_030405"
    assert run.log == tmp_path / "saved/log/digits/20260102_030405"
    assert run.models.is_dir()
    assert run.log.is_dir()


def test_run_id_is_the_time_of_day_in_full(tmp_path):
    before = time.strftime("%Y%m%d_%H%M%S")

    run_id = RunDir.create(tmp_path, "digits").run_id

    assert re.fullmatch(r"\d{8}_\d{6}", run_id)
    assert before <= run_id <= time.strftime("%Y%m%d_%H%M%S")


def test_runs_that_start_in_one_second_get_folders_of_their_own(tmp_path, stopped_clock):
    runs = [RunDir.create(tmp_path, "digits") for _ in range(3)]
    other = RunDir.create(tmp_path, "letters")

    assert [run.run_id for run in runs] == ["20260102_030405", "20260102_030405_1", "20260102_030405_2"]
    assert other.run_id == "20260102_030405"
    assert len({run.models for run in runs} | {run.log for run in runs}) == 6


@pytest.mark.parametrize(
    "in_the_way", ["saved", "saved/models", "saved/models/digits", "saved/log", "saved/log/digits"]
)
def test_file_in_the_way_is_an_output_error_that_names_the_setting(tmp_path, in_the_way):
    (tmp_path / in_the_way).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / in_the_way).write_text("")

    with pytest.raises(OutputError, match=r"saved.*\(trainer\.save_dir\)"):
        RunDir.create(tmp_path / "saved", "digits")


def test_file_with_the_name_of_the_run_is_an_output_error(tmp_path, stopped_clock):
    (tmp_path / "models/digits").mkdir(parents=True)
    (tmp_path / "models/digits/20260102_030405").write_text("")

    with pytest.raises(OutputError, match="20260102_030405: a file of that name is in the way"):
        RunDir.create(tmp_path, "digits")


def test_log_folder_that_is_there_already_is_used(tmp_path, stopped_clock):
    (tmp_path / "log/digits/20260102_030405").mkdir(parents=True)

    assert RunDir.create(tmp_path, "digits").run_id == "20260102_030405"


def test_checkpoint_that_lies_in_its_run_tells_the_folders_wherever_all_was_moved(tmp_path):
    run = RunDir.create(tmp_path / "saved", "digits")
    (run.models / "last.pth").write_text("")
    (tmp_path / "saved").rename(tmp_path / "moved")
    path = tmp_path / "moved" / "models" / "digits" / run.run_id / "last.pth"

    found = RunDir.of_checkpoint(path, tmp_path / "saved", "digits", run.run_id)

    assert found == RunDir(tmp_path / "moved", "digits", run.run_id)


def test_newest_checkpoint_above_the_runs_belongs_to_the_run_that_it_shows(tmp_path):
    run = RunDir.create(tmp_path / "saved", "digits")
    (run.models / "best.pth").write_text("")
    run.publish("best.pth")

    found = RunDir.of_checkpoint(tmp_path / "saved/models/best.pth", Path("elsewhere"), "digits", run.run_id)

    assert found == run


@pytest.mark.parametrize("place", ["models/letters/20260102_030405", "models/digits/20250101_000000", "mail"])
def test_checkpoint_that_lies_elsewhere_belongs_to_the_run_that_it_names(tmp_path, place):
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / place / "last.pth").write_text("")

    found = RunDir.of_checkpoint(tmp_path / place / "last.pth", tmp_path / "saved", "digits", "20260102_030405")

    assert found == RunDir(tmp_path / "saved", "digits", "20260102_030405")


def test_reopened_run_has_its_folders_again_and_keeps_what_is_in_them(tmp_path):
    run = RunDir.create(tmp_path, "digits")
    (run.models / "last.pth").write_text("state")
    run.log.rmdir()

    run.reopen()

    assert run.log.is_dir()
    assert (run.models / "last.pth").read_text() == "state"


def test_reopened_run_that_cannot_have_its_folders_is_an_output_error(tmp_path):
    (tmp_path / "log").write_text("")

    with pytest.raises(OutputError, match="cannot write"):
        RunDir(tmp_path, "digits", "20260102_030405").reopen()


def test_folders_of_a_run_are_taken_back_only_while_they_are_empty(tmp_path):
    empty, full = RunDir.create(tmp_path, "digits"), RunDir.create(tmp_path, "digits")
    (full.log / "info.log").write_text("")

    for run in (empty, full):
        run.remove_if_empty()

    assert not empty.models.exists()
    assert not empty.log.exists()
    assert not full.models.exists()
    assert full.log.is_dir()


def break_links(monkeypatch):
    """As on a file system that has none, such as FAT."""

    def refuse(*args, **kwargs):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(os, "symlink", refuse)


@pytest.mark.parametrize("has_links", [True, False])
def test_newest_run_is_published_by_a_link_or_by_a_copy_where_links_fail(tmp_path, monkeypatch, has_links):
    if not has_links:
        break_links(monkeypatch)
    shown = tmp_path / "models" / "best.pth"
    for content in ("first", "second"):
        run = RunDir.create(tmp_path, "digits")
        (run.models / "best.pth").write_text(content)

        run.publish("best.pth")

        assert shown.read_text() == content
        assert shown.is_symlink() is has_links
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == ["best.pth", "digits"]


def test_published_link_follows_the_file_and_survives_a_move_of_the_whole_folder(tmp_path):
    run = RunDir.create(tmp_path / "saved", "digits")
    (run.models / "last.pth").write_text("epoch 1")
    run.publish("last.pth")
    (run.models / "last.pth").write_text("epoch 2")

    (tmp_path / "saved").rename(tmp_path / "moved")

    assert (tmp_path / "moved/models/last.pth").read_text() == "epoch 2"


def test_newest_run_without_such_a_file_leaves_none_of_an_older_one(tmp_path):
    old = RunDir.create(tmp_path, "digits")
    (old.models / "best.pth").write_text("old")
    old.publish("best.pth")

    RunDir.create(tmp_path, "digits").publish("best.pth")

    assert not (tmp_path / "models/best.pth").exists()
    assert (old.models / "best.pth").read_text() == "old"


# --- one process at a time ---------------------------------------------------------------------------------------

HOLDER = """
import sys, time
from pathlib import Path
from logger.run_dir import RunDir
from logger.status import Status

run = RunDir(Path(sys.argv[1]), "digits", "1")
with run.locked():
    Status(run.models / "STATUS.json").say("running")
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def held(tmp_path):
    """A run, and another process that is at work on it until its standard input is closed."""
    run = RunDir(tmp_path, "digits", "1")
    run.reopen()
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        cwd=Path(__file__).resolve().parent.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout.readline() == "locked\n"
    yield run, holder
    holder.kill()
    holder.communicate()


def test_a_run_that_another_process_writes_is_refused_with_that_process(held):
    run, holder = held

    with pytest.raises(OutputError) as caught, run.locked():
        pytest.fail("two processes would write one run")

    assert str(caught.value) == f"{run.models}: in use by process {holder.pid}"


@pytest.mark.parametrize("end", ["kill", "leave"])
def test_a_run_is_free_when_the_other_process_ends_however_it_ends(held, end):
    run, holder = held
    if end == "kill":
        holder.kill()
    holder.communicate()

    with run.locked():
        entered = True

    assert entered


def test_a_run_is_free_after_an_error_and_other_runs_always_are(tmp_path):
    run, other = RunDir(tmp_path, "digits", "1"), RunDir(tmp_path, "digits", "2")
    run.reopen()
    other.reopen()

    with pytest.raises(KeyError), run.locked(), other.locked():
        raise KeyError

    with run.locked(), pytest.raises(OutputError, match="in use by process unknown"), run.locked():
        pass


def test_a_folder_that_cannot_hold_the_lock_is_an_output_error(tmp_path):
    run = RunDir(tmp_path, "digits", "1")
    run.reopen()
    (run.models / ".lock").mkdir()

    with pytest.raises(OutputError, match=r"cannot write \("), run.locked():
        pass
