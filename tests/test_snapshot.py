"""A snapshot says what the state said, shares nothing with it, and shares within what the state shares within."""

import io
from collections import Counter, OrderedDict

import pytest
import torch
from hypothesis import given
from torch import nn, optim

from tests import plain_values
from tests.small_checkpoint import same
from utils.plain import digest_of
from utils.snapshot import Snapshots


def trained(width=4):
    """A model with batch norm and an optimizer with momentum, one step on."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.Flatten(), nn.Linear(width * 4, 2))
    optimizer = optim.AdamW(model.parameters())
    step(model, optimizer)
    return model, optimizer


def step(model, optimizer):
    model(torch.randn(2, 3, 4, 4)).square().sum().backward()
    optimizer.step()


def tensors_in(value):
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from tensors_in(item)


def size_of(state):
    file = io.BytesIO()
    torch.save(state, file)
    return file.tell()


@plain_values.repeatable
@given(plain_values.values)
def test_plain_data_is_copied_as_it_is(value):
    assert same(Snapshots().take(value).state, value)


def test_training_does_not_change_a_snapshot():
    model, optimizer = trained()
    history, sums = [{"epoch": 1, "loss": 0.5}], {"sum": torch.ones((), dtype=torch.float64), "seen": [1, 2]}
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "history": history,
        "progress": (sums, [torch.ones(2)]),
    }
    before = digest_of(state)

    snapshot = Snapshots().take(state)
    step(model, optimizer)
    history[0]["loss"] = 9.0
    history.append({"epoch": 2})
    sums["sum"] += 1
    sums["seen"].append(3)
    state["progress"][1].append(torch.zeros(1))

    assert digest_of(state) != before
    assert digest_of(snapshot.state) == before


def test_no_tensor_lies_where_one_of_the_state_does():
    model, optimizer = trained()
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}

    copied = Snapshots().take(state).state

    places = [{one.data_ptr() for one in tensors_in(states)} for states in (state, copied)]
    assert len(places[0]) > 10
    assert places[0].isdisjoint(places[1])


def test_weights_that_are_tied_stay_one_so_that_the_file_is_no_larger():
    big = torch.randn(500, 500)
    state = {"encoder": big, "decoder": big, "row": big[3], "turned": big.t(), "alone": torch.randn(500, 500)}

    copied = Snapshots().take(state).state

    assert size_of(copied) == pytest.approx(size_of(state), abs=200)  # torch aligns what it writes
    assert size_of(copied) < 2.1 * big.nbytes
    assert same(copied, state)
    copied["encoder"][3, 7] = 5.0
    assert (copied["row"][7], copied["turned"][7, 3], copied["decoder"][3, 7]) == (5.0, 5.0, 5.0)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.empty(0),
        torch.empty(3, 0, 2, dtype=torch.int64),
        torch.tensor(3.5, dtype=torch.float64),
        torch.ones(1).expand(7, 5),
        torch.arange(24.0).reshape(2, 3, 4)[:, ::2, 1],
        torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        torch.randn(3, dtype=torch.complex64).conj(),
        torch.randn(3, dtype=torch.complex64).conj().imag,
        torch.ones(4, dtype=torch.bfloat16),
        torch.tensor([True, False]),
    ],
    ids=lambda tensor: f"{tensor.dtype}{list(tensor.shape)}",
)
def test_any_tensor_keeps_its_bits_and_its_shape_in_memory(tensor):
    copied = Snapshots().take({"it": tensor}).state["it"]

    assert digest_of(copied) == digest_of(tensor)
    assert copied.stride() == tensor.stride() or tensor.is_neg()  # which has no bytes of its own
    assert size_of(copied) == pytest.approx(size_of(tensor), abs=200)


def test_kinds_of_containers_and_what_hangs_on_them_are_kept():
    ordered = OrderedDict(a=torch.ones(2))
    ordered._metadata = {"": {"version": 2}}
    parameter = nn.Parameter(torch.ones(2))
    parameter.remark = {"rows": [torch.ones(1)]}
    state = {"ordered": ordered, "counted": Counter("aab"), (1, "b"): [(), (1, [2])], "parameter": parameter}

    copied = Snapshots().take(state).state

    assert [type(one) for one in copied.values()] == [type(one) for one in state.values()]
    assert copied["ordered"]._metadata == {"": {"version": 2}}
    assert copied["ordered"]._metadata is not ordered._metadata
    assert copied["counted"] == {"a": 2, "b": 1}
    assert copied[(1, "b")] == [(), (1, [2])]
    assert copied["parameter"].requires_grad
    assert copied["parameter"].remark["rows"] is not parameter.remark["rows"]


def test_a_module_takes_a_snapshot_as_its_own_state():
    model, _ = trained()
    other, _ = trained()
    with torch.no_grad():
        other[0].weight.zero_()

    other.load_state_dict(Snapshots().take(model.state_dict()).state)

    assert digest_of(other.state_dict()) == digest_of(model.state_dict())


def test_the_next_snapshot_uses_the_same_memory_and_other_sizes_are_given_back():
    snapshots, model = Snapshots(), trained()[0]

    first = snapshots.take(model.state_dict())
    places = sorted(one.data_ptr() for one in tensors_in(first.state))
    with torch.no_grad():
        model[0].weight.add_(1)
    second = snapshots.take(model.state_dict())
    other = snapshots.take({"w": torch.ones(5)})

    assert sorted(one.data_ptr() for one in tensors_in(second.state)) == places
    assert same(dict(second.state), dict(model.state_dict()))
    assert [len(buffers) for buffers in snapshots._buffers.values()] == [1]
    assert other.state["w"].tolist() == [1.0] * 5


def test_a_snapshot_within_inference_is_an_ordinary_one():
    with torch.inference_mode():
        state = {"made within": torch.ones(2), "parameter": nn.Parameter(torch.ones(2))}
        copied = Snapshots().take(state).state

    assert not copied["made within"].is_inference()
    copied["made within"].add_(1).requires_grad_()
    assert copied["parameter"].requires_grad


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_state_on_a_gpu_is_copied_behind_what_is_queued_and_nothing_waits():
    weights = torch.zeros(10_000_000, device="cuda")
    snapshots = Snapshots()
    for value in (1.0, 2.0):
        torch.cuda._sleep(100_000_000)
        weights.fill_(value)
        snapshot = snapshots.take({"w": weights})
        was_done = snapshot.events[0].query()
        weights.fill_(9.0)
        snapshot.wait()

        assert not was_done
        assert snapshot.state["w"].is_pinned()
        assert bool((snapshot.state["w"] == value).all())
