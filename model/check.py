"""Holds a freshly built model against the data before anything is trained, and counts what it costs."""

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
