"""tools/replay.py does one step of a run again: to the last digit what the run itself saw."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import train
from model.mlp import MLP
from tools import replay
from trainer.finite import FiniteGuard
from utils.checkpoint import load_checkpoint, save_checkpoint
from utils.errors import CheckpointError, ConfigError, TrainingError

Config = Callable[..., dict[str, Any]]
ConfigFile = Callable[[dict[str, Any]], Path]
MODEL = {"type": "MLP", "args": {"hidden_widths": [16], "dropout": 0.4}}
Seen = dict[int, tuple[list[float], float]]


class Run:
    """A run of 24 steps, 8 an epoch, and the losses and the norm of the gradient that it had at each."""

    def __init__(self, config: dict[str, Any], config_file: ConfigFile, monkeypatch: pytest.MonkeyPatch, *words: str):
        self.seen: Seen = {}
        look = FiniteGuard.look

        def noted(guard: FiniteGuard, losses: list[torch.Tensor], norm: torch.Tensor, facts: dict[str, Any]) -> None:
            self.seen[facts["step"]] = ([float(loss.detach()) for loss in losses], float(norm))
            look(guard, losses, norm, facts)

        with monkeypatch.context() as patch:
            patch.setattr(FiniteGuard, "look", noted)
            self.trainer: Any = train.main(["-c", str(config_file(config)), *words])
        self.folder: Path = self.trainer.models_dir


@pytest.fixture
def config(small_config: Config) -> dict[str, Any]:
    config = small_config(arch=MODEL, lr_scheduler={"type": "OneCycleLR", "interval": "step"})
    config["trainer"]["keep_checkpoints"] = None
    return config


def replayed(path: Path, step: int) -> dict[str, str]:
    return replay.main(["-r", str(path), "--step", str(step)])


def left_behind(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_step_has_the_loss_and_the_gradient_of_the_run_to_the_last_digit(
    config: dict[str, Any], config_file: ConfigFile, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(config, config_file, monkeypatch)
    assert sorted(run.seen) == list(range(1, 25))
    before = left_behind(run.folder.parents[2])

    # The first and the last of an epoch, one in the middle, the last of the run.
    for step in (9, 16, 20, 24):
        found = replayed(run.folder / "checkpoint-epoch2.pth", step)

        losses, norm = run.seen[step]
        assert [float(text) for text in found["loss"].split(", ")] == losses
        assert found["gradient"] == f"norm {norm:.17g}"
        assert found["step"].startswith(f"{step} (epoch {(step - 1) // 8 + 1}), learning rate ")
        assert found["layers"] == "all outputs are finite"
        assert f"\nloss      {found['loss']}" in capsys.readouterr().out
    assert left_behind(run.folder.parents[2]) == before


@pytest.mark.parametrize(
    ("asked", "step", "used"),
    [
        ("last", 17, "checkpoint-epoch2"),
        ("last", 16, "checkpoint-epoch1"),
        ("last", 9, "checkpoint-epoch1"),
        ("checkpoint-epoch1", 24, "checkpoint-epoch1"),  # the one that was asked for, where that can be
        ("checkpoint-epoch2", 17, "checkpoint-epoch2"),
    ],
)
def test_the_newest_checkpoint_before_the_step_is_used(
    config: dict[str, Any],
    config_file: ConfigFile,
    monkeypatch: pytest.MonkeyPatch,
    asked: str,
    step: int,
    used: str,
) -> None:
    run = Run(config, config_file, monkeypatch)
    (run.folder / "best.pth").unlink(missing_ok=True)

    path = replay.checkpoint_before(run.folder / f"{asked}.pth", step)

    assert path == run.folder / f"{used}.pth"
    assert load_checkpoint(path)["steps_done"] < step


def test_the_images_of_the_step_are_those_that_the_loader_gave(
    config: dict[str, Any], config_file: ConfigFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(config, config_file, monkeypatch, "trainer.epochs=2", "trainer.accumulate_steps=2")
    loader = run.trainer.train_loader

    found = replayed(run.folder / "checkpoint-epoch1.pth", 6)  # the second of 4 steps in epoch 2: its batches 2 and 3

    expected = [*loader.names_of_batch(1, 2), *loader.names_of_batch(1, 3)]
    assert [line.strip() for line in found["images"].strip().splitlines()] == expected
    assert [float(text) for text in found["loss"].split(", ")] == run.seen[6][0]


def test_within_an_epoch_it_goes_on_from_there(
    config: dict[str, Any], config_file: ConfigFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(config, config_file, monkeypatch, "trainer.save_every_steps=3", "trainer.save_period=100")
    last, within = run.folder / "last.pth", run.folder / "checkpoint-epoch3-step21.pth"
    assert load_checkpoint(within)["progress"]["batches_done"] == 5

    found = replayed(last, 24)

    assert replay.checkpoint_before(last, 24) == within
    assert found["loss"] == f"{run.seen[24][0][0]:.17g}"


def test_a_step_of_the_first_epoch_is_done_again_from_the_checkpoint_that_a_run_begins_with(
    config: dict[str, Any], config_file: ConfigFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Run(config, config_file, monkeypatch, "name=whole")
    with monkeypatch.context() as patch:
        patch.setattr(FiniteGuard, "look", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train.main(["-c", str(config_file(config))])
    last = next((Path(config["trainer"]["save_dir"]) / "models" / "small").glob("*/last.pth"))

    for step in (1, 8, 10):
        assert replayed(last, step)["loss"] == f"{whole.seen[step][0][0]:.17g}"


def interrupted(*_: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("step", [25, 1000])
def test_a_step_beyond_the_end_is_refused_with_the_last_there_is(
    config: dict[str, Any], config_file: ConfigFile, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    run = Run(config, config_file, monkeypatch)

    with pytest.raises(CheckpointError, match=f"the run ends at step 24, before step {step}$"):
        replayed(run.folder / "checkpoint-epoch2.pth", step)


def test_a_step_before_every_checkpoint_that_is_kept_is_refused(
    config: dict[str, Any], config_file: ConfigFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(config, config_file, monkeypatch, "trainer.save_period=3", "trainer.monitor=off")

    with pytest.raises(CheckpointError, match="step 5 is done already, and no older checkpoint of the run is kept"):
        replayed(run.folder / "last.pth", 5)


def test_a_damaged_checkpoint_is_passed_over_where_another_will_do(
    config: dict[str, Any], config_file: ConfigFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(config, config_file, monkeypatch)
    for name in ("best", "checkpoint-epoch2"):
        (run.folder / f"{name}.pth").unlink()
        (run.folder / f"{name}.pth").write_bytes(b"x" * 100)

    assert replay.checkpoint_before(run.folder / "last.pth", 20) == run.folder / "checkpoint-epoch1.pth"


@pytest.mark.parametrize("words", [["--step", "3"], ["-r", "last.pth"], ["-r", "last.pth", "--step", "0"]])
def test_without_a_checkpoint_and_a_step_it_says_what_to_give(words: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"^command line: give"):
        replay.main(words)


# --- a step that is not finite -----------------------------------------------------------------------------------


def breaking_at(monkeypatch: pytest.MonkeyPatch, checksum: float) -> None:
    """Makes the second layer of any MLP give NaN at the one image whose inputs have this sum."""
    of_model, of_layer = MLP.forward, torch.nn.Linear.forward
    factor_N1 = torch.ones(1, 1)

    def forward(self: MLP, images_NCHW: torch.Tensor) -> torch.Tensor:
        nonlocal factor_N1
        is_it_N = (images_NCHW.flatten(1).sum(1) - checksum).abs() < 1e-3
        factor_N1 = torch.where(is_it_N, torch.nan, 1.0)[:, None]
        return of_model(self, images_NCHW)

    def of_second(self: torch.nn.Linear, inputs: torch.Tensor) -> torch.Tensor:
        outputs = of_layer(self, inputs)
        return outputs * factor_N1 if self.in_features == 16 else outputs

    monkeypatch.setattr(MLP, "forward", forward)
    monkeypatch.setattr(torch.nn.Linear, "forward", of_second)


def test_a_step_with_a_nan_names_the_first_layer_that_gives_it_and_the_image_is_listed(
    config: dict[str, Any],
    config_file: ConfigFile,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config["data_loader"]["args"]["transform"] = []
    whole = Run(config, config_file, monkeypatch, "name=whole", "trainer.epochs=1")
    loader, to_input = whole.trainer.train_loader, whole.trainer.to_input
    loader.set_epoch(0)
    batch = 4  # of 8, so step 5
    images = list(loader)[batch][0]
    checksum = float(to_input(images)[3].sum())
    sums = [float(value) for some, _ in whole.trainer.train_loader for value in to_input(some).flatten(1).sum(1)]
    assert sum(abs(value - checksum) < 2e-3 for value in sums) == 1
    breaking_at(monkeypatch, checksum)

    with pytest.raises(TrainingError, match=r"^step 5 \(epoch 1\): the loss is nan"):
        train.main(["-c", str(config_file(config))])
    last = next((Path(config["trainer"]["save_dir"]) / "models" / "small").glob("*/last.pth"))
    found = replayed(last, 5)

    assert load_checkpoint(last)["steps_done"] == 0  # nothing of it was saved
    assert found["loss"] == "nan"
    assert found["gradient"].startswith("norm nan, not finite in ")
    names = dict(whole.trainer.learner.model.named_modules())
    layer = re.fullmatch(r"first that is not finite: (\S+) \(Linear\)", found["layers"])
    assert layer is not None
    linear = [name for name, module in names.items() if isinstance(module, torch.nn.Linear)]
    assert layer[1] == linear[1]
    assert loader.names_of_batch(0, batch)[3] in found["images"]
    with pytest.raises(TrainingError, match=r"^the run does not come as far as step 7: step 5 "):
        replayed(last, 7)


def test_weights_that_are_broken_in_the_file_already_show_in_the_first_layer(
    config: dict[str, Any], config_file: ConfigFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(config, config_file, monkeypatch, "trainer.epochs=2")
    state = load_checkpoint(run.folder / "checkpoint-epoch1.pth")
    name = next(iter(state["model"]))
    state["model"][name].view(-1)[0] = torch.inf
    save_checkpoint(run.folder / "checkpoint-epoch1.pth", state)

    found = replayed(run.folder / "checkpoint-epoch1.pth", 9)

    assert found["layers"].startswith(f"first that is not finite: {name.rpartition('.')[0]} ")
