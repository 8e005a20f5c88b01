"""Metrics against scikit-learn and by hand, over batches of uneven sizes."""

import functools
import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, top_k_accuracy_score
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score, MulticlassROC

from model.metric import MeanOverSamples, MetricSet, TorchMetric, accuracy, top_k_acc

NUM_CLASSES = 6
UNEVEN = {"batch_sizes": st.lists(st.integers(0, 9), min_size=1, max_size=8), "seed": st.integers(0, 10**6)}


def draw(batch_sizes, seed):
    """Scores without ties, and targets that agree with them about half the time."""
    generator = torch.Generator().manual_seed(seed)
    num_samples = sum(batch_sizes)
    ranks_NK = torch.rand(num_samples, NUM_CLASSES, generator=generator).argsort(dim=1)
    agree_N = torch.rand(num_samples, generator=generator) < 0.4
    targets_N = torch.randint(NUM_CLASSES, (num_samples,), generator=generator)
    return ranks_NK.float(), torch.where(agree_N, ranks_NK.argmax(dim=1), targets_N)


def feed(metric, outputs_NK, targets_N, batch_sizes):
    for batch in zip(outputs_NK.split(batch_sizes), targets_N.split(batch_sizes), strict=True):
        metric.update(*batch)
    return metric.compute()


@given(**UNEVEN)
@settings(derandomize=True, max_examples=50, deadline=None)
def test_accuracy_over_uneven_batches_is_scikit_learns(batch_sizes, seed):
    outputs_NK, targets_N = draw(batch_sizes, seed)

    value = feed(MeanOverSamples(accuracy, "accuracy"), outputs_NK, targets_N, batch_sizes)

    if sum(batch_sizes) == 0:
        assert math.isnan(value)
    else:
        # float64 sums of at most 72 terms.
        assert value == pytest.approx(accuracy_score(targets_N, outputs_NK.argmax(dim=1)), abs=1e-14)


@given(k=st.integers(1, NUM_CLASSES - 1), **UNEVEN)
@settings(derandomize=True, max_examples=50, deadline=None)
def test_top_k_over_uneven_batches_is_scikit_learns(k, batch_sizes, seed):
    batch_sizes = [*batch_sizes, 1]
    outputs_NK, targets_N = draw(batch_sizes, seed)

    value = feed(MeanOverSamples(functools.partial(top_k_acc, k=k), f"top_{k}"), outputs_NK, targets_N, batch_sizes)

    expected = top_k_accuracy_score(targets_N, outputs_NK, k=k, labels=range(NUM_CLASSES))
    assert value == pytest.approx(expected, abs=1e-14)


def test_a_short_last_batch_counts_as_what_it_is():
    metric = MeanOverSamples(accuracy, "accuracy")
    outputs_NK, targets_N = torch.eye(2)[torch.zeros(65, dtype=torch.int64)], torch.zeros(65, dtype=torch.int64)
    targets_N[64] = 1  # 64 right in one batch, 1 wrong in the next: not 0.5

    value = feed(metric, outputs_NK, targets_N, [64, 1])

    assert value == 64 / 65


def test_many_batches_lose_no_digits():
    metric = MeanOverSamples(accuracy, "accuracy")
    outputs_NK = torch.tensor([[1.0, 0.0]]).expand(3, 2)

    for _ in range(3000):
        metric.update(outputs_NK, torch.tensor([0, 1, 1]))

    # In float32 a third alone is off by 1e-8.
    assert metric.compute() == pytest.approx(1 / 3, abs=1e-13)


@pytest.mark.parametrize("k", [2, 3, 1000])
def test_top_k_at_or_above_the_number_of_classes_is_one(k):
    assert top_k_acc(torch.rand(4, 2), torch.tensor([0, 1, 0, 1]), k=k).item() == 1.0


def test_top_1_is_accuracy():
    outputs_NK, targets_N = draw([50], 0)

    assert top_k_acc(outputs_NK, targets_N, k=1) == accuracy(outputs_NK, targets_N)


@pytest.mark.parametrize("k", [0, -1])
def test_top_k_below_one_is_refused(k):
    with pytest.raises(ValueError, match=f"k must be 1 or more, received {k}"):
        top_k_acc(torch.rand(4, 2), torch.tensor([0, 1, 0, 1]), k=k)


@pytest.mark.parametrize("function", [accuracy, top_k_acc])
@pytest.mark.parametrize("target_shape", [(4, 4), (4, 1), (1,), (3,)])
def test_targets_that_would_broadcast_are_refused(function, target_shape):
    with pytest.raises(ValueError, match=r"received \(4, 4\) and"):
        function(torch.rand(4, 4), torch.zeros(target_shape, dtype=torch.int64))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_scores_of_any_precision_are_judged(dtype):
    outputs_NK, targets_N = draw([20], 1)

    value = accuracy(outputs_NK.to(dtype), targets_N)

    assert value.item() == accuracy_score(targets_N, outputs_NK.argmax(dim=1))


@pytest.mark.parametrize("function", [accuracy, top_k_acc])
def test_functions_and_accumulators_never_wait_for_the_device(function):
    # On the meta device whatever needs a value raises: an item(), an `if`, a boolean index.
    outputs_NK = torch.zeros(4, 5, device="meta")
    targets_N = torch.zeros(4, dtype=torch.int64, device="meta")
    metric = MeanOverSamples(function, "metric")

    metric.update(outputs_NK, targets_N)
    metric.update(outputs_NK, targets_N)

    assert function(outputs_NK, targets_N).shape == ()
    assert metric.total.device.type == "meta"
    assert metric.num_samples == 8


def test_sums_of_two_processes_add_up_to_one():
    outputs_NK, targets_N = draw([9, 4], 2)
    first, second = MeanOverSamples(accuracy, "accuracy"), MeanOverSamples(accuracy, "accuracy")
    first.update(outputs_NK[:9], targets_N[:9])
    second.update(outputs_NK[9:], targets_N[9:])

    value = (first.total + second.total).item() / (first.num_samples + second.num_samples)

    assert value == pytest.approx(accuracy_score(targets_N, outputs_NK.argmax(dim=1)), abs=1e-15)


@pytest.mark.parametrize("value", [0.25, torch.tensor(0.25), torch.tensor([0.25]), torch.tensor(0.25).half()])
def test_a_function_may_give_a_float_or_any_one_number(value):
    metric = MeanOverSamples(lambda output_NK, target_N: value, "metric")

    metric.update(torch.rand(3, 2), torch.zeros(3))

    assert metric.compute() == 0.25


def test_a_function_that_gives_one_value_a_sample_is_refused_by_name():
    metric = MeanOverSamples(lambda output_NK, target_N: target_N, "raw")

    with pytest.raises(ValueError, match="metric 'raw' gave 3 numbers"):
        metric.update(torch.rand(3, 2), torch.zeros(3))


def test_accumulators_keep_no_graph():
    metric = MeanOverSamples(lambda output_NK, target_N: output_NK.mean(), "mean score")

    metric.update(torch.rand(3, 2, requires_grad=True), torch.zeros(3))

    assert not metric.total.requires_grad


@given(**UNEVEN)
@settings(derandomize=True, max_examples=20, deadline=None)
def test_a_metric_of_torchmetrics_is_scikit_learns(batch_sizes, seed):
    batch_sizes = [*batch_sizes, 30]
    outputs_NK, targets_N = draw(batch_sizes, seed)

    value = feed(TorchMetric(MulticlassF1Score(NUM_CLASSES, average="macro"), "f1"), outputs_NK, targets_N, batch_sizes)

    # torchmetrics divides in float32, and leaves out classes that occur in neither, as labels=None does.
    assert value == pytest.approx(f1_score(targets_N, outputs_NK.argmax(dim=1), average="macro"), abs=1e-6)


def test_a_per_class_result_is_refused_with_the_cure():
    metric = TorchMetric(MulticlassAccuracy(3, average=None), "recall")
    metric.update(torch.eye(3), torch.arange(3))

    with pytest.raises(ValueError, match=r"metric 'recall' gives 3 numbers, a per-class result; give average='macro'"):
        metric.compute()


def test_a_curve_is_refused_as_no_number():
    metric = TorchMetric(MulticlassROC(3, thresholds=5), "roc")
    metric.update(torch.eye(3), torch.arange(3))

    with pytest.raises(ValueError, match="metric 'roc' gives a tuple; one number is needed"):
        metric.compute()


def accumulators():
    return [
        MeanOverSamples(accuracy, "accuracy"),
        MeanOverSamples(top_k_acc, "top_3"),
        TorchMetric(MulticlassAccuracy(NUM_CLASSES, average="micro"), "micro"),
    ]


@pytest.mark.parametrize("metric", accumulators(), ids=lambda metric: metric.name)
class TestEveryAccumulator:
    def test_nothing_has_no_value_and_gives_no_warning(self, metric):
        metric.reset()

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            value = metric.compute()

        assert math.isnan(value)

    def test_an_empty_batch_changes_nothing(self, metric):
        metric.reset()
        metric.update(torch.zeros(0, NUM_CLASSES), torch.zeros(0, dtype=torch.int64))
        before = metric.compute()
        metric.update(*draw([5], 3))
        after_one = metric.compute()
        metric.update(torch.zeros(0, NUM_CLASSES), torch.zeros(0, dtype=torch.int64))

        assert math.isnan(before)
        assert metric.compute() == after_one

    def test_reset_forgets_everything(self, metric):
        metric.reset()
        outputs_NK, targets_N = draw([12], 4)
        first = feed(metric, outputs_NK, targets_N, [12])
        metric.update(*draw([7], 5))

        metric.reset()

        assert feed(metric, outputs_NK, targets_N, [5, 7]) == pytest.approx(first, abs=1e-7)

    def test_compute_may_be_asked_for_twice_and_between_batches(self, metric):
        metric.reset()
        outputs_NK, targets_N = draw([12], 6)
        metric.update(outputs_NK[:5], targets_N[:5])
        metric.compute()
        metric.update(outputs_NK[5:], targets_N[5:])

        assert metric.compute() == metric.compute()
        assert isinstance(metric.compute(), float)
        metric_once = feed(metric, outputs_NK, targets_N, [12])  # everything twice: the same mean
        assert metric.compute() == pytest.approx(metric_once, abs=1e-7)

    def test_it_moves_to_a_device(self, metric):
        metric.reset()

        metric.to("cpu")

        assert 0 <= feed(metric, *draw([12], 7), [12]) <= 1


def test_a_set_reports_each_metric_in_the_order_given():
    metrics = MetricSet(accumulators()).to("cpu")
    outputs_NK, targets_N = draw([8, 3], 8)

    values = feed(metrics, outputs_NK, targets_N, [8, 3])

    right = accuracy_score(targets_N, outputs_NK.argmax(dim=1))
    top_3 = np.mean([target in row.argsort()[-3:] for row, target in zip(outputs_NK.numpy(), targets_N, strict=True)])
    assert list(values) == metrics.names == ["accuracy", "top_3", "micro"]
    assert values["accuracy"] == pytest.approx(right, abs=1e-15)
    assert values["top_3"] == pytest.approx(top_3, abs=1e-15)
    assert values["micro"] == pytest.approx(right, abs=1e-7)  # torchmetrics divides in float32


def test_resetting_a_set_resets_each():
    metrics = MetricSet(accumulators())
    metrics.update(*draw([8], 9))

    metrics.reset()

    assert all(math.isnan(value) for value in metrics.compute().values())


def test_an_empty_set_reports_nothing():
    metrics = MetricSet([])
    metrics.update(*draw([8], 9))

    assert metrics.compute() == {}
    assert metrics.names == []


def test_two_metrics_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two metrics are called 'accuracy'"):
        MetricSet([MeanOverSamples(accuracy, "accuracy"), MeanOverSamples(top_k_acc, "accuracy")])
