"""The options of a run: each is explained, and none can be changed once the run has begun."""

import dataclasses
import re

import pytest

from base.training_parts import Learner, RunContext, TrainerOptions


@pytest.mark.parametrize("parts", [TrainerOptions, Learner, RunContext])
def test_every_field_is_explained_and_nothing_else(parts):
    explained = re.findall(r"^        ([a-z_, ]+):", parts.__doc__.split("Args:")[1], re.MULTILINE)

    names = [name for names in explained for name in names.split(", ")]
    assert names == [field.name for field in dataclasses.fields(parts)]


@pytest.mark.parametrize("parts", [TrainerOptions(epochs=1), RunContext(None, [], 0)])
def test_settings_cannot_be_changed_under_way(parts):
    for field in dataclasses.fields(parts):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(parts, field.name, None)


def test_two_runs_do_not_share_a_passport():
    first, second = RunContext(None, [], 0), RunContext(None, [], 0)

    first.passport["config"] = {}

    assert second.passport == {}
