"""The outer loop: what is saved when, when it stops, and that a continued run is the uninterrupted one."""

import copy
import logging
import math
import random
import threading

import pytest
import torch
from torch import nn, optim

import base.checkpoints
from base.base_trainer import (
    BaseTrainer,
    Learner,
    RunContext,
    TrainerOptions,
)
from base.checkpoints import Checkpoints
from logger.run_dir import RunDir
from trainer.schedule import NoSchedule, Schedule
from utils.checkpoint import load_checkpoint, save_checkpoint
from utils.errors import CheckpointError, ConfigError, OutputError, TrainingError
from utils.plain import require_plain
from utils.seed import generator_for
from utils.stop import RunStopped

PASSPORT = {"config": {"name": "x"}, "offered": [], "classes": ["a", "b"], "run": {"name": "x", "run_id": "1"}}
COUNTS = ("progress", "epochs_done", "steps_done", "history", "rng")
SCORES = ["train_loss", "val_loss", "loss"]


class Records:
    """Stands for the recorder: keeps what it is told."""

    def __init__(self, run):
        self.run = run
        self.history = self
        self.records = []
        self.asked_rows = []
        self.finished_with = None
        self.num_closed = 0

    def write(self, record, best_epoch):
        self.records.append((record, best_epoch))

    def last_row(self, epoch=None):
        self.asked_rows.append(epoch)
        return {"epoch": epoch}

    def rows(self, without=()):
        return [{"epoch": record.epoch} | record.val for record, _ in self.records]

    def finish(self, settings, scores):
        self.finished_with = settings, scores

    def close(self):
        self.num_closed += 1


class Scripted(BaseTrainer):
    """Takes its validation losses from a list; every step uses all that has a state: momentum, schedule, chance."""

    val_losses: tuple = (4.0, 3.0, 5.0, 2.0, 6.0, 6.0, 6.0, 6.0, 6.0, 6.0, 6.0, 6.0)
    interrupt_in = None

    def _train_epoch(self, epoch):
        if epoch == self.interrupt_in:
            raise KeyboardInterrupt
        for _ in range(2):
            keyed = torch.rand((), generator=generator_for(self.context.seed, "step", self.steps_done))
            of_user_code = torch.rand(()) + random.random()
            (self.learner.model.weight * (keyed + of_user_code)).sum().backward()
            self.learner.optimizer.step()
            self.learner.optimizer.zero_grad()
            self.steps_done += 1
            self.learner.schedule.step_done()
        return {"loss": float(self.learner.model.weight.detach().sum())}

    def _valid_epoch(self, epoch):
        return {"loss": self.val_losses[epoch - 1]}

    @property
    def images_trained(self):
        return 100


@pytest.fixture
def make(tmp_path):
    """`make(epochs=4, ...)`: a trainer as if the process had just started; equal calls give equal trainers."""

    def trainer(*, run_id="1", lr=0.5, kind=Scripted, schedule="StepLR", width=1, **options):
        torch.manual_seed(0)
        random.seed(0)
        run = RunDir(tmp_path, "x", run_id)
        run.reopen()
        model = nn.Linear(width, 1, bias=False)
        nn.init.ones_(model.weight)
        optimizer = optim.SGD(model.parameters(), lr=lr, momentum=0.9)
        scheduler = NoSchedule()
        if schedule == "StepLR":
            scheduler = Schedule(optim.lr_scheduler.StepLR(optimizer, 2, 0.5), "epoch", "val_loss")
        if schedule == "ReduceLROnPlateau":
            scheduler = Schedule(optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0), "epoch", "val_loss")
        learner = Learner(model, None, None, None, optimizer, scheduler)
        context = RunContext(Records(run), [torch.device("cpu")], seed=5, passport=PASSPORT)
        return kind(learner, TrainerOptions(**{"epochs": 4, "save_dir": tmp_path, **options}), context, SCORES)

    return trainer


def numbered(folder):
    """The epochs of the checkpoints that are kept at ends of epochs."""
    return [epoch for epoch, step in Checkpoints(folder).numbered() if not step]


def epoch_of(path):
    return load_checkpoint(path)["epochs_done"]


def files_of(trainer):
    return sorted(path.name for path in trainer.models_dir.iterdir() if path.name != "STATUS.json")


def outcome(trainer):
    """Everything by which two finished runs can be told apart."""
    weights = trainer.learner.model.weight.detach().tolist()
    state = trainer.learner.optimizer.state_dict()
    momentum = [entry["momentum_buffer"].tolist() for entry in state["state"].values()]
    return {
        "weights": weights,
        "momentum": momentum,
        "lr": trainer.learner.optimizer.param_groups[0]["lr"],
        "monitor": trainer.monitor.state_dict(),
        "counts": (trainer.epochs_done, trainer.steps_done),
        "drawn next": (float(torch.rand(())), random.random()),
    }


# --- what is saved -----------------------------------------------------------------------------------------------


def test_best_is_saved_between_save_periods(make):
    trainer = make(epochs=6, save_period=5)

    trainer.train()

    assert files_of(trainer) == ["best.pth", "checkpoint-epoch5.pth", "last.pth"]
    assert epoch_of(trainer.models_dir / "best.pth") == 4
    assert epoch_of(trainer.models_dir / "checkpoint-epoch5.pth") == 5
    assert epoch_of(trainer.models_dir / "last.pth") == 6


def test_last_is_saved_before_the_first_epoch_and_after_each(make):
    seen = []

    class Looking(Scripted):
        def _train_epoch(self, epoch):
            self.saver.wait()
            seen.append(epoch_of(self.models_dir / "last.pth"))
            return super()._train_epoch(epoch)

    make(kind=Looking, save_period=100).train()

    assert seen == [0, 1, 2, 3]


def test_best_is_kept_as_it_was_when_later_epochs_are_worse(make):
    trainer = make(epochs=5)
    weights = {}

    class Noting(Scripted):
        def _valid_epoch(self, epoch):
            weights[epoch] = self.learner.model.weight.detach().clone()
            return super()._valid_epoch(epoch)

    trainer = make(kind=Noting, epochs=5)
    trainer.train()

    assert torch.equal(load_checkpoint(trainer.models_dir / "best.pth")["model"]["weight"], weights[4])
    assert torch.equal(load_checkpoint(trainer.models_dir / "last.pth")["model"]["weight"], weights[5])


@pytest.mark.parametrize(
    ("keep", "period", "kept"),
    [
        (3, 1, [10, 11, 12]),
        (1, 1, [12]),
        (2, 4, [8, 12]),
        (5, 5, [5, 10]),
        (None, 3, [3, 6, 9, 12]),
    ],
)
def test_the_newest_checkpoints_are_kept_in_the_order_of_numbers(make, keep, period, kept):
    trainer = make(epochs=12, keep_checkpoints=keep, save_period=period)

    trainer.train()

    assert numbered(trainer.models_dir) == kept
    assert all(epoch_of(trainer.models_dir / f"checkpoint-epoch{number}.pth") == number for number in kept)


def test_checkpoints_of_a_later_future_are_not_counted_and_not_removed(make):
    trainer = make(epochs=3, keep_checkpoints=1)
    save_checkpoint(trainer.models_dir / "checkpoint-epoch9.pth", trainer.state_dict() | {"epochs_done": 9})

    trainer.train()

    assert numbered(trainer.models_dir) == [3, 9]


def test_files_with_other_names_are_no_checkpoints(tmp_path):
    names = ["7", "10", "x", "", "-1", "1.5", "²", "2-step3"]
    for name in names:
        (tmp_path / f"checkpoint-epoch{name}.pth").touch()
    (tmp_path / "checkpoint-epoch3.txt").touch()

    assert numbered(tmp_path) == [7, 10]


def test_a_checkpoint_is_plain_data_and_carries_the_passport(make):
    trainer = make()

    trainer.train()
    state = load_checkpoint(trainer.models_dir / "last.pth")

    require_plain(trainer.state_dict())
    assert {key: state[key] for key in PASSPORT} == PASSPORT
    assert set(state) == {"format", *PASSPORT, *trainer.stateful(), *COUNTS}


def test_the_newest_runs_files_are_shown_above_all_runs(make, tmp_path):
    make(run_id="1", epochs=4).train()
    assert epoch_of(tmp_path / "models/best.pth") == 4

    make(run_id="2", epochs=3, monitor="off").train()

    assert epoch_of(tmp_path / "models/last.pth") == 3
    assert not (tmp_path / "models/best.pth").exists()


class Held:
    """Stands for `Checkpoints.save`: begins, and goes on when it is let through; may fail."""

    def __init__(self, checkpoints, error=None):
        self.begun, self.open, self.error, self.save = threading.Event(), threading.Event(), error, checkpoints.save
        checkpoints.save = self

    def __call__(self, state, **settings):
        if state["epochs_done"] > 0:
            self.begun.set()
            assert self.open.wait(20)
            if self.error is not None:
                raise self.error
        self.save(state, **settings)


def test_the_next_epoch_is_trained_while_one_is_saved_and_nothing_is_said_of_it_before(make, caplog):
    seen = []

    class Looking(Scripted):
        def _valid_epoch(self, epoch):
            if epoch == 2:
                assert held.begun.wait(20)
                seen.append((epoch_of(self.models_dir / "last.pth"), list(caplog.messages), self.epochs_saved))
                seen.append(self.status.facts["epochs_done"])
                weights.append(self.learner.model.weight.detach().clone())
                held.open.set()
            if epoch == 1:
                weights.append(self.learner.model.weight.detach().clone())
            return super()._valid_epoch(epoch)

    trainer, weights = make(kind=Looking, epochs=2), []
    held = Held(trainer.checkpoints)
    with caplog.at_level(logging.INFO, "run"):
        trainer.train()

    assert seen == [(0, [], 0), 0]
    assert [line[:9] for line in caplog.messages] == ["epoch 1/2", "epoch 2/2"]
    assert trainer.epochs_saved == 2
    assert not torch.equal(*weights)
    for epoch, weight in enumerate(weights, 1):
        saved = load_checkpoint(trainer.models_dir / f"checkpoint-epoch{epoch}.pth")
        assert torch.equal(saved["model"]["weight"], weight)


@pytest.mark.parametrize("epochs", [1, 2, 4])
def test_a_save_that_fails_ends_the_run_at_the_next_save_or_at_the_end(make, caplog, epochs):
    trainer = make(epochs=epochs)
    Held(trainer.checkpoints, OutputError("last.pth: the disk is full")).open.set()

    with pytest.raises(TrainingError, match=r"^last\.pth: the disk is full \(0 epochs were saved before\)$"):
        trainer.train()

    assert trainer.epochs_done <= 2
    assert epoch_of(trainer.models_dir / "last.pth") == 0
    assert caplog.messages == []
    assert trainer.recorder.num_closed == 1


def test_a_save_that_failed_is_noticed_after_the_next_step(make):
    class Stepping(Scripted):
        def _valid_epoch(self, epoch):
            if epoch == 2:
                held.open.set()
                assert self.saver._ended.wait(20)
                self._step_done()
                raise AssertionError("went on")
            return super()._valid_epoch(epoch)

    trainer = make(kind=Stepping)
    held = Held(trainer.checkpoints, OutputError("last.pth: the disk is full"))

    with pytest.raises(TrainingError, match="the disk is full"):
        trainer.train()


def test_a_mistake_in_training_waits_for_the_save_that_is_running(make):
    class Broken(Scripted):
        def _valid_epoch(self, epoch):
            if epoch == 2:
                threading.Timer(0.2, held.open.set).start()
                raise ZeroDivisionError
            return super()._valid_epoch(epoch)

    trainer = make(kind=Broken)
    held = Held(trainer.checkpoints)

    with pytest.raises(ZeroDivisionError):
        trainer.train()

    assert epoch_of(trainer.models_dir / "last.pth") == trainer.epochs_saved == 1


def test_a_run_that_is_stopped_right_after_an_epoch_says_so_when_that_is_saved(make, caplog):
    trainer = make()

    class Stopping(type(trainer.stop)):
        @property
        def reason(self):
            return "SIGTERM" if trainer.epochs_done == 1 else None

    trainer.stop = Stopping()
    held = Held(trainer.checkpoints)
    threading.Timer(0.2, held.open.set).start()

    with pytest.raises(RunStopped), caplog.at_level(logging.INFO, "run"):
        trainer.train()

    assert epoch_of(trainer.models_dir / "last.pth") == 1
    assert [line.split(" ")[0] for line in caplog.messages] == ["epoch", "stopped:"]


def test_the_first_step_is_timed_once_from_the_command_on(make, caplog):
    trainer = make(epochs=2)
    trainer.stop.begun_s -= 100

    class Counting:
        reason, begun_s = None, trainer.stop.begun_s

    trainer.stop = Counting()
    trainer._step_done()
    first = trainer.first_step_after_s
    trainer._step_done()
    with caplog.at_level(logging.DEBUG, "run"):
        trainer._say_first_step()
        trainer._say_first_step()

    assert 100 <= first < 200
    assert trainer.first_step_after_s == first
    assert caplog.messages == [f"first step after {first:.1f} s"]


# --- when it stops -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("early_stop", "epochs", "min_delta", "epochs_done"),
    [
        (1, 12, 0.0, 3),  # 4, 3, 5: the third is no better
        (2, 12, 0.0, 6),  # 2 in the fourth, then two that are no better
        (3, 12, 0.0, 7),
        (3, 5, 0.0, 5),  # the epochs are over first
        (None, 12, 0.0, 12),
        (0, 12, 0.0, 12),
        (1, 12, 1.0, 2),  # 4 to 3 is no improvement by more than 1
    ],
)
def test_training_stops_after_so_many_epochs_without_improvement(make, early_stop, epochs, min_delta, epochs_done):
    trainer = make(epochs=epochs, early_stop=early_stop, min_delta=min_delta)

    trainer.train()

    assert trainer.epochs_done == epochs_done
    assert len(trainer.recorder.records) == epochs_done
    assert epoch_of(trainer.models_dir / "last.pth") == epochs_done


def test_stopping_early_is_said_with_the_best_and_the_setting(make, caplog):
    with caplog.at_level(logging.INFO, "run"):
        make(epochs=12, early_stop=2).train()

    assert caplog.messages[-1] == (
        "stopped early: val_loss has not improved on 2 of epoch 4 for 2 epochs (trainer.early_stop)"
    )


def test_a_score_that_is_never_a_number_stops_early_too_and_leaves_no_best(make, caplog):
    class Diverged(Scripted):
        val_losses = (math.nan, math.inf, math.nan)

    trainer = make(kind=Diverged, epochs=3, early_stop=2)

    with caplog.at_level(logging.INFO, "run"):
        trainer.train()

    assert trainer.epochs_done == 2
    assert caplog.messages[-1] == "stopped early: val_loss has been no finite number for 2 epochs (trainer.early_stop)"
    assert not (trainer.models_dir / "best.pth").exists()


def test_patience_goes_on_where_it_was_in_a_continued_run(make):
    first = make(epochs=5, early_stop=3)
    first.train()

    second = make(epochs=12, early_stop=3)
    second.resume(load_checkpoint(first.models_dir / "last.pth"))
    second.train()

    assert second.epochs_done == 7


def test_without_a_monitor_all_epochs_are_trained_and_there_is_no_best(make):
    trainer = make(epochs=5, monitor="off")

    trainer.train()

    assert trainer.epochs_done == 5
    assert files_of(trainer) == ["checkpoint-epoch3.pth", "checkpoint-epoch4.pth", "checkpoint-epoch5.pth", "last.pth"]
    assert trainer.recorder.asked_rows == [None]


def test_the_row_of_the_best_epoch_is_told_at_the_end(make):
    trainer = make(epochs=6)

    trainer.train()

    assert trainer.recorder.finished_with == ({"name": "x"}, {"epoch": 4})
    assert trainer.recorder.num_closed == 1


def test_an_unknown_score_is_refused_when_the_trainer_is_made(make):
    with pytest.raises(ConfigError) as caught:
        make(monitor="max val_acc")

    assert caught.value.path == "trainer.monitor"
    assert caught.value.message == "no score 'val_acc'. There are train_loss, val_loss, loss, or 'off'"


def test_a_misspelt_score_is_answered_with_the_nearest(make):
    with pytest.raises(ConfigError) as caught:
        make(monitor="min val_los")

    said = "no score 'val_los'. Did you mean 'val_loss'? There are train_loss, val_loss, loss, or 'off'"
    assert caught.value.message == said


@pytest.mark.parametrize("missing", ["_train_epoch", "_valid_epoch", "images_trained"])
def test_a_trainer_without_one_of_its_parts_cannot_be_made(make, missing):
    parts = {
        name: vars(Scripted)[name] for name in ("_train_epoch", "_valid_epoch", "images_trained") if name != missing
    }

    with pytest.raises(TypeError, match=f"abstract.*{missing}"):
        make(kind=type("Partly", (BaseTrainer,), parts))


# --- what is said ------------------------------------------------------------------------------------------------


def test_an_epoch_is_one_record_with_the_rate_it_was_trained_at(make):
    trainer = make(epochs=3, lr=0.5)

    trainer.train()

    records = [record for record, _ in trainer.recorder.records]
    assert [record.epoch for record in records] == [1, 2, 3]
    assert [record.lr for record in records] == [0.5, 0.5, 0.25]
    assert [record.val for record in records] == [{"loss": 4.0}, {"loss": 3.0}, {"loss": 5.0}]
    assert all(record.time_s > 0 and record.images_per_s > 0 for record in records)
    assert [best_epoch for _, best_epoch in trainer.recorder.records] == [1, 2, 2]


def test_an_epoch_is_one_line_that_tells_an_improvement_with_before_and_after(make, caplog):
    with caplog.at_level(logging.INFO, "run"):
        make(epochs=3).train()

    assert len(caplog.messages) == 3
    first, second, third = caplog.messages
    assert first.startswith("epoch 1/3 | train loss ")
    assert " | val loss 4.0000 | lr 0.5 | " in first
    assert first.endswith("| val_loss improved to 4, saved best.pth")
    assert second.endswith("| val_loss improved from 4 to 3, saved best.pth")
    assert "improved" not in third


@pytest.mark.parametrize("epoch", [1, 3])
def test_an_interrupt_tells_how_to_continue_and_closes_what_is_open(make, caplog, epoch):
    trainer = make(epochs=5)
    trainer.interrupt_in = epoch

    with pytest.raises(KeyboardInterrupt), caplog.at_level(logging.WARNING, "run"):
        trainer.train()

    assert caplog.messages == [
        f"{epoch - 1} of 5 epochs are saved. To continue:\n  python train.py -r {trainer.models_dir / 'last.pth'}"
    ]
    assert epoch_of(trainer.models_dir / "last.pth") == epoch - 1
    assert trainer.recorder.num_closed == 1


def test_a_mistake_in_an_epoch_closes_what_is_open_and_is_not_hidden(make):
    class Broken(Scripted):
        def _valid_epoch(self, epoch):
            raise ZeroDivisionError

    trainer = make(kind=Broken)

    with pytest.raises(ZeroDivisionError):
        trainer.train()

    assert trainer.recorder.num_closed == 1
    assert trainer.recorder.finished_with is None


# --- going on ----------------------------------------------------------------------------------------------------


@pytest.fixture
def uninterrupted(make):
    """Six epochs without a break: how it ended."""
    trainer = make(run_id="whole", epochs=6)
    trainer.train()
    return outcome(trainer)


@pytest.mark.parametrize("epochs_done", range(6))
def test_a_continued_run_ends_like_the_uninterrupted_one(make, uninterrupted, epochs_done):
    first, second = make(epochs=6), make(epochs=6)
    first.interrupt_in = epochs_done + 1
    with pytest.raises(KeyboardInterrupt):
        first.train()

    second.resume(load_checkpoint(first.models_dir / "last.pth"))
    second.train()

    assert outcome(second) == uninterrupted
    assert epoch_of(second.models_dir / "best.pth") == 4


@pytest.mark.parametrize("entry", ["model", "optimizer", "schedule", "monitor", "epochs_done", "steps_done", "rng"])
def test_taking_any_one_entry_out_of_the_state_gives_another_run(make, uninterrupted, entry):
    first = make(epochs=6)
    first.interrupt_in = 6
    with pytest.raises(KeyboardInterrupt):
        first.train()
    state = load_checkpoint(first.models_dir / "last.pth")
    second = make(epochs=6)
    untouched = copy.deepcopy(second.state_dict())

    second.resume({**state, entry: untouched[entry]})
    second.train()

    assert outcome(second) != uninterrupted


def test_every_entry_of_the_state_is_tried_above(make):
    trainer = make()

    tried = {"model", "optimizer", "schedule", "monitor", "epochs_done", "steps_done", "rng"}

    # "progress" is empty between epochs; tests/test_stop.py takes it out within one, tests/test_resume.py "history".
    assert set(trainer.state_dict()) - set(PASSPORT) == {*tried, "progress", "history"}
    assert set(trainer.stateful()) == {"model", "optimizer", "schedule", "monitor"}


@pytest.mark.parametrize("entry", ["model", "optimizer", "schedule", "monitor"])
def test_a_state_without_an_entry_is_refused_by_its_name(make, entry):
    state = make().state_dict()
    del state[entry]

    with pytest.raises(CheckpointError, match=f"^the checkpoint's {entry} does not fit this config: "):
        make().resume(state)


def test_a_model_of_another_shape_is_refused(make):
    state = make(width=2).state_dict()

    with pytest.raises(CheckpointError, match=r"^the checkpoint's model does not fit this config: size mismatch"):
        make(width=3).resume(state)


def test_without_changes_the_learning_rate_is_the_checkpoints(make):
    first = make(epochs=2, lr=0.5)
    first.train()

    second = make(epochs=4, lr=0.1)
    second.resume(load_checkpoint(first.models_dir / "last.pth"), ["trainer.epochs"])

    assert second.learner.optimizer.param_groups[0]["lr"] == 0.25


@pytest.mark.parametrize("schedule", ["StepLR", None])
@pytest.mark.parametrize("path", ["optimizer.args.lr", "lr_scheduler.args.gamma", "lr_scheduler"])
def test_with_another_rate_or_schedule_all_is_as_if_it_had_always_been(make, schedule, path):
    first = make(epochs=3, lr=0.5, schedule="StepLR")
    first.train()

    second = make(epochs=4, lr=8.0, schedule=schedule)
    second.resume(load_checkpoint(first.models_dir / "last.pth"), [path])

    # Halved once in three epochs, or never.
    assert second.learner.optimizer.param_groups[0]["lr"] == (4.0 if schedule else 8.0)
    assert torch.equal(second.learner.model.weight, first.learner.model.weight)
    momentum = [trainer.learner.optimizer.state_dict()["state"][0]["momentum_buffer"] for trainer in (first, second)]
    assert torch.equal(*momentum)


def test_a_monitor_of_another_score_begins_anew(make):
    first = make(epochs=4)
    first.train()

    second = make(epochs=5, monitor="max val_loss")
    second.resume(load_checkpoint(first.models_dir / "last.pth"))
    second.train()

    assert (second.monitor.best, second.monitor.best_epoch) == (6.0, 5)
    assert epoch_of(second.models_dir / "best.pth") == 5


def test_the_schedule_is_told_the_scores_of_the_epoch(make):
    trainer = make(epochs=4, lr=1.0, schedule="ReduceLROnPlateau")

    trainer.train()

    # 4, 3, 5, 2: only the third is worse, and divides the rate by ten.
    assert [record.lr for record, _ in trainer.recorder.records] == pytest.approx([1.0, 1.0, 1.0, 0.1])


# --- best.pth after accidents ------------------------------------------------------------------------------------


def killed_at_link(make, monkeypatch, epoch, name):
    """A run that was killed while it gave the file of an epoch one of its other names."""

    class Killed(BaseException):
        pass

    trainer = make(epochs=6)
    link = base.checkpoints.link

    def dying(target, path, **settings):
        # Not the trainer's, which may be further on.
        if epoch_of(target) == epoch and path.name.startswith(name):
            raise Killed
        link(target, path, **settings)

    monkeypatch.setattr(base.checkpoints, "link", dying)
    with pytest.raises(Killed):
        trainer.train()
    monkeypatch.setattr(base.checkpoints, "link", link)
    return trainer


@pytest.mark.parametrize("name", ["best", "checkpoint"])
@pytest.mark.parametrize("epoch", [1, 2, 4])
def test_best_is_right_after_a_kill_between_the_names_of_one_file(make, monkeypatch, uninterrupted, epoch, name):
    first = killed_at_link(make, monkeypatch, epoch, name)
    state = load_checkpoint(first.models_dir / "last.pth")
    assert state["epochs_done"] == epoch

    second = make(epochs=6)
    second.resume(state)
    assert epoch_of(second.models_dir / "best.pth") == epoch
    second.train()

    assert epoch_of(second.models_dir / "best.pth") == 4
    assert outcome(second) == uninterrupted


def test_going_back_sets_the_best_of_the_later_epochs_aside(make, caplog):
    first = make(epochs=6, keep_checkpoints=None)
    first.train()

    second = make(epochs=3, keep_checkpoints=None)
    with caplog.at_level(logging.INFO, "run"):
        second.resume(load_checkpoint(first.models_dir / "checkpoint-epoch3.pth"))

    assert epoch_of(second.models_dir / "best-before-going-back-to-epoch3.pth") == 4
    assert epoch_of(second.models_dir / "best.pth") == 2
    assert "going back to epoch 3" in caplog.text


def test_going_back_without_the_old_bests_file_leaves_none_that_would_be_wrong(make):
    first = make(epochs=6, save_period=3)
    first.train()

    second = make(epochs=3)
    second.resume(load_checkpoint(first.models_dir / "checkpoint-epoch3.pth"))

    assert second.monitor.best_epoch == 2
    assert not (second.models_dir / "best.pth").exists()


def test_going_on_from_the_best_itself_keeps_it(make, uninterrupted):
    first = make(epochs=6)
    first.train()

    second = make(epochs=6)
    second.resume(load_checkpoint(first.models_dir / "best.pth"))
    assert epoch_of(second.models_dir / "best.pth") == 4
    second.train()

    assert outcome(second) == uninterrupted
    assert epoch_of(second.models_dir / "best.pth") == 4
