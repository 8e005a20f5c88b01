"""A checked config builds what it describes, and knows what is odd about its schedule in a run of some length."""

import re

import pytest
import torch
from torch import nn, optim

from model.loss import Criterion
from parse_config import ConfigParser
from tests.whole_config import in_file, whole
from trainer.schedule import NoSchedule
from utils.errors import ConfigError


def parameters():
    return [nn.Parameter(torch.ones(2, 2))]


# --- what is built -----------------------------------------------------------------------------------------------


def test_sections_are_built_with_what_they_are_given():
    config = ConfigParser(whole())
    model = nn.Linear(2, 2)

    optimizer = config.init_obj("optimizer", params=model.parameters())
    schedule = config.init_schedule(optimizer, has_validation=True)

    assert isinstance(optimizer, optim.SGD)
    assert (optimizer.defaults["lr"], optimizer.defaults["momentum"]) == (0.1, 0.9)
    assert isinstance(schedule.scheduler, optim.lr_scheduler.StepLR)
    assert (schedule.scheduler.optimizer, schedule.interval) == (optimizer, "epoch")


def test_without_a_schedule_the_learning_rate_stays():
    config = ConfigParser(whole(lr_scheduler=None))

    assert isinstance(config.init_schedule(None, has_validation=True), NoSchedule)


@pytest.mark.parametrize(
    ("monitor", "has_validation", "watched"),
    [
        ("max val_accuracy", True, "val_accuracy"),
        ("min train_loss", True, "train_loss"),
        ("off", True, "val_loss"),
        ("off", False, "train_loss"),
    ],
)
def test_reduce_on_plateau_watches_what_the_monitor_does_or_else_the_loss(monitor, has_validation, watched):
    config = ConfigParser(whole(lr_scheduler="ReduceLROnPlateau", trainer={"epochs": 1, "monitor": monitor}))
    optimizer = config.init_obj("optimizer", params=parameters())

    assert config.init_schedule(optimizer, has_validation=has_validation).watched == watched


@pytest.mark.parametrize("loss", ["cross_entropy", "CrossEntropyLoss", {"type": "CrossEntropyLoss", "args": {}}])
def test_a_loss_is_a_function_or_a_class_of_torch(loss):
    scores_NK, targets_N = torch.tensor([[1.0, 2.0], [0.5, 0.0]]), torch.tensor([0, 1])

    criterion = ConfigParser(whole(loss=loss)).init_criterion()

    assert isinstance(criterion, Criterion)
    torch.testing.assert_close(criterion(scores_NK, targets_N), nn.functional.cross_entropy(scores_NK, targets_N))


@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_a_loss_that_is_no_mean_is_refused(reduction):
    config = ConfigParser(whole(loss={"type": "CrossEntropyLoss", "args": {"reduction": reduction}}))

    with pytest.raises(ConfigError, match=f"^loss: .*reduction='{reduction}'"):
        config.init_criterion()


def test_metrics_have_their_names_and_their_values():
    metrics, notes = ConfigParser(whole()).init_metrics(num_classes=3)

    metrics.update(torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]]), torch.tensor([1, 2]))

    assert notes == []
    assert metrics.compute() == {"accuracy": 0.0, "top2": 0.5}


@pytest.mark.parametrize(("k", "is_cut"), [(2, False), (3, False), (4, True), (50, True)])
def test_a_metric_that_asks_for_more_classes_than_there_are_is_cut_with_a_note(k, is_cut):
    config = ConfigParser(whole(metrics=[{"type": "top_k_acc", "args": {"k": k}}]))

    _, notes = config.init_metrics(num_classes=3)

    assert notes == ([f"metric top_k_acc: k {k} cut to the 3 classes that there are"] if is_cut else [])


def test_a_metric_of_torchmetrics_is_told_the_number_of_classes():
    config = ConfigParser(whole(metrics=[{"type": "MulticlassF1Score", "args": {"average": "macro"}, "name": "f1"}]))

    metrics, _ = config.init_metrics(num_classes=2)
    metrics.update(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), torch.tensor([0, 0, 1, 1]))

    # Class 0: 2 of 3 right, both found, F1 = 4/5; class 1: 1 of 1 right, 1 of 2 found, F1 = 2/3.
    assert metrics.compute() == {"f1": pytest.approx((4 / 5 + 2 / 3) / 2, rel=1e-6)}


def test_classes_of_a_metric_that_contradict_the_data_are_refused():
    config = ConfigParser(whole(metrics=["accuracy", {"type": "MulticlassF1Score", "args": {"num_classes": 5}}]))

    with pytest.raises(ConfigError) as caught:
        config.init_metrics(num_classes=3)

    assert caught.value.path == "metrics.1.args.num_classes"
    assert caught.value.message == "5, yet the data has 3 classes; leave it out"


# --- the schedule and the length of the run ----------------------------------------------------------------------


def scheduled(type_name, interval="epoch", **args):
    return ConfigParser(in_file(whole(lr_scheduler={"type": type_name, "args": args, "interval": interval})))


@pytest.mark.parametrize(
    ("config", "num_steps", "said"),
    [
        (
            scheduled("StepLR", step_size=3),
            3,
            "lr_scheduler: StepLR never changes the learning rate in this run of 3 e",
        ),
        (
            scheduled("CosineAnnealingLR", T_max=9, interval="step"),
            4,
            "lr_scheduler.args.T_max: the lowest learning rate is at step 9; this run of 4 steps does not come",
        ),
    ],
)
def test_what_is_odd_about_the_schedule_is_told_with_its_line(config, num_steps, said):
    [remark] = config.remarks_on_schedule(num_steps)

    assert re.match(rf"config\.json:\d+:\d+: {re.escape(said)}", remark)
    assert remark.split("\n")[1].endswith(('"lr_scheduler": {', '"T_max": 9'))


@pytest.mark.parametrize(
    ("config", "num_steps"),
    [
        (scheduled("StepLR", step_size=3), 4),
        (scheduled("CosineAnnealingLR", T_max=9), 9),
        (scheduled("OneCycleLR", interval="step", max_lr=0.1, total_steps=12), 12),
        (scheduled("OneCycleLR", interval="step", max_lr=0.1, epochs=3, steps_per_epoch=4), 12),
        (ConfigParser(whole(lr_scheduler=None)), 1),
    ],
)
def test_of_a_schedule_that_fits_the_run_nothing_is_said(config, num_steps):
    assert config.remarks_on_schedule(num_steps) == []


@pytest.mark.parametrize("args", [{"total_steps": 12}, {"epochs": 3, "steps_per_epoch": 4}, {}])
def test_a_cycle_of_another_length_is_refused(args):
    config = scheduled("OneCycleLR", interval="step", max_lr=0.1, **args)

    with pytest.raises(ConfigError) as caught:
        config.remarks_on_schedule(13)

    assert caught.value.path == "lr_scheduler.args"
    assert caught.value.message.startswith(f"OneCycleLR is made for {12 if args else 0} steps, and this run has 13; ")


def test_trying_the_schedule_out_leaves_the_plan_as_it_was():
    config = scheduled("StepLR", step_size=1)

    config.remarks_on_schedule(5)

    optimizer = config.init_obj("optimizer", params=parameters())
    assert config.init_schedule(optimizer, has_validation=True).scheduler.last_epoch == 0
    assert optimizer.param_groups[0]["lr"] == 0.1
