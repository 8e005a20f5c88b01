"""The transforms that loaders use where a config names none, and how a list of transforms becomes one.

Pixels stay uint8 through all of this: a quarter of the memory to collate and to copy. They become floats, scaled
and normalised, as a whole batch on the device (trainer/pixels.py).
"""

from collections.abc import Sequence

import torch
from torchvision.transforms import v2

from utils.errors import ConfigError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def resize_and_crop(image_size: int) -> list[v2.Transform]:
    """The shorter side to 256/224 of `image_size`, then the middle square of `image_size` pixels.

    Source: the evaluation pipeline that torchvision's ImageNet models are judged with.
    """
    return [v2.Resize(round(image_size * 256 / 224), antialias=True), v2.CenterCrop(image_size)]


def compose(transforms: Sequence[v2.Transform]) -> v2.Transform | None:
    """One transform out of a list; None out of an empty list."""
    if len(transforms) <= 1:
        return transforms[0] if transforms else None
    return v2.Compose(list(transforms))


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
