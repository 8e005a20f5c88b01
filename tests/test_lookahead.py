"""Lookahead against a plain loop, and that it goes on where it was."""

import pytest
import torch
from torch import nn

from trainer.lookahead import Lookahead, LookaheadOptions


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
