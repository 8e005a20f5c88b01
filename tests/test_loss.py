"""Losses against numpy, and that weighted batches give the loss of the whole set."""

import functools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from model.loss import cross_entropy, loss_weight, nll_loss

NUM_CLASSES = 5
CLASS_WEIGHTS = torch.tensor([0.2, 3.0, 1.0, 0.5, 7.0], dtype=torch.float64)
CRITERIA = {
    "function": cross_entropy,
    "function with smoothing": functools.partial(cross_entropy, label_smoothing=0.1),
    "nll function": nll_loss,
    "plain": nn.CrossEntropyLoss(),
    "smoothing": nn.CrossEntropyLoss(label_smoothing=0.1),
    "class weights": nn.CrossEntropyLoss(weight=CLASS_WEIGHTS),
    "class weights and smoothing": nn.CrossEntropyLoss(weight=CLASS_WEIGHTS, label_smoothing=0.3),
    "ignored class": nn.CrossEntropyLoss(ignore_index=2),
    "ignored class and smoothing": nn.CrossEntropyLoss(ignore_index=2, label_smoothing=0.3),
    "ignored class and class weights": nn.CrossEntropyLoss(weight=CLASS_WEIGHTS, ignore_index=2),
    "all three": nn.CrossEntropyLoss(weight=CLASS_WEIGHTS, ignore_index=2, label_smoothing=0.3),
    "nll": nn.NLLLoss(),
    "nll with class weights": nn.NLLLoss(weight=CLASS_WEIGHTS),
    "nll with ignored class and class weights": nn.NLLLoss(weight=CLASS_WEIGHTS, ignore_index=0),
    "margin with class weights": nn.MultiMarginLoss(weight=CLASS_WEIGHTS),
}


def log_softmax(scores_NK):
    shifted = scores_NK - scores_NK.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def draw(batch_sizes, seed):
    generator = torch.Generator().manual_seed(seed)
    num_samples = sum(batch_sizes)
    outputs_NK = 3 * torch.randn(num_samples, NUM_CLASSES, generator=generator, dtype=torch.float64)
    return outputs_NK, torch.randint(NUM_CLASSES, (num_samples,), generator=generator)


def weighted_mean(criterion, outputs_NK, targets, batch_sizes):
    """What a training loop does; batches of weight 0 are left out, as the docstring says."""
    total, weights = 0.0, 0.0
    for output_NK, target in zip(outputs_NK.split(batch_sizes), targets.split(batch_sizes), strict=True):
        weight = float(loss_weight(criterion, target))
        if weight:
            total += criterion(output_NK, target).item() * weight
            weights += weight
    return total / weights if weights else math.nan


@pytest.mark.parametrize("criterion", CRITERIA.values(), ids=CRITERIA.keys())
@given(batch_sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6), seed=st.integers(0, 10**6))
@settings(derandomize=True, max_examples=15, deadline=None)
def test_weighted_batches_give_the_loss_of_the_whole_set(criterion, batch_sizes, seed):
    outputs_NK, targets_N = draw(batch_sizes, seed)

    value = weighted_mean(criterion, outputs_NK, targets_N, batch_sizes)

    expected = criterion(outputs_NK, targets_N).item()
    assert value == pytest.approx(expected, rel=1e-12, abs=1e-12, nan_ok=True)


def test_unweighted_batch_means_would_be_wrong():
    outputs_NK, targets_N = draw([9, 1], 0)
    batches = zip(outputs_NK.split([9, 1]), targets_N.split([9, 1]), strict=True)

    mean_of_means = sum(cross_entropy(*batch).item() for batch in batches) / 2

    assert abs(mean_of_means - cross_entropy(outputs_NK, targets_N).item()) > 1e-3


@pytest.mark.parametrize("weight", [None, CLASS_WEIGHTS], ids=["plain", "class weights"])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_mixed_targets_count_one_each(weight, label_smoothing):
    criterion = nn.CrossEntropyLoss(weight=weight, label_smoothing=label_smoothing)
    outputs_NK, _ = draw([8, 3], 1)
    targets_NK = draw([8, 3], 2)[0].softmax(dim=1)

    value = weighted_mean(criterion, outputs_NK, targets_NK, [8, 3])

    assert loss_weight(criterion, targets_NK) == 11
    assert value == pytest.approx(criterion(outputs_NK, targets_NK).item(), rel=1e-12)


def test_weight_with_smoothing_is_the_sum_of_the_targets_class_weights():
    criterion = CRITERIA["all three"]
    outputs_NK, targets_N = draw([40], 3)

    weight = loss_weight(criterion, targets_N).item()

    # The definition, in numpy: each class's share of a target times its weight, over the summed target weights.
    kept, class_weights = targets_N.numpy() != 2, CLASS_WEIGHTS.numpy()
    shares_NK = 0.7 * np.eye(NUM_CLASSES)[targets_N.numpy()] + 0.3 / NUM_CLASSES
    summed = -(shares_NK * class_weights * log_softmax(outputs_NK.numpy()))[kept].sum()
    assert weight == pytest.approx(class_weights[targets_N.numpy()[kept]].sum(), rel=1e-14)
    assert criterion(outputs_NK, targets_N).item() * weight == pytest.approx(summed, rel=1e-12)


def test_targets_of_minus_100_are_ignored_without_being_asked_for():
    criterion = nn.CrossEntropyLoss()
    outputs_NK, targets_N = draw([6, 3], 4)
    targets_N[[0, 1, 7]] = -100

    value = weighted_mean(criterion, outputs_NK, targets_N, [6, 3])

    assert loss_weight(criterion, targets_N) == 6
    assert value == pytest.approx(criterion(outputs_NK, targets_N).item(), rel=1e-12)


@pytest.mark.parametrize("name", ["ignored class", "all three"])
def test_batch_of_ignored_targets_has_weight_zero(name):
    assert loss_weight(CRITERIA[name], torch.full((4,), 2)) == 0


@pytest.mark.parametrize("name", ["function", "plain", "smoothing", "nll", "margin with class weights"])
def test_weight_is_the_number_of_samples_where_nothing_is_weighted(name):
    assert loss_weight(CRITERIA[name], torch.tensor([0, 1, 1])) == 3


@pytest.mark.parametrize("name", CRITERIA)
def test_weight_never_waits_for_the_device(name):
    # On the meta device whatever needs a value raises: an item(), an `if`, a boolean index.
    criterion = CRITERIA[name]
    if isinstance(criterion, nn.Module):
        criterion = type(criterion)(
            weight=None if criterion.weight is None else criterion.weight.to("meta"),
            **({} if name.startswith("margin") else {"ignore_index": criterion.ignore_index}),
        )

    weight = loss_weight(criterion, torch.zeros(4, dtype=torch.int64, device="meta"))

    assert weight == 4 if isinstance(weight, int) else weight.shape == ()


@pytest.mark.parametrize("reduction", ["sum", "none"])
@pytest.mark.parametrize("kind", [nn.CrossEntropyLoss, nn.MultiMarginLoss])
def test_a_criterion_that_is_no_mean_is_refused(kind, reduction):
    with pytest.raises(ValueError, match=f"reduction='{reduction}'.*reduction='mean'"):
        loss_weight(kind(reduction=reduction), torch.tensor([0, 1]))


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 1.0])
def test_cross_entropy_equals_numpys(label_smoothing):
    outputs_NK, targets_N = draw([20], 5)

    value = cross_entropy(outputs_NK, targets_N, label_smoothing=label_smoothing)

    shares_NK = (1 - label_smoothing) * np.eye(NUM_CLASSES)[targets_N.numpy()] + label_smoothing / NUM_CLASSES
    expected = -(shares_NK * log_softmax(outputs_NK.numpy())).sum(axis=1).mean()
    assert value.shape == ()
    assert value.item() == pytest.approx(expected, rel=1e-13)


def test_nll_loss_is_minus_the_targets_entry():
    outputs_NK = torch.tensor([[-1.0, -2.0], [-3.0, -5.0]])

    assert nll_loss(outputs_NK, torch.tensor([0, 1])).item() == 3.0


def test_equal_scores_cost_the_logarithm_of_the_number_of_classes():
    value = cross_entropy(torch.zeros(4, 10, dtype=torch.float64), torch.arange(4))

    assert value.item() == pytest.approx(math.log(10), rel=1e-14)


@pytest.mark.parametrize("function", [cross_entropy, nll_loss])
def test_gradient_flows(function):
    outputs_NK, targets_N = draw([4], 6)

    function(outputs_NK.requires_grad_(), targets_N).backward()

    assert outputs_NK.grad is not None
    assert outputs_NK.grad.any()
