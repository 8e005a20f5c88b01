"""`optimizer.groups`: what a config may say there, and that training and continuing follow it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import train
from parse_config import ConfigParser
from utils.errors import CheckpointError, ConfigError

NO_DECAY = [{"match": ["*.bias", "features.1.*"], "lr": 0.2, "weight_decay": 0.0}]


@pytest.fixture
def config(small_config: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    return small_config(optimizer={"type": "SGD", "args": {"lr": 0.05, "weight_decay": 0.1}, "groups": NO_DECAY})


def test_each_parameter_is_trained_with_the_settings_of_its_group(
    config: dict[str, Any], config_file: Callable[..., Path]
) -> None:
    config["lr_scheduler"] = None
    trainer = train.main(["-c", str(config_file(config)), "trainer.epochs=1"])
    assert trainer is not None
    rest, group = trainer.learner.optimizer.param_groups

    named = dict(trainer.learner.model.named_parameters())
    names = {name for name, parameter in named.items() if any(parameter is one for one in group["params"])}
    assert names == {name for name in named if name.endswith(".bias") or name.startswith("features.1.")}
    assert (rest["lr"], rest["weight_decay"]) == (0.05, 0.1)
    assert (group["lr"], group["weight_decay"]) == (0.2, 0.0)


def test_a_run_with_groups_goes_on_bit_for_bit(config: dict[str, Any], config_file: Callable[..., Path]) -> None:
    whole = train.main(["-c", str(config_file(config))])
    first = train.main(["-c", str(config_file(config)), "name=first"])
    assert whole is not None
    assert first is not None
    continued = train.main(["-r", str(first.models_dir / "checkpoint-epoch1.pth")])
    assert continued is not None

    assert continued.digests() == whole.digests()
    with pytest.raises(CheckpointError, match=r"optimizer.groups: the checkpoint .* that cannot change"):
        train.main(["-r", str(first.models_dir / "checkpoint-epoch1.pth"), "optimizer.groups=[]"])


def test_one_group_of_everything_with_the_same_settings_changes_nothing(
    config: dict[str, Any], config_file: Callable[..., Path]
) -> None:
    del config["optimizer"]["groups"]
    plain = train.main(["-c", str(config_file(config))])
    grouped = train.main(["-c", str(config_file(config)), "name=grouped", 'optimizer.groups=[{"match": "*"}]'])
    assert plain is not None
    assert grouped is not None

    weights = grouped.learner.model.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in plain.learner.model.state_dict().items())


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ("*.bias", "optimizer.groups: should be a valid array"),
        ([1], "optimizer.groups.0: should be "),
        ([{"lr": 1.0}], "optimizer.groups.0: needs 'match'"),
        ([{"match": 3}], "optimizer.groups.0.match: should be a valid string or a valid array"),
        ([{"match": "*", "lrr": 1.0}], "optimizer.groups.0.lrr: SGD has no 'lrr'. Did you mean 'lr'?"),
        ([{"match": "*", "lr": "fast"}], "optimizer.groups.0.lr: should be "),
        ([{"match": "*", "params": []}], "optimizer.groups.0.params: is passed by the program"),
    ],
)
def test_what_a_group_cannot_be_is_told_with_its_place(config: dict[str, Any], groups: Any, message: str) -> None:
    config["optimizer"]["groups"] = groups

    with pytest.raises(ConfigError) as caught:
        ConfigParser(config)

    assert message in str(caught.value)


def test_a_rate_of_its_own_is_refused_where_the_schedule_gives_one_to_all(config: dict[str, Any]) -> None:
    config["lr_scheduler"] = {"type": "OneCycleLR", "interval": "step"}

    with pytest.raises(ConfigError, match=r"optimizer.groups.0.lr: OneCycleLR gives all groups one rate"):
        ConfigParser(config)
