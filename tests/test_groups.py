"""Groups of parameters by patterns of their names."""

import pytest
from torch import nn

from trainer.groups import parameter_groups
from utils.errors import ConfigError


@pytest.fixture
def model():
    model = nn.Sequential()
    model.add_module("conv", nn.Conv2d(3, 4, 3))
    model.add_module("norm", nn.BatchNorm2d(4))
    model.add_module("head", nn.Linear(4, 2))
    model.norm.weight.requires_grad_(False)
    return model


def names(model, group):
    return [name for name, parameter in model.named_parameters() if any(parameter is one for one in group["params"])]


def test_each_parameter_belongs_to_the_first_group_that_matches_or_to_the_rest(model):
    groups = [{"match": "norm.*", "lr": 2.0}, {"match": ["*.bias", "nothing"], "weight_decay": 0.0}]

    rest, norms, biases = parameter_groups(model, groups)

    assert names(model, rest) == ["conv.weight", "head.weight"]
    assert names(model, norms) == ["norm.bias"]  # its weight is not learned
    assert names(model, biases) == ["conv.bias", "head.bias"]
    assert [set(group) for group in (rest, norms, biases)] == [{"params"}, {"params", "lr"}, {"params", "weight_decay"}]


def test_there_is_no_rest_where_all_are_in_groups(model):
    (everything,) = parameter_groups(model, [{"match": "*"}])

    assert len(everything["params"]) == 5


@pytest.mark.parametrize("groups", [[{"match": "nowhere.*"}], [{"match": "*"}, {"match": "*.bias"}]])
def test_a_group_without_a_parameter_is_refused_with_what_there_is(model, groups):
    with pytest.raises(ConfigError, match=r"is left for .*; the first ones are conv.weight") as caught:
        parameter_groups(model, groups)

    assert caught.value.path == f"optimizer.groups.{len(groups) - 1}.match"
