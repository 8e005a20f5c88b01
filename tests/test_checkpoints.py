"""The checkpoints of one run: their names, which are kept, which is the newest whole one, and going back."""

import logging
from contextlib import suppress

import pytest
import torch

from base.checkpoints import KEPT_WITHIN_EPOCH, Checkpoints, position_of
from tests import disk_faults
from tests.small_checkpoint import names_in, tiny_state
from utils.checkpoint import load_checkpoint, save_checkpoint
from utils.durable_file import remove_leftovers
from utils.errors import CheckpointError


def state_at(epochs, steps=0):
    """At the end of an epoch, or `steps` steps into the run and within the epoch after that one."""
    progress = {"batches_done": 1, "loss": {}, "time_s": 0.0, "lr": 0.1} if steps else None
    return tiny_state(float(epochs)) | {"epochs_done": epochs, "steps_done": steps or 8 * epochs, "progress": progress}


def trained(folder, num_epochs, *, within=(), best=(), period=1, keep=None):
    """What a run of so many epochs leaves; `within` says after which of 8 steps of each epoch it saves too."""
    checkpoints = Checkpoints(folder, period=period, keep=keep)
    checkpoints.save(state_at(0))
    for epoch in range(num_epochs):
        for step in within:
            checkpoints.save(state_at(epoch, 8 * epoch + step))
        checkpoints.save(state_at(epoch + 1), improved=epoch + 1 in best)
    return checkpoints


def damage(path):
    """Other weights by the same digest, as a disk might make them; the file of other names is left alone."""
    state = torch.load(path, weights_only=True)
    state["model"]["w"][0] += 1
    path.unlink()
    torch.save(state, path)


# --- names -------------------------------------------------------------------------------------------------------


def test_before_the_first_epoch_there_is_only_last(tmp_path):
    Checkpoints(tmp_path).save(state_at(0))

    assert names_in(tmp_path) == ["last.pth"]


def test_the_end_of_an_epoch_and_a_step_within_the_next_have_names_of_their_own(tmp_path):
    checkpoints = Checkpoints(tmp_path)

    checkpoints.save(state_at(2))
    checkpoints.save(state_at(2, 19))

    assert names_in(tmp_path) == ["checkpoint-epoch2.pth", "checkpoint-epoch3-step19.pth", "last.pth"]
    assert list(checkpoints.numbered()) == [(2, 0), (2, 19)]
    for position, path in checkpoints.numbered().items():
        assert position_of(load_checkpoint(path)) == position
    assert position_of(load_checkpoint(checkpoints.last)) == (2, 19)


def test_all_names_are_one_file_so_that_none_costs_space(tmp_path):
    checkpoints = Checkpoints(tmp_path)

    checkpoints.save(state_at(1), improved=True)

    assert len({path.stat().st_ino for path in tmp_path.iterdir()}) == 1
    assert names_in(tmp_path) == ["best.pth", "checkpoint-epoch1.pth", "last.pth"]


def test_numbers_ascend_with_training_and_not_with_their_digits(tmp_path):
    names = ["epoch10", "epoch9", "epoch10-step75", "epoch10-step8", "epoch100", "epoch9-step70"]
    for name in names:
        (tmp_path / f"checkpoint-{name}.pth").touch()

    found = [path.stem.removeprefix("checkpoint-") for path in Checkpoints(tmp_path).numbered().values()]

    assert found == ["epoch9-step70", "epoch9", "epoch10-step8", "epoch10-step75", "epoch10", "epoch100"]


@pytest.mark.parametrize(
    "name",
    [
        "checkpoint-epoch.pth",
        "checkpoint-epoch-1.pth",
        "checkpoint-epoch2-step.pth",
        "checkpoint-epoch2-before-going-back-to-epoch1.pth",
        "xcheckpoint-epoch2.pth",
        "checkpoint-epoch2.pth.tmp",
        ".checkpoint-epoch2.pth.17.tmp",
    ],
)
def test_what_only_looks_like_a_numbered_one_is_none(tmp_path, name):
    (tmp_path / name).touch()

    assert Checkpoints(tmp_path).numbered() == {}


# --- which are kept ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [1, 2, 3, None])
@pytest.mark.parametrize("period", [1, 2, 5])
@pytest.mark.parametrize("within", [(), (3,), (2, 4, 6)])
@pytest.mark.parametrize("best", [(), (1,), (2, 5)])
def test_whatever_is_forgotten_best_last_and_the_newest_of_each_kind_stay(tmp_path, keep, period, within, best):
    checkpoints = trained(tmp_path, 6, within=within, best=best, period=period, keep=keep)
    checkpoints.save(state_at(6, 51))

    at_ends = [epoch for epoch in range(1, 7) if epoch % period == 0][-(keep or 100) :]
    # Steps within epochs are of use until the next numbered end of an epoch, and then only as many as these.
    steps = [(epoch, 8 * epoch + step) for epoch in range(6) for step in within] + [(6, 51)]
    last_end = (at_ends[-1], 0)
    steps = [position for position in steps if position >= last_end][-KEPT_WITHIN_EPOCH:]
    assert list(checkpoints.numbered()) == sorted([*((epoch, 0) for epoch in at_ends), *steps])
    assert position_of(load_checkpoint(checkpoints.last)) == (6, 51)
    assert checkpoints.best.exists() == bool(best)
    if best:
        assert load_checkpoint(checkpoints.best)["epochs_done"] == best[-1]


def test_within_an_epoch_the_one_before_the_last_is_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path)

    for step in (2, 4, 6, 7):
        checkpoints.save(state_at(0, step))

    assert KEPT_WITHIN_EPOCH == 2
    assert list(checkpoints.numbered()) == [(0, 6), (0, 7)]


def test_those_of_a_future_are_not_counted_and_not_removed(tmp_path):
    trained(tmp_path, 6, keep=None)
    checkpoints = Checkpoints(tmp_path, keep=1)

    checkpoints.save(state_at(3))

    assert list(checkpoints.numbered()) == [(3, 0), (4, 0), (5, 0), (6, 0)]


# --- the newest that can be trusted ------------------------------------------------------------------------------


def test_the_newest_whole_one_is_found_in_their_order_and_each_damaged_one_is_named(tmp_path):
    checkpoints = trained(tmp_path, 3, best=(1,))
    checkpoints.save(state_at(3, 27))
    order = ["last", "checkpoint-epoch4-step27", "checkpoint-epoch3", "checkpoint-epoch2", "checkpoint-epoch1", "best"]
    paths = [tmp_path / f"{name}.pth" for name in order]

    for number, path in enumerate(paths):
        found, state, damaged = checkpoints.newest_valid()

        assert found == path
        assert position_of(state) == position_of(load_checkpoint(path))
        assert [line.split(": ")[0] for line in damaged] == [str(earlier) for earlier in paths[:number]]
        damage(path)

    with pytest.raises(CheckpointError) as caught:
        checkpoints.newest_valid()
    first, *lines = str(caught.value).splitlines()
    assert first == f"{tmp_path}: no checkpoint that can be used"
    assert [line.split(": ")[0].strip() for line in lines] == [str(path) for path in paths]


def test_a_folder_without_any_checkpoint_says_just_that(tmp_path):
    with pytest.raises(CheckpointError) as caught:
        Checkpoints(tmp_path).newest_valid()

    assert str(caught.value) == f"{tmp_path}: no checkpoint"


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1\n", bytes(1000)])
def test_a_file_that_is_no_checkpoint_at_all_is_passed_over_too(tmp_path, content):
    checkpoints = trained(tmp_path, 1)
    checkpoints.last.unlink()
    checkpoints.last.write_bytes(content)

    found, _, (line,) = checkpoints.newest_valid()

    assert found.name == "checkpoint-epoch1.pth"
    assert line.startswith(f"{checkpoints.last}: ")


# --- going on and going back -------------------------------------------------------------------------------------


def test_going_on_from_the_last_leaves_all_as_it_is_but_what_a_killed_process_left_half_done(tmp_path):
    checkpoints = trained(tmp_path, 3, best=(2,), within=(4,))
    before = {path.name: path.stat().st_ino for path in tmp_path.iterdir()}
    (tmp_path / ".last.pth.4711.tmp").write_bytes(b"half")

    checkpoints.go_on_from(load_checkpoint(checkpoints.last), 2)

    assert {path.name: path.stat().st_ino for path in tmp_path.iterdir()} == before


def test_going_back_sets_the_later_ones_aside_whole(tmp_path, caplog):
    checkpoints = trained(tmp_path, 4, best=(1, 4))
    checkpoints.save(state_at(4, 35))
    state = load_checkpoint(tmp_path / "checkpoint-epoch2.pth")

    with caplog.at_level(logging.INFO, "run"):
        checkpoints.go_on_from(state, 1)

    aside = ["checkpoint-epoch3", "checkpoint-epoch4", "checkpoint-epoch5-step35", "best"]
    kept = {name: load_checkpoint(tmp_path / f"{name}-before-going-back-to-epoch2.pth") for name in aside}
    assert [position_of(state) for state in kept.values()] == [(3, 0), (4, 0), (4, 35), (4, 0)]
    assert list(checkpoints.numbered()) == [(1, 0), (2, 0)]
    assert load_checkpoint(checkpoints.best)["epochs_done"] == 1
    for name in aside:
        line = f"going back to epoch 2: {name}.pth is kept as {name}-before-going-back-to-epoch2.pth"
        assert line in caplog.messages


def test_going_back_within_an_epoch_sets_its_end_aside(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(state_at(1))
    checkpoints.save(state_at(1, 11))
    state = load_checkpoint(checkpoints.last)
    save_checkpoint(tmp_path / "checkpoint-epoch2.pth", state_at(2))

    checkpoints.go_on_from(state, None)

    assert list(checkpoints.numbered()) == [(1, 0), (1, 11)]
    assert (tmp_path / "checkpoint-epoch2-before-going-back-to-epoch1.pth").exists()


@pytest.mark.parametrize("source", ["checkpoint-epoch3.pth", "last.pth"])
@pytest.mark.parametrize("there", [None, 1])
def test_a_best_that_is_missing_or_of_the_past_is_made_again_from_where_it_is_whole(tmp_path, source, there):
    checkpoints = Checkpoints(tmp_path)
    save_checkpoint(checkpoints.last, state_at(3))
    save_checkpoint(tmp_path / source, state_at(3))
    if there is not None:
        save_checkpoint(checkpoints.best, state_at(there))

    checkpoints.go_on_from(state_at(3), 3)

    assert position_of(load_checkpoint(checkpoints.best)) == (3, 0)


def test_a_damaged_best_is_set_aside_named_and_made_again(tmp_path, caplog):
    checkpoints = trained(tmp_path, 3, best=(2,))
    damage(checkpoints.best)

    with caplog.at_level(logging.WARNING, "run"):
        checkpoints.go_on_from(load_checkpoint(checkpoints.last), 2)

    assert load_checkpoint(checkpoints.best)["epochs_done"] == 2
    assert (tmp_path / "best-before-going-back-to-epoch3.pth").exists()
    assert str(checkpoints.best) in caplog.text


def test_a_best_that_is_nowhere_whole_is_said_and_nothing_wrong_takes_its_name(tmp_path, caplog):
    checkpoints = trained(tmp_path, 3, best=(2,))
    damage(checkpoints.best)
    damage(tmp_path / "checkpoint-epoch2.pth")

    with caplog.at_level(logging.WARNING, "run"):
        checkpoints.go_on_from(load_checkpoint(checkpoints.last), 2)

    assert not checkpoints.best.exists()
    assert "the best one, of epoch 2, is nowhere whole any more" in caplog.text


def test_a_file_with_the_name_of_the_best_epoch_that_holds_another_is_not_taken_for_it(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    save_checkpoint(checkpoints.last, state_at(3))
    save_checkpoint(tmp_path / "checkpoint-epoch2.pth", state_at(1))

    checkpoints.go_on_from(state_at(3), 2)

    assert not checkpoints.best.exists()


def five_saves(folder, acknowledged):
    """Ends of epochs and steps within them, with rotation and another best one; says after each that it is done."""
    checkpoints = Checkpoints(folder, keep=2)
    for number, (epochs, steps, improved) in enumerate([(0, 0, 0), (1, 0, 1), (1, 3, 0), (2, 0, 0), (3, 0, 1)]):
        within = {"progress": {"batches_done": 1, "loss": {}, "time_s": 0.0, "lr": None}} if steps else {}
        state = tiny_state(float(number)) | {"epochs_done": epochs, "steps_done": 2 * epochs + steps} | within
        checkpoints.save(state, improved=bool(improved))
        acknowledged.append(number)


def test_a_process_that_dies_at_any_operation_of_any_save_loses_nothing_that_was_saved(tmp_path, fault):
    five_saves_in = tmp_path / "whole"
    five_saves_in.mkdir()
    with disk_faults.recording() as disk:
        five_saves(five_saves_in, [])
    fault("F3, five saves", f"{len(disk.operations)} operations")

    for operation in range(len(disk.operations)):
        folder, acknowledged = tmp_path / str(operation), []
        folder.mkdir()
        with suppress(disk_faults.Died), disk_faults.dying_at(operation):
            five_saves(folder, acknowledged)

        remove_leftovers(folder)
        whole = {path.name: load_checkpoint(path) for path in folder.glob("*.pth")}
        newest = Checkpoints(folder).newest_valid()[1]["model"]["w"][0] if whole else -1
        assert newest >= (acknowledged[-1] if acknowledged else -1), operation
        assert list(folder.glob(".*.tmp")) == []
        if len(acknowledged) >= 2:
            assert whole["best.pth"]["epochs_done"] in (1, 3), operation
            if len(acknowledged) < 5 and newest < 4:
                assert whole["best.pth"]["epochs_done"] == 1, operation


def test_a_numbered_one_that_a_kill_left_out_is_linked_when_the_run_goes_on(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(state_at(1))
    (tmp_path / "checkpoint-epoch1.pth").unlink()

    checkpoints.go_on_from(load_checkpoint(tmp_path / "last.pth"), None)

    assert load_checkpoint(tmp_path / "checkpoint-epoch1.pth")["epochs_done"] == 1


def test_old_ones_that_a_kill_left_are_removed_when_the_run_goes_on(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for epoch in (1, 2, 3):
        checkpoints.save(state_at(epoch))
    for name in ("checkpoint-epoch1.pth", "checkpoint-epoch3-step23.pth"):
        (tmp_path / name).write_bytes(b"left before it was removed")

    checkpoints.go_on_from(load_checkpoint(tmp_path / "last.pth"), None)

    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == [
        "checkpoint-epoch2.pth",
        "checkpoint-epoch3.pth",
    ]
