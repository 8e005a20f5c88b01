"""Lookahead: slow weights that follow the fast ones, which start again from the slow ones every few steps.

Source: Zhang et al., "Lookahead Optimizer: k steps forward, 1 step back", arXiv 1907.08610; with a pull that grows over
the run as in Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", arXiv 2404.00498, section 3.4.
"""

from typing import Any

import torch
from torch import nn

from base.training_parts import LookaheadOptions


class Lookahead:
    """Pulls a network's weights, and running statistics, together with their slow copies.

    Args:
        model: is changed in place.
        options: see `LookaheadOptions`.
        num_steps: of the whole run.
    """

    def __init__(self, model: nn.Module, options: LookaheadOptions, num_steps: int):
        self.options, self.num_steps = options, num_steps
        self.fast = {name: tensor for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
        self.slow = {name: tensor.clone() for name, tensor in self.fast.items()}

    @torch.no_grad()
    def step_done(self, steps_done: int) -> None:
        """After each step of the optimizer; acts at every `options.every`-th. At the run's last, fast becomes slow.

        Args:
            steps_done: since the run's beginning, this one included.
        """
        is_end = steps_done >= self.num_steps
        if steps_done % self.options.every and not is_end:
            return
        slow, fast = list(self.slow.values()), list(self.fast.values())
        if not is_end:
            kept = self.options.decay * (steps_done / self.num_steps) ** self.options.power
            torch._foreach_lerp_(slow, fast, 1 - kept)
        torch._foreach_copy_(fast, slow)

    def state_dict(self) -> dict[str, Any]:
        """The slow copies by name."""
        return dict(self.slow)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts them back.

        Raises:
            KeyError: one is missing.
            RuntimeError: one is of another shape.
        """
        for name, tensor in self.slow.items():
            tensor.copy_(state[name])
