"""STATUS.json: whole at any moment, and what was said is kept until it is said anew."""

import contextlib
import json
import os
import time

import pytest

from logger.run_dir import RunDir
from logger.run_record import recorded
from logger.status import Status, read_status
from utils.stop import RunStopped


def test_it_says_the_state_the_process_the_time_and_what_else_is_known(tmp_path):
    before = time.strftime("%Y-%m-%dT%H:%M:%S%z")

    Status(tmp_path / "STATUS.json").say("running", epochs_done=2, steps_done=16)

    facts = json.loads((tmp_path / "STATUS.json").read_text(encoding="utf-8"))
    assert before <= facts.pop("updated") <= time.strftime("%Y-%m-%dT%H:%M:%S%z")
    assert facts == {"state": "running", "pid": os.getpid(), "epochs_done": 2, "steps_done": 16}


def test_what_was_said_is_kept_until_it_is_said_anew_by_another_process_too(tmp_path):
    path = tmp_path / "STATUS.json"
    Status(path).say("running", epochs_done=2, steps_done=16)

    Status(path).say("failed", steps_done=20, reason="x")

    facts = read_status(path)
    assert (facts["state"], facts["epochs_done"], facts["steps_done"], facts["reason"]) == ("failed", 2, 20, "x")


def test_it_is_replaced_as_a_whole_so_that_a_reader_never_sees_half(tmp_path):
    path = tmp_path / "STATUS.json"
    Status(path).say("running")
    with open(path, encoding="utf-8") as reader:
        Status(path).say("finished")

        seen = json.loads(reader.read())

    assert seen["state"] == "running"
    assert read_status(path)["state"] == "finished"
    assert [file.name for file in tmp_path.iterdir()] == ["STATUS.json"]


@pytest.mark.parametrize("content", [None, b"", b"{", b"[1]", b"7", b"\xff\xfe"])
def test_a_file_that_is_missing_or_damaged_says_nothing_and_is_replaced(tmp_path, content):
    path = tmp_path / "STATUS.json"
    if content is not None:
        path.write_bytes(content)
    assert read_status(path) == {}

    Status(path).say("running")

    assert read_status(path)["state"] == "running"


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (None, "finished", "finished"),
        (RunStopped("SIGTERM"), "stopped", "stopped: SIGTERM"),
        (KeyboardInterrupt(), "stopped", "interrupted"),
        (ValueError("no"), "failed", "ValueError: no"),
    ],
)
@pytest.mark.parametrize("has_checkpoint", [True, False])
def test_how_a_process_ended_stands_in_it_with_the_command_to_go_on_where_that_can_be(
    tmp_path, error, state, reason, has_checkpoint
):
    run = RunDir.create(tmp_path, "x")
    if has_checkpoint:
        (run.models / "last.pth").touch()

    expected = pytest.raises(type(error)) if error is not None else contextlib.nullcontext()
    with expected, recorded(run, [], {}, tmp_path):
        if error is not None:
            raise error

    facts = read_status(run.models / "STATUS.json")
    can_go_on = has_checkpoint and error is not None
    assert (facts["state"], facts["reason"]) == (state, reason)
    assert facts["to_continue"] == (f"python train.py -r {run.models / 'last.pth'}" if can_go_on else None)


def test_a_run_that_goes_on_is_running_from_its_start_and_no_longer_what_it_was(tmp_path):
    run = RunDir.create(tmp_path, "x")
    path = run.models / "STATUS.json"
    (run.models / "last.pth").touch()
    Status(path).say("stopped", reason="stopped: SIGTERM", to_continue="python ...", steps_done=5)
    path.write_text(path.read_text().replace(f'"pid": {os.getpid()}', '"pid": 1'))

    with recorded(run, [], {}, tmp_path):
        during = read_status(path)

    assert (during["state"], during["pid"], during["reason"], during["to_continue"]) == (
        "running",
        os.getpid(),
        None,
        None,
    )
    assert during["steps_done"] == 5
