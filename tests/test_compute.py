"""compute.py: a network in a precision, compiled or not; scaled losses and the steps that are left out."""

import copy
import logging

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from trainer.compute import Compute, Network, network_for
from trainer.finite import FiniteGuard
from utils.errors import TrainingError

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _nothing_compiled():
    """torch counts graphs by function, and all small models here share one."""
    torch.compiler.reset()


def convolutions():
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 3))


def batch():
    generator = torch.Generator().manual_seed(2)
    return torch.randn(4, 3, 6, 6, generator=generator), torch.tensor([0, 1, 2, 0])


def test_plain_float32_is_the_model_itself():
    model = convolutions()

    assert network_for(model, [CPU], "fp32", False) is model


def test_a_step_in_bf16_is_that_of_autocast_by_hand_with_the_loss_in_float32():
    ours, by_hand = convolutions(), convolutions()
    images_NCHW, targets_N = batch()
    network = network_for(ours, [CPU], "bf16", False)

    logits_NK = network(images_NCHW)
    loss = F.cross_entropy(logits_NK, targets_N)
    loss.backward()
    with torch.autocast("cpu", torch.bfloat16):
        expected_NK = by_hand(images_NCHW)
    expected = F.cross_entropy(expected_NK.to(torch.float32), targets_N)
    expected.backward()

    assert expected_NK.dtype == torch.bfloat16
    assert logits_NK.dtype == loss.dtype == torch.float32
    assert torch.equal(loss, expected)
    for one, other in zip(ours.parameters(), by_hand.parameters(), strict=True):
        assert one.dtype == one.grad.dtype == torch.float32
        assert torch.equal(one.grad, other.grad)
    assert not torch.equal(logits_NK, convolutions()(images_NCHW))  # it is another arithmetic


def test_float64_stays_float64():
    network = Network(convolutions().double(), CPU, "fp32", False)

    assert network(batch()[0].double()).dtype == torch.float64


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_compiled_it_gives_the_same_gradients_and_the_models_keys_stay(backend, precision):
    ours, plain = convolutions(), convolutions()
    images_NCHW, targets_N = batch()
    network = network_for(ours, [CPU], precision, {"backend": backend})

    logits_NK = network.train()(images_NCHW)
    expected_NK = network_for(plain, [CPU], precision, False).train()(images_NCHW)
    F.cross_entropy(logits_NK, targets_N).backward()
    F.cross_entropy(expected_NK, targets_N).backward()

    assert network.compiled is not None
    assert list(ours.state_dict()) == list(plain.state_dict())
    torch.testing.assert_close(logits_NK, expected_NK)
    for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)
    with torch.inference_mode():
        torch.testing.assert_close(network.eval()(images_NCHW), plain.eval()(images_NCHW), rtol=0.05, atol=0.05)
    assert not ours.training


def test_without_a_working_compiler_it_goes_on_uncompiled_and_says_so_once(caplog):
    calls = []

    def broken(graph, inputs):
        calls.append(None)
        raise RuntimeError("no C++ compiler found\nand much more")

    model, (images_NCHW, _) = convolutions(), batch()
    network = network_for(model, [CPU], "fp32", {"backend": broken})
    with caplog.at_level(logging.WARNING, "run"):
        results = [network.eval()(images_NCHW) for _ in range(2)]

    assert all(torch.equal(result, model(images_NCHW)) for result in results)
    (record,) = caplog.records
    assert "trainer.compile: " in record.message
    assert record.message.endswith("; it goes on uncompiled")
    assert "\n" not in record.message
    assert len(calls) == 1


def test_with_several_gpus_it_is_not_compiled(caplog, monkeypatch):
    monkeypatch.setattr("trainer.compute.shared_by", lambda network, devices: network)
    model = convolutions()

    with caplog.at_level(logging.WARNING, "run"):
        assert network_for(model, [CPU, CPU], "fp32", True) is model

    assert "not with several GPUs" in caplog.text


class Scaled(Compute):
    """As for fp16, on a CPU."""

    def __init__(self, init_scale=2.0**10):
        super().__init__(CPU, "fp32")
        self.scaler = torch.amp.GradScaler("cpu", init_scale=init_scale, growth_interval=3)


@pytest.mark.parametrize("options", [{"fused": True}, {"foreach": False}])
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_scaled_steps_are_those_without_and_an_infinite_gradient_is_left_out(kind, options):
    scaled, plain = convolutions(), convolutions()
    compute, optimizers = Scaled(), [kind(model.parameters(), lr=0.1, **options) for model in (scaled, plain)]
    images_NCHW, targets_N = batch()

    for step in range(4):
        compute.scaler.scale(F.cross_entropy(scaled(images_NCHW), targets_N)).backward()
        if step == 1:
            scaled[0].weight.grad.fill_(float("inf"))
        compute.unscale(optimizers[0])
        compute.step(optimizers[0])
        optimizers[0].zero_grad()
        F.cross_entropy(plain(images_NCHW), targets_N).backward()
        if step != 1:
            optimizers[1].step()
        optimizers[1].zero_grad()

    assert compute.scaler.get_scale() == 2.0**9
    for one, other in zip(scaled.parameters(), plain.parameters(), strict=True):
        assert torch.equal(one, other)  # a power of two changes no digit


def test_scaling_goes_on_with_an_optimizer_whose_loaded_state_is_not_fused():
    model, compute = convolutions(), Scaled()
    saved = torch.optim.Adam(model.parameters(), lr=0.1).state_dict()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1, fused=True)
    optimizer.load_state_dict(saved)
    images_NCHW, targets_N = batch()

    compute.scaler.scale(F.cross_entropy(model(images_NCHW), targets_N)).backward()
    compute.unscale(optimizer)
    compute.step(optimizer)

    assert all(float(state["step"]) == 1 for state in optimizer.state.values())


def test_what_was_found_out_comes_back():
    first, second = Scaled(2.0**7), Scaled()
    first.training.images_at_once, first.evaluation.images_at_once = 5, 9

    second.load_state_dict(copy.deepcopy(first.state_dict()))

    assert second.state_dict() == first.state_dict()
    assert (second.training.images_at_once, second.evaluation.images_at_once) == (5, 9)
    assert second.scaler.get_scale() == 2.0**7


def test_a_checkpoint_that_knows_nothing_of_it_begins_anew():
    compute = Scaled()

    compute.load_state_dict({})

    assert compute.state_dict()["images_at_once"] == [None, None]
    assert compute.scaler.get_scale() == 2.0**10


@pytest.mark.parametrize("limits", [[0, None], ["4", None], [None], [True, None], [1.5, 2]])
def test_a_number_of_images_that_is_none_is_refused(limits):
    with pytest.raises(ValueError, match="images_at_once"):
        Compute(CPU, "fp32").load_state_dict({"images_at_once": limits})


def test_the_guard_lets_some_infinite_gradients_in_a_row_pass_but_no_loss():
    guard = FiniteGuard(CPU, lambda facts, what: what, skips_allowed=2)
    fine, infinite = torch.tensor(1.0), torch.tensor(float("inf"))

    for _ in range(3):
        guard.look([fine], infinite, {})
        guard.look([fine], infinite, {})
        guard.look([fine], fine, {})
    guard.look([fine], infinite, {})
    guard.look([fine], infinite, {})
    with pytest.raises(TrainingError, match="norm is inf"):
        guard.look([fine], infinite, {})

    with pytest.raises(TrainingError, match="the loss is inf"):
        FiniteGuard(CPU, lambda facts, what: what, skips_allowed=2).look([infinite], infinite, {})
