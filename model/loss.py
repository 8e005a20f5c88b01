"""Losses by name, and how a batch's loss must be weighted when the losses of many batches are averaged.

The functions can be named in the config's `loss`, as can the losses of `torch.nn`. `loss_weight` is for whoever
averages: the training loop and the evaluation.
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F


def nll_loss(output_NK: torch.Tensor, target_N: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
    """Mean of minus the target's entry, for models whose output is log-probabilities (MnistModel).

    Args:
        output_NK: log-probabilities.
        target_N: class indices.
        weight: of each class.
    """
    return F.nll_loss(output_NK, target_N, weight)


def cross_entropy(
    output_NK: torch.Tensor,
    target_N: torch.Tensor,
    label_smoothing: float = 0.0,
    weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mean cross-entropy in nats, for models whose output is raw scores; K equal scores give log(K).

    Args:
        output_NK: raw scores.
        target_N: class indices, or class probabilities of shape (N, K) as MixUp and CutMix make them.
        label_smoothing: share of each target, 0 to 1, that is spread evenly over all K classes.
        weight: of each class; the mean is then divided by the weights of the targets.

    Source: label smoothing is Szegedy et al., "Rethinking the Inception Architecture", arXiv 1512.00567,
    section 7.
    """
    return F.cross_entropy(output_NK, target_N, weight, label_smoothing=label_smoothing)


# The same arithmetic with weights that move to the device once, and that `loss_weight` counts.
WITH_WEIGHTS: dict[Callable[..., torch.Tensor], type[nn.Module]] = {
    nll_loss: nn.NLLLoss,
    cross_entropy: nn.CrossEntropyLoss,
}


def loss_weight(
    criterion: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], target_N: torch.Tensor
) -> int | torch.Tensor:
    """What a batch-mean loss was divided by, so that sum(loss * weight) / sum(weight) is exact.

    Exact means: the value of the criterion on all outputs and targets at once. That is the number of samples for
    almost all criteria. `nn.CrossEntropyLoss` and `nn.NLLLoss` divide by the summed class weights of the
    targets that are not `ignore_index`, and so does this; label smoothing does not change it, as torch
    divides the smoothed part by the same sum. Targets that are probabilities always count one each.

    A batch with ignored targets only has weight 0, and torch gives it the loss nan: leave it out of the sum
    (0 * nan is nan).

    Args:
        criterion: a function or module that gives the mean over a batch.
        target_N: class indices, or class probabilities of shape (N, K).

    Returns:
        An int, or where it depends on class weights, or on targets on an accelerator, a scalar tensor on the device
        of the targets, so that nothing waits for it.

    Raises:
        ValueError: the criterion sums (`reduction="sum"`) or gives one value for each sample ("none").
    """
    reduction = getattr(criterion, "reduction", "mean")
    if reduction in ("sum", "none"):
        raise ValueError(f"{criterion} has reduction='{reduction}'; a mean over batches needs reduction='mean'")
    if not isinstance(criterion, nn.CrossEntropyLoss | nn.NLLLoss) or target_N.is_floating_point():
        return len(target_N)
    if criterion.weight is None:
        counted = (target_N != criterion.ignore_index).sum()
        return int(counted) if counted.is_cpu else counted  # an int spares the operations of a tensor
    is_ignored = target_N == criterion.ignore_index
    # ignore_index (-100 by default) is no row of the weights: look up row 0 in its place, then count it as 0.
    weights = criterion.weight[target_N.masked_fill(is_ignored, 0)]
    return weights.masked_fill(is_ignored, 0).sum()


class Criterion:
    """A loss as training and evaluation use it: its value on a batch, and what that counts in a mean over batches.

    Args:
        function: the mean over a batch, a module or a function of (logits_NK, targets_N).
    """

    def __init__(self, function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]):
        self.function = function

    def __call__(self, logits_NK: torch.Tensor, targets_N: torch.Tensor) -> torch.Tensor:
        """The mean loss of a batch."""
        return self.function(logits_NK, targets_N)

    def weight(self, targets_N: torch.Tensor) -> int | torch.Tensor:
        """See `loss_weight`."""
        return loss_weight(self.function, targets_N)

    def to(self, device: torch.device) -> None:
        """Moves class weights and the like."""
        if isinstance(self.function, nn.Module):
            self.function.to(device)
