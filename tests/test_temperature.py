"""temperature.py: the best one against a search, and what `test.py --calibrate` does with it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

import train
from tests.test_test import judge  # noqa: F401  a fixture
from utils.checkpoint import load_checkpoint
from utils.errors import CheckpointError, DataError
from wiring.temperature import fit_temperature


def case(seed: int, num_classes: int, warmth: float, num_images: int = 400) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores whose classes were drawn from softmax(scores / warmth)."""
    generator = torch.Generator().manual_seed(seed)
    logits_NK = 3 * torch.randn(num_images, num_classes, generator=generator)
    targets_N = torch.multinomial((logits_NK / warmth).softmax(1), 1, generator=generator)[:, 0]
    return logits_NK, targets_N


@given(seed=st.integers(0, 100), num_classes=st.sampled_from([2, 3, 10, 100]), warmth=st.sampled_from([0.5, 1.0, 4.0]))
@settings(max_examples=25, derandomize=True, deadline=None)
def test_no_temperature_of_a_search_is_better(seed: int, num_classes: int, warmth: float) -> None:
    logits_NK, targets_N = case(seed, num_classes, warmth)

    found = fit_temperature(logits_NK, targets_N)

    def loss(temperature: float) -> float:
        return float(F.cross_entropy(logits_NK.double() / temperature, targets_N))

    around = [found * factor for factor in (0.5, 0.9, 0.999, 1.001, 1.1, 2.0)]
    assert all(loss(found) <= loss(other) for other in [*around, *np.geomspace(0.02, 50, 60)])
    assert found == pytest.approx(warmth, rel=0.5)


def test_it_finds_the_temperature_that_the_classes_were_drawn_with() -> None:
    assert fit_temperature(*case(0, 10, 2.5, num_images=20_000)) == pytest.approx(2.5, rel=0.05)


def test_classes_that_are_ruled_out_change_nothing() -> None:
    logits_NK, targets_N = case(1, 4, 2.0)
    more = torch.cat([logits_NK, torch.full((len(logits_NK), 1), -torch.inf)], dim=1)

    assert fit_temperature(more, targets_N) == pytest.approx(fit_temperature(logits_NK, targets_N), rel=1e-9)


def test_where_every_image_is_right_there_is_no_best_one() -> None:
    with pytest.raises(DataError, match=r"no temperature between 0.02 and 50 fits best \(3 of 3 validation images"):
        fit_temperature(torch.eye(3), torch.arange(3))


@pytest.fixture
def unsure(small_config: Callable[..., dict[str, Any]], config_file: Callable[[dict[str, Any]], Path]) -> Path:
    """A checkpoint that has learned something and is wrong now and then, so that a temperature can be fitted."""
    return train.main(["-c", str(config_file(small_config()))]).models_dir / "last.pth"


def test_calibrate_fits_on_the_validation_part_and_keeps_it_in_a_copy(
    unsure: Path,
    judge: Any,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    content = unsure.read_bytes()

    judge(["-r", str(unsure), "--out", str(tmp_path / "plain"), "--probabilities"])
    judge(["-r", str(unsure), "--out", str(tmp_path / "fitted"), "--calibrate", "--probabilities"])
    said = capsys.readouterr().out
    copy = unsure.with_name("last-calibrated.pth")
    judge(["-r", str(copy), "--out", str(tmp_path / "copy"), "--probabilities"])

    assert unsure.read_bytes() == content
    temperature = load_checkpoint(copy)["temperature"]
    plain, fitted, again = (
        json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("plain", "fitted", "copy")
    )
    assert fitted == again
    assert fitted["temperature"] == temperature
    assert (fitted["accuracy"], fitted["loss"]) == (plain["accuracy"], plain["loss"])
    assert fitted["calibration_error_without"] == pytest.approx(plain["calibration_error"], abs=1e-9)
    before, after = (pd.read_csv(tmp_path / name / "predictions.csv") for name in ("plain", "fitted"))
    columns = [name for name in before if name.startswith("probability of ")]
    assert len(columns) == 3
    expected = (np.log(before[columns].to_numpy()) / temperature).astype(float)
    expected = np.exp(expected) / np.exp(expected).sum(1, keepdims=True)
    assert after[columns].to_numpy() == pytest.approx(expected, abs=1e-5)
    assert after["predicted"].tolist() == before["predicted"].tolist()
    assert f"temperature {temperature:.4f}, fitted on 24 validation images" in said
    assert "fitted on images of this test" not in said
    # The same from the validation images themselves.
    data_dir = Path(load_checkpoint(unsure)["config"]["data_loader"]["args"]["data_dir"])
    judge(
        ["-r", str(unsure), f"data_loader.args.data_dir={data_dir / 'val'}", "--out", str(tmp_path), "--probabilities"]
    )
    table = pd.read_csv(tmp_path / "predictions.csv")
    names = [name.removeprefix("probability of ") for name in columns]
    logits_NK = torch.tensor(np.log(table[columns].to_numpy()))
    targets_N = torch.tensor([names.index(name) for name in table["true"]])
    assert temperature == pytest.approx(fit_temperature(logits_NK, targets_N), rel=1e-3)


def test_where_the_test_is_on_the_validation_part_it_says_so(
    tree_config: dict[str, Any],
    config_file: Callable[[dict[str, Any]], Path],
    judge: Any,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    last = train.main(["-c", str(config_file(tree_config))]).models_dir / "last.pth"

    judge(["-r", str(last), "--calibrate"])

    said = capsys.readouterr().out
    assert "fitted on 18 validation images" in said
    assert "the temperature was fitted on images of this test" in said


def test_without_a_validation_part_it_is_refused(
    unsure: Path,
    judge: Any,  # noqa: F811
    tmp_path: Path,
    tree_config: dict[str, Any],
    config_file: Callable[[dict[str, Any]], Path],
) -> None:
    tree_config["data_loader"]["args"]["validation_split"] = 0
    words = ["-c", str(config_file(tree_config)), "trainer.epochs=1", "trainer.monitor=off"]
    last = train.main(words).models_dir / "last.pth"

    with pytest.raises(DataError, match="--calibrate fits on validation images, and this data has none"):
        judge(["-r", str(last), "--calibrate"])


def test_a_tree_that_has_changed_is_refused(
    tree_config: dict[str, Any],
    config_file: Callable[[dict[str, Any]], Path],
    judge: Any,  # noqa: F811
) -> None:
    last = train.main(["-c", str(config_file(tree_config)), "trainer.epochs=1"]).models_dir / "last.pth"
    folder = next(Path(tree_config["data_loader"]["args"]["data_dir"]).iterdir())
    next(folder.iterdir()).unlink()

    with pytest.raises(DataError, match="--calibrate cannot tell the part that was held back"):
        judge(["-r", str(last), "--calibrate"])


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf"), "1"])
def test_a_temperature_that_cannot_be_one_is_refused(value: object, tmp_path: Path) -> None:
    from tests.small_checkpoint import tiny_state
    from utils.checkpoint import save_checkpoint

    save_checkpoint(tmp_path / "x.pth", {**tiny_state(), "temperature": value})

    with pytest.raises(CheckpointError, match=r"its 'temperature' is "):
        load_checkpoint(tmp_path / "x.pth")
