"""What the machine is fast at: which precision a run computes in, and how float32 itself is multiplied.

Called by the entry scripts, before the first step. What the choice does to a network is in trainer/compute.py.
"""

from dataclasses import dataclass
from typing import Literal

import torch

from utils.errors import ConfigError

PrecisionName = Literal["fp32", "bf16", "fp16"]
# Below so much forward arithmetic in a batch, converting numbers and starting more kernels costs what bfloat16 gains.
# A fixed rule and no measurement: the same config must make the same choice each time, or it would not repeat its bits.
MIN_BATCH_GFLOPS = {"cpu": 10.0, "cuda": 100.0}
TF32_SINCE = (8, 0)


@dataclass(frozen=True)
class Precision:
    """What matrix products and convolutions of a run are computed in, and why, in words."""

    name: PrecisionName
    reason: str

    def __str__(self) -> str:
        return f"{self.name} ({self.reason})"


def fast_bf16(device: torch.device) -> tuple[bool, str]:
    """Whether a device computes faster in bfloat16 than in float32, and what tells."""
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        return (major, minor) >= TF32_SINCE, f"compute capability {major}.{minor}"
    if device.type == "cpu":
        # Others can compute in it too, step by step, and are several times slower at that.
        has = torch.cpu.get_capabilities()
        there = [name for name in ("amx_bf16", "avx512_bf16") if has.get(name)]
        words = " and ".join(name.replace("_", "-").upper() for name in there)
        return bool(there), f"this CPU has {words or 'neither AMX-BF16 nor AVX512-BF16'}"
    return False, f"nothing is known of {device.type}"


def choose_precision(
    asked: str, device: torch.device, *, batch_gflops: float | None = None, before: str | None = None
) -> Precision:
    """The precision of a run.

    Args:
        asked: "auto", or one to take.
        device: that holds the model.
        batch_gflops: forward arithmetic of a batch; None where `before` decides.
        before: of the run that is continued or tested; "auto" keeps it, unless this machine is slow at it.

    Raises:
        ConfigError: the device cannot compute in it.
    """
    is_fast, what = fast_bf16(device)
    if asked == "fp16" and device.type != "cuda":
        raise ConfigError(
            "fp16 needs a GPU, and this run is on the CPU; use 'auto', which is bf16 where that is faster",
            "trainer.precision",
        )
    if asked in ("fp32", "fp16"):
        return Precision(asked, "as trainer.precision says")  # type: ignore[arg-type]
    if asked == "bf16":
        return Precision("bf16", f"as trainer.precision says{'' if is_fast else f'; slower than fp32: {what}'}")
    if before == "fp32" or (before == "fp16" and device.type == "cuda"):
        return Precision(before, "auto: as the run began")  # type: ignore[arg-type]
    if not is_fast:
        return Precision("fp32", f"auto: {what}")
    if before is not None:
        return Precision("bf16", f"auto: as the run began, {what}")
    least = MIN_BATCH_GFLOPS[device.type]
    if batch_gflops is not None and batch_gflops < least:
        return Precision(
            "fp32", f"auto: {what}, yet a batch is {batch_gflops:.3g} GFLOPs, and bf16 pays from {least:g}"
        )
    return Precision("bf16", f"auto: {what}")


def use_fast_kernels(device: torch.device, *, asked: str, deterministic: bool) -> None:
    """Lets a GPU take its fast ways: TF32 for float32 products, and the fastest convolution for each shape.

    Args:
        device: that holds the model; on a CPU nothing changes.
        asked: the config's precision; "fp32" in so many words means all digits.
        deterministic: the search for the fastest convolution finds now this one, now that; it is left out.
    """
    if device.type != "cuda":
        return
    # Not by `fp32_precision`: torch's own compiler asks for `allow_tf32`, which raises after that was set.
    is_tf32 = asked != "fp32" and torch.cuda.get_device_capability(device) >= TF32_SINCE
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = is_tf32
    torch.backends.cudnn.benchmark = not deterministic
