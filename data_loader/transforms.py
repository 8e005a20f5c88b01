"""The transforms that loaders use where a config names none, and how a list of transforms becomes one.

Pixels stay uint8 through all of this: a quarter of the memory to collate and to copy. They become floats, scaled
and normalised, as a whole batch on the device (trainer/pixels.py).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from utils.errors import ConfigError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def resize_and_crop(image_size: int) -> list[v2.Transform]:
    """The shorter side to 256/224 of `image_size`, then the middle square of `image_size` pixels.

    Source: the evaluation pipeline that torchvision's ImageNet models are judged with.
    """
    return [v2.Resize(round(image_size * 256 / 224), antialias=True), v2.CenterCrop(image_size)]


class _DenseResizedCrop(v2.RandomResizedCrop):
    """torchvision's RandomResizedCrop, bit for bit, for images whose channels lie last in memory.

    A crop leaves gaps between its lines, for which torch resizes in a slower way; copied together first, all takes
    seven tenths of the time.
    """

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """The crop `params`, resized."""
        if type(inpt) is not torch.Tensor or inpt.ndim != 3 or inpt.stride(0) != 1:
            return super().transform(inpt, params)
        crop_HWC = functional.crop(inpt, **params).permute(1, 2, 0).contiguous()
        crop_CHW = crop_HWC.permute(2, 0, 1)
        return functional.resize(crop_CHW, self.size, interpolation=self.interpolation, antialias=self.antialias)


def compose(transforms: Sequence[v2.Transform]) -> v2.Transform | None:
    """One transform out of a list; None out of an empty list."""
    steps = [_dense(transform) for transform in transforms]
    if len(steps) <= 1:
        return steps[0] if steps else None
    return v2.Compose(steps)


def _dense(transform: v2.Transform) -> v2.Transform:
    if type(transform) is not v2.RandomResizedCrop:
        return transform
    crop = transform
    return _DenseResizedCrop(crop.size, crop.scale, crop.ratio, crop.interpolation, crop.antialias)


def makes_floats(transforms: Sequence[v2.Transform]) -> bool:
    """Whether a list gives finished floats, which are then neither scaled nor normalised again."""
    return any(
        isinstance(transform, v2.Normalize)
        or (isinstance(transform, v2.ToDtype | v2.ConvertImageDtype) and _is_float(transform.dtype))
        or (isinstance(transform, v2.Compose) and makes_floats(transform.transforms))
        for transform in transforms
    )


def _is_float(dtype: object) -> bool:
    return isinstance(dtype, torch.dtype) and dtype.is_floating_point


def check_pixel_path(
    train: Sequence[v2.Transform],
    evaluation: Sequence[v2.Transform],
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> bool:
    """Whether both lists give floats.

    Raises:
        ConfigError: one does and the other does not, or a `mean` or `std` is given that floats would never meet.
    """
    floats = makes_floats(train)
    if floats != makes_floats(evaluation):
        raise ConfigError(
            "one of transform and eval_transform gives floats (Normalize, ToDtype), the other uint8 pixels; leave both "
            "to mean and std, or write both out",
            "data_loader.args",
        )
    for name, value in (("mean", mean), ("std", std)):
        if floats and value is not None:
            raise ConfigError(
                "the transforms normalise already (Normalize, ToDtype); remove one or the other",
                f"data_loader.args.{name}",
                "data_loader.args.transform",
            )
    return floats
