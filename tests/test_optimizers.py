"""optimizers.py: one kernel where there is one, and what a checkpoint of the other way then means."""

import copy

import pytest
import torch
from torch import nn

from utils.optimizers import fused_if_possible, renew_settings


def parameters(dtype=torch.float32):
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(4, 3).to(dtype)), nn.Parameter(torch.randn(3).to(dtype))]


def train(optimizer, num_steps, seed=0):
    generator = torch.Generator().manual_seed(seed)
    (group,) = optimizer.param_groups
    for _ in range(num_steps):
        for parameter in group["params"]:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.Adagrad])
def test_a_kernel_of_its_own_is_used_where_torch_has_one_and_computes_the_same(kind):
    plain, fused = parameters(), parameters()
    chosen = fused_if_possible(kind, {"lr": 0.1}, fused)

    train(kind(plain, lr=0.1), 5)
    train(kind(fused, lr=0.1, **chosen), 5)

    assert chosen == {"fused": True}
    # float32 has 7 digits; five steps are taken in another order of operations.
    for one, other in zip(plain, fused, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("written", [{"fused": False}, {"foreach": True}, {"capturable": True}])
def test_what_the_config_says_of_it_is_left_alone(written):
    assert fused_if_possible(torch.optim.Adam, written, parameters()) == {}


def test_null_is_torchs_own_default_and_says_nothing():
    assert fused_if_possible(torch.optim.Adam, {"foreach": None}, parameters()) == {"fused": True}


class Adam(torch.optim.SGD):
    """One's own, of a name that torch has too."""


@pytest.mark.parametrize("kind", [torch.optim.RMSprop, torch.optim.NAdam, Adam])
def test_others_are_built_as_ever(kind):
    assert fused_if_possible(kind, {}, parameters()) == {}


def test_parameters_that_are_no_floats_or_lie_elsewhere_are_built_as_ever():
    assert fused_if_possible(torch.optim.SGD, {}, parameters(torch.complex64)) == {}
    assert fused_if_possible(torch.optim.SGD, {}, [nn.Parameter(torch.zeros(2, device="meta"))]) == {}


@pytest.mark.parametrize("saved_fused", [None, True])
def test_a_state_of_either_way_goes_on_bit_for_bit(saved_fused):
    whole, first = parameters(), parameters()
    train(torch.optim.Adam(whole, lr=0.1, fused=saved_fused), 4)
    interrupted = torch.optim.Adam(first, lr=0.1, fused=saved_fused)
    generator = torch.Generator().manual_seed(0)
    gradients = [[torch.randn(p.shape, generator=generator) for p in first] for _ in range(4)]

    def steps(optimizer, parameters, gradients):
        for step in gradients:
            for parameter, gradient in zip(parameters, step, strict=True):
                parameter.grad = gradient
            optimizer.step()

    steps(interrupted, first, gradients[:2])
    again = [nn.Parameter(parameter.detach().clone()) for parameter in first]
    resumed = torch.optim.Adam(again, lr=0.1, fused=True)
    resumed.load_state_dict(copy.deepcopy(interrupted.state_dict()))
    steps(resumed, again, gradients[2:])

    assert resumed.param_groups[0]["fused"] is saved_fused
    assert all(torch.equal(one, other) for one, other in zip(whole, again, strict=True))


def test_new_settings_come_over_a_loaded_state_and_what_was_learned_stays():
    optimizer = torch.optim.Adam(parameters(), lr=0.5)
    train(optimizer, 3)
    saved = copy.deepcopy(optimizer.state_dict())
    fresh = torch.optim.Adam(parameters(), lr=0.1, fused=True)
    groups = [dict(group) for group in fresh.param_groups]
    fresh.load_state_dict(saved)

    renew_settings(fresh, groups)

    assert (fresh.param_groups[0]["lr"], fresh.param_groups[0]["fused"]) == (0.1, True)
    states = [fresh.state[parameter] for parameter in fresh.param_groups[0]["params"]]
    for index, state in enumerate(states):
        assert float(state["step"]) == 3
        assert torch.equal(state["exp_avg"], saved["state"][index]["exp_avg"])
    train(fresh, 1)
