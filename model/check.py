"""Holds a freshly built model against the data before anything is trained, and counts what it costs."""

import copy
import warnings
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from model.loss import Criterion
from model.metric import MetricSet
from utils.config_signature import is_library
from utils.errors import ConfigError

_SHIPPED = ("model.loss", "model.metric", "model.mlp", "model.vgg", "model.mnist_model")
# What torch, torchmetrics and one's own functions raise at shapes and types that they are not made for.
_MISFITS = (RuntimeError, ValueError, TypeError, IndexError, AttributeError, NotImplementedError, AssertionError)


@torch.inference_mode()
def check_model(model: nn.Module, image_CHW: torch.Tensor, num_classes: int) -> float:
    """Runs one blank image of the data's size through the model.

    Args:
        model: on the CPU; is left in training mode.
        image_CHW: any image of the data.
        num_classes: K of the data.

    Returns:
        Arithmetic of one image in GFLOPs, a multiplication and an addition counted as two.

    Raises:
        ConfigError: the model cannot take such an image, or does not give one score for each class.
    """
    shape = "x".join(str(side) for side in image_CHW.shape)
    if getattr(model, "aux_logits", False):
        raise ConfigError("must be false; auxiliary classifiers are not trained here", "arch.args.aux_logits")
    model.eval()
    try:
        with FlopCounterMode(display=False) as counter:
            scores = model(torch.zeros(1, *image_CHW.shape))
    except _MISFITS as error:
        _blame(error, type(model), "take", f"an image of {shape} (C x H x W)", ("arch", "data_loader"))
        raise
    finally:
        model.train()
    if not isinstance(scores, torch.Tensor) or scores.ndim != 2:
        raise ConfigError(f"{type(model).__name__} must give one row of scores for an image of {shape}", "arch")
    if scores.shape[1] != num_classes:
        raise ConfigError(
            f"{type(model).__name__} gives {scores.shape[1]} scores, the data has {num_classes} classes "
            f"(leave num_classes out and it is taken from the data)",
            "arch",
            "data_loader",
        )
    return counter.get_total_flops() / 1e9


def check_judges(
    model: nn.Module, images_NCHW: torch.Tensor, targets_N: torch.Tensor, criterion: Criterion, metrics: MetricSet
) -> None:
    """Shows the model's scores for a few images to the loss and the metrics, which may not be made for such.

    Args:
        model: on the CPU; is left in training mode, without gradients.
        images_NCHW: as the network sees them, or blank ones of their size.
        targets_N: class indices.
        criterion: the loss.
        metrics: are reset afterwards.

    Raises:
        ConfigError: one of them cannot be computed, or the loss has no gradient or needs other outputs.
    """
    model.eval()
    try:
        with torch.enable_grad():
            logits_NK = model(images_NCHW)
    except _MISFITS as error:
        _blame(error, type(model), "take", f"training images {tuple(images_NCHW.shape)}", ("arch", "data_loader"))
        raise
    finally:
        model.train()
    function, name = getattr(criterion.function, "func", criterion.function), _name_of(criterion)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("error", message="Using a target size")  # MSELoss would broadcast its way through
            loss = criterion(logits_NK, targets_N)
            criterion.weight(targets_N)
    except (*_MISFITS, UserWarning) as error:
        _blame(error, function, "judge", _shapes(logits_NK, targets_N), ("loss",), name)
        raise
    if not isinstance(loss, torch.Tensor) or loss.ndim or not loss.requires_grad:
        raise ConfigError(f"{name} must give one number that has a gradient", "loss")
    _check_pair(name, type(model).__name__, logits_NK.detach())
    for index, metric in enumerate(metrics.accumulators):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # two images are too few for some metrics, which say so
                metric.update(logits_NK.detach(), targets_N)
                metric.compute()
        except _MISFITS as error:
            judge = getattr(metric, "function", getattr(metric, "metric", metric))
            _blame(error, judge, "judge", _shapes(logits_NK, targets_N), (f"metrics.{index}",), metric.name)
            raise
    metrics.reset()


def check_mixed_targets(criterion: Criterion, targets_NK: torch.Tensor) -> None:
    """Shows the loss targets that MixUp or CutMix made; metrics are given a class for each image and need not know.

    Args:
        criterion: the loss.
        targets_NK: the shares of the classes.

    Raises:
        ConfigError: it is made for class indices only.
    """
    logits_NK = torch.zeros_like(targets_NK).log_softmax(1).requires_grad_()
    try:
        loss = criterion(logits_NK, targets_NK)
        criterion.weight(targets_NK)
    except _MISFITS as error:
        raise ConfigError(
            f"{_name_of(criterion)} cannot judge mixed targets {tuple(targets_NK.shape)}, which say how much of an "
            f"image is each class ({_first_line(error)}); cross_entropy can",
            "loss",
            "data_loader.args.batch_transform",
        ) from error
    if not isinstance(loss, torch.Tensor) or loss.ndim or not loss.requires_grad:
        message = f"{_name_of(criterion)} must give one number that has a gradient for mixed targets too"
        raise ConfigError(message, "loss", "data_loader.args.batch_transform")


def _name_of(criterion: Criterion) -> str:
    function = getattr(criterion.function, "func", criterion.function)  # of a partial
    return getattr(function, "__name__", type(function).__name__)


def _check_pair(loss: str, model: str, scores_NK: torch.Tensor) -> None:
    """Refuses a loss that is made for another kind of scores: it would train, and badly."""
    gives = "raw scores"
    if scores_NK.shape[1] > 1 and float(scores_NK.logsumexp(1).abs().max()) < 1e-3:
        gives = "log-probabilities"
    elif bool((scores_NK >= 0).all()) and float((scores_NK.sum(1) - 1).abs().max()) < 1e-3:
        gives = "probabilities"
    for names, wanted, instead in (
        (("nll_loss", "NLLLoss"), "log-probabilities", "cross_entropy" if gives == "raw scores" else "log_softmax"),
        (("cross_entropy", "CrossEntropyLoss"), "raw scores", "nll_loss" if "log" in gives else "no softmax in it"),
    ):
        if loss in names and gives != wanted:
            raise ConfigError(f"{loss} needs {wanted}, and {model} gives {gives}; use {instead}", "loss", "arch")


def check_batch_of_one(model: nn.Module, image_1CHW: torch.Tensor) -> None:
    """Finds out whether the last batch of an epoch, of one image, can be trained on: batch norm may need two.

    Raises:
        ConfigError: it cannot.
    """
    try:
        copy.deepcopy(model).train()(image_1CHW)
    except ValueError as error:
        raise ConfigError(
            f"leaves one image for the last batch, and {type(model).__name__} cannot be trained on one "
            f"({_first_line(error)}). Use another size, or drop_last",
            "data_loader.args.batch_size",
        ) from error


def _blame(error: Exception, part: Any, does: str, shown: str, paths: tuple[str, ...], name: str = "") -> None:
    """Raises a line for a part that comes with this project or a library; leaves a note on one's own.

    What one's own code raises keeps its traceback.
    """
    part = getattr(part, "func", part)  # of a partial
    name = name or part.__name__
    if is_library(part) or part.__module__ in _SHIPPED:
        raise ConfigError(f"{name} cannot {does} {shown}: {_first_line(error)}", *paths) from error
    error.add_note(f"This came of {paths[0]} '{name}', which was shown {shown}")


def _shapes(logits_NK: torch.Tensor, targets_N: torch.Tensor) -> str:
    return f"scores {tuple(logits_NK.shape)} against class indices {tuple(targets_N.shape)}"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@torch.inference_mode()
def choose_layout(
    model: nn.Module, image_CHW: torch.Tensor, asked: Literal["auto"] | bool = "auto"
) -> torch.memory_format:
    """How images and weights lie in memory: channels last, unless the model cannot take that.

    Channels last makes convolutions about 1.5 times faster on a CPU (benchmarks/layout.py). A model that flattens with
    `x.view(...)`, as many that were written for pytorch-template do, only works with the other layout.

    Args:
        model: on the CPU; is left as it was.
        image_CHW: any image of the data.
        asked: `trainer.channels_last`.

    Raises:
        ConfigError: channels last was asked for, and the model cannot take it.
    """
    if asked is False:
        return torch.contiguous_format
    trial = copy.deepcopy(model).to(memory_format=torch.channels_last).eval()
    images = torch.zeros(2, *image_CHW.shape).contiguous(memory_format=torch.channels_last)
    try:
        trial(images)
    except RuntimeError as error:
        if asked is True:
            message = f"{type(model).__name__} cannot take it ({_first_line(error)}); use 'auto'"
            raise ConfigError(message, "trainer.channels_last", "arch") from error
        return torch.contiguous_format
    return torch.channels_last
