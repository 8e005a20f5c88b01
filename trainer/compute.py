"""How a step is computed, beside what it computes: precision, compiled or not, and how many images at once.

The trainer, the evaluation and test.py put the network into the same frame here, so that their scores agree.
"""

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from trainer.micro_batches import MicroBatches
from utils.device import shared_by

log = logging.getLogger("run")
# Of steps in a row. The first scale is too large for most networks, and is halved until it is not.
MAX_SKIPS = 20
_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Network(nn.Module):
    """The model, computed in a precision and perhaps compiled; gives float32 scores, of which losses are made.

    The model's own weights and state stay what they are, and its keys in checkpoints too.

    Args:
        model: on its device.
        device: of the model.
        precision: "fp32", "bf16" or "fp16".
        compile: `trainer.compile`.
    """

    def __init__(self, model: nn.Module, device: torch.device, precision: str, compile: bool | Mapping[str, Any]):
        super().__init__()
        self.model = model
        self.device_type = device.type
        self.dtype = _AUTOCAST.get(precision)
        self.compiled: Any = None
        if compile is not False:
            options = {} if compile is True else dict(compile)
            # With sizes left open, which graph a batch meets would depend on the batches before it, and so its bits.
            self.compiled = torch.compile(model, dynamic=False, **options)

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        """float32 logits_NK; float64 of a model of such weights."""
        with torch.autocast(self.device_type, dtype=self.dtype, enabled=self.dtype is not None):
            logits_NK = self.model(images_NCHW) if self.compiled is None else self._of_compiled(images_NCHW)
        return logits_NK.float() if logits_NK.dtype in _AUTOCAST.values() else logits_NK

    def _of_compiled(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        try:
            return self.compiled(images_NCHW)
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            log.warning(f"warning: trainer.compile: {reason[:200]}; it goes on uncompiled")
            self.compiled = None
        return self.model(images_NCHW)


def network_for(
    model: nn.Module, devices: list[torch.device], precision: str, compile: bool | Mapping[str, Any]
) -> nn.Module:
    """The model as a run computes it: the model itself in plain float32 on one device."""
    if compile is not False and len(devices) > 1:
        log.warning("warning: trainer.compile: not with several GPUs; it goes on uncompiled")
        compile = False
    is_plain = precision == "fp32" and compile is False
    return shared_by(model if is_plain else Network(model, devices[0], precision, compile), devices)


class Compute:
    """What a run has found out on how to compute; part of its checkpoints.

    Args:
        device: of the model.
        precision: "fp16" scales losses, so that small gradients do not become zeros; others do not.

    Source of the scaling: Micikevicius et al., "Mixed Precision Training", arXiv 1710.03740, section 3.2.
    """

    def __init__(self, device: torch.device, precision: str):
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        self.training, self.evaluation = MicroBatches("training"), MicroBatches("evaluation")

    def state_dict(self) -> dict[str, Any]:
        """Plain data. Reading the scale waits for the device."""
        return {
            "scaler": self.scaler.state_dict(),
            "images_at_once": [self.training.images_at_once, self.evaluation.images_at_once],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on with it; with nothing, from a checkpoint that knows nothing of this.

        Raises:
            ValueError: it holds something else.
        """
        limits = state.get("images_at_once", [None, None])
        if len(limits) != 2 or any(limit is not None and (type(limit) is not int or limit < 1) for limit in limits):
            raise ValueError(f"images_at_once is {limits!r:.80}")
        self.training.images_at_once, self.evaluation.images_at_once = limits
        if self.scaler.is_enabled() and state.get("scaler"):
            self.scaler.load_state_dict(state["scaler"])

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Makes the gradients those of the loss itself, to be looked at and clipped."""
        self.scaler.unscale_(optimizer)

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """The optimizer's step, left out where a scaled gradient was not finite; the scale is then halved."""
        if self.scaler.is_enabled():
            # torch says so when it is built; after a checkpoint was loaded, each group says it.
            is_fused = all(group.get("fused") for group in optimizer.param_groups)
            optimizer._step_supports_amp_scaling = is_fused  # type: ignore[attr-defined]
        self.scaler.step(optimizer)
        self.scaler.update()
