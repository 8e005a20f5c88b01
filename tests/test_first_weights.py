"""Networks whose first weights come from the training images: in a new run, and in no other."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import train
from model.quick_net import QuickNet
from trainer.pixels import PixelsToInput, initial_images
from utils.checkpoint import load_checkpoint

SMALL = {"type": "QuickNet", "args": {"widths": [8, 8]}}


@pytest.fixture
def run(small_config: Callable[..., dict[str, Any]], config_file: Callable[..., Path]) -> Callable[..., Any]:
    path = str(config_file(small_config(arch=SMALL)))
    return lambda *words: train.main(["-c", path, "trainer.epochs=1", *words])


def test_a_new_run_begins_with_the_whitening_of_its_own_images(run: Callable[..., Any]) -> None:
    trainer = run()

    images_NCHW = initial_images(trainer.train_loader)
    expected = QuickNet(3, widths=(8, 8))
    expected.initialize_from(images_NCHW)
    assert len(images_NCHW) == 72
    assert torch.equal(trainer.learner.model.whitening.weight, expected.whitening.weight)


def test_what_has_weights_already_keeps_them(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    last = run().models_dir / "last.pth"

    def never(self: QuickNet, images_NCHW: torch.Tensor) -> None:
        raise AssertionError

    monkeypatch.setattr(QuickNet, "initialize_from", never)
    continued = train.main(["-r", str(last), "trainer.epochs=2"])
    started = run("--weights", str(last))

    whitening = load_checkpoint(last)["model"]["whitening.weight"]
    assert continued is not None
    assert torch.equal(continued.learner.model.whitening.weight, whitening)  # type: ignore[operator, union-attr]
    assert torch.equal(started.learner.model.whitening.weight, whitening)


def test_the_images_come_from_all_over_the_set_as_the_network_sees_them(run: Callable[..., Any]) -> None:
    loader = run().train_loader
    loader.indices = torch.arange(0, 72, 5)

    images_NCHW = initial_images(loader)

    to_input = PixelsToInput(loader.mean, loader.std, torch.device("cpu"))
    pixels_NCHW = torch.stack([loader.eval_dataset[index][0] for index in range(0, 72, 5)])
    assert torch.equal(images_NCHW, to_input(pixels_NCHW))
