"""Lookahead against a plain loop, and that it goes on where it was."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import train
from base.training_parts import LookaheadOptions
from trainer.lookahead import Lookahead
from utils.errors import CheckpointError


def network():
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6))


def change(model, step):
    """Stands for a step of an optimizer."""
    with torch.no_grad():
        for number, tensor in enumerate(model.state_dict().values()):
            if tensor.is_floating_point():
                tensor.add_(0.1 * step + number)


@pytest.mark.parametrize(("every", "decay", "power"), [(5, 0.774, 3.0), (1, 0.9, 0.0), (4, 1.0, 1.0)])
def test_it_is_the_plain_loop(every, decay, power):
    model, plain = network(), network()
    lookahead = Lookahead(model, LookaheadOptions(every, decay, power), num_steps=12)
    slow = {name: tensor.clone() for name, tensor in plain.state_dict().items()}

    for step in range(1, 13):
        change(model, step)
        change(plain, step)
        lookahead.step_done(step)
        for name, tensor in plain.state_dict().items():
            if not tensor.is_floating_point():
                continue
            if step % every == 0 and step < 12:
                kept = decay * (step / 12) ** power
                slow[name] = kept * slow[name] + (1 - kept) * tensor
            if step % every == 0 or step == 12:
                tensor.copy_(slow[name])
        for name, tensor in model.state_dict().items():
            torch.testing.assert_close(tensor, plain.state_dict()[name])


def test_the_slow_weights_of_a_state_are_gone_on_with():
    whole, model = network(), network()
    options = LookaheadOptions(every=3, decay=0.5, power=0)
    of_whole, first = Lookahead(whole, options, 20), Lookahead(model, options, 20)
    for step in range(1, 8):
        for one, lookahead in ((whole, of_whole), (model, first)):
            change(one, step)
            lookahead.step_done(step)

    continued = network()
    continued.load_state_dict(model.state_dict())
    second = Lookahead(continued, options, 20)
    second.load_state_dict({name: tensor.clone() for name, tensor in first.state_dict().items()})
    for step in range(8, 21):
        for one, lookahead in ((whole, of_whole), (continued, second)):
            change(one, step)
            lookahead.step_done(step)

    assert all(torch.equal(tensor, continued.state_dict()[name]) for name, tensor in whole.state_dict().items())
    with pytest.raises(KeyError):
        second.load_state_dict({})


def test_a_run_with_it_goes_on_bit_for_bit_and_ends_with_the_slow_weights(
    small_config: Callable[..., dict[str, Any]], config_file: Callable[..., Path]
) -> None:
    config = small_config()
    config["trainer"] |= {"lookahead": {"every": 3, "decay": 0.9, "power": 1}, "save_every_steps": 5}
    path = str(config_file(config))
    whole, first = train.main(["-c", path]), train.main(["-c", path, "name=first"])
    without = train.main(["-c", path, "name=without", "trainer.lookahead=null"])
    assert whole is not None
    assert first is not None
    assert without is not None
    digests, slow = whole.digests(), whole.stateful()["lookahead"].state_dict()

    for checkpoint in ("checkpoint-epoch1.pth", "checkpoint-epoch2.pth"):
        continued = train.main(["-r", str(first.models_dir / checkpoint)])
        assert continued is not None
        assert continued.digests() == digests
    assert without.digests()["model"] != digests["model"]
    weights = whole.learner.model.state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in slow.items())


def test_a_checkpoint_without_slow_weights_cannot_go_on_with_them(
    small_config: Callable[..., dict[str, Any]], config_file: Callable[..., Path]
) -> None:
    trainer = train.main(["-c", str(config_file(small_config()))])
    assert trainer is not None

    with pytest.raises(CheckpointError, match="the checkpoint's lookahead does not fit this config"):
        train.main(["-r", str(trainer.models_dir / "checkpoint-epoch1.pth"), 'trainer.lookahead={"every": 2}'])
