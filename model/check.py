"""Holds a freshly built model against the data before anything is trained, and counts what it costs."""

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from utils.errors import ConfigError


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


@torch.inference_mode()
def choose_layout(model: nn.Module, image_CHW: torch.Tensor) -> torch.memory_format:
    """How images and weights lie in memory: channels last, unless the model cannot take that.

    Channels last makes convolutions 1.4 times faster on a CPU (benchmarks/layout.py). A model that flattens with
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
