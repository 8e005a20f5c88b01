"""Class weights by one word: as scikit-learn has them, of the training part only, recorded, and the same in a test."""

import importlib.util
import json

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

import train
from base.class_balance import balanced_weights
from parse_config import ConfigParser
from utils.checkpoint import load_checkpoint
from utils.errors import ConfigError

AUTO = {"type": "cross_entropy", "class_weights": "auto"}


@pytest.fixture
def uneven(tree_config):
    """A tree of three classes with 24, 13 and 6 images, of which a quarter is held back, and its counts."""
    folder = tree_config["data_loader"]["args"]["data_dir"]
    classes = sorted(path.name for path in train.Path(folder).iterdir())
    for name, kept in zip(classes, (24, 13, 6), strict=True):
        for path in sorted((train.Path(folder) / name).iterdir())[kept:]:
            path.unlink()
    return tree_config | {"loss": AUTO}


def trained(config, config_file, *words):
    return train.main(["-c", str(config_file(config)), *words])


@given(counts=st.lists(st.integers(1, 50), min_size=2, max_size=8), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_weights_are_scikit_learns(counts, seed):
    targets = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))

    weights = balanced_weights(torch.from_numpy(targets), [str(index) for index in range(len(counts))])

    expected = compute_class_weight("balanced", classes=np.arange(len(counts)), y=targets)
    assert weights == pytest.approx(expected.tolist(), rel=1e-12)


def test_a_class_without_images_is_named():
    with pytest.raises(ConfigError, match=r"loss.class_weights: .* none of dog"):
        balanced_weights(torch.tensor([0, 2, 2]), ["cat", "dog", "emu"])


def test_weights_are_of_the_training_part_and_recorded(uneven, config_file):
    trainer = trained(uneven, config_file)

    targets_N = trainer.train_loader.targets[trainer.train_loader.indices]
    expected = compute_class_weight("balanced", classes=np.arange(3), y=targets_N.numpy()).tolist()
    assert torch.bincount(targets_N).tolist() == [18, 10, 4]
    for config in (
        json.loads((trainer.models_dir / "config.json").read_text()),
        load_checkpoint(trainer.models_dir / "best.pth")["config"],
    ):
        assert config["loss"] == {**AUTO, "args": {"weight": pytest.approx(expected)}}
    assert "class weights: " in next(trainer.recorder.run.log.glob("info.log")).read_text()
    assert "uneven" not in (trainer.recorder.run.log / "info.log").read_text()


@pytest.mark.parametrize("name", ["cross_entropy", "CrossEntropyLoss"])
def test_validation_and_test_weigh_as_training_does(name, uneven, config_file, tmp_path):
    uneven["loss"] = {**AUTO, "type": name, "args": {"label_smoothing": 0.0}}
    spec = importlib.util.spec_from_file_location("test_script", train.ROOT / "test.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    trainer = trained(uneven, config_file, "trainer.epochs=1")
    row = trainer.recorder.history.last_row(None)

    scores = script.main(["-r", str(trainer.models_dir / "last.pth"), "--out", str(tmp_path / "out")])

    table = pd.read_csv(tmp_path / "out" / "predictions.csv")
    weights = {label: 32 / (3 * count) for label, count in zip(sorted(set(table["true"])), (18, 10, 4), strict=True)}
    weight_N = table["true"].map(weights)
    # Batches of ten in single precision, six decimals in the table.
    assert scores["loss"] == pytest.approx((table["cross_entropy"] * weight_N).sum() / weight_N.sum(), abs=2e-6)
    assert scores["loss"] == pytest.approx(row["val/loss"], abs=1e-6)
    assert scores["cross_entropy"] == pytest.approx(table["cross_entropy"].mean(), abs=2e-6)
    assert abs(scores["loss"] - scores["cross_entropy"]) > 1e-4


@pytest.mark.parametrize("sampler", [None, "balanced"])
def test_a_continued_run_ends_with_the_same_bits(sampler, uneven, config_file):
    uneven["data_loader"]["args"]["sampler"] = sampler
    whole = trained(uneven, config_file)
    first = trained(uneven | {"name": "first"}, config_file, "trainer.epochs=1")

    second = train.main(["-r", str(first.models_dir / "last.pth"), "trainer.epochs=3"])

    states = [run.learner.model.state_dict() for run in (whole, second)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert load_checkpoint(second.models_dir / "last.pth")["config"]["loss"]["args"]["weight"]


def test_a_saved_config_repeats_the_run_and_refuses_other_images(uneven, config_file):
    first = trained(uneven, config_file, "trainer.epochs=1")
    saved = str(first.models_dir / "config.json")

    again = train.main(["-c", saved])

    assert again.recorder.history.last_row(None)["train/loss"] == first.recorder.history.last_row(None)["train/loss"]
    folder = train.Path(uneven["data_loader"]["args"]["data_dir"])
    victims = sorted(next(path for path in sorted(folder.iterdir())).iterdir())[:8]
    for path in victims:
        path.unlink()
    with pytest.raises(ConfigError, match=r"loss.args.weight: are not those of these training images"):
        train.main(["-c", saved])


def test_weights_and_the_balanced_sampler_together_are_said(uneven, config_file):
    uneven["data_loader"]["args"]["sampler"] = "balanced"

    trainer = trained(uneven, config_file, "trainer.epochs=1")

    assert "rare ones count for too much" in (trainer.recorder.run.log / "info.log").read_text()


@pytest.mark.parametrize(
    ("loss", "sampler", "is_said"),
    [
        ("cross_entropy", None, True),
        ("cross_entropy", "balanced", False),
        ({"type": "cross_entropy", "args": {"weight": [1, 2, 3]}}, None, False),
    ],
)
def test_uneven_classes_are_said_where_nothing_makes_up_for_them(
    loss, sampler, is_said, uneven, config_file, monkeypatch
):
    monkeypatch.setattr("base.class_balance.MAX_RATIO", 4)
    uneven["data_loader"]["args"]["sampler"] = sampler

    trainer = trained(uneven | {"loss": loss}, config_file, "trainer.epochs=1")

    log = (trainer.recorder.run.log / "info.log").read_text()
    assert ("classes are uneven: 18 training images" in log) is is_said


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": {**AUTO, "class_weights": "even"}}, r"loss.class_weights: .*'auto'"),
        ({"loss": {"type": "MultiMarginLoss", "class_weight": "auto"}}, "Did you mean 'class_weights'"),
        ({"loss": {"type": "MSELoss", "class_weights": "auto"}}, "MSELoss takes no `weight`"),
        ({"metrics": [{"type": "cross_entropy", "args": {"weight": [1, 2, 3]}}]}, "weights are for the loss"),
    ],
)
def test_what_makes_no_sense_is_refused(changes, message, uneven, config_file):
    with pytest.raises(ConfigError, match=message):
        trained(uneven | changes, config_file)


def test_null_asks_for_nothing(uneven):
    config = ConfigParser(uneven | {"loss": {"type": "cross_entropy", "class_weights": None}})

    assert config.plans["loss"].args == {}
