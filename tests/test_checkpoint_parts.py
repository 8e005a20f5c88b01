"""A checkpoint that does not hold what the program relies on is refused by the first part that is wrong."""

import copy

import pytest

from tests.small_checkpoint import tiny_state
from utils.checkpoint import DIGEST
from utils.checkpoint_parts import missing_part

PROGRESS = {"batches_done": 1, "loss": {}, "time_s": 0.5, "lr": 0.1, "metrics": {}}


def state(**parts):
    return copy.deepcopy(tiny_state()) | {DIGEST: "0" * 64} | parts


def changed(path, value):
    """The smallest checkpoint with the value at one dotted path."""
    whole = state()
    *keys, last = path.split(".")
    inside = whole
    for key in keys:
        inside = inside[key]
    inside[last] = value
    return whole


def test_the_smallest_checkpoint_has_all_parts():
    assert missing_part(state()) is None


@pytest.mark.parametrize(
    "parts",
    [
        {"progress": None},
        {"progress": PROGRESS},
        {"progress": PROGRESS | {"lr": None}},
        {"history": []},
        {"history": [{"epoch": 1, "train/loss": 0.5}]},
        {"data": {"cat": [3, "aa"]}},
        {"something": "of one's own"},
    ],
)
def test_what_a_trainer_adds_is_taken(parts):
    assert missing_part(state(**parts)) is None


@pytest.mark.parametrize("name", [DIGEST, *tiny_state()])
def test_each_part_that_must_be_there_is_missed_by_name(name):
    whole = state()
    del whole[name]

    assert missing_part(whole) == f"it has no '{name}'"


@pytest.mark.parametrize("name", ["name", "higher_is_better", "best", "best_epoch", "bad_epochs"])
def test_a_part_of_the_monitor_is_missed_by_its_path(name):
    whole = state()
    del whole["monitor"][name]

    assert missing_part(whole) == f"it has no 'monitor.{name}'"


@pytest.mark.parametrize("name", ["batches_done", "loss", "time_s", "lr"])
def test_a_part_of_the_progress_is_missed_by_its_path(name):
    progress = {key: value for key, value in PROGRESS.items() if key != name}

    assert missing_part(state(progress=progress)) == f"it has no 'progress.{name}'"


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("epochs_done", -1, "its 'epochs_done' is -1"),
        ("epochs_done", 1.0, "its 'epochs_done' is a float"),
        ("epochs_done", True, "its 'epochs_done' is a bool"),
        ("steps_done", "8", "its 'steps_done' is a str"),
        ("monitor.best_epoch", -3, "its 'monitor.best_epoch' is -3"),
        ("monitor.best", "0.5", "its 'monitor.best' is a str"),
        ("monitor.higher_is_better", 1, "its 'monitor.higher_is_better' is a int"),
        ("run.run_id", 20260101, "its 'run.run_id' is a int"),
        ("run.extra", "x", "its 'run.extra' is a str"),
        ("classes", "cat", "its 'classes' is a str"),
        ("classes", ["cat", 2], "its 'classes.1' is a int"),
        ("offered", [None], "its 'offered.0' is a NoneType"),
        ("model", [], "its 'model' is a list"),
        ("progress", 7, "its 'progress' is a int"),
        ("history", {"epoch": 1}, "its 'history' is a dict"),
        ("history", [{"epoch": "1"}], "its 'history.0.epoch' is a str"),
        ("keys_version", "1", "its 'keys_version' is a str"),
    ],
)
def test_a_part_of_another_kind_is_told_by_its_path_and_what_it_is(path, value, said):
    assert missing_part(changed(path, value)) == said
