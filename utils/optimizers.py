"""How an optimizer does its arithmetic, which is no setting of what it computes: in one kernel (`fused`) or in many."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

_WAYS = ("fused", "foreach", "capturable", "differentiable")
_DEVICES = {"Adagrad": ("cpu",), "Adam": ("cpu", "cuda"), "AdamW": ("cpu", "cuda"), "SGD": ("cpu", "cuda")}


def fused_if_possible(
    kind: Any, written: Mapping[str, Any], parameters: Sequence[torch.nn.Parameter]
) -> dict[str, bool]:
    """`{"fused": True}` where torch has such a kernel for these parameters and the config says nothing of the kind.

    Args:
        kind: the optimizer's class.
        written: its arguments in the config.
        parameters: on their device.
    """
    devices = _DEVICES.get(kind.__name__, ()) if kind.__module__.startswith("torch.optim") else ()
    if any(written.get(name) is not None for name in _WAYS):
        return {}
    fits = all(p.device.type in devices and p.is_floating_point() and not p.is_sparse for p in parameters)
    return {"fused": True} if fits else {}


def renew_settings(optimizer: torch.optim.Optimizer, fresh_groups: Iterable[Mapping[str, Any]]) -> None:
    """Gives an optimizer that was loaded the settings that it had before, and keeps what it has learned.

    Args:
        optimizer: just loaded.
        fresh_groups: copies of its `param_groups` of before.
    """
    for group, fresh in zip(optimizer.param_groups, fresh_groups, strict=True):
        group.update({key: value for key, value in fresh.items() if key != "params"})
    optimizer.load_state_dict(optimizer.state_dict())  # counts of steps lie elsewhere for a fused kernel
