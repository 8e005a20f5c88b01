"""An exponential moving average of a network's weights: what is judged, saved as best.pth and tested.

Source: Polyak and Juditsky, "Acceleration of stochastic approximation by averaging" (1992); the share of the past that
grows in the beginning as in TensorFlow's ExponentialMovingAverage, min(decay, (1 + steps) / (10 + steps)).
"""

import copy
from collections.abc import Iterator

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from base.training_parts import EmaOptions
from utils.errors import ConfigError


class Ema:
    """Follows a network, weights and running statistics alike.

    Batch norm's means and variances are averaged with the same share as the weights, so that they belong to them; whole
    numbers (how many batches it saw) and buffers that are not finite (such as a mask of infinities) are copied.

    Not torch's AveragedModel: its `update_parameters` copies a counter to the GPU at each step, and waits for that.
    The arithmetic is torch's own.

    Args:
        model: on its device. Is read, never changed.
        options: see `EmaOptions`.

    Attributes:
        averaged: a network of its own.

    Raises:
        ConfigError: the model cannot be copied.
    """

    def __init__(self, model: nn.Module, options: EmaOptions):
        self.options = options
        try:
            self.averaged = copy.deepcopy(model).eval()
        except (RuntimeError, TypeError, NotImplementedError) as error:
            raise ConfigError(f"{type(model).__name__} cannot be copied: {error}", "trainer.ema") from error
        self.averaged.requires_grad_(False)
        self._followed: dict[object, tuple[list[torch.Tensor], list[torch.Tensor]]] = {}
        self._copied: dict[object, tuple[list[torch.Tensor], list[torch.Tensor]]] = {}
        for mine, theirs in zip(_tensors(self.averaged), _tensors(model), strict=True):
            is_number = theirs.is_floating_point() or theirs.is_complex()
            kind = self._followed if is_number and bool(torch.isfinite(theirs).all()) else self._copied
            averages, values = kind.setdefault((theirs.dtype, theirs.device), ([], []))
            averages.append(mine)
            values.append(theirs)

    @torch.no_grad()
    def step_done(self, steps_done: int) -> None:
        """After each step of the optimizer; nothing waits for the device.

        Args:
            steps_done: since the run's beginning, this one included. The first weights are not averaged in.
        """
        average = get_ema_multi_avg_fn(self.decay_at(steps_done))
        for averages, values in self._followed.values():
            average(averages, values, None)
        for averages, values in self._copied.values():
            torch._foreach_copy_(averages, values)

    def decay_at(self, steps_done: int) -> float:
        """The share of the average that a step leaves."""
        if steps_done <= 1:
            return 0.0
        warm = (1 + steps_done) / (10 + steps_done)
        return min(self.options.decay, warm) if self.options.warmup else self.options.decay


def _tensors(model: nn.Module) -> Iterator[torch.Tensor]:
    """All of them, each once, in the same order for a copy."""
    yield from (parameter.detach() for parameter in model.parameters())
    yield from model.buffers()
