"""check.py: a model, a loss and metrics are shown a few images before training, and what does not fit is refused."""

import copy
import functools
import traceback

import pytest
import torch
from torch import nn
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix
from torchvision import models

from model.check import check_batch_of_one, check_judges, check_mixed_targets, check_model, choose_layout
from model.loss import Criterion, cross_entropy, nll_loss
from model.metric import MeanOverSamples, MetricSet, TorchMetric, accuracy, top_k_acc
from model.mlp import MLP
from utils.errors import ConfigError

IMAGE_CHW = torch.zeros(3, 4, 4)


class Classifier(nn.Module):
    """One Linear layer over flat pixels, with something behind it."""

    def __init__(self, behind=None, num_classes=5):
        super().__init__()
        self.layer = nn.Linear(48, num_classes)
        self.behind = behind

    def forward(self, images_NCHW):
        scores_NK = self.layer(images_NCHW.flatten(1))
        return scores_NK if self.behind is None else self.behind(scores_NK)


def judge(function, *metrics, behind=None):
    """Shows two images of three possible kinds to a loss and metrics."""
    torch.manual_seed(0)
    check_judges(
        Classifier(behind), torch.rand(2, 3, 4, 4), torch.tensor([1, 4]), Criterion(function), MetricSet(metrics)
    )


# --- the model ---------------------------------------------------------------------------------------------------


def test_the_arithmetic_of_one_image_is_counted_by_hand():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))

    gflops = check_model(model, IMAGE_CHW, num_classes=5)

    # 16 places, each 8 outputs of 3 * 9 products and sums; then 8 * 5 of them.
    assert gflops * 1e9 == pytest.approx(2 * (16 * 8 * 27 + 8 * 5), rel=1e-9)


def test_a_model_is_left_as_it_was_and_in_training_mode():
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(48, 5))
    before = copy.deepcopy(model.state_dict())

    check_model(model, torch.ones(3, 4, 4), num_classes=5)

    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("model", "said", "path", "also"),
    [
        (
            Classifier(num_classes=9),
            "Classifier gives 9 scores, the data has 5 classes (leave num_classes",
            "arch",
            True,
        ),
        (nn.Linear(4, 5), "Linear must give one row of scores for an image of 3x4x4", "arch", False),
        (Classifier(lambda scores: (scores, scores)), "Classifier must give one row of scores", "arch", False),
        (nn.Conv2d(1, 5, 3), "Conv2d cannot take an image of 3x4x4 (C x H x W): ", "arch", True),
        (models.googlenet(init_weights=False), "must be false; auxiliary", "arch.args.aux_logits", False),
    ],
    ids=["other classes", "no row", "two outputs", "other channels", "auxiliary"],
)
def test_a_model_that_does_not_fit_the_data_is_refused(model, said, path, also):
    with pytest.raises(ConfigError) as caught:
        check_model(model, IMAGE_CHW, num_classes=5)

    assert caught.value.message.startswith(said)
    assert (caught.value.path, caught.value.also) == (path, "data_loader" if also else "")
    assert "\n" not in caught.value.message
    assert model.training


# --- one image for the last batch --------------------------------------------------------------------------------


def test_a_last_batch_of_one_image_is_refused_where_batch_norm_needs_two():
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 6), nn.BatchNorm1d(6), nn.Linear(6, 5))

    with pytest.raises(ConfigError, match=r"leaves one image .* Sequential cannot be trained on one \(.+\)") as caught:
        check_batch_of_one(model, IMAGE_CHW[None])

    assert caught.value.path == "data_loader.args.batch_size"


def test_a_last_batch_of_one_image_is_tried_on_a_copy():
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(48, 5)).eval()
    before = copy.deepcopy(model.state_dict())

    check_batch_of_one(model, torch.ones(1, 3, 4, 4))

    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model.training


# --- the layout in memory ----------------------------------------------------------------------------------------


class Viewing(nn.Module):
    """Flattens as old code does, which needs the images' own layout."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, images_NCHW):
        features = self.conv(images_NCHW)
        return features.view(len(features), -1)


@pytest.mark.parametrize(
    ("model", "layout"),
    [
        (nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten()), torch.channels_last),
        (Viewing(), torch.contiguous_format),
    ],
)
def test_channels_last_is_taken_where_the_model_can_and_the_model_is_left_as_it_was(model, layout):
    chosen = choose_layout(model, IMAGE_CHW)

    assert chosen == layout
    assert all(parameter.is_contiguous() for parameter in model.parameters())
    assert model.training


# --- loss and metrics --------------------------------------------------------------------------------------------

log_softmax, softmax = nn.LogSoftmax(1), nn.Softmax(1)


@pytest.mark.parametrize(
    ("function", "behind"),
    [
        (cross_entropy, None),
        (functools.partial(cross_entropy, label_smoothing=0.1), None),
        (nn.CrossEntropyLoss(), None),
        (nn.CrossEntropyLoss(weight=torch.ones(5)), None),
        (nn.MultiMarginLoss(), None),
        (nn.MultiMarginLoss(), softmax),
        (nll_loss, log_softmax),
        (nn.NLLLoss(), log_softmax),
    ],
)
def test_a_loss_that_is_made_for_what_the_model_gives_is_taken(function, behind):
    judge(function, MeanOverSamples(accuracy, "accuracy"), behind=behind)


@pytest.mark.parametrize(
    ("function", "behind", "said"),
    [
        (
            cross_entropy,
            log_softmax,
            "cross_entropy needs raw scores, and Classifier gives log-probabilities; use nll_loss",
        ),
        (
            cross_entropy,
            softmax,
            "cross_entropy needs raw scores, and Classifier gives probabilities; use no softmax in it",
        ),
        (
            nn.CrossEntropyLoss(),
            log_softmax,
            "CrossEntropyLoss needs raw scores, and Classifier gives log-probabilities; ",
        ),
        (nn.CrossEntropyLoss(), softmax, "CrossEntropyLoss needs raw scores, and Classifier gives probabilities; "),
        (
            functools.partial(cross_entropy, label_smoothing=0.1),
            softmax,
            "cross_entropy needs raw scores, and Classifier gives probabilities; ",
        ),
        (nll_loss, None, "nll_loss needs log-probabilities, and Classifier gives raw scores; use cross_entropy"),
        (nll_loss, softmax, "nll_loss needs log-probabilities, and Classifier gives probabilities; use log_softmax"),
        (nn.NLLLoss(), None, "NLLLoss needs log-probabilities, and Classifier gives raw scores; use cross_entropy"),
        (nn.NLLLoss(), softmax, "NLLLoss needs log-probabilities, and Classifier gives probabilities; use log_softmax"),
    ],
)
def test_a_loss_that_is_made_for_other_outputs_is_refused_with_what_would_do(function, behind, said):
    with pytest.raises(ConfigError) as caught:
        judge(function, behind=behind)

    assert caught.value.message.startswith(said)
    assert (caught.value.path, caught.value.also) == ("loss", "arch")


@pytest.mark.parametrize("num_classes", [1, 2, 1000])
@pytest.mark.parametrize("bias", [-3.0, 0.0, 1.0])
def test_scores_that_are_all_equal_are_raw_scores(num_classes, bias):
    model = Classifier(num_classes=num_classes)
    nn.init.zeros_(model.layer.weight)
    nn.init.constant_(model.layer.bias, bias if num_classes > 1 else 0.5)

    check_judges(model, torch.zeros(2, 3, 4, 4), torch.tensor([0, 0]), Criterion(nn.CrossEntropyLoss()), MetricSet([]))

    assert model.training


SHAPES = "scores (2, 5) against class indices (2,)"


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (nn.MSELoss(), "MSELoss"),
        (nn.L1Loss(), "L1Loss"),
        (nn.BCELoss(), "BCELoss"),
        (nn.CrossEntropyLoss(weight=torch.ones(4)), "CrossEntropyLoss"),
        (nn.CTCLoss(), "CTCLoss"),
        (functools.partial(cross_entropy, label_smoothing=7.0), "cross_entropy"),
    ],
)
def test_a_loss_of_a_library_or_of_this_project_that_fails_is_one_line(function, name):
    with pytest.raises(ConfigError) as caught:
        judge(function)

    assert caught.value.message.startswith(f"{name} cannot judge {SHAPES}: ")
    assert caught.value.path == "loss"
    assert "\n" not in caught.value.message
    assert isinstance(caught.value.__cause__, Exception)


@pytest.mark.parametrize(
    "function",
    [accuracy, lambda output, target: 3.0, lambda output, target: output.sum(1)],
    ids=["no gradient", "float", "two"],
)
def test_a_loss_must_be_one_number_with_a_gradient(function):
    with pytest.raises(ConfigError, match="must give one number that has a gradient") as caught:
        judge(function)

    assert caught.value.path == "loss"


def own_loss(output, target, power=1):
    return output[target * 100].sum() * power


class OwnLoss(nn.MSELoss):
    """Of one's own, on top of torch's."""

    def forward(self, output, target):
        return own_loss(output, target)


class OwnMetric(Metric):
    """Of one's own, on top of torchmetrics'."""

    def update(self, preds, target):
        own_loss(preds, target)

    def compute(self):
        return torch.tensor(0.0)


def assert_kept(error, where, name):
    assert error.__notes__ == [f"This came of {where} '{name}', which was shown {SHAPES}"]
    assert traceback.extract_tb(error.__traceback__)[-1].name == "own_loss"
    assert error.__cause__ is None


@pytest.mark.parametrize(
    ("function", "name"),
    [(own_loss, "own_loss"), (functools.partial(own_loss, power=2), "own_loss"), (OwnLoss(), "OwnLoss")],
)
def test_a_loss_of_ones_own_that_fails_keeps_its_traceback_with_a_note(function, name):
    with pytest.raises(IndexError) as caught:
        judge(function)

    assert_kept(caught.value, "loss", name)


@pytest.mark.parametrize(
    "metric",
    [
        MeanOverSamples(own_loss, "mine"),
        MeanOverSamples(functools.partial(own_loss, power=2), "mine"),
        TorchMetric(OwnMetric(), "mine"),
    ],
    ids=["function", "partial", "class"],
)
def test_a_metric_of_ones_own_that_fails_keeps_its_traceback_with_a_note(metric):
    with pytest.raises(IndexError) as caught:
        judge(cross_entropy, MeanOverSamples(accuracy, "accuracy"), metric)

    assert_kept(caught.value, "metrics.1", "mine")


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        (
            MeanOverSamples(functools.partial(top_k_acc, k=0), "top"),
            f"top cannot judge {SHAPES}: k must be 1 or more, received 0",
        ),
        (TorchMetric(MulticlassAccuracy(num_classes=3), "torchs"), f"torchs cannot judge {SHAPES}: "),
        (
            TorchMetric(MulticlassConfusionMatrix(num_classes=5), "torchs"),
            f"torchs cannot judge {SHAPES}: metric 'torchs' g",
        ),
    ],
)
def test_a_metric_of_a_library_or_of_this_project_that_fails_is_one_line(metric, said):
    with pytest.raises(ConfigError) as caught:
        judge(cross_entropy, MeanOverSamples(accuracy, "accuracy"), metric)

    assert caught.value.message.startswith(said)
    assert caught.value.path == "metrics.1"
    assert "\n" not in caught.value.message


def test_metrics_forget_what_they_were_shown_and_the_model_is_left_in_training_mode():
    model, metrics = Classifier(), MetricSet([MeanOverSamples(accuracy, "accuracy")])

    check_judges(model, torch.rand(2, 3, 4, 4), torch.tensor([0, 1]), Criterion(cross_entropy), metrics)

    assert metrics.accumulators[0].num_samples == 0
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_shipped_model_that_cannot_take_the_training_images_is_refused():
    model = MLP(2, in_channels=3, image_size=(4, 4))

    with pytest.raises(ConfigError) as caught:
        check_judges(model, torch.rand(2, 3, 5, 5), torch.tensor([0, 1]), Criterion(cross_entropy), MetricSet([]))

    assert caught.value.message.startswith("MLP cannot take training images (2, 3, 5, 5): ")
    assert (caught.value.path, caught.value.also) == ("arch", "data_loader")


def test_ones_own_model_that_cannot_take_the_training_images_keeps_its_traceback():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied") as caught:
        check_judges(
            Classifier(), torch.rand(2, 3, 5, 5), torch.tensor([0, 1]), Criterion(cross_entropy), MetricSet([])
        )

    assert caught.value.__notes__ == ["This came of arch 'Classifier', which was shown training images (2, 3, 5, 5)"]


@pytest.mark.parametrize(
    "function",
    [
        cross_entropy,
        nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0]), label_smoothing=0.1),
        nn.MSELoss(),
        lambda output_NK, target_N: nn.functional.cross_entropy(output_NK, target_N, reduction="none").mean(),
    ],
)
def test_a_loss_that_can_judge_mixed_targets_passes(function):
    check_mixed_targets(Criterion(function), torch.tensor([[0.3, 0.7, 0.0], [0.0, 0.0, 1.0]]))


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (nll_loss, "nll_loss"),
        (nn.NLLLoss(), "NLLLoss"),
        (nn.MultiMarginLoss(), "MultiMarginLoss"),
        (functools.partial(nll_loss), "nll_loss"),
    ],
)
def test_a_loss_of_class_indices_is_refused_with_mixed_targets(function, name):
    with pytest.raises(ConfigError, match=rf"^loss: {name} cannot judge mixed targets \(2, 3\)") as raised:
        check_mixed_targets(Criterion(function), torch.tensor([[0.3, 0.7, 0.0], [0.0, 0.0, 1.0]]))

    assert raised.value.also == "data_loader.args.batch_transform"


def test_a_loss_without_a_gradient_at_mixed_targets_is_refused():
    def detached(output_NK, target_N):
        return nn.functional.cross_entropy(output_NK, target_N).detach()

    with pytest.raises(ConfigError, match="a gradient for mixed targets too"):
        check_mixed_targets(Criterion(detached), torch.eye(3))


def test_channels_last_is_refused_for_a_model_that_cannot_take_it_and_not_tried_where_it_is_off():
    with pytest.raises(ConfigError, match=r"Viewing cannot take it.*use 'auto'") as caught:
        choose_layout(Viewing(), IMAGE_CHW, True)

    assert caught.value.path == "trainer.channels_last"
    assert choose_layout(nn.Conv2d(3, 2, 3), IMAGE_CHW, True) == torch.channels_last
    assert choose_layout(nn.Conv2d(3, 2, 3), IMAGE_CHW, False) == torch.contiguous_format
