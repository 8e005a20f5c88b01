"""Holds a freshly built model against the data before anything is trained, and counts what it costs."""

import copy
import warnings

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from model.loss import Criterion
from model.metric import MetricSet
from utils.errors import ConfigError

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
        raise ConfigError("arch.args.aux_logits: must be false; auxiliary classifiers are not trained here")
    model.eval()
    try:
        with FlopCounterMode(display=False) as counter:
            scores = model(torch.zeros(1, *image_CHW.shape))
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"arch: {type(model).__name__} cannot take an image of {shape} (C x H x W): {reason}"
        ) from error
    finally:
        model.train()
    if not isinstance(scores, torch.Tensor) or scores.ndim != 2:
        raise ConfigError(f"arch: {type(model).__name__} must give one row of scores for an image of {shape}")
    if scores.shape[1] != num_classes:
        raise ConfigError(
            f"arch: {type(model).__name__} gives {scores.shape[1]} scores, the data has {num_classes} classes "
            f"(leave num_classes out and it is taken from the data)"
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
        size = tuple(images_NCHW.shape)
        raise ConfigError(
            f"arch: {type(model).__name__} cannot take training images {size}: {_first_line(error)}"
        ) from error
    finally:
        model.train()
    name = getattr(criterion.function, "__name__", type(criterion.function).__name__)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("error", message="Using a target size")  # MSELoss would broadcast its way through
            loss = criterion(logits_NK, targets_N)
            criterion.weight(targets_N)
    except (*_MISFITS, UserWarning) as error:
        raise ConfigError(f"loss: {name} cannot judge {_shapes(logits_NK, targets_N)}: {_first_line(error)}") from error
    if not isinstance(loss, torch.Tensor) or loss.ndim or not loss.requires_grad:
        raise ConfigError(f"loss: {name} must give one number that has a gradient")
    if name in ("nll_loss", "NLLLoss") and float(logits_NK.detach().logsumexp(1).abs().max()) > 1e-3:
        raise ConfigError(
            f"loss: {name} needs log-probabilities, and {type(model).__name__} gives raw scores; use cross_entropy"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # two images are too few for some metrics, which say so
            metrics.update(logits_NK.detach(), targets_N)
            metrics.compute()
    except _MISFITS as error:
        raise ConfigError(f"metrics: cannot judge {_shapes(logits_NK, targets_N)}: {_first_line(error)}") from error
    metrics.reset()


def check_batch_of_one(model: nn.Module, image_1CHW: torch.Tensor) -> None:
    """Finds out whether the last batch of an epoch, of one image, can be trained on: batch norm may need two.

    Raises:
        ConfigError: it cannot.
    """
    try:
        copy.deepcopy(model).train()(image_1CHW)
    except ValueError as error:
        raise ConfigError(
            f"data_loader.args.batch_size: leaves one image for the last batch, and {type(model).__name__} cannot be "
            f"trained on one ({_first_line(error)}). Use another size, or drop_last"
        ) from error


def _shapes(logits_NK: torch.Tensor, targets_N: torch.Tensor) -> str:
    return f"scores {tuple(logits_NK.shape)} against class indices {tuple(targets_N.shape)}"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@torch.inference_mode()
def choose_layout(model: nn.Module, image_CHW: torch.Tensor) -> torch.memory_format:
    """How images and weights lie in memory: channels last, unless the model cannot take that.

    Channels last makes convolutions about 1.5 times faster on a CPU (benchmarks/layout.py). A model that flattens with
    `x.view(...)`, as many that were written for pytorch-template do, only works with the other layout.

    Args:
        model: on the CPU; is left as it was.
        image_CHW: any image of the data.
    """
    trial = copy.deepcopy(model).to(memory_format=torch.channels_last).eval()
    images = torch.zeros(2, *image_CHW.shape).contiguous(memory_format=torch.channels_last)
    try:
        trial(images)
    except RuntimeError:
        return torch.contiguous_format
    return torch.channels_last
