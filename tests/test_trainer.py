"""trainer.py: an epoch against a plain loop, batches against the loader's, steps against one large batch."""

import copy
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from base.training_parts import Learner, RunContext, TrainerOptions
from data_loader.dataset import ImageTensors
from data_loader.parts import ImageDataLoader, Parts, Pixels
from model.loss import Criterion, cross_entropy
from model.metric import MeanOverSamples, MetricSet, accuracy
from trainer.schedule import NoSchedule, Schedule
from trainer.trainer import Trainer
from utils.errors import DataError
from utils.seed import seed_for

MEAN, STD, SEED = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3), 11


class Loader(ImageDataLoader):
    """30 images of 3 classes, of which none is set apart; its last batch is often a small one."""

    def __init__(self, num_images=30, validation=None, **options):
        chance = np.random.default_rng(0)
        images = torch.from_numpy(chance.integers(0, 256, (num_images, 3, 6, 6), dtype=np.uint8))
        images[:, 0, 0, 0] = torch.arange(num_images)  # tells which image it is
        train = ImageTensors(images, torch.arange(num_images) % 3, ["a", "b", "c"], name="train")
        options = {"batch_size": 8, "seed": SEED, "validation_split": 0} | options
        super().__init__(Parts("x", train, validation), Pixels([], [], MEAN, STD), training=True, **options)


def perceptron(dropout=0.0):
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(108, 16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 3))


def convolutions(dropout=0.3):
    torch.manual_seed(1)
    convolution = nn.Conv2d(3, 4, 3, padding=1)
    return nn.Sequential(
        convolution, nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(dropout), nn.Flatten(), nn.Linear(144, 3)
    )


class Shown:
    """Stands for the recorder: keeps the images that it is shown, and has the losses of three epochs on record."""

    def __init__(self):
        self.run = SimpleNamespace(models=Path("nowhere"))
        self.history = SimpleNamespace(frame=pd.DataFrame({"epoch": [1, 2, 3], "train/loss": [3.0, 2.0, 1.0]}))
        self.shown = []

    def train_batch(self, images_NCHW, targets, classes):
        self.shown.append(("train", images_NCHW, targets.tolist()))

    def validation(self, epoch, judged, classes):
        self.shown.append((f"valid {epoch}", judged.first_NCHW, judged.true_N.tolist()))


def sgd(model, lr=0.1):
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=1e-3)


def make(
    model, loader=None, *, kind=Trainer, optimizer=None, criterion=cross_entropy, schedule=None, valid=None, **options
):
    layout = options.pop("layout", torch.contiguous_format)
    metrics = [MetricSet([MeanOverSamples(accuracy, "accuracy")]) for _ in range(2)]
    optimizer = optimizer or sgd(model)
    learner = Learner(model, Criterion(criterion), *metrics, optimizer, schedule or NoSchedule())
    context = RunContext(Shown(), [torch.device("cpu")], SEED, layout)
    options = TrainerOptions(**{"epochs": 3, "monitor": "min train_loss"} | options)
    return kind(learner, (loader or Loader(), valid), options, context)


def weights_of(model):
    return torch.cat([value.flatten().double() for value in model.state_dict().values()])


def plain_loop(model, num_epochs, normalise, batch_size=8):
    """Training as a tutorial writes it."""
    loader, optimizer, step = Loader(batch_size=batch_size), sgd(model), 0
    for epoch in range(num_epochs):
        loader.set_epoch(epoch)
        for images, targets in loader:
            torch.manual_seed(seed_for(SEED, "step", step))
            loss = F.cross_entropy(model(normalise(images)), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
    return model


def in_the_same_order(images):
    shift, scale = 255 * torch.tensor(MEAN).view(1, 3, 1, 1), 1 / (255 * torch.tensor(STD).view(1, 3, 1, 1))
    return (images.float() - shift) * scale


def as_written(images):
    return (images.float() / 255 - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)


@pytest.mark.parametrize("build", [perceptron, convolutions])
def test_two_epochs_are_a_plain_loop_bit_for_bit(build):
    model = build()
    expected = plain_loop(copy.deepcopy(model), 2, in_the_same_order).train()
    trainer = make(model)

    for epoch in (1, 2):
        trainer._train_epoch(epoch)

    assert torch.equal(weights_of(model), weights_of(expected))
    assert trainer.steps_done == 2 * 4


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_layout_and_the_order_of_normalising_change_no_more_than_roundings(layout):
    model = convolutions(dropout=0.0)  # it draws in the order of memory
    expected = plain_loop(copy.deepcopy(model), 1, as_written)
    trainer = make(model, layout=layout)

    trainer._train_epoch(1)

    # float32 has 7 digits, and sums of 144 products are taken in another order.
    assert torch.allclose(weights_of(model), weights_of(expected), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weights", [None, [1.0, 0.5, 3.0]])
def test_loss_and_metrics_of_an_epoch_are_means_over_its_images(weights):
    model = perceptron()
    criterion = nn.CrossEntropyLoss(None if weights is None else torch.tensor(weights))
    # With a learning rate of 0 one pass over all images at once says what must come out.
    trainer = make(model, optimizer=sgd(model, lr=0.0), criterion=criterion)

    scores = trainer._train_epoch(1)

    ((images, targets),) = Loader(batch_size=30)
    logits = model(as_written(images)).detach().double()
    weight = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    assert scores["loss"] == pytest.approx(float(F.cross_entropy(logits, targets, weight)), rel=1e-6)
    assert scores["accuracy"] == pytest.approx(float((logits.argmax(1) == targets).double().mean()), abs=1e-12)
    assert list(scores) == ["loss", "accuracy"]


class Watching(Trainer):
    """Notes which images each batch of the loss holds."""

    def _loss(self, inputs_NCHW, targets_N):
        numbers = (inputs_NCHW[:, 0, 0, 0] * STD[0] + MEAN[0]) * 255
        self.__dict__.setdefault("batches", []).append(numbers.round().int().tolist())
        return super()._loss(inputs_NCHW, targets_N)


def numbers_of_pass(number, **options):
    loader = Loader(**options)
    loader.set_epoch(number)
    return [images[:, 0, 0, 0].tolist() for images, _ in loader]


@given(len_epoch=st.integers(1, 11), batch_size=st.sampled_from([7, 8, 15, 30]), drop_last=st.booleans())
@settings(max_examples=15, derandomize=True, deadline=None)
def test_an_epoch_of_len_epoch_batches_has_exactly_so_many_and_passes_follow_without_a_seam(
    len_epoch, batch_size, drop_last
):
    options = {"batch_size": batch_size, "drop_last": drop_last}
    trainer = make(perceptron(), Loader(**options), kind=Watching, len_epoch=len_epoch)
    resumed = make(perceptron(), Loader(**options), kind=Watching, len_epoch=len_epoch)

    for epoch in (1, 2, 3):
        trainer._train_epoch(epoch)
    resumed._train_epoch(3)

    num_passes = math.ceil(3 * len_epoch / len(trainer.train_loader))
    passes = [batch for number in range(num_passes) for batch in numbers_of_pass(number, **options)]
    assert trainer.batches == passes[: 3 * len_epoch]
    assert resumed.batches == passes[2 * len_epoch : 3 * len_epoch]
    assert trainer.steps_done == 3 * len_epoch


@pytest.mark.parametrize("persistent_workers", [True, False])
def test_workers_that_are_ahead_of_a_short_epoch_change_nothing(persistent_workers):
    loader = Loader(num_workers=2, persistent_workers=persistent_workers)
    trainer = make(perceptron(), loader, kind=Watching, len_epoch=3)

    for epoch in (1, 2, 3):
        trainer._train_epoch(epoch)
    loader.close()

    assert trainer.batches == [batch for number in range(3) for batch in numbers_of_pass(number)][:9]


def test_without_len_epoch_every_epoch_is_one_pass_in_a_new_order():
    trainer = make(perceptron(), kind=Watching)

    for epoch in (1, 2):
        trainer._train_epoch(epoch)

    first, second = np.concatenate(trainer.batches[:4]).tolist(), np.concatenate(trainer.batches[4:]).tolist()
    assert sorted(first) == sorted(second) == list(range(30))
    assert first != second


@given(batch_size=st.sampled_from([1, 2, 4, 5, 7]), accumulate_steps=st.integers(1, 5), weighted=st.booleans())
@settings(max_examples=25, derandomize=True, deadline=None)
def test_accumulated_batches_are_one_batch_so_many_times_as_large(batch_size, accumulate_steps, weighted):
    criterion = nn.CrossEntropyLoss(torch.tensor([1.0, 0.25, 4.0])) if weighted else cross_entropy
    pieces, whole = perceptron(), perceptron()
    in_pieces = make(pieces, Loader(batch_size=batch_size), criterion=criterion, accumulate_steps=accumulate_steps)
    at_once = make(whole, Loader(batch_size=batch_size * accumulate_steps), criterion=criterion)

    first, second = in_pieces._train_epoch(1), at_once._train_epoch(1)

    # The same products in another order of summation; the last group is smaller in both.
    assert torch.allclose(weights_of(pieces), weights_of(whole), rtol=1e-5, atol=1e-6)
    assert in_pieces.steps_done == at_once.steps_done == math.ceil(30 / (batch_size * accumulate_steps))
    assert first["loss"] == pytest.approx(second["loss"], rel=1e-5)
    assert first["accuracy"] == pytest.approx(second["accuracy"], abs=1e-12)


def test_a_group_never_reaches_into_the_next_epoch():
    trainer = make(perceptron(), len_epoch=5, accumulate_steps=3)

    for epoch in (1, 2):
        trainer._train_epoch(epoch)

    assert trainer.steps_done == 4
    assert trainer.steps_per_epoch == 2


def test_batch_of_ignored_targets_in_a_group_adds_nothing_and_breaks_nothing():
    criterion = nn.CrossEntropyLoss(ignore_index=2)
    pieces, whole = perceptron(), perceptron()

    make(pieces, Loader(batch_size=1), criterion=criterion, accumulate_steps=30)._train_epoch(1)
    make(whole, Loader(batch_size=30), criterion=criterion)._train_epoch(1)

    assert torch.allclose(weights_of(pieces), weights_of(whole), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("max_grad_norm", [0.01, 1e6])
def test_gradient_longer_than_the_limit_is_shortened_to_it_and_a_shorter_one_is_left(max_grad_norm):
    model = perceptron()
    before, ((images, targets),) = weights_of(model), Loader(batch_size=30)
    reference = copy.deepcopy(model)
    F.cross_entropy(reference(as_written(images)), targets).backward()
    gradient = torch.cat([parameter.grad.flatten().double() for parameter in reference.parameters()])
    plain = torch.optim.SGD(model.parameters(), lr=1.0)

    make(model, Loader(batch_size=30), optimizer=plain, max_grad_norm=max_grad_norm)._train_epoch(1)

    expected = gradient * min(1.0, max_grad_norm / float(gradient.norm()))
    assert torch.allclose(before - weights_of(model), expected, atol=1e-6)
    assert float(gradient.norm()) > 0.01


def test_clipping_sees_the_gradient_of_the_whole_group():
    pieces, whole = perceptron(), perceptron()

    make(pieces, Loader(batch_size=10), accumulate_steps=3, max_grad_norm=0.05)._train_epoch(1)
    make(whole, Loader(batch_size=30), max_grad_norm=0.05)._train_epoch(1)

    assert torch.allclose(weights_of(pieces), weights_of(whole), rtol=1e-5, atol=1e-6)


def test_dropout_is_drawn_by_the_number_of_the_step_whatever_was_drawn_before():
    masks = []
    model = perceptron(dropout=0.5)
    model[3].register_forward_hook(lambda module, inputs, output: masks.append(F.dropout(torch.ones(8), 0.5)))
    undisturbed, disturbed = perceptron(dropout=0.5), perceptron(dropout=0.5)

    make(undisturbed)._train_epoch(1)
    torch.manual_seed(999)
    torch.rand(17)
    make(disturbed, Loader(num_workers=1))._train_epoch(1)
    make(model)._train_epoch(1)

    assert torch.equal(weights_of(undisturbed), weights_of(disturbed))
    assert len({str(mask) for mask in masks}) == 4


def test_a_step_of_a_resumed_run_draws_as_the_uninterrupted_one():
    whole, halves = perceptron(dropout=0.5), perceptron(dropout=0.5)
    first, trainer = make(halves), make(whole)
    for epoch in (1, 2):
        trainer._train_epoch(epoch)

    first._train_epoch(1)
    torch.rand(5)
    second = make(halves, optimizer=first.learner.optimizer)
    second.steps_done = first.steps_done
    second._train_epoch(2)

    assert torch.equal(weights_of(whole), weights_of(halves))


def test_schedule_by_step_is_stepped_after_each_step_of_the_optimizer():
    model, rates = perceptron(), []
    optimizer = sgd(model)
    optimizer.register_step_pre_hook(lambda *_: rates.append(optimizer.param_groups[0]["lr"]))
    schedule = Schedule(torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5), "step", "train_loss")

    make(model, optimizer=optimizer, schedule=schedule, accumulate_steps=2)._train_epoch(1)

    assert rates == [0.1, 0.05]


def test_batch_norm_learns_from_training_and_not_from_validation():
    model = convolutions()
    trainer = make(model, valid=Loader(num_images=12, shuffle=False))

    trainer._train_epoch(1)
    seen = int(model[1].num_batches_tracked)
    before = weights_of(model)
    trainer._valid_epoch(1)

    assert seen == 4
    assert torch.equal(weights_of(model), before)
    trainer._train_epoch(2)
    assert int(model[1].num_batches_tracked) == 8


def test_validation_scores_are_those_of_one_pass_over_all_its_images():
    model = perceptron()
    valid = Loader(num_images=21, batch_size=8, shuffle=False)
    trainer = make(model, valid=valid)

    scores = trainer._valid_epoch(1)

    ((images, targets),) = Loader(num_images=21, batch_size=21, shuffle=False)
    logits = model(as_written(images)).detach()
    assert scores["loss"] == pytest.approx(float(F.cross_entropy(logits.double(), targets)), rel=1e-6)
    assert scores["accuracy"] == pytest.approx(float((logits.argmax(1) == targets).double().mean()), abs=1e-12)


def test_without_validation_images_there_are_no_scores_and_no_warnings():
    trainer = make(perceptron())

    assert trainer._valid_epoch(1) == {}
    assert trainer.closing_warnings() == []


def test_network_that_gives_everything_one_class_is_warned_of_in_the_end():
    model = perceptron()
    nn.init.zeros_(model[4].weight)
    with torch.no_grad():
        model[4].bias.copy_(torch.tensor([0.0, 1.0, 0.0]))
    trainer = make(model, valid=Loader())

    trainer._valid_epoch(1)

    assert trainer.closing_warnings()[-1] == "every image was given class b"


def test_first_batch_of_the_run_is_shown_and_each_validation():
    trainer = make(perceptron(), valid=Loader(shuffle=False))

    for epoch in (1, 2):
        trainer._train_epoch(epoch)
        trainer._valid_epoch(epoch)

    parts = [part for part, *_ in trainer.recorder.shown]
    images, targets = next(iter(Loader()))
    assert parts == ["train", "valid 1", "valid 2"]
    assert torch.equal(trainer.recorder.shown[0][1], images)  # there and back: uint8 again
    assert trainer.recorder.shown[0][2] == targets.tolist()
    assert trainer.recorder.shown[1][1][:, 0, 0, 0].tolist() == list(range(8))


def test_what_is_shown_leaves_the_generators_and_so_the_run_as_they_were(monkeypatch):
    shown, hidden = make(convolutions()), make(convolutions())
    monkeypatch.setattr(hidden, "_show_first", lambda batch: None)

    states = []
    for trainer in (shown, hidden):
        torch.manual_seed(5)
        trainer._train_epoch(1)
        states.append((torch.get_rng_state(), weights_of(trainer.learner.model)))

    assert torch.equal(states[0][0], states[1][0])
    assert all(map(torch.equal, states[0][1], states[1][1]))
    assert [part for part, *_ in shown.recorder.shown] == ["train"]


@pytest.mark.parametrize(
    ("options", "len_epoch", "expected"),
    [({}, None, 30), ({"drop_last": True}, None, 24), ({}, 3, 24), ({}, 10, 80)],
)
def test_images_of_an_epoch_are_counted_for_the_speed(options, len_epoch, expected):
    assert make(perceptron(), Loader(**options), len_epoch=len_epoch).images_trained == expected


def test_image_that_cannot_be_read_stops_the_epoch_with_its_error():
    loader = Loader()

    def broken(indices):
        raise DataError("cat/1.png: truncated image")

    loader.samples.get_batch = broken

    with pytest.raises(DataError, match=r"cat/1\.png: truncated image"):
        make(perceptron(), loader)._train_epoch(1)
