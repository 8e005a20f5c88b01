"""Where in an image a network saw a class: Grad-CAM. Drawn by logger/overlay.py, asked for through explained.py.

Source: Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization" (2017),
arXiv 1610.02391, equations 1 and 2.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from utils.errors import ConfigError

# Transformers begin with a convolution too; what so many layers have mixed since does not lie where it lay.
_MAX_LAYERS_BEHIND = 8


def find_layer(model: nn.Module, images_NCHW: torch.Tensor) -> str:
    """The name of the module whose output is the last map over the image: of the size of the last convolution's.

    That is the convolution itself, or the batch norm, activation or block that ends with it.

    Args:
        model: is left in evaluation mode.
        images_NCHW: the network's input; one image will do.

    Raises:
        ConfigError: the network has none near its end.
    """
    size: tuple[int, ...] | None = None
    found, num_behind = "", 0

    def look(name: str, module: nn.Module, output: Any) -> None:
        nonlocal size, found, num_behind
        if not isinstance(output, torch.Tensor) or output.ndim < 3:
            return
        here = tuple(output.shape[2:])
        if isinstance(module, nn.Conv2d) and here[0] * here[1] > 1:
            size, found, num_behind = here, name, 0
        elif size is not None and here == size and output.ndim == 4:
            found = name
        elif size is not None and next(module.parameters(recurse=False), None) is not None:
            num_behind += 1

    hooks = [
        module.register_forward_hook(lambda module, _, output, name=name: look(name, module, output))
        for name, module in model.named_modules()
        if name
    ]
    try:
        with torch.no_grad():
            model.eval()(images_NCHW)
    finally:
        for hook in hooks:
            hook.remove()
    if not found or num_behind > _MAX_LAYERS_BEHIND:
        raise ConfigError(
            f"{type(model).__name__} has no convolution near its end whose output still has places in the image, and "
            f"Grad-CAM needs one: leave --explain out"
        )
    return found


def grad_cam(model: nn.Module, layer: str, images_NCHW: torch.Tensor, classes_N: torch.Tensor) -> torch.Tensor:
    """How much each place speaks for a class: heat_NHW from 0 to 1 (the strongest of an image), all 0 where none does.

    Args:
        model: is left in evaluation mode, its parameters without gradients of this.
        layer: see `find_layer`.
        images_NCHW: the network's input.
        classes_N: class index for each, int64.
    """
    kept: list[torch.Tensor] = []
    hook = model.get_submodule(layer).register_forward_hook(lambda module, _, output: kept.append(output))
    try:
        with torch.enable_grad():
            # The product is no leaf, which a first layer that works in place could not change.
            inputs_NCHW = images_NCHW.clone().requires_grad_() * 1
            scores_NK = model.eval()(inputs_NCHW)
            chosen = scores_NK.gather(1, classes_N.to(scores_NK.device)[:, None]).sum()
            (gradient_NChw,) = torch.autograd.grad(chosen, kept[-1])
    finally:
        hook.remove()
    weights_NC11 = gradient_NChw.mean((2, 3), keepdim=True)
    heat_N1hw = (weights_NC11 * kept[-1].detach()).sum(1, keepdim=True).relu().float()
    heat_NHW = F.interpolate(heat_N1hw, images_NCHW.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    return heat_NHW / heat_NHW.amax((1, 2), keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
