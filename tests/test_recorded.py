"""Evaluation transforms as plain data: the same transforms come back, and nothing else can."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.transforms import v2

from data_loader.data_loaders import ImageFolderDataLoader
from data_loader.dataset import ImageTensors
from data_loader.parts import ImageDataLoader, Parts, Pixels
from data_loader.recorded import build_transforms, pixel_path, recorded_pixels
from utils.config_plan import Plan
from utils.errors import CheckpointError, ConfigError
from utils.plain import require_plain

GOOD = {"shape_CHW": [3, 16, 16], "mean": [0.5], "std": [0.5]}


def loader_of(folder: Path, **options: Any) -> ImageFolderDataLoader:
    return ImageFolderDataLoader(folder, cache="off", batch_size=6, **options)


def path_of(record: Any, **args: Any) -> Any:
    plan = Plan(("data_loader",), ImageFolderDataLoader, args)
    checkpoint = {"input": {**GOOD, "pixels": record}}
    return pixel_path(checkpoint, plan, is_typed=False, allowed=(), file="x.pth")


@pytest.mark.parametrize(
    "transforms",
    [
        None,
        [],
        [v2.Resize((12, 14), interpolation=v2.InterpolationMode.BICUBIC, antialias=False), v2.RGB()],
        [v2.Compose([v2.Resize(20, max_size=30), v2.Pad(3, fill=7, padding_mode="constant")]), v2.CenterCrop((8, 9))],
        [v2.Resize(20), v2.CenterCrop(16), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.4], [0.3])],
    ],
)
def test_the_same_transforms_come_back(transforms: Any, shapes_dir: Path) -> None:
    loader = loader_of(shapes_dir, eval_transform=transforms, transform=transforms, eval_batch_size=9)

    record = recorded_pixels(loader)
    found = path_of(record)

    require_plain(record)
    assert (found.channels, found.scaled_decoding, found.batch_size) == (3, False, 9)
    assert [type(one) for one in found.transforms] == [type(one) for one in loader.eval_transform]
    image = torch.randint(256, (3, 40, 50), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    expected, rebuilt = (
        v2.Compose(steps)(image) if steps else image for steps in (loader.eval_transform, found.transforms)
    )
    assert torch.equal(expected, rebuilt)


def test_channels_and_scaled_decoding_are_those_of_the_loader(shapes_dir: Path) -> None:
    record = recorded_pixels(loader_of(shapes_dir, channels=1, scaled_decoding=True, image_size=8))

    assert record is not None
    assert (record["channels"], record["scaled_decoding"]) == (1, True)


def test_images_in_memory_have_channels_too() -> None:
    class Digits(ImageDataLoader):
        def __init__(self) -> None:
            images = ImageTensors(torch.zeros(4, 1, 5, 5, dtype=torch.uint8), [0, 1, 0, 1], ["a", "b"], name="train")
            super().__init__(
                Parts("d", train=images), Pixels([], [], (0.1,), (0.3,)), training=True, validation_split=0
            )

    record = recorded_pixels(Digits())

    assert record == {"channels": 1, "scaled_decoding": False, "batch_size": 16, "eval_transform": []}


class _Secret(v2.Transform):
    def __init__(self, amount: int):
        super().__init__()
        self._amount = amount

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        return inpt


class _Changed(v2.Resize):
    pass


@pytest.mark.parametrize(
    "odd", [_Secret(3), _Changed(4), v2.Lambda(torch.neg), v2.RandomErasing(), v2.Compose([_Secret(1)])]
)
def test_what_a_config_could_not_say_is_not_recorded_and_predict_says_so(odd: Any, shapes_dir: Path) -> None:
    record = recorded_pixels(loader_of(shapes_dir, eval_transform=[odd]))

    assert record is not None
    assert "eval_transform" not in record
    with pytest.raises(CheckpointError, match=r"does not hold the transforms of its evaluation .*--set"):
        path_of(record)


def test_a_transform_that_was_changed_after_it_was_made_is_not_recorded(shapes_dir: Path) -> None:
    resize = v2.Resize(8)
    resize.extra = 1

    record = recorded_pixels(loader_of(shapes_dir, eval_transform=[resize]))

    assert record is not None
    assert "eval_transform" not in record


def test_transforms_of_the_config_count_where_none_are_recorded_or_some_are_typed() -> None:
    written = [Plan((), v2.CenterCrop, {"size": 5})]
    plan = Plan(("data_loader",), ImageFolderDataLoader, {"eval_transform": written, "batch_size": 3, "channels": 1})
    recorded = {"channels": 3, "scaled_decoding": False, "batch_size": 4, "eval_transform": ["RGB"]}

    def found(record: Any, *, is_typed: bool) -> Any:
        checkpoint = {"input": GOOD | ({"pixels": record} if record else {})}
        return pixel_path(checkpoint, plan, is_typed=is_typed, allowed=(), file="x.pth")

    assert [type(one) for one in found(recorded, is_typed=False).transforms] == [v2.RGB]
    assert found(recorded, is_typed=True).transforms[0].size == (5, 5)
    old = found(None, is_typed=False)
    assert (old.transforms[0].size, old.batch_size, old.channels) == ((5, 5), 3, 1)


@pytest.mark.parametrize(
    "spec",
    [
        5,
        "os.system",
        "subprocess.Popen",
        {"type": "torch.nn.Module"},
        {"type": "Lambda"},
        {"type": "__import__"},
        {"type": "Compose", "args": {"transforms": [{"type": "builtins.eval"}]}},
        {"type": "Resize", "args": {"x": 1}},
    ],
)
def test_a_strangers_checkpoint_names_nothing_outside_the_menu(spec: Any) -> None:
    record = {"channels": 3, "scaled_decoding": False, "batch_size": 4, "eval_transform": [spec]}

    with pytest.raises(ConfigError, match=r"the transforms recorded in x\.pth"):
        path_of(record)


@pytest.mark.parametrize(
    "odd",
    [
        None,
        5,
        {},
        GOOD | {"shape_CHW": [3, 1 << 20, 1 << 20]},
        GOOD | {"shape_CHW": [3, 16]},
        GOOD | {"mean": "x"},
        GOOD | {"pixels": 5},
        GOOD | {"pixels": {"channels": 7, "scaled_decoding": False, "batch_size": 4}},
        GOOD | {"pixels": {"channels": 3, "scaled_decoding": False, "batch_size": 0}},
    ],
)
def test_odd_parts_are_refused(odd: Any) -> None:
    plan = Plan(("data_loader",), ImageFolderDataLoader, {})

    with pytest.raises(CheckpointError, match="does not say how its images were made"):
        pixel_path({"input": odd}, plan, is_typed=False, allowed=(), file="x.pth")


def test_constructors_judge_recorded_values() -> None:
    with pytest.raises(ConfigError, match="Resize"):
        build_transforms([{"type": "Resize", "args": {"size": [1, 2, 3]}}], "x.pth")
