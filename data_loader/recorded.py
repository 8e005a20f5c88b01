"""How a loader makes the network's pixels of a picture in evaluation, as plain data in every checkpoint.

train.py writes it, so that predict.py can treat new pictures alike, without the training data and without the loader.
Transforms come back through the menu and the checks of a config: a stranger's checkpoint can name nothing else.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NotRequired

import torch
from annotated_types import Ge, Le
from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from torch import nn
from torchvision.transforms import v2
from typing_extensions import TypedDict

from base.base_data_loader import BaseDataLoader
from data_loader.cache import CachedImages
from data_loader.dataset import ImageFiles, ImageTensors
from data_loader.menu import NESTED
from data_loader.parts import ImageDataLoader
from utils.command_line import ROOT
from utils.config_check import Checker
from utils.config_layers import LayeredConfig, Origin
from utils.config_plan import Plan
from utils.config_signature import parameters_of
from utils.errors import CheckpointError, ConfigError

KEY = "data_loader.args.eval_transform"
_SECTION = NESTED["eval_transform"]
_Side = Annotated[int, Ge(1), Le(1 << 15)]


class _NotPlainError(Exception):
    """A transform, or a value in it, that a config could not say."""


@with_config(ConfigDict(strict=True))
class _Pixels(TypedDict):
    channels: Literal[1, 3]
    scaled_decoding: bool
    batch_size: Annotated[int, Ge(1), Le(1 << 20)]
    eval_transform: NotRequired[list[Any]]
    why_not: NotRequired[str]


@with_config(ConfigDict(strict=True, extra="allow"))
class _Input(TypedDict):
    shape_CHW: tuple[_Side, _Side, _Side]
    mean: list[float] | None
    std: list[float] | None
    pixels: NotRequired[_Pixels | None]


@dataclass(frozen=True)
class PixelPath:
    """From a picture's file to what the network is shown, as in the evaluation of the training.

    Args:
        channels: 3 for RGB, 1 for grey.
        scaled_decoding: see `ImageFolderDataLoader`.
        transforms: after decoding.
        batch_size: of evaluation.
        shape_CHW: of a training image after its transforms.
    """

    channels: int
    scaled_decoding: bool
    transforms: list[v2.Transform]
    batch_size: int
    shape_CHW: tuple[int, int, int]


def recorded_input(loader: BaseDataLoader) -> dict[str, Any]:
    """What a checkpoint says of the network's input, and of how pictures become such.

    Args:
        loader: of the training images.
    """
    return {
        "held_back": loader.held_back(),
        "shape_CHW": list(loader.first_image().shape),
        "mean": None if loader.mean is None else list(loader.mean),
        "std": None if loader.std is None else list(loader.std),
        "pixels": recorded_pixels(loader),
    }


def recorded_pixels(loader: BaseDataLoader) -> dict[str, Any] | None:
    """Plain data from which `pixel_path` makes the same path again; None for a loader that reads in its own way.

    Args:
        loader: of the training images.
    """
    data = loader.samples
    data = data.files if isinstance(data, CachedImages) else data
    if not isinstance(loader, ImageDataLoader):
        return None
    if type(data) is ImageFiles:
        channels, is_scaled = data.channels, data.scaled_decoding
    elif type(data) is ImageTensors:
        channels, is_scaled = int(data.images_NCHW.shape[1]), False
    else:
        return None
    record = {"channels": channels, "scaled_decoding": is_scaled, "batch_size": loader.eval_batch_size}
    try:
        specs = [_spec(transform) for transform in loader.eval_transform]
        rebuilt = build_transforms(specs, "this run")
    except (_NotPlainError, ConfigError) as error:
        return record | {"why_not": (str(error).splitlines() or [""])[0][:200]}
    wrong = [old for old, new in zip(loader.eval_transform, rebuilt, strict=True) if not _is_same(old, new)]
    if wrong:
        return record | {"why_not": f"{type(wrong[0]).__name__} does not keep its arguments under their names"}
    return record | {"eval_transform": specs}


def pixel_path(
    checkpoint: dict[str, Any], plan: Plan, *, is_typed: bool, allowed: Sequence[str], file: Any
) -> PixelPath:
    """The path that a checkpoint was evaluated with.

    Args:
        checkpoint: see `load_checkpoint`.
        plan: of the config's loader, whose transforms count where the checkpoint has none recorded.
        is_typed: transforms were given for this command, and win over the recorded ones.
        allowed: packages that the command line allows.
        file: of the checkpoint, for messages.

    Raises:
        UserError: it has nothing of the kind, or nothing sound.
    """
    try:
        found = TypeAdapter(_Input).validate_python(_with_tuple(checkpoint.get("input")))
    except ValidationError as error:
        where = ".".join(str(key) for key in error.errors()[0]["loc"][:2])
        raise CheckpointError(f"{file}: does not say how its images were made (input{where and '.' + where})") from None
    record: Any = found.get("pixels")
    if record is None:
        if not issubclass(plan.target, ImageDataLoader):  # type: ignore[arg-type]
            raise CheckpointError(
                f"{file}: {plan.type_name} reads images in its own way, which predict.py cannot repeat"
            )
        record = _of_config(plan, found["shape_CHW"])
    written = plan.args.get("eval_transform")
    if (is_typed or "eval_transform" not in record) and written is not None:
        transforms = [one.build() for one in written]
    elif "eval_transform" in record:
        transforms = build_transforms(record["eval_transform"], file, allowed)
    else:
        why = record.get("why_not", "it was trained before transforms were recorded")
        raise CheckpointError(
            f"{file}: does not hold the transforms of its evaluation ({why}). Say them with --set '{KEY}=[...]', or "
            f"write them into the config and continue the run: its next checkpoint holds them"
        )
    return PixelPath(
        record["channels"], record["scaled_decoding"], transforms, record["batch_size"], found["shape_CHW"]
    )


def build_transforms(specs: Sequence[Any], source: Any, allowed: Sequence[str] = ()) -> list[v2.Transform]:
    """Transforms as a config would say them.

    Args:
        specs: `{"type", "args"}` of each, or names.
        source: where they are from, for messages.
        allowed: packages whose classes they may be too.

    Raises:
        ConfigError: one of them is not on the menu of transforms, or cannot have such arguments.
    """
    layers = LayeredConfig()
    layers.lay({"eval_transform": list(specs)}, Origin(f"the transforms recorded in {source}"))
    checker = Checker(layers, NESTED, ROOT, allowed)
    plans = [checker.plan(spec, ("eval_transform", number), _SECTION) for number, spec in enumerate(specs)]
    if layers.problems:
        raise layers.error(layers.problems)
    return [plan.build() for plan in plans if plan is not None]


def _of_config(plan: Plan, shape_CHW: tuple[int, int, int]) -> dict[str, Any]:
    """What a config tells by itself, of a checkpoint from before this was recorded."""
    size = plan.args.get("eval_batch_size") or plan.args.get("batch_size", 16)
    channels = plan.args.get("channels", 1 if shape_CHW[0] == 1 else 3)
    return {"channels": channels, "scaled_decoding": plan.args.get("scaled_decoding", False), "batch_size": size}


def _with_tuple(found: Any) -> Any:
    shape = found.get("shape_CHW") if isinstance(found, dict) else None
    return found | {"shape_CHW": tuple(shape)} if isinstance(shape, list) else found


def _spec(transform: v2.Transform) -> dict[str, Any]:
    kind = _SECTION.table.find(type(transform).__name__)
    if kind is None or kind is not type(transform):
        raise _NotPlainError(f"{type(transform).__name__} is not a transform that a config could name")
    args = {}
    for name in parameters_of(kind):  # type: ignore[arg-type]  # classes can be hashed
        if name not in vars(transform):
            raise _NotPlainError(f"{kind.__name__} does not keep its argument {name}")
        args[name] = _plain(vars(transform)[name], f"{kind.__name__}'s {name}")
    return {"type": kind.__name__, "args": args}


def _plain(value: Any, what: str) -> Any:
    if isinstance(value, v2.Transform):
        return _spec(value)
    if isinstance(value, enum.Enum):
        return _plain(value.value, what)
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    if isinstance(value, list | tuple):
        return [_plain(item, what) for item in value]
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise _NotPlainError(f"{what} is a {type(value).__name__}")


def _is_same(one: Any, other: Any) -> bool:
    """Whether two transforms have the same settings, those of transforms inside them included."""
    inner, others = getattr(one, "transforms", None), getattr(other, "transforms", None)
    if isinstance(inner, list | tuple) and isinstance(others, list | tuple):
        return type(one) is type(other) and len(inner) == len(others) and all(map(_is_same, inner, others))
    return type(one) is type(other) and _settings(one) == _settings(other)


def _settings(transform: v2.Transform) -> str:
    """In words; a list means the same as a tuple, and the value of an enum the same as its member."""
    inherited = vars(nn.Module())
    return repr({name: _listed(value) for name, value in vars(transform).items() if name not in inherited})


def _listed(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return value.value
    return [_listed(item) for item in value] if isinstance(value, list | tuple) else value
