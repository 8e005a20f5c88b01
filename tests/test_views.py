"""Scores over several views of an image, against the mean over views made by hand."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import nn

import train
from trainer.views import Kind, Views, seen

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 8, 5)).eval()


def test_an_image_and_its_mirror_image_count_alike(network):
    images_NCHW = torch.randn(3, 3, 8, 10)
    mirrored = torch.from_numpy(np.ascontiguousarray(images_NCHW.numpy()[..., ::-1]))

    found = Views(network, "flip")(images_NCHW)

    torch.testing.assert_close(found, (network(images_NCHW) + network(mirrored)) / 2)
    torch.testing.assert_close(found, Views(network, "flip")(mirrored))


def test_shifted_views_count_half(network):
    images_NCHW = torch.randn(2, 3, 8, 10)
    padded = np.pad(images_NCHW.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)), mode="reflect")
    views = [(0.25, padded[:, :, 1:9, 1:11]), (0.125, padded[:, :, :8, :10]), (0.125, padded[:, :, 2:, 2:])]

    found = Views(network, "flip_and_shift")(images_NCHW)

    expected = sum(
        weight * network(torch.from_numpy(np.ascontiguousarray(view[..., ::side])))
        for weight, view in views
        for side in (1, -1)
    )
    torch.testing.assert_close(found, expected)


def test_without_views_it_is_the_network_itself(network):
    assert seen(network, "none") is network
    assert isinstance(seen(network, "flip"), Views)


def test_validation_and_test_look_at_the_views_that_the_config_names(
    small_config: Callable[..., dict[str, Any]], config_file: Callable[..., Path], shapes_dir: Path
) -> None:
    spec = importlib.util.spec_from_file_location("test_script", ROOT / "test.py")  # the library has a `test` too
    assert spec is not None
    assert spec.loader is not None
    judge = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(judge)
    path = str(config_file(small_config()))
    losses = {}
    for kind in get_args(Kind):
        trainer: Any = train.main(["-c", path, "trainer.epochs=1", f"trainer.test_time_views={kind}"])
        last, images = str(trainer.models_dir / "last.pth"), f"data_loader.args.data_dir={shapes_dir / 'val'}"
        losses[kind] = trainer.last_evaluation.scores["loss"]
        assert judge.main(["-r", last, images])["loss"] == pytest.approx(losses[kind], rel=1e-6)
        loader, model = trainer.valid_loader, trainer.learner.model.eval()
        logits = [
            Views(model, kind)(trainer.to_input(x)) if kind != "none" else model(trainer.to_input(x)) for x, _ in loader
        ]
        expected = nn.functional.cross_entropy(
            torch.cat(logits).detach(), torch.cat([targets for _, targets in loader])
        )
        assert losses[kind] == pytest.approx(float(expected), rel=1e-5)
    assert len(set(losses.values())) == 3
