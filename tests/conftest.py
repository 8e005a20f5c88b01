"""What tests share: one thread, so that results are the same anywhere; no network; real images where they are."""

import json
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import logger.recorder
import train
from utils import cache_folder

ROOT = Path(__file__).resolve().parent.parent
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that reaches for the network fails at once, also on a machine that has one."""

    connect = socket.socket.connect

    def refuse(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX:  # loader workers hand over memory through such sockets
            raise OSError("tests are offline")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(autouse=True, scope="session")
def _own_cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Decoded pixels are never kept in the project's own folder; runs in other processes turn the cache off."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache_folder, "CACHE_DIR", tmp_path_factory.mktemp("cache"))
        yield


@pytest.fixture(autouse=True)
def _no_drawing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures and reports take most of the time of so short runs; tests marked `draws` have them."""
    if request.node.get_closest_marker("draws") is None:
        monkeypatch.setattr(logger.recorder, "draw_results", lambda frame, path, best_epoch: path.touch())
        for name in ("draw_batch", "draw_answers", "draw_confusion"):
            monkeypatch.setattr(logger.recorder, name, lambda *what: np.zeros((1, 1, 3), np.uint8))
        monkeypatch.setattr(train, "report_on_run", lambda *what: None)


@pytest.fixture
def real_images() -> Callable[[str], Path]:
    """`real_images("MNIST")` is data/MNIST; the test is skipped, by that name, where it is absent."""

    def folder(name: str) -> Path:
        path = ROOT / "data" / name
        if not path.is_dir():
            pytest.skip(f"data/{name} is not on this machine")
        return path

    return folder


@pytest.fixture(scope="session")
def shapes_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small drawn image-folder tree: 3 classes, 24/8/8 pictures each of 16 px, drawn once for all tests."""
    from data_loader.shapes import ShapesSettings, draw_shapes_folder

    folder = tmp_path_factory.mktemp("data") / "shapes"
    draw_shapes_folder(
        folder, ShapesSettings(num_classes=3, train_per_class=24, val_per_class=8, test_per_class=8, image_size_px=16)
    )
    return folder


@pytest.fixture
def small_config(shapes_dir: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """`small_config(**sections)`: a whole config that trains in under a second; sections replace those of that name."""

    def config(**sections: Any) -> dict[str, Any]:
        return {
            "name": "small",
            "seed": 7,
            "device": "cpu",
            "n_gpu": 0,
            "arch": {
                "type": "VGG",
                "args": {"layers": [8, "M", 8, "M"], "batch_norm": True, "classifier_width": 16, "pool_size": 2},
            },
            "data_loader": {
                "type": "ImageFolderDataLoader",
                "args": {
                    "data_dir": str(shapes_dir),
                    "batch_size": 10,
                    "cache": "off",
                    "transform": ["RandomHorizontalFlip"],
                    "eval_transform": [],
                },
            },
            "optimizer": {"type": "SGD", "args": {"lr": 0.05, "momentum": 0.9}},
            "loss": "cross_entropy",
            "metrics": ["accuracy"],
            "lr_scheduler": {"type": "StepLR", "args": {"step_size": 1, "gamma": 0.5}},
            "trainer": {"epochs": 3, "save_dir": str(tmp_path / "saved"), "tensorboard": False, "verbosity": 0},
        } | sections

    return config


@pytest.fixture
def tree_config(small_config: Callable[..., dict[str, Any]], shapes_dir: Path, tmp_path: Path) -> dict[str, Any]:
    """A whole config on one tree of class folders, a copy of its own, of which a quarter is held back."""
    tree = tmp_path / "tree"
    shutil.copytree(shapes_dir / "train", tree)
    config = small_config()
    config["data_loader"]["args"] |= {"data_dir": str(tree), "validation_split": 0.25}
    return config


@pytest.fixture
def config_file(tmp_path: Path) -> Callable[[dict[str, Any]], Path]:
    """Writes a config and gives the file."""

    def write(config: dict[str, Any], name: str = "config.json") -> Path:
        path = tmp_path / name
        path.write_text(json.dumps(config), encoding="utf-8")
        return path

    return write


@pytest.fixture
def fault(record_property: Callable[[str, object], None]) -> Callable[[str, str], None]:
    """`fault("F1", "seed 3")` says which fault of docs/reliability.md a test tries, and with which seed."""

    def say(number: str, trial: str) -> None:
        record_property("fault", number)
        record_property("trial", trial)

    return say
