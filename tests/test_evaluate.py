"""evaluate.py: scores over batches of any size against one pass over all images at once, and what is warned of."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score
from torch import nn
from torch.nn import functional as F
from torchmetrics.classification import MulticlassF1Score

from model.loss import Criterion, cross_entropy
from model.metric import MeanOverSamples, MetricSet, TorchMetric, accuracy, top_k_acc
from trainer.evaluate import Evaluation, MeanLoss, evaluate
from trainer.pixels import PixelsToInput

CPU = torch.device("cpu")
TO_INPUT = PixelsToInput(None, None, CPU)
many = settings(max_examples=60, derandomize=True, deadline=None)


class Batches:
    """A loader of images that are their own scores: (N, K, 1, 1)."""

    def __init__(self, logits_NK, targets_N, batch_size):
        self.logits_NK, self.targets_N, self.batch_size = logits_NK, targets_N, batch_size
        self.epochs = []

    def set_epoch(self, epoch):
        self.epochs.append(epoch)

    def __len__(self):
        return -(-len(self.targets_N) // self.batch_size)

    def __iter__(self):
        images = self.logits_NK[:, :, None, None]
        return iter(zip(images.split(self.batch_size), self.targets_N.split(self.batch_size), strict=True))


class Scores(nn.Module):
    def forward(self, images_NCHW):
        return images_NCHW.flatten(1)


@st.composite
def problems(draw):
    """Scores and targets of up to 40 images in up to 5 classes, and a batch size that often leaves a small batch."""
    num_classes = draw(st.integers(2, 5))
    num_images = draw(st.integers(1, 40))
    chance = np.random.default_rng(draw(st.integers(0, 10**6)))
    logits = torch.from_numpy(chance.normal(0, 3, (num_images, num_classes)).astype(np.float32))
    targets = torch.from_numpy(chance.integers(0, num_classes, num_images))
    return logits, targets, draw(st.integers(1, 13))


def judged(problem, criterion=cross_entropy, metrics=(), **options):
    return evaluate(Scores(), Batches(*problem), Criterion(criterion), MetricSet(metrics), to_input=TO_INPUT, **options)


@given(problem=problems())
@many
def test_loss_and_metrics_are_those_of_all_images_at_once(problem):
    logits, targets, _ = problem
    num_classes = logits.shape[1]
    f1 = TorchMetric(MulticlassF1Score(num_classes, average="macro"), "f1")
    metrics = [MeanOverSamples(accuracy, "accuracy"), MeanOverSamples(top_k_acc, "top3"), f1]

    scores = judged(problem, metrics=metrics).scores

    predicted = logits.argmax(1).numpy()
    in_top3 = [target in row.argsort()[-3:] for row, target in zip(logits.numpy(), targets.tolist(), strict=True)]
    present = sorted({*predicted.tolist(), *targets.tolist()})  # torchmetrics leaves absent classes out
    assert list(scores) == ["loss", "accuracy", "top3", "f1"]
    # A batch's mean is rounded to float32, like the scores of up to 10 in it; the sum over batches is not.
    assert scores["loss"] == pytest.approx(float(F.cross_entropy(logits.double(), targets)), abs=1e-6, rel=1e-6)
    assert scores["accuracy"] == pytest.approx(accuracy_score(targets, predicted), abs=1e-12)
    assert scores["top3"] == pytest.approx(np.mean(in_top3), abs=1e-12)
    expected_f1 = f1_score(targets, predicted, labels=present, average="macro", zero_division=0)
    assert scores["f1"] == pytest.approx(expected_f1, abs=1e-6)


@given(problem=problems(), ignored=st.booleans(), smoothing=st.sampled_from([0.0, 0.1]), data=st.data())
@many
def test_class_weights_and_ignored_targets_count_as_in_one_pass_over_all_images(problem, ignored, smoothing, data):
    logits, targets, _ = problem
    weights = data.draw(st.lists(st.floats(0.125, 8, width=32), min_size=logits.shape[1], max_size=logits.shape[1]))
    options = {"ignore_index": 1 if ignored else -100, "label_smoothing": smoothing}

    loss = judged(problem, nn.CrossEntropyLoss(torch.tensor(weights), **options)).scores["loss"]

    weight = torch.tensor(weights, dtype=torch.float64)
    expected = float(F.cross_entropy(logits.double(), targets, weight, **options))
    assert loss == pytest.approx(expected, rel=1e-6, abs=1e-6, nan_ok=True)
    assert math.isnan(loss) == (ignored and set(targets.tolist()) == {1})


@given(problem=problems())
@many
def test_counts_are_those_of_numpy(problem):
    logits, targets, _ = problem

    result = judged(problem)

    predicted = logits.argmax(1).numpy()
    assert result.num_images == len(targets)
    assert result.num_correct == (predicted == targets.numpy()).sum()
    assert result.predicted_K == np.bincount(predicted, minlength=logits.shape[1]).tolist()
    assert result.true_K == np.bincount(targets, minlength=logits.shape[1]).tolist()
    confusion = confusion_matrix(targets, predicted, labels=range(logits.shape[1]))
    assert result.confusion_KK.tolist() == confusion.tolist()
    assert result.true_N.tolist() == targets.tolist()
    assert len(result.first_NCHW) == min(32, problem[2], len(targets))


def test_observer_sees_every_batch_in_order_without_gradients():
    logits, targets = torch.randn(7, 3, generator=torch.Generator().manual_seed(0)), torch.arange(7) % 3
    seen = []

    judged((logits, targets, 3), observer=lambda *batch: seen.append(batch))

    assert torch.equal(torch.cat([scores for scores, _ in seen]), logits)
    assert torch.equal(torch.cat([some for _, some in seen]), targets)
    assert not any(scores.requires_grad for scores, _ in seen)


def test_network_is_judged_without_dropout_or_learning_and_left_in_evaluation_mode():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Linear(3, 3)).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    loader = Batches(torch.randn(8, 3), torch.arange(8) % 3, 3)

    first, second = (
        evaluate(network, loader, Criterion(cross_entropy), MetricSet([]), to_input=TO_INPUT) for _ in range(2)
    )

    assert first.scores == second.scores
    assert torch.equal(first.predicted_N, second.predicted_N)
    assert not network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_evaluation_is_always_epoch_0_and_starts_from_empty_metrics():
    loader = Batches(torch.eye(3), torch.arange(3), 2)
    metrics = MetricSet([MeanOverSamples(accuracy, "accuracy")])
    metrics.update(torch.eye(3), torch.tensor([1, 2, 0]))

    result = evaluate(Scores(), loader, Criterion(cross_entropy), metrics, to_input=TO_INPUT)

    assert result.scores["accuracy"] == 1.0
    assert loader.epochs == [0]


def test_pixels_come_as_the_network_wants_them():
    images = torch.tensor([[0, 255], [255, 0]], dtype=torch.uint8)
    loader, seen = Batches(images, torch.tensor([1, 0]), 2), []

    evaluate(
        Scores(),
        loader,
        Criterion(cross_entropy),
        MetricSet([]),
        to_input=PixelsToInput([0.5], [0.25], CPU),
        observer=lambda logits, targets: seen.extend(logits.tolist()),
    )

    assert seen == [[-2.0, 2.0], [2.0, -2.0]]


@given(sizes=st.lists(st.integers(1, 50), min_size=1, max_size=20), seed=st.integers(0, 99))
@many
def test_mean_loss_is_the_mean_over_samples_and_not_over_batches(sizes, seed):
    values = [torch.rand(size, generator=torch.Generator().manual_seed(seed + size)) for size in sizes]
    mean = MeanLoss(CPU)

    for batch in values:
        mean.update(batch.mean(), len(batch))

    assert mean.compute() == pytest.approx(float(torch.cat(values).double().mean()), rel=1e-6)


def test_mean_loss_of_nothing_is_nan_and_a_batch_of_weight_0_adds_nothing():
    mean = MeanLoss(CPU)
    assert math.isnan(mean.compute())

    mean.update(torch.tensor(2.0), torch.tensor(3))
    mean.update(torch.tensor(math.nan), torch.tensor(0))

    assert mean.compute() == 2.0


def test_a_loss_that_is_nan_is_not_hidden():
    mean = MeanLoss(CPU)

    mean.update(torch.tensor(1.0), 5)
    mean.update(torch.tensor(math.nan), 5)

    assert math.isnan(mean.compute())


@pytest.mark.parametrize(
    ("num_correct", "true_K", "is_chance"),
    [
        # Of 100 images in 10 even classes 10 are right by chance, give or take 3.
        (10, [10] * 10, True),
        (15, [10] * 10, True),
        (17, [10] * 10, False),
        (3, [10] * 10, True),
        # Always answering the larger class is right in 900 of 1,000, give or take 9.5.
        (900, [900, 100], True),
        (915, [900, 100], True),
        (925, [900, 100], False),
        # Few images prove nothing.
        (3, [2, 2], True),
        (8, [4, 4], False),
    ],
)
def test_accuracy_at_chance_level_is_said(num_correct, true_K, is_chance):
    true = [index for index, count in enumerate(true_K) for _ in range(count)]
    wrong, num_wrong = [(index + 1) % len(true_K) for index in true], len(true) - num_correct

    lines = evaluation_of(true, wrong[:num_wrong] + true[num_wrong:], len(true_K)).warnings([])

    assert len(lines) == is_chance
    if is_chance:
        better = "no better" if num_correct <= max(true_K) else "not clearly better"
        assert lines[0].startswith(f"accuracy {num_correct / sum(true_K):.3f} is {better} than always answering")


def evaluation_of(true, predicted, num_classes):
    return Evaluation({}, torch.tensor(true), torch.tensor(predicted), num_classes, torch.empty(0))


def test_perfect_scores_are_no_chance_however_uneven_the_classes_are():
    assert evaluation_of([0] * 9 + [1], [0] * 9 + [1], 2).warnings([]) == []
    assert evaluation_of([1] * 5, [1] * 5, 3).warnings([]) == []


def test_one_class_that_takes_all_predictions_is_said_where_there_are_others():
    judged = evaluation_of([0, 1, 2] * 10, [1] * 30, 3)

    assert judged.warnings(["ant", "b\x1b[31mee", "cat"])[-1] == "every image was given class b\ufffd[31mee"
    assert judged.warnings(["ant"])[-1] == "every image was given class 1"
    assert not any("every image" in line for line in evaluation_of([1] * 5, [1] * 5, 3).warnings([]))
