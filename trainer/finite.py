"""No number that is not finite gets into a run: losses and gradients are looked at before they become weights.

A gradient with one infinity turns, clipped or not, into weights and a momentum that are NaN for ever, and an epoch of
those costs as much as a good one.
"""

import math
import shlex
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from utils.errors import TrainingError, some


class FiniteGuard:
    """Looks at the numbers of each step.

    On a CPU it does so before the optimizer's step. An accelerator is not waited for: its numbers are copied while it
    works on, and looked at one or a few steps later, in any case before anything is saved.

    Args:
        device: of the model.
        describe: gives the message on a step, from its facts and what was wrong.
        skips_allowed: steps in a row whose gradient alone may be infinite, because who scales losses leaves such
            steps out and scales less.
    """

    def __init__(self, device: torch.device, describe: Callable[[dict[str, Any], str], str], *, skips_allowed: int = 0):
        self.device, self.describe = device, describe
        self.skips_allowed, self.skips = skips_allowed, 0
        self.pending: deque[tuple[torch.Tensor, Any, dict[str, Any]]] = deque()

    def look(self, losses: list[torch.Tensor], norm: torch.Tensor, facts: dict[str, Any]) -> None:
        """Takes in a step before the optimizer does.

        Args:
            losses: of its batches, scalars.
            norm: of the whole gradient.
            facts: on the step, for the message.

        Raises:
            TrainingError: this step, or on an accelerator one before it, is not finite.
        """
        if self.device.type == "cpu":
            self._require_finite([number.item() for number in (*losses, norm)], facts)
            return
        numbers = torch.stack([*(loss.detach().float() for loss in losses), norm.detach().float()])
        if self.device.type != "cuda":
            self._require_finite(numbers.tolist(), facts)
            return
        copy = numbers.to("cpu", non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record(torch.cuda.current_stream(self.device))
        self.pending.append((copy, arrived, facts))
        while self.pending and self.pending[0][1].query():
            self._require_finite(self.pending[0][0].tolist(), self.pending.popleft()[2])

    def settle(self) -> None:
        """Looks at what has not arrived yet, and waits for it.

        Raises:
            TrainingError: as for `look`.
        """
        while self.pending:
            numbers, arrived, facts = self.pending.popleft()
            arrived.synchronize()
            self._require_finite(numbers.tolist(), facts)

    def _require_finite(self, numbers: list[float], facts: dict[str, Any]) -> None:
        if all(map(math.isfinite, numbers)):
            self.skips = 0
            return
        self.skips += 1
        if self.skips <= self.skips_allowed and all(map(math.isfinite, numbers[:-1])):
            return
        *losses, norm = numbers
        bad = [loss for loss in losses if not math.isfinite(loss)]
        what = f"the loss is {bad[0]}" if bad else f"the gradient's norm is {norm}, at a loss of {losses[-1]:.6g}"
        raise TrainingError(self.describe(facts, what))


def not_finite_in_words(facts: Mapping[str, Any], what: str, images: list[str], last: Path) -> str:
    """What is said of a step that is not finite.

    Args:
        facts: step, epoch and lr.
        what: is not finite.
        images: names of the step's.
        last: the newest checkpoint.
    """
    return (
        f"step {facts['step']} (epoch {facts['epoch']}): {what}, at a learning rate of {float(facts['lr']):.4g}; "
        f"nothing of it is saved\n"
        f"  its images: {some(images, 4)}\n"
        f"  A smaller learning rate or trainer.max_grad_norm helps where training diverges. To look at the step:\n"
        f"  python -m tools.replay -r {shlex.quote(str(last))} --step {facts['step']}"
    )


def gradient_norm(parameters: Sequence[nn.Parameter], max_norm: float | None) -> torch.Tensor:
    """The 2-norm of all gradients together, which are scaled down to `max_norm` where one is given and they are longer.

    Without one only `FiniteGuard` wants it, and on a CPU the sum of all numbers tells it as much in half the time: that
    is then given instead, as long as it is finite.

    Source of the scaling: Pascanu et al., "On the difficulty of training recurrent neural networks", arXiv 1211.5063.
    """
    if max_norm is not None:
        return nn.utils.clip_grad_norm_(parameters, max_norm)
    gradients = [p.grad for p in parameters if p.grad is not None]
    if all(one.is_cpu for one in gradients):
        total = sum(one.sum().item() for one in gradients)
        if math.isfinite(total):
            return torch.tensor(total)
    return nn.utils.get_total_norm(gradients)


def unfinite_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[str]:
    """Names of weights, buffers and states of the optimizer that hold a NaN or an infinity."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for index, state in enumerate(optimizer.state.values()):
        tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
    floats = {
        name: tensor
        for name, tensor in tensors.items()
        if isinstance(tensor, torch.Tensor) and tensor.is_floating_point() and tensor.numel()
    }
    if not floats:
        return []
    # A NaN or an infinity anywhere makes the largest of the absolute values one; all norms are one transfer.
    norms = torch._foreach_norm([tensor.detach() for tensor in floats.values()], float("inf"))
    is_finite = torch.stack([torch.isfinite(norm).to(norms[0].device) for norm in norms]).tolist()
    return [name for name, fine in zip(floats, is_finite, strict=True) if not fine]
