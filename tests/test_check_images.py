"""Which images an exported file is compared on: real ones from all over the test part, or made ones."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from parse_config import ConfigParser
from utils.command_line import Parser
from utils.errors import ConfigError, DataError
from utils.network_input import NetworkInput
from wiring.check_images import check_images, real_images

SMALL = NetworkInput((3, 16, 16), [0.5], [0.2])


def config_of(config: dict[str, Any], folder: Path, *words: str) -> ConfigParser:
    """As export.py gets it: a checkpoint's config with the words on top."""
    (folder / "c.json").write_text(json.dumps(config), encoding="utf-8")
    return ConfigParser.from_args(Parser().read((), ["-c", str(folder / "c.json"), *words]))


def test_images_come_from_all_over_the_part(small_config: Any, tmp_path: Path, shapes_dir: Path) -> None:
    images, source = real_images(config_of(small_config(), tmp_path), 3)

    files = sorted((shapes_dir / "test").glob("*/*.png"))
    assert source.startswith("3 of the 24 test images of ")
    for image_CHW, file in zip(images, (files[0], files[12], files[23]), strict=True):
        with Image.open(file) as picture:
            assert image_CHW.permute(1, 2, 0).numpy().tobytes() == picture.convert("RGB").tobytes()


def test_all_are_taken_where_there_are_fewer(small_config: Any, tmp_path: Path) -> None:
    check = check_images(config_of(small_config(), tmp_path), SMALL, 1000)

    assert check.images_NCHW.shape == (24, 3, 16, 16)
    assert check.images_NCHW.dtype == torch.uint8
    assert check.source.startswith("all 24 test images of ")


def test_without_the_data_images_are_made_and_the_reason_is_told(small_config: Any, tmp_path: Path) -> None:
    config = small_config()
    config["data_loader"]["args"]["data_dir"] = str(tmp_path / "gone")

    check = check_images(config_of(config, tmp_path), SMALL, 10)

    assert check.source == "64 made images"
    assert "gone" in check.why_made
    assert check.images_NCHW.dtype == torch.uint8
    floats = check_images(config_of(config, tmp_path), NetworkInput((3, 16, 16), None, None), 10)
    assert floats.images_NCHW.dtype == torch.float32


def test_data_that_was_named_for_it_must_be_there(small_config: Any, tmp_path: Path) -> None:
    config = config_of(small_config(), tmp_path)
    config.changes = [("data_loader.args.data_dir", "a", "b")]
    config.plans["data_loader"].args["data_dir"] = tmp_path / "gone"

    with pytest.raises(DataError, match="gone"):
        check_images(config, SMALL, 10)


def test_images_of_another_size_are_refused(small_config: Any, tmp_path: Path) -> None:
    config = config_of(small_config(), tmp_path)

    with pytest.raises(ConfigError, match=r"\[3, 16, 16\], the network was trained on \[3, 9, 9\]"):
        check_images(config, NetworkInput((3, 9, 9), [0.5], [0.2]), 10)


def test_nothing_is_downloaded(tmp_path: Path, small_config: Any) -> None:
    config = small_config()
    config["arch"] = {"type": "MLP"}
    config["data_loader"] = {"type": "MnistDataLoader", "args": {"data_dir": str(tmp_path / "none")}}

    check = check_images(config_of(config, tmp_path), NetworkInput((1, 28, 28), [0.1], [0.3]), 10)

    assert '"download" is false' in check.why_made
    assert not (tmp_path / "none").exists()
