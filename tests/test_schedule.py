"""schedule.py: learning rates against torch's own loop, for every scheduler that a config can name."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import SGD, lr_scheduler

from parse_config import ConfigParser
from trainer.schedule import NoSchedule, Schedule, remarks_on
from utils.errors import ConfigError
from utils.plain import require_plain

# One of each kind that takes no score; all of them can go on for 40 steps.
KINDS = {
    "StepLR": lambda optimizer: lr_scheduler.StepLR(optimizer, 3, 0.5),
    "MultiStepLR": lambda optimizer: lr_scheduler.MultiStepLR(optimizer, [2, 5, 20], 0.3),
    "ConstantLR": lambda optimizer: lr_scheduler.ConstantLR(optimizer, 0.5, 4),
    "LinearLR": lambda optimizer: lr_scheduler.LinearLR(optimizer, 0.1, total_iters=7),
    "ExponentialLR": lambda optimizer: lr_scheduler.ExponentialLR(optimizer, 0.9),
    "PolynomialLR": lambda optimizer: lr_scheduler.PolynomialLR(optimizer, 10, 2.0),
    "CosineAnnealingLR": lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, 11),
    "CosineAnnealingWarmRestarts": lambda optimizer: lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 5, 2),
    "CyclicLR": lambda optimizer: lr_scheduler.CyclicLR(optimizer, 0.01, 0.5, 4),
    "OneCycleLR": lambda optimizer: lr_scheduler.OneCycleLR(optimizer, 0.5, total_steps=41),
    "SequentialLR": lambda optimizer: lr_scheduler.SequentialLR(
        optimizer,
        [lr_scheduler.LinearLR(optimizer, 0.1, total_iters=4), lr_scheduler.CosineAnnealingLR(optimizer, 30)],
        [4],
    ),
    "ChainedScheduler": lambda optimizer: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(optimizer, 0.1, 5), lr_scheduler.ExponentialLR(optimizer, 0.9)]
    ),
}
every_kind = pytest.mark.parametrize("kind", KINDS)
# A schedule that is only tried out is stepped without its optimizer; who asks for that ignores the warning.
no_optimizer_steps = pytest.mark.filterwarnings("ignore:Detected call of .lr_scheduler.step")


def optimizer_of(lr=0.2):
    """Two groups of parameters, with learning rates of their own."""
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    for parameter in parameters:
        parameter.grad = torch.zeros(1)
    return SGD([{"params": [parameters[0]]}, {"params": [parameters[1]], "lr": lr / 4}], lr=lr, momentum=0.9)


def built(kind, interval="epoch"):
    optimizer = optimizer_of()
    return optimizer, Schedule(KINDS[kind](optimizer), interval, "val_loss")


def rates(optimizer):
    """All that a scheduler may change."""
    return [(float(group["lr"]), group["momentum"]) for group in optimizer.param_groups]


def trained(optimizer, schedule, num_epochs, steps_per_epoch):
    """What each step is taken with."""
    seen = []
    for _ in range(num_epochs):
        for _ in range(steps_per_epoch):
            seen.append(rates(optimizer))
            optimizer.step()
            schedule.step_done()
        schedule.epoch_done({"val_loss": 1.0})
    return seen


@every_kind
def test_stepped_by_step_the_rates_are_those_of_torchs_own_loop(kind):
    ours = trained(*built(kind, "step"), num_epochs=8, steps_per_epoch=5)

    optimizer = optimizer_of()
    scheduler, expected = KINDS[kind](optimizer), []
    for _ in range(40):
        expected.append(rates(optimizer))
        optimizer.step()
        scheduler.step()
    assert ours == expected
    assert len(set(map(str, ours))) > 1


@every_kind
def test_stepped_by_epoch_the_rates_are_those_of_torchs_own_loop(kind):
    ours = trained(*built(kind), num_epochs=12, steps_per_epoch=3)

    optimizer = optimizer_of()
    scheduler, expected = KINDS[kind](optimizer), []
    for _ in range(12):
        for _ in range(3):
            expected.append(rates(optimizer))
            optimizer.step()
        scheduler.step()
    assert ours == expected


@pytest.mark.parametrize("interval", ["epoch", "step"])
@every_kind
def test_state_is_plain_data_and_brings_a_restarted_run_where_it_was(kind, interval):
    optimizer, schedule = built(kind, interval)
    trained(optimizer, schedule, num_epochs=3, steps_per_epoch=3)
    state = schedule.state_dict()

    other_optimizer, other = built(kind, interval)
    other_optimizer.load_state_dict(optimizer.state_dict())
    other.load_state_dict(state)

    require_plain(state)
    assert trained(other_optimizer, other, 4, 3) == trained(optimizer, schedule, 4, 3)


@every_kind
@given(num_epochs=st.integers(0, 6), steps_per_epoch=st.integers(1, 3), interval=st.sampled_from(["epoch", "step"]))
@settings(max_examples=12, derandomize=True, deadline=None)
def test_replay_equals_having_been_there(kind, num_epochs, steps_per_epoch, interval):
    optimizer, schedule = built(kind, interval)
    trained(optimizer, schedule, num_epochs, steps_per_epoch)

    other_optimizer, other = built(kind, interval)
    other.replay(num_epochs, num_epochs * steps_per_epoch)

    assert rates(other_optimizer) == rates(optimizer)
    assert trained(other_optimizer, other, 6, steps_per_epoch) == trained(optimizer, schedule, 6, steps_per_epoch)


def test_plateau_is_told_the_watched_score_of_each_epoch():
    optimizer = optimizer_of()
    plateau = lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", factor=0.1, patience=1)
    schedule, seen = Schedule(plateau, "epoch", "val_accuracy"), []

    for accuracy in (0.5, 0.6, 0.6, 0.6, 0.7, 0.1, 0.2):
        optimizer.step()
        schedule.step_done()
        schedule.epoch_done({"val_loss": -accuracy, "val_accuracy": accuracy})
        seen.append(round(optimizer.param_groups[0]["lr"], 6))

    # Two epochs in a row no better than 0.6, and two no better than 0.7.
    assert seen == [0.2, 0.2, 0.2, 0.02, 0.02, 0.02, 0.002]


def test_plateau_begins_anew_when_replayed_and_its_state_is_plain():
    optimizer = optimizer_of()
    schedule = Schedule(lr_scheduler.ReduceLROnPlateau(optimizer, patience=0), "epoch", "val_loss")

    schedule.replay(5, 50)
    schedule.epoch_done({"val_loss": 3.0})

    assert optimizer.param_groups[0]["lr"] == 0.2
    require_plain(schedule.state_dict())


def test_plateau_after_each_step_is_refused():
    with pytest.raises(ConfigError) as caught:
        Schedule(lr_scheduler.ReduceLROnPlateau(optimizer_of()), "step", "val_loss")

    assert caught.value.path == "lr_scheduler.interval"
    assert caught.value.message == 'ReduceLROnPlateau watches a score of an epoch; use "epoch"'


@no_optimizer_steps
@pytest.mark.parametrize(
    ("make", "num_steps", "interval", "said"),
    [
        (lambda optimizer: lr_scheduler.StepLR(optimizer, 3), 3, "epoch", "StepLR never {}3 epochs"),
        (lambda optimizer: lr_scheduler.StepLR(optimizer, 50), 40, "step", "StepLR never {}40 steps"),
        (lambda optimizer: lr_scheduler.StepLR(optimizer, 1), 1, "epoch", "StepLR never {}1 epoch"),
        (lambda optimizer: lr_scheduler.StepLR(optimizer, 2), 3, "epoch", None),
        (lambda optimizer: lr_scheduler.ConstantLR(optimizer, 0.5, 9), 3, "epoch", "ConstantLR never {}3 epochs"),
        (lambda optimizer: lr_scheduler.ExponentialLR(optimizer, 0.9), 2, "epoch", None),
        (
            lambda optimizer: lr_scheduler.ReduceLROnPlateau(optimizer, patience=2),
            4,
            "epoch",
            "ReduceLROnPlateau never {}4 epochs",
        ),
        (lambda optimizer: lr_scheduler.ReduceLROnPlateau(optimizer, patience=2), 5, "epoch", None),
    ],
)
def test_a_schedule_that_never_acts_in_the_run_is_remarked_on(make, num_steps, interval, said):
    remarks = remarks_on(make(optimizer_of()), num_steps, interval)

    assert remarks == ([] if said is None else [((), said.format("changes the learning rate in this run of "))])


@no_optimizer_steps
@pytest.mark.parametrize("num_steps", [1, 2, 3, 4, 6, 7, 30])
@pytest.mark.parametrize(
    "make",
    [
        *KINDS.values(),
        lambda optimizer: lr_scheduler.StepLR(optimizer, 6),
        lambda optimizer: lr_scheduler.MultiStepLR(optimizer, [6, 9]),
        lambda optimizer: lr_scheduler.ConstantLR(optimizer, 0.5, 6),
        lambda optimizer: lr_scheduler.ReduceLROnPlateau(optimizer, patience=4),
        lambda optimizer: lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5, mode="max"),
    ],
)
def test_remarks_are_those_of_a_loop_by_hand(make, num_steps):
    remarks = remarks_on(make(optimizer_of()), num_steps, "step")

    optimizer = optimizer_of()
    scheduler, used = make(optimizer), set()
    for _ in range(num_steps):
        used.add(tuple(float(group["lr"]) for group in optimizer.param_groups))
        optimizer.step()
        scheduler.step(*([1.0] if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau) else []))
    if isinstance(scheduler, lr_scheduler.CosineAnnealingLR):
        assert [path for path, _ in remarks] == ([("args", "T_max")] if scheduler.T_max != num_steps else [])
    else:
        assert [path for path, _ in remarks] == ([()] if len(used) == 1 else [])


@no_optimizer_steps
@pytest.mark.parametrize(
    ("lowest_at", "then"), [(5, "rises again after that"), (12, "does not come that far"), (10, None)]
)
def test_a_cosine_that_ends_elsewhere_than_the_run_is_remarked_on(lowest_at, then):
    remarks = remarks_on(lr_scheduler.CosineAnnealingLR(optimizer_of(), lowest_at), 10, "epoch")

    said = f"the lowest learning rate is at epoch {lowest_at}; this run of 10 epochs {then}"
    assert remarks == ([] if then is None else [(("args", "T_max"), said)])


@no_optimizer_steps
def test_a_schedule_that_is_too_long_to_try_out_is_left_to_itself(monkeypatch):
    monkeypatch.setattr("trainer.schedule.MAX_STEPS_AHEAD", 10)

    assert remarks_on(lr_scheduler.StepLR(optimizer_of(), 100), 12, "step") == []
    assert len(remarks_on(lr_scheduler.StepLR(optimizer_of(), 100), 11, "step")) == 1


def test_no_schedule_changes_nothing_and_has_nothing_to_save():
    optimizer, schedule = optimizer_of(), NoSchedule()
    before = rates(optimizer)

    schedule.load_state_dict(schedule.state_dict())
    schedule.replay(3, 9)

    assert trained(optimizer, schedule, 2, 2) == [before] * 4
    assert schedule.state_dict() == {}


def test_warm_up_and_cosine_of_a_config_are_the_formula(small_config):
    inner = [
        {"type": "LinearLR", "args": {"start_factor": 0.25, "total_iters": 4}},
        {"type": "CosineAnnealingLR", "args": {"T_max": 10}},
    ]
    args = {"schedulers": inner, "milestones": [4]}
    config = ConfigParser(small_config(lr_scheduler={"type": "SequentialLR", "args": args, "interval": "step"}))
    optimizer = config.init_obj("optimizer", params=[torch.nn.Parameter(torch.zeros(1))])
    schedule = config.init_schedule(optimizer, has_validation=True)

    seen = [lr for [(lr, _)] in trained(optimizer, schedule, num_epochs=7, steps_per_epoch=2)]

    warm_up = [0.05 * (0.25 + 0.75 * step / 4) for step in range(4)]
    cosine = [0.05 * (1 + math.cos(math.pi * step / 10)) / 2 for step in range(10)]
    assert seen == pytest.approx(warm_up + cosine, rel=1e-9)


def test_one_cycle_of_a_config_learns_its_length_from_the_data(small_config):
    spec = {"type": "OneCycleLR", "interval": "step"}
    config = ConfigParser(small_config(lr_scheduler=spec))
    config.offer(epochs=3, steps_per_epoch=8, max_lr=config.learning_rate)
    optimizer = config.init_obj("optimizer", params=[torch.nn.Parameter(torch.zeros(1))])

    seen = trained(optimizer, config.init_schedule(optimizer, has_validation=True), 3, 8)

    lrs = [lr for [(lr, _)] in seen]
    assert max(lrs) == pytest.approx(0.05, rel=0.05)  # the learning rate of the optimizer
    assert lrs[-1] == min(lrs)  # the cycle ends with the last step


@pytest.mark.parametrize(
    ("monitor", "has_validation", "watched"),
    [
        ("max val_accuracy", True, "val_accuracy"),
        ("min train_loss", True, "train_loss"),
        ("off", True, "val_loss"),
        ("off", False, "train_loss"),
    ],
)
def test_plateau_of_a_config_watches_what_the_monitor_does_or_else_the_loss(
    small_config, monitor, has_validation, watched
):
    spec = small_config(lr_scheduler="ReduceLROnPlateau")
    config = ConfigParser(spec | {"trainer": spec["trainer"] | {"monitor": monitor}})

    schedule = config.init_schedule(optimizer_of(), has_validation=has_validation)

    assert schedule.watched == watched
    assert schedule.by_score
