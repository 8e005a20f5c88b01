"""The way from a picture to the network's input, said again in Pillow and numpy: the same pixels as torchvision's."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torchvision.transforms import v2

from data_loader.decode import decode_image
from data_loader.standalone import Preprocessing, evaluation_steps
from data_loader.transforms import resize_and_crop
from utils.errors import DataError


def run_lines(preparing, picture):
    """uint8 pixels_CHW of a picture, as the generated script makes them; only the reading and preparing is run."""
    lines = preparing.script("m.onnx", "probabilities", with_torch=False).splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("for path"))
    end = next(index for index, line in enumerate(lines) if "pixels_NCHW =" in line)
    names = {"np": np, "Image": Image, "ImageOps": ImageOps, "sys": SimpleNamespace(argv=["", str(picture)])}
    exec("\n".join(lines[start : end + 1]), names)
    return names["pixels_NCHW"][0]


def photo(folder, size_WH=(90, 61), mode="RGB", name="p.png", **options):
    """A picture with edges, slopes and noise."""
    width, height = size_WH
    generator = np.random.default_rng(3)
    y, x = np.mgrid[:height, :width]
    waves = np.stack([127 + 120 * np.sin(x / 5), y * 255 / height, (x + y) % 64 * 4], -1)
    pixels_HWC = np.clip(waves + generator.normal(0, 9, waves.shape), 0, 255).astype(np.uint8)
    image = Image.fromarray(pixels_HWC)
    if mode == "RGBA":
        image.putalpha(Image.fromarray(np.broadcast_to((x * 255 / width).astype(np.uint8), (height, width)).copy()))
    image.convert(mode).save(folder / name, **options)
    return folder / name


DEFAULT = [{"type": "Resize", "args": {"size": 37}}, {"type": "CenterCrop", "args": {"size": 32}}]
WAYS = {
    "nothing": (None, [], (3, 61, 90), 3),
    "the default rule": (resize_and_crop(32), DEFAULT, (3, 32, 32), 3),
    "to one size": ([v2.Resize([40, 30])], [{"type": "Resize", "args": {"size": [40, 30]}}], (3, 40, 30), 3),
    "one side in a list": (
        [v2.Resize([32], interpolation=v2.InterpolationMode.BILINEAR), v2.CenterCrop([30, 21])],
        [
            {"type": "Resize", "args": {"size": [32], "interpolation": "bilinear"}},
            {"type": "CenterCrop", "args": {"size": [30, 21]}},
        ],
        (3, 30, 21),
        3,
    ),
    "a crop that is larger": ([v2.CenterCrop(94)], [{"type": "CenterCrop", "args": {"size": 94}}], (3, 94, 94), 3),
    "a crop that is larger one way": (
        [v2.CenterCrop([40, 97])],
        [{"type": "CenterCrop", "args": {"size": [40, 97]}}],
        (3, 40, 97),
        3,
    ),
    "to grey": (
        [v2.Grayscale(), v2.CenterCrop(32)],
        [{"type": "Grayscale", "args": {}}, {"type": "CenterCrop", "args": {"size": 32}}],
        (1, 32, 32),
        3,
    ),
    "to grey of three channels": (
        [v2.Grayscale(3)],
        [{"type": "Grayscale", "args": {"num_output_channels": 3}}],
        (3, 61, 90),
        3,
    ),
    "read as grey": ([v2.CenterCrop(32)], [{"type": "CenterCrop", "args": {"size": 32}}], (1, 32, 32), 1),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_script_makes_the_pixels_of_the_evaluation_transforms(way: str, tmp_path: Path) -> None:
    transforms, steps, shape_CHW, channels = WAYS[way]
    picture = photo(tmp_path)
    image_CHW = decode_image(picture, channels)
    expected_CHW = v2.Compose(transforms)(image_CHW) if transforms else image_CHW

    found_CHW = run_lines(Preprocessing(shape_CHW, steps, channels), picture)

    assert tuple(expected_CHW.shape) == shape_CHW
    difference = np.abs(expected_CHW.numpy().astype(int) - found_CHW)
    # Pillow and torch round the weights of a resize in their own ways.
    assert difference.max() <= (1 if any(step["type"] in ("Resize", "Grayscale") for step in steps) else 0)
    assert (difference > 0).mean() < 0.02


@pytest.mark.parametrize("kind", ["turned", "RGBA", "P", "16 bit", "CMYK"])
def test_the_script_reads_files_as_the_loader_does(kind: str, tmp_path: Path) -> None:
    if kind == "turned":
        exif = Image.Exif()
        exif[274] = 6
        picture, shape_CHW = photo(tmp_path, name="p.jpg", exif=exif), (3, 90, 61)
    elif kind == "16 bit":
        picture, shape_CHW = tmp_path / "p.png", (3, 20, 30)
        Image.fromarray(np.random.default_rng(0).integers(0, 65536, (20, 30), np.uint16)).save(picture)
    else:
        picture, shape_CHW = photo(tmp_path, mode=kind, name="p.jpg" if kind == "CMYK" else "p.png"), (3, 61, 90)

    found_CHW = run_lines(Preprocessing(shape_CHW, [], 3), picture)

    assert np.array_equal(found_CHW, decode_image(picture).numpy())


@pytest.mark.parametrize(
    ("step", "named"),
    [
        ({"type": "FiveCrop", "args": {"size": 8}}, "FiveCrop"),
        ({"type": "Resize", "args": {"size": 8, "interpolation": "bicubic"}}, "Resize"),
        ({"type": "Resize", "args": {"size": 8, "max_size": 9}}, "Resize"),
        ({"type": "Resize", "args": {"size": 8, "antialias": False}}, "Resize"),
        ({"type": "x\nimport os", "args": {}}, "a transform"),
        ({"type": "Resize", "args": {"size": ["print(1)"]}}, "Resize"),
        ({"type": "Resize", "args": {"size": ["print(1)", 8]}}, "Resize"),
        ({"type": "CenterCrop", "args": {"size": "print(1)"}}, "CenterCrop"),
        ({"type": "CenterCrop", "args": {"size": [8.5]}}, "CenterCrop"),
        (None, "what this data loader does"),
    ],
)
def test_a_step_that_is_not_known_is_named_and_pictures_are_resized_plainly(step, named, tmp_path: Path) -> None:
    preparing = Preprocessing((3, 20, 30), None if step is None else [step], 3)
    picture = photo(tmp_path)

    found_CHW = run_lines(preparing, picture)

    assert preparing.unknown_step() == named
    assert "print(1)" not in preparing.script("m.onnx", "probabilities", with_torch=False)
    assert f"# Not done here: {named}. " in preparing.script("m.onnx", "probabilities", with_torch=False)
    with Image.open(picture) as image:
        expected_HWC = np.asarray(image.resize((30, 20), Image.Resampling.BILINEAR))
    assert np.array_equal(found_CHW, expected_HWC.transpose(2, 0, 1))


def test_scripts_are_about_fifteen_lines_and_none_is_too_long() -> None:
    for with_torch in (False, True):
        text = Preprocessing((3, 32, 32), DEFAULT, 3).script("m", "probabilities", with_torch=with_torch)

        lines = text.splitlines()
        assert len(lines) <= 20  # three of them for Resize and CenterCrop, one a comment
        assert max(map(len, lines)) <= 120


def test_a_file_name_is_only_a_name_in_the_script() -> None:
    name = "x'); import os; os.abort() #\n.onnx"

    text = Preprocessing((3, 32, 32), [], 3).script(name, "probabilities", with_torch=False)

    assert repr(name) in text
    assert len(text.splitlines()) == 18


@pytest.mark.parametrize(
    ("preparing", "why"),
    [
        (Preprocessing((3, 8, 8), [{"type": "ToDtype", "args": {}}], 3, is_float=True), "floats"),
        (Preprocessing((5, 8, 8), [], 5), "5 channels"),
    ],
)
def test_where_there_can_be_no_script_that_is_said(preparing: Preprocessing, why: str) -> None:
    assert why in preparing.why_no_script()
    with pytest.raises(DataError, match=why):
        preparing.script("m.onnx", "probabilities", with_torch=False)


@pytest.mark.parametrize(
    ("data_loader", "steps"),
    [
        ({"type": "ImageFolderDataLoader", "args": {"image_size": 32}}, DEFAULT),
        (
            {"type": "CsvDataLoader"},
            [{"type": "Resize", "args": {"size": 256}}, {"type": "CenterCrop", "args": {"size": 224}}],
        ),
        ({"type": "ShapesDataLoader", "args": {}}, []),
        ({"type": "MyDataLoader", "args": {}}, None),
        (
            {
                "type": "MyDataLoader",
                "args": {"eval_transform": ["Grayscale", {"type": "Resize", "args": {"size": 9}}]},
            },
            [{"type": "Grayscale", "args": {}}, {"type": "Resize", "args": {"size": 9}}],
        ),
        (
            {
                "type": "MnistDataLoader",
                "args": {"eval_transform": [{"type": "Compose", "args": {"transforms": ["Grayscale"]}}]},
            },
            [{"type": "Grayscale", "args": {}}],
        ),
    ],
)
def test_steps_come_from_the_config(data_loader, steps) -> None:
    assert evaluation_steps({}, data_loader) == steps


def test_the_default_steps_are_those_that_loaders_build() -> None:
    steps = evaluation_steps({}, {"type": "ImageFolderDataLoader", "args": {"image_size": 48}})

    built = resize_and_crop(48)

    assert steps is not None
    assert [step["type"] for step in steps] == [type(transform).__name__ for transform in built]
    image_CHW = torch.zeros(3, 70, 90, dtype=torch.uint8)
    named = v2.Compose([getattr(v2, step["type"])(**step["args"]) for step in steps])
    assert named(image_CHW).shape == v2.Compose(built)(image_CHW).shape
    assert built[0].size == [steps[0]["args"]["size"]]


def test_what_the_checkpoint_records_speaks_where_the_config_is_silent() -> None:
    steps, other = ([{"type": "CenterCrop", "args": {"size": side}}] for side in (9, 5))
    recorded = {"pixels": {"eval_transform": steps}}

    assert evaluation_steps(recorded, {"type": "ImageFolderDataLoader"}) == steps
    assert evaluation_steps(recorded, {"type": "ImageFolderDataLoader", "args": {"eval_transform": other}}) == other


NESTED = ["Grayscale"]
for _ in range(30):
    NESTED = [{"type": "Compose", "args": {"transforms": NESTED}}]


@pytest.mark.parametrize("recorded", [5, "Resize", [5], [{"args": {}}], [{"type": "Resize", "args": 5}], NESTED])
def test_a_strangers_list_of_transforms_is_refused(recorded) -> None:
    with pytest.raises(DataError, match="eval_transform"):
        evaluation_steps({"pixels": {"eval_transform": recorded}}, {"type": "ShapesDataLoader"})


def test_the_metadata_says_it_in_words_and_as_data() -> None:
    preparing = Preprocessing.of((3, 32, 32), DEFAULT, {"type": "ImageFolderDataLoader", "args": {}}, False)

    data = json.loads(json.dumps(preparing.as_data([0.5], [0.2])))

    assert data["eval_transform"] == DEFAULT
    assert data["inside_the_graph"] == {"divide_by": 255, "mean": [0.5], "std": [0.2]}
    assert data["input"] == "uint8, batch x 3 x 32 x 32"
    assert "the shorter side resized to 37 px, the middle 32 x 32 px" in data["in_words"]
    assert Preprocessing.of((1, 8, 8), DEFAULT, {"args": {"channels": 1}}, False).file_channels == 1
    assert Preprocessing.of((1, 8, 8), [{"type": "Grayscale", "args": {}}], {}, False).file_channels == 3
