"""Which device is taken, by the config or by name, on machines with no, one and four GPUs."""

import pytest
import torch

from utils.device import choose_devices, describe
from utils.errors import DeviceError

CPU = [torch.device("cpu")]


@pytest.fixture
def machine(monkeypatch):
    """`machine(2)`: torch sees two GPUs."""

    def with_gpus(count):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return with_gpus


def cuda(*indices):
    return [torch.device("cuda", index) for index in indices]


@pytest.mark.parametrize(
    ("num_there", "n_gpu", "devices"),
    [(0, 0, CPU), (1, 0, CPU), (4, 0, CPU), (1, 1, cuda(0)), (4, 1, cuda(0)), (4, 2, cuda(0, 1))],
)
def test_auto_takes_n_gpu_devices_where_there_are_enough(machine, num_there, n_gpu, devices):
    machine(num_there)

    chosen, notes = choose_devices("auto", n_gpu)

    assert chosen == devices
    assert notes == []


@pytest.mark.parametrize(
    ("num_there", "n_gpu", "devices"), [(0, 1, CPU), (0, 8, CPU), (1, 2, cuda(0)), (2, 5, cuda(0, 1))]
)
@pytest.mark.parametrize("by_command_line", [False, True])
def test_auto_takes_what_there_is_and_says_what_is_missing(machine, num_there, n_gpu, devices, by_command_line):
    machine(num_there)

    chosen, notes = choose_devices("auto", n_gpu, by_command_line=by_command_line)

    assert chosen == devices
    assert len(notes) == 1
    assert f"n_gpu asks for {n_gpu}" in notes[0]
    assert ("using the CPU" in notes[0]) == (num_there == 0)


@pytest.mark.parametrize("by_command_line", [False, True])
@pytest.mark.parametrize(
    ("name", "devices"),
    [
        ("cpu", CPU),
        ("CPU", CPU),
        (" cpu ", CPU),
        ("cuda", cuda(0)),
        ("cuda:0", cuda(0)),
        ("cuda:1", cuda(1)),
        ("0", cuda(0)),
        ("3", cuda(3)),
        ("0,1", cuda(0, 1)),
        ("2, 0", cuda(2, 0)),
        ("cuda:1,cuda:3", cuda(1, 3)),
    ],
)
def test_a_device_that_is_there_is_taken_whatever_n_gpu_says(machine, name, devices, by_command_line):
    machine(4)

    chosen, notes = choose_devices(name, 0, by_command_line=by_command_line)

    assert (chosen, notes) == (devices, [])


def test_the_devices_of_the_config_that_are_there_are_used_with_a_note_on_the_others(machine):
    machine(1)

    chosen, notes = choose_devices("0,1", 1)

    assert chosen == cuda(0)
    assert "'cuda:1'" in notes[0]
    assert "using the others" in notes[0]


@pytest.mark.parametrize(
    ("num_there", "name", "missing"),
    [(0, "cuda", 0), (0, "0", 0), (0, "cuda:1", 1), (1, "cuda:1", 1), (1, "2,1", 2), (2, "5,7", 5)],
)
def test_a_missing_device_of_the_config_falls_back_to_the_cpu_with_a_note(machine, num_there, name, missing):
    machine(num_there)

    chosen, notes = choose_devices(name, 1)

    assert chosen == CPU
    assert len(notes) == 1
    assert f"'cuda:{missing}'" in notes[0]
    assert f"{num_there} CUDA device(s)" in notes[0]
    assert "using the CPU" in notes[0]


@pytest.mark.parametrize(("num_there", "name", "missing"), [(0, "cuda", 0), (1, "cuda:1", 1), (1, "0,1", 1)])
def test_a_missing_device_of_the_command_line_is_an_error(machine, num_there, name, missing):
    machine(num_there)

    with pytest.raises(DeviceError, match=f"^-d {name}: no such device 'cuda:{missing}'.*{num_there} CUDA") as caught:
        choose_devices(name, 1, by_command_line=True)

    assert "-d cpu" in str(caught.value)


@pytest.mark.parametrize("by_command_line", [False, True])
@pytest.mark.parametrize(
    "name",
    ["", "gpu", "cuda:", "cuda:x", "-1", "cuda:-1", "0,0", "1,cuda:1", "0,", "0;1", "mps", "1.0", "auto,0", "cpu,0"],
)
def test_nonsense_is_an_error_that_says_what_would_do(machine, name, by_command_line):
    machine(4)

    with pytest.raises(DeviceError, match="is not a device: use auto, cpu, cuda:1, or indices"):
        choose_devices(name, 1, by_command_line=by_command_line)


def test_a_driver_without_devices_counts_as_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)

    chosen, _ = choose_devices("auto", 1)

    assert chosen == CPU


def test_the_cpu_is_described_by_its_threads():
    assert describe(torch.device("cpu")) == f"CPU, {torch.get_num_threads()} threads"


def test_a_gpu_is_described_by_its_name(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU number {device.index}")

    assert describe(torch.device("cuda", 1)) == "cuda:1 (GPU number 1)"
