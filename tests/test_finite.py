"""Numbers that are not finite stop a run before they become weights; large ones that are finite do not."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from data_loader.dataset import ImageTensors
from tests.test_trainer import Loader, make, perceptron, sgd, weights_of
from trainer.finite import FiniteGuard, gradient_norm, unfinite_tensors
from utils.errors import TrainingError

CPU = torch.device("cpu")
NAN, INF = math.nan, math.inf


def looked(losses, norm):
    """What is said of a step, or None where nothing is."""
    said = []

    def describe(facts, what):
        said.append((facts, what))
        return what

    guard = FiniteGuard(CPU, describe)
    raised = None
    try:
        guard.look([torch.tensor(loss) for loss in losses], torch.tensor(norm), {"step": 3})
    except TrainingError as error:
        raised = str(error)
    assert said == ([] if raised is None else [({"step": 3}, raised)])
    return raised


# --- one step ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("losses", "norm", "what"),
    [
        ([NAN], 1.0, "the loss is nan"),
        ([INF], 1.0, "the loss is inf"),
        ([-INF], 1.0, "the loss is -inf"),
        ([0.5, NAN, 0.25], 1.0, "the loss is nan"),
        ([NAN], NAN, "the loss is nan"),
        ([0.5], INF, "the gradient's norm is inf, at a loss of 0.5"),
        ([0.5, 0.25], NAN, "the gradient's norm is nan, at a loss of 0.25"),
        ([0.5], 3e38, None),
        ([3e38, -3e38], 0.0, None),
        ([0.0], 0.0, None),
    ],
)
def test_a_loss_or_a_norm_that_is_not_finite_is_told_and_a_large_one_is_not(losses, norm, what):
    assert looked(losses, norm) == what


def test_a_loss_in_half_precision_that_has_overflowed_is_seen():
    loss = torch.tensor(60000.0, dtype=torch.float16) * 2

    with pytest.raises(TrainingError, match="the loss is inf"):
        FiniteGuard(CPU, lambda facts, what: what).look([loss], torch.tensor(1.0), {})


@pytest.mark.parametrize("max_norm", [1.0, 1e6])
def test_the_norm_is_that_of_all_gradients_before_they_are_scaled(max_norm):
    model = nn.Linear(3, 2)
    model.weight.grad, model.bias.grad = torch.full((2, 3), 2.0), torch.full((2,), 5.0)
    expected = math.sqrt(6 * 4 + 2 * 25)

    norm = gradient_norm(list(model.parameters()), max_norm)

    left = math.sqrt(float(model.weight.grad.square().sum() + model.bias.grad.square().sum()))
    assert float(norm) == pytest.approx(expected, rel=1e-6)
    assert left == pytest.approx(min(expected, max_norm), rel=1e-5)


@pytest.mark.parametrize("max_norm", [None, 1.0])
@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_one_number_anywhere_in_the_gradient_makes_the_norm_not_finite(max_norm, bad):
    model = nn.Linear(3, 2)
    model.weight.grad, model.bias.grad = torch.ones(2, 3), torch.ones(2)
    model.weight.grad[1, 2] = bad

    assert not math.isfinite(gradient_norm(list(model.parameters()), max_norm))


@pytest.mark.parametrize("bad", [[INF, -INF], [NAN, 1.0], [3e38, 3e38]])
def test_numbers_whose_sum_is_none_are_told_by_their_norm(bad):
    """Those that are finite each are so large that the norm in this precision is not."""
    weight = nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor(bad)

    assert not math.isfinite(gradient_norm([weight], None))


def test_parameters_without_a_gradient_are_no_obstacle():
    model = nn.Linear(3, 2)
    model.bias.grad = torch.tensor([3.0, 4.0])

    assert float(gradient_norm(list(model.parameters()), 100.0)) == 5.0
    assert math.isfinite(gradient_norm(list(model.parameters()), None))


# --- a whole state -----------------------------------------------------------------------------------------------


def normalised():
    """A model with buffers, and an optimizer with a state."""
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    optimizer = torch.optim.Adam(model.parameters(), amsgrad=True)
    model(torch.arange(8.0).view(4, 2)).square().sum().backward()
    optimizer.step()
    return model, optimizer


def test_a_state_of_finite_numbers_has_none():
    model, optimizer = normalised()
    with torch.no_grad():
        model[0].weight.fill_(3e38)

    assert unfinite_tensors(model, optimizer) == []
    assert unfinite_tensors(nn.ReLU(), sgd(nn.Linear(1, 1))) == []


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("name", ["0.weight", "1.bias", "1.running_mean", "1.running_var"])
def test_weights_and_buffers_of_batch_norm_are_named(name, bad):
    model, optimizer = normalised()
    model.state_dict()[name].view(-1)[-1] = bad

    assert unfinite_tensors(model, optimizer) == [f"model.{name}"]


@pytest.mark.parametrize(("index", "name"), [(0, "exp_avg"), (3, "exp_avg_sq"), (1, "max_exp_avg_sq")])
def test_states_of_the_optimizer_are_named(index, name):
    model, optimizer = normalised()
    list(optimizer.state.values())[index][name].view(-1)[0] = NAN

    assert unfinite_tensors(model, optimizer) == [f"optimizer.{index}.{name}"]


def test_tensors_of_whole_numbers_and_empty_ones_are_passed_over():
    model = nn.Module()
    model.register_buffer("count", torch.tensor(7))
    model.register_buffer("nothing", torch.empty(0))
    model.register_buffer("mixed", torch.tensor([1.0, NAN], dtype=torch.float64))

    assert unfinite_tensors(model, sgd(nn.Linear(1, 1))) == ["model.mixed"]


# --- in the trainer ----------------------------------------------------------------------------------------------


class Scaled(nn.Module):
    """A perceptron whose outputs are what a test makes of them."""

    def __init__(self, change):
        super().__init__()
        self.inner, self.change, self.num_calls = perceptron(), change, 0

    def forward(self, images_NCHW):
        self.num_calls += 1
        return self.change(self.inner(images_NCHW), self.num_calls)


class InfiniteGradient(torch.autograd.Function):
    """Changes nothing on the way forth, and all on the way back."""

    @staticmethod
    def forward(ctx, logits):
        return logits.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * INF


def at_call(number, change):
    return lambda logits, call: change(logits) if call == number else logits


@pytest.mark.parametrize(
    ("change", "options", "what"),
    [
        (lambda logits: logits * NAN, {}, "the loss is nan"),
        (lambda logits: logits * NAN, {"max_grad_norm": 1.0}, "the loss is nan"),
        (InfiniteGradient.apply, {}, "the gradient's norm is"),
        (InfiniteGradient.apply, {"max_grad_norm": 1.0}, "the gradient's norm is"),
    ],
)
def test_a_step_that_is_not_finite_ends_the_run_before_the_optimizer_takes_it(change, options, what):
    trainer = make(Scaled(at_call(3, change)), **options)
    expected = make(Scaled(lambda logits, call: logits), len_epoch=2, **options)
    expected._train_epoch(1)

    with pytest.raises(TrainingError) as caught:
        trainer._train_epoch(1)

    first, images, *_ = str(caught.value).splitlines()
    loader = Loader()
    third = loader.names_of_batch(0, 2)
    assert first.startswith(f"step 3 (epoch 1): {what}")
    assert "at a learning rate of 0.1; nothing of it is saved" in first
    assert images == f"  its images: {', '.join(third[:4])} and 4 more"
    assert str(caught.value).endswith("python -m tools.replay -r nowhere/last.pth --step 3")
    assert trainer.steps_done == 2
    assert torch.equal(weights_of(trainer.learner.model), weights_of(expected.learner.model))


def test_large_gradients_that_are_finite_pass_and_are_shortened():
    trainer = make(Scaled(lambda logits, call: logits * 1e12), max_grad_norm=1.0)

    trainer._train_epoch(1)

    assert trainer.steps_done == 4
    assert torch.isfinite(weights_of(trainer.learner.model)).all()


def test_ignored_targets_have_a_loss_of_nan_and_end_nothing():
    criterion = nn.CrossEntropyLoss(ignore_index=1)
    loader = Loader(shuffle=False, batch_size=1)  # every third batch has nothing but an ignored target
    assert math.isnan(criterion(torch.zeros(1, 3), torch.tensor([1])))
    trainer = make(perceptron(), loader, criterion=criterion)

    scores = trainer._train_epoch(1)

    assert trainer.steps_done == 30
    assert math.isfinite(scores["loss"])


def test_a_nan_that_is_no_ignored_target_ends_the_run_beside_one_that_is():
    criterion = nn.CrossEntropyLoss(ignore_index=1)
    model = Scaled(at_call(3, lambda logits: logits * NAN))
    trainer = make(model, Loader(shuffle=False, batch_size=1), criterion=criterion)

    with pytest.raises(TrainingError, match=r"^step 3 "):
        trainer._train_epoch(1)


def saved_after(change, model=None):
    """Whether a state is accepted for a checkpoint after it was changed."""
    trainer = make(model if model is not None else nn.Sequential(nn.Flatten(), nn.Linear(108, 3), nn.BatchNorm1d(3)))
    trainer._train_epoch(1)
    change(trainer.learner)
    trainer._require_finite()


def test_a_state_that_is_finite_may_be_saved():
    saved_after(lambda learner: None)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda learner: learner.model[2].running_var.fill_(INF), "model.2.running_var"),
        (lambda learner: learner.model[1].weight.data.fill_(NAN), "model.1.weight"),
        (
            lambda learner: next(iter(learner.optimizer.state.values()))["momentum_buffer"].fill_(NAN),
            "optimizer.0.momentum_buffer",
        ),
    ],
)
def test_a_state_that_is_not_is_refused_by_name_and_step(change, name):
    with pytest.raises(TrainingError) as caught:
        saved_after(change)

    assert str(caught.value) == (
        f"after step 4 (epoch 1): {name} holds a number that is not finite; this state is not saved"
    )


class Masked(nn.Module):
    """Has a mask of infinities, as attention has, and one more buffer."""

    def __init__(self):
        super().__init__()
        self.layers = perceptron()
        self.register_buffer("mask", torch.tensor([0.0, -INF]))
        self.register_buffer("other", torch.zeros(2))

    def forward(self, images_NCHW):
        return self.layers(images_NCHW)


def test_buffers_that_were_infinite_from_the_start_are_exempt_and_no_others():
    saved_after(lambda learner: None, Masked())

    with pytest.raises(TrainingError, match=r": model\.other holds"):
        saved_after(lambda learner: learner.model.other.fill_(INF), Masked())


def test_images_that_hold_a_nan_are_seen_in_the_step_that_reads_them():
    images = torch.zeros(30, 3, 6, 6)
    images[17] = NAN
    loader = Loader(shuffle=False)
    loader.dataset.dataset = ImageTensors(images, torch.arange(30) % 3, ["a", "b", "c"], name="train")

    with pytest.raises(TrainingError) as caught:
        make(perceptron(), loader)._train_epoch(1)

    assert str(caught.value).startswith("step 3 (epoch 1): the loss is nan")
    assert "train/16, train/17, train/18, train/19 and 4 more" in str(caught.value)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_norm_is_that_of_all_numbers_in_a_row(layout, dtype):
    convolution = nn.Conv2d(3, 4, 3).to(dtype=dtype, memory_format=layout)
    for parameter in convolution.parameters():
        parameter.grad = torch.randn_like(parameter)

    norm = gradient_norm(list(convolution.parameters()), 1e9)

    numbers = np.concatenate([parameter.grad.numpy().ravel() for parameter in convolution.parameters()])
    assert norm.item() == pytest.approx(np.sqrt((numbers.astype(np.float64) ** 2).sum()), rel=1e-6)


@pytest.mark.parametrize(("number", "norm"), [(NAN, "nan"), (INF, "inf"), (-INF, "inf"), (1e15, "1e+15")])
@pytest.mark.parametrize("max_norm", [None, 1e30])
def test_one_number_among_many_decides_the_norm(number, norm, max_norm):
    weight = nn.Parameter(torch.zeros(7, 5))
    weight.grad = torch.zeros(7, 5)
    weight.grad[3, 2] = number

    assert f"{gradient_norm([weight], max_norm).item():.6g}" == norm
