"""What a checkpoint says of the images that its network takes, and of its scores; looked at, since a stranger may have
written it.
"""

import math
from dataclasses import dataclass
from typing import Any

from utils.errors import CheckpointError

_MAX_VALUES = 3 * 89_478_485  # of one image; what data_loader/decode.py would still read


@dataclass(frozen=True)
class NetworkInput:
    """Shape of one image, and mean and std per channel; None where images are only scaled, or are finished floats."""

    shape_CHW: tuple[int, int, int]
    mean: list[float] | None
    std: list[float] | None


def network_input(checkpoint: dict[str, Any]) -> NetworkInput:
    """What the checkpoint's entry "input" says, which a stranger may have written.

    Raises:
        CheckpointError: it is missing, or makes no sense.
    """
    entry = checkpoint.get("input") or {}
    shape, (mean, std) = entry.get("shape_CHW"), (entry.get(name) for name in ("mean", "std"))
    sides = shape if isinstance(shape, list) and all(type(side) is int and side > 0 for side in shape) else []
    if len(sides) != 3 or math.prod(sides) > _MAX_VALUES:
        raise CheckpointError(
            f"the checkpoint does not tell the size of its images: 'input.shape_CHW' is {shape!r:.60}"
        )
    for name, values, least in (("mean", mean, -math.inf), ("std", std, 0)):
        is_list = isinstance(values, list) and len(values) in (1, sides[0])
        if values is not None and not (is_list and all(is_number(value) and value > least for value in values)):
            raise CheckpointError(f"the checkpoint's 'input.{name}' is {values!r:.60}, no numbers for its channels")
    return NetworkInput((sides[0], sides[1], sides[2]), mean, std)


def temperature_of(checkpoint: dict[str, Any]) -> float:
    """What the scores are divided by before the softmax: 1, or what a calibration found."""
    value = checkpoint.get("temperature", 1.0)
    if not is_number(value) or value <= 0:
        raise CheckpointError(f"the checkpoint's 'temperature' is {value!r:.60}; a number above 0 it must be")
    return float(value)


def is_number(value: Any) -> bool:
    """Whether it is finite, and no bool."""
    return type(value) in (int, float) and math.isfinite(value)
