"""Overlays of a trained network: for images in hand, and for positions in a loader."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import train
from parse_config import ConfigParser
from utils.command_line import Parser
from wiring.explained import CHUNK, Explainer
from wiring.trained import open_trained


def test_positions_of_a_loader_and_images_in_hand_give_the_same(
    small_config: Any, config_file: Any, monkeypatch: Any
) -> None:
    run = train.main(["-c", str(config_file(small_config()))])
    config = ConfigParser.from_args(Parser().read((), ["-r", str(run.models_dir / "best.pth")]), training=False)
    loader = config.init_obj("data_loader", seed=7, training=False, classes=config.checkpoint["classes"])
    trained = open_trained(config, loader.first_image())
    explainer = Explainer(trained, loader.first_image().shape)
    positions = {3: 1, 20: 0, 5: 2}
    files = [Path(loader.sample_name(position)) for position in positions]

    by_position = dict(explainer.heat_of(loader, positions))

    images = torch.stack([torch.from_numpy(np.asarray(Image.open(file).convert("RGB")).copy()) for file in files])
    in_hand = [
        explainer.overlays(image.permute(2, 0, 1)[None], [index])[0]
        for image, index in zip(images, positions.values(), strict=True)
    ]
    assert list(by_position) == list(positions)
    pairs = [np.asarray(Image.open(io.BytesIO(png))) for png in in_hand]
    for heated, pair in zip(by_position.values(), pairs, strict=True):
        alone = np.asarray(Image.open(io.BytesIO(heated)))
        assert np.array_equal(alone, pair[:, -alone.shape[1] :])
    assert pairs[0][8, 8].tolist() == images[0, 0, 0].tolist()
    many = images[:1].permute(0, 3, 1, 2).expand(CHUNK + 3, -1, -1, -1)
    assert len(explainer.overlays(many, [0] * len(many))) == CHUNK + 3
