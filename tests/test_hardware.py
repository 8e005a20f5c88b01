"""hardware.py: what "auto" means on which machine; nothing is measured, so the same choice is made each time."""

from types import MappingProxyType

import pytest
import torch

from utils.errors import ConfigError
from utils.hardware import MIN_BATCH_GFLOPS, choose_precision, fast_bf16, use_fast_kernels

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture
def machine(monkeypatch):
    """Makes this machine one whose CPU can do some things, and whose GPU is of a compute capability."""

    def pretend(*flags, capability=(8, 0)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: MappingProxyType(dict.fromkeys(flags, True)))
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)

    return pretend


@pytest.mark.parametrize(
    ("flags", "is_fast"),
    [
        (("avx2", "avx512_f"), False),
        (("amx_tile", "amx_int8"), False),  # tiles alone multiply integers
        (("avx512_bf16",), True),
        (("amx_bf16", "avx512_bf16"), True),
    ],
)
def test_a_cpu_is_fast_in_bf16_where_it_has_instructions_for_it(machine, flags, is_fast):
    machine(*flags)

    assert fast_bf16(CPU)[0] is is_fast
    chosen = choose_precision("auto", CPU, batch_gflops=1e3)
    assert chosen.name == ("bf16" if is_fast else "fp32")
    assert str(chosen) == f"{chosen.name} (auto: {fast_bf16(CPU)[1]})"


@pytest.mark.parametrize(("capability", "name"), [((7, 5), "fp32"), ((8, 0), "bf16"), ((9, 0), "bf16")])
def test_a_gpu_is_fast_in_bf16_from_ampere_on(machine, capability, name):
    machine(capability=capability)

    assert choose_precision("auto", GPU, batch_gflops=1e3).name == name


def test_the_flags_that_are_asked_for_are_ones_that_torch_knows():
    if torch.cpu.get_capabilities()["architecture"] != "x86_64":
        pytest.skip("another architecture has others")

    assert {"amx_bf16", "avx512_bf16"} <= torch.cpu.get_capabilities().keys()


@pytest.mark.parametrize("device", [CPU, GPU])
def test_a_small_network_stays_in_fp32_where_converting_would_cost_more_than_it_gains(machine, device):
    machine("amx_bf16")
    least = MIN_BATCH_GFLOPS[device.type]

    assert choose_precision("auto", device, batch_gflops=least * 0.99).name == "fp32"
    assert choose_precision("auto", device, batch_gflops=least).name == "bf16"


@pytest.mark.parametrize(
    ("flags", "before", "name"),
    [(("amx_bf16",), "bf16", "bf16"), ((), "bf16", "fp32"), (("amx_bf16",), "fp32", "fp32")],
)
def test_a_run_that_goes_on_keeps_its_precision_unless_the_machine_is_slow_at_it(machine, flags, before, name):
    machine(*flags)

    assert choose_precision("auto", CPU, batch_gflops=0.1, before=before).name == name
    assert choose_precision("auto", CPU, before=before).name == name


@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_what_is_asked_for_is_taken_on_any_machine(machine, name):
    machine()

    chosen = choose_precision(name, CPU, batch_gflops=0.1, before="fp32")

    assert chosen.name == name
    assert ("slower than fp32" in chosen.reason) is (name == "bf16")


def test_fp16_is_refused_on_a_cpu_and_taken_on_a_gpu(machine):
    machine("amx_bf16")

    with pytest.raises(ConfigError, match=r"fp16 needs a GPU.*use 'auto'") as caught:
        choose_precision("fp16", CPU, batch_gflops=1e3)

    assert caught.value.path == "trainer.precision"
    assert choose_precision("fp16", GPU).name == "fp16"
    assert choose_precision("auto", GPU, before="fp16").name == "fp16"
    assert choose_precision("auto", CPU, before="fp16").name == "bf16"


@pytest.fixture
def flags():
    """What torch was told, put back afterwards."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark
    yield lambda: (matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark)
    matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = before


@pytest.mark.parametrize(
    ("asked", "deterministic", "capability", "expected"),
    [
        ("auto", False, (8, 0), (True, True, True)),
        ("auto", True, (8, 0), (True, True, False)),
        ("bf16", False, (9, 0), (True, True, True)),
        ("fp32", False, (9, 0), (False, False, True)),
        ("auto", False, (7, 5), (False, False, True)),
    ],
)
def test_a_gpu_takes_tf32_unless_all_digits_are_asked_for(machine, flags, asked, deterministic, capability, expected):
    machine(capability=capability)

    use_fast_kernels(GPU, asked=asked, deterministic=deterministic)

    assert flags() == expected
    torch.get_float32_matmul_precision()  # raises where the old and the new way of saying this were mixed


def test_on_a_cpu_nothing_is_switched(flags):
    before = flags()

    use_fast_kernels(CPU, asked="auto", deterministic=False)

    assert flags() == before
