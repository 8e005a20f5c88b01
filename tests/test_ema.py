"""The moving average against a plain loop; that it is what is judged, saved and tested, and goes on where it was."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import train
from base.training_parts import EmaOptions
from parse_config import ConfigParser
from trainer.ema import Ema
from trainer.evaluate import evaluate
from trainer.trainer import Trainer
from utils.checkpoint import load_checkpoint, save_checkpoint
from utils.errors import CheckpointError, ConfigError

Config = Callable[..., dict[str, Any]]
ConfigFile = Callable[[dict[str, Any]], Path]


class Masked(nn.Module):
    """With batch norm, a whole number, a frozen weight, and a buffer of infinities."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.layers = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6))
        self.layers[0].bias.requires_grad_(False)
        self.register_buffer("mask", torch.full((2, 2), -math.inf).triu(1))


def change(model: nn.Module, step: int) -> None:
    """Stands for a step of training: weights, running statistics, and the count of batches."""
    generator = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                tensor.add_(torch.randn(tensor.shape, generator=generator))
            elif name.endswith("num_batches_tracked"):
                tensor.add_(1)


@pytest.mark.parametrize(("decay", "warmup"), [(0.9, False), (0.9, True), (0.5, True), (0.0, False)])
def test_it_is_the_plain_loop(decay: float, warmup: bool) -> None:
    model = Masked()
    ema = Ema(model, EmaOptions(decay, warmup))
    expected: dict[str, np.ndarray] = {}

    for step in range(1, 31):
        change(model, step)
        ema.step_done(step)
        share = min(decay, (1 + step) / (10 + step)) if warmup else decay
        for name, tensor in model.state_dict().items():
            now = tensor.double().numpy()
            is_followed = step > 1 and tensor.is_floating_point() and name != "mask"
            expected[name] = share * expected[name] + (1 - share) * now if is_followed else now.copy()

    averaged = ema.averaged.state_dict()
    assert averaged.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(averaged[name].numpy(), array, rtol=1e-5, atol=1e-6, err_msg=name)
    assert averaged["layers.1.num_batches_tracked"] == 30
    assert torch.equal(averaged["mask"], model.mask)


def test_the_network_itself_is_left_alone_and_shares_nothing_with_the_average() -> None:
    model = Masked()
    ema = Ema(model, EmaOptions())
    change(model, 1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    ema.step_done(1)
    ema.step_done(2)

    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    theirs = {tensor.data_ptr() for tensor in model.state_dict().values()}
    assert not theirs & {tensor.data_ptr() for tensor in ema.averaged.state_dict().values()}
    assert model.training
    assert not ema.averaged.training


def test_a_model_that_cannot_be_copied_is_named() -> None:
    model = Masked()
    model.kept = model.layers[0].weight * 2  # not a leaf: torch refuses to copy it

    with pytest.raises(ConfigError, match="Masked cannot be copied: Only Tensors created explicitly"):
        Ema(model, EmaOptions())


def with_ema(small_config: Config, **trainer: Any) -> dict[str, Any]:
    config = small_config()
    config["trainer"] |= {"ema": {"decay": 0.8}, **trainer}
    return config


def test_training_is_the_same_with_it_and_what_is_judged_is_another(
    small_config: Config, config_file: ConfigFile
) -> None:
    path = str(config_file(with_ema(small_config)))
    whole, without = train.main(["-c", path]), train.main(["-c", path, "trainer.ema=null"])
    assert whole is not None
    assert without is not None

    trained, plain = whole.learner.model.state_dict(), without.learner.model.state_dict()
    rows, plain_rows = whole.recorder.history.rows(), without.recorder.history.rows()

    assert all(torch.equal(tensor, plain[name]) for name, tensor in trained.items())
    assert [row["train/loss"] for row in rows] == [row["train/loss"] for row in plain_rows]
    assert [row["val/loss"] for row in rows] != [row["val/loss"] for row in plain_rows]


def test_a_checkpoint_holds_the_weights_that_its_scores_are_of(small_config: Config, config_file: ConfigFile) -> None:
    trainer: Any = train.main(["-c", str(config_file(with_ema(small_config, keep_checkpoints=None)))])

    for row in trainer.recorder.history.rows():
        state = load_checkpoint(trainer.models_dir / f"checkpoint-epoch{int(row['epoch'])}.pth")
        model = ConfigParser(state["config"]).init_model()
        model.load_state_dict(state["model"])
        learner = trainer.learner
        found = evaluate(
            model, trainer.valid_loader, learner.criterion, learner.valid_metrics, to_input=trainer.to_input
        )
        assert found.scores["loss"] == row["val/loss"]
        assert not torch.equal(state["trained_model"]["classifier.0.weight"], state["model"]["classifier.0.weight"])


@pytest.fixture
def interrupted(small_config: Config, config_file: ConfigFile, monkeypatch: pytest.MonkeyPatch) -> tuple[Trainer, Path]:
    """A run that was left in peace, and the checkpoints of one that was interrupted in its last epoch."""
    path = str(config_file(with_ema(small_config, save_every_steps=5, keep_checkpoints=None)))
    whole = train.main(["-c", path])
    assert isinstance(whole, Trainer)
    step = Trainer._step

    def interrupted(self: Trainer, *args: Any) -> None:
        if self.steps_done == 22:
            raise KeyboardInterrupt
        step(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train.main(["-c", path, "name=first"])
    return whole, next((whole.models_dir.parents[1] / "first").iterdir())


def test_a_run_with_it_goes_on_bit_for_bit(interrupted: tuple[Trainer, Path]) -> None:
    whole, folder = interrupted
    digests = whole.digests()
    assert {"model", "trained_model"} <= digests.keys()

    for checkpoint in ("checkpoint-epoch3-step20.pth", "checkpoint-epoch1.pth"):
        continued = train.main(["-r", str(folder / checkpoint)])
        assert continued is not None
        assert continued.digests() == digests


@pytest.mark.parametrize("entry", ["model", "trained_model"])
def test_neither_copy_of_the_weights_is_superfluous(entry: str, interrupted: tuple[Trainer, Path]) -> None:
    whole, folder = interrupted
    path = folder / "checkpoint-epoch2.pth"
    state = {key: value for key, value in load_checkpoint(path).items() if key != "format"}
    fresh = load_checkpoint(folder / "checkpoint-epoch1.pth")[entry]

    save_checkpoint(path, {**state, entry: fresh})
    continued = train.main(["-r", str(path)])

    assert continued is not None
    assert continued.digests()["model"] != whole.digests()["model"]


def test_it_can_be_taken_out_of_a_run_that_goes_on_and_not_brought_in(
    small_config: Config, config_file: ConfigFile, interrupted: tuple[Trainer, Path]
) -> None:
    _, folder = interrupted
    plain = train.main(["-c", str(config_file(small_config()))])
    assert plain is not None

    continued = train.main(["-r", str(folder / "checkpoint-epoch1.pth"), "trainer.ema=null"])

    assert continued is not None
    assert continued.digests()["model"] == plain.digests()["model"]
    with pytest.raises(CheckpointError, match=r"trainer\.ema: the checkpoint knows of no average"):
        train.main(["-r", str(plain.models_dir / "checkpoint-epoch1.pth"), 'trainer.ema={"decay": 0.9}'])


def test_both_ways_of_averaging_at_once_are_refused(small_config: Config) -> None:
    with pytest.raises(ConfigError, match=r"trainer\.ema: .*trainer\.lookahead; keep one of the two"):
        ConfigParser(with_ema(small_config, lookahead={"every": 2}))


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [("ema", {"decay": 1.0}, "less than 1"), ("ema", {"decays": 0.9}, "decays"), ("lookahead", {"ever": 2}, "ever")],
)
def test_a_wrong_setting_is_named(name: str, value: dict[str, Any], says: str, small_config: Config) -> None:
    with pytest.raises(ConfigError, match=rf"trainer\.{name}.*{says}"):
        ConfigParser(with_ema(small_config, **{name: value}))
