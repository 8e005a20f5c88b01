"""Images to hold an exported file against: those that a test uses, or made ones where the data is not here."""

from dataclasses import dataclass

import torch

from data_loader.parts import ImageDataLoader
from parse_config import ConfigParser
from trainer.shipped import made_images
from utils.errors import ConfigError, DataError
from utils.network_input import NetworkInput


@dataclass(frozen=True)
class CheckImages:
    """Images to compare on, and in words which they are; `why_made` says why there are no real ones."""

    images_NCHW: torch.Tensor
    source: str
    why_made: str = ""


def check_images(config: ConfigParser, expected: NetworkInput, wanted: int) -> CheckImages:
    """Images of the validation or test part, or made ones where the data of the config is not here.

    Raises:
        UserError: data that was named on the command line cannot be read, or images have another shape.
    """
    plan = config.plans["data_loader"]
    try:
        images, source = real_images(config, wanted)
    except (DataError, OSError) as error:  # OSError: from a loader of one's own
        if any(path.startswith("data_loader.") for path, _, _ in config.changes):
            raise
        if expected.mean is None and not issubclass(plan.target, ImageDataLoader):  # type: ignore[arg-type]
            raise DataError(f"without an image it cannot be told whether the network takes floats: {error}") from error
        images_NCHW = made_images(expected.shape_CHW, is_float=expected.mean is None)
        why = (str(error).splitlines() or [type(error).__name__])[0]
        return CheckImages(images_NCHW, f"{len(images_NCHW)} made images", why)
    for image in images:
        if tuple(image.shape) != expected.shape_CHW:
            message = f"images come out as {list(image.shape)}, the network was trained on {list(expected.shape_CHW)}"
            raise ConfigError(message, "data_loader.args.eval_transform")
    images_NCHW = torch.stack(images)
    return CheckImages(images_NCHW if images_NCHW.dtype == torch.uint8 else images_NCHW.float(), source)


def real_images(config: ConfigParser, wanted: int) -> tuple[list[torch.Tensor], str]:
    """Up to so many images, from all over the part that a test uses, and in words which they are."""
    plan = config.plans["data_loader"]
    if plan.takes("download"):
        plan.args["download"] = False
    if plan.takes("training"):
        if not issubclass(plan.target, ImageDataLoader):  # type: ignore[arg-type]
            # One that was written for pytorch-template would split its test images.
            ways = {"validation_split": 0, "shuffle": False}
            plan.args |= {name: value for name, value in ways.items() if plan.takes(name)}
        classes = config.checkpoint["classes"] if config.checkpoint is not None else None
        loader = config.init_obj("data_loader", seed=config["seed"], training=False, classes=classes)
    else:
        loader = config.init_obj("data_loader", seed=config["seed"])
        loader = loader.split_validation() or loader
    count = len(loader.indices)
    chosen = loader.indices[torch.linspace(0, count - 1, min(count, wanted)).round().long()]
    images = []
    for index in chosen.tolist():
        try:
            image = loader.eval_dataset[index][0]
        except DataError:
            continue  # a damaged file says nothing on whether two programs agree
        if not isinstance(image, torch.Tensor):
            raise DataError(f"{plan.type_name}: gives no tensors but {type(image).__name__}")
        images.append(image)
    if not images:
        raise DataError(f"{plan.type_name}: not one image can be read")
    source = getattr(loader, "source", f"{count} images of {plan.type_name}")
    return images, f"{len(images)} of the {source}" if len(images) < count else f"all {source}"
