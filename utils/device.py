"""Which device a run uses: from `-d`, from the config's `device`, or from `n_gpu`. Called by the entry scripts."""

import os

import torch
from torch import nn

from utils.errors import DeviceError


def choose_devices(device: str, n_gpu: int, *, by_command_line: bool = False) -> tuple[list[torch.device], list[str]]:
    """Turns the settings into devices, the first of which holds the model.

    Args:
        device: "auto", "cpu", "cuda", "cuda:1", or indices of GPUs: "0" or "0,1".
        n_gpu: how many GPUs "auto" may take; 0 means the CPU.
        by_command_line: a device named with `-d` must exist; one named in a config falls back to the CPU.

    Returns:
        The devices and lines for the log about what was asked for and is not there.

    Raises:
        DeviceError: no such device was named with `-d`, or the name means nothing.
    """
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        if n_gpu > available:
            found = f"{available} found: using those" if available else "none found: using the CPU"
            note = [f"n_gpu asks for {n_gpu} GPU(s), {found}"]
        else:
            note = []
        indices = list(range(min(n_gpu, available)))
    else:
        indices, note = cuda_indices(device), []
        missing = [index for index in indices if index >= available]
        if missing:
            message = f"no such device 'cuda:{missing[0]}': this machine has {available} CUDA device(s)"
            if by_command_line:
                raise DeviceError(f"-d {device}: {message}. Use -d cpu")
            indices = [index for index in indices if index < available]
            used = "using the others" if indices else "using the CPU"
            note = [f"device {device}: {message}; {used}"]
    return [torch.device("cuda", index) for index in indices] or [torch.device("cpu")], note


def cuda_indices(device: str) -> list[int]:
    """CUDA indices in a device's name other than "auto"; none for the CPU.

    Raises:
        DeviceError: the name means nothing.
    """
    name = device.strip().lower()
    if name == "cpu":
        return []
    if name == "cuda":
        return [0]
    try:
        indices = [int(part.strip().removeprefix("cuda:")) for part in name.split(",")]
    except ValueError:
        indices = [-1]
    if min(indices) < 0 or len(set(indices)) < len(indices):
        raise DeviceError(f"'{device}' is not a device: use auto, cpu, cuda:1, or indices of GPUs such as 0 or 0,1")
    return indices


def shared_by(model: nn.Module, devices: list[torch.device]) -> nn.Module:
    """The model, whose batches are shared by several GPUs where there are several; its state stays its own."""
    if len(devices) == 1:
        return model
    return nn.DataParallel(model, device_ids=[device.index for device in devices])


def make_deterministic() -> None:
    """From now on an operation gives the same bits each time, or fails where no such way to do it exists.

    To be called before CUDA is used: its matrix library reads its setting once. Slower on a GPU.
    Source: "Reproducibility" in PyTorch's notes.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory has run out, the GPU's or this machine's."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator: can't allocate memory" in str(error)


def numerics(device: torch.device, precision: str = "fp32") -> dict[str, str | int | bool]:
    """What the last bits of a result depend on besides the config.

    Args:
        device: that holds the model.
        precision: that it computes in, which "auto" does not say.
    """
    return {
        "torch": str(torch.__version__),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "precision": precision,
        "tf32": device.type == "cuda" and torch.backends.cuda.matmul.allow_tf32,
    }


def describe(device: torch.device) -> str:
    """The device in words: the GPU's name, or the number of CPU threads."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"CPU, {torch.get_num_threads()} threads"
