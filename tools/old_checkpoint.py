"""Reads a checkpoint of pytorch-template without running anything that it brings.

Such a file pickles objects: the ConfigParser of its project, paths, perhaps a logger, a numpy number. torch's
restricted unpickler makes stand-ins of those here, by an allow-list that holds only while one file is read; what else
is named in the file is refused. Called by tools/convert.py; what becomes of the config is in tools/old_config.py.
"""

import itertools
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from utils.checkpoint import load_plain
from utils.config_file import MAX_DEPTH
from utils.config_layers import MAX_VALUES
from utils.config_resume import require_plain
from utils.errors import CheckpointError
from utils.safetensors_file import is_safetensors
from utils.weights_file import is_state_dict

MAX_EPOCHS = 1_000_000  # schedules are replayed that far
_PREFIXES = ("module.", "_orig_mod.")
_CODES = {"f8": "d", "f4": "f", "f2": "e", "i8": "q", "i4": "i", "i2": "h", "i1": "b", "u1": "B", "b1": "?"}


class StandIn:
    """In place of an object of any class: keeps what it was made of and what it held, and does nothing."""

    args: tuple[Any, ...]
    state: Any

    def __new__(cls, *args: Any) -> "StandIn":
        """Takes whatever the class took."""
        self = super().__new__(cls)
        self.args, self.state = args, None
        return self

    def __setstate__(self, state: Any) -> None:
        """Keeps it apart from the attributes, which a stranger must not set."""
        self.state = state


class PathStandIn(StandIn):
    """In place of a path."""


class NumberType(StandIn):
    """In place of a numpy.dtype."""


def number_of(kind: NumberType, content: bytes) -> float | int | bool:
    """In place of numpy's maker of numbers.

    Raises:
        LookupError: it is no number.
        struct.error: the bytes are too few or too many.
    """
    order = kind.state[1] if isinstance(kind.state, tuple) else "<"
    return struct.unpack((">" if order == ">" else "<") + _CODES[kind.args[0]], content)[0]


_PATHS = [
    f"{module}.{name}"
    for module in ("pathlib", "pathlib._local")
    for name in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "Path", "PurePath")
]
_OBJECTS = [
    "parse_config.ConfigParser",
    "logger.logger.Logger",  # of the first versions
    "logger.Logger",
    "logging.getLogger",
    "logging.Logger",
    "logging.RootLogger",
    "argparse.Namespace",
]
ALLOWED: list[Any] = [
    *((PathStandIn, name) for name in _PATHS),
    *((StandIn, name) for name in _OBJECTS),
    (NumberType, "numpy.dtype"),
    (number_of, "numpy.core.multiarray.scalar"),
    (number_of, "numpy._core.multiarray.scalar"),
]


@dataclass(frozen=True)
class OldCheckpoint:
    """What a checkpoint of pytorch-template holds that can be used.

    Args:
        path: of the file.
        epoch: epochs that were trained, from 1.
        weights: of the network, perhaps with the prefixes of wrappers before their names.
        optimizer: its state_dict; None where there is none.
        monitor_best: the best score so far; None where there is none, or no finite one.
        config: plain data; None where the file has none.
    """

    path: Path
    epoch: int
    weights: dict[str, torch.Tensor]
    optimizer: dict[str, Any] | None
    monitor_best: float | None
    config: dict[str, Any] | None


def read_old_checkpoint(path: Path) -> OldCheckpoint:
    """Opens the file.

    Raises:
        CheckpointError: it cannot be read, is no such checkpoint, or names what is not on the list.
    """
    if is_safetensors(path):
        raise CheckpointError(f"{path}: holds weights only; train.py takes it with --weights as it is")
    with torch.serialization.safe_globals(ALLOWED):
        state = load_plain(path)
    if isinstance(state, dict) and "format" in state:
        raise CheckpointError(f"{path}: is a checkpoint of this project already; continue it with train.py -r")
    if is_state_dict(state):
        raise CheckpointError(f"{path}: holds weights only; train.py takes it with --weights as it is")
    for key in ("epoch", "state_dict"):
        if not isinstance(state, dict) or key not in state:
            raise CheckpointError(f"{path}: no checkpoint of pytorch-template, it has no '{key}'")
    epoch, weights, optimizer = state["epoch"], state["state_dict"], state.get("optimizer")
    if type(epoch) is not int or not 1 <= epoch <= MAX_EPOCHS:
        raise CheckpointError(f"{path}: its 'epoch' is not a number from 1 to {MAX_EPOCHS:,}")
    if not is_state_dict(weights):
        raise CheckpointError(f"{path}: its 'state_dict' is no dict of names and tensors")
    if optimizer is not None and not (isinstance(optimizer, dict) and {"state", "param_groups"} <= optimizer.keys()):
        raise CheckpointError(f"{path}: its 'optimizer' is no state of an optimizer")
    best = _number(state.get("monitor_best"))
    return OldCheckpoint(path, epoch, weights, optimizer, best, _config_in(state.get("config"), path))


def unwrapped(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Without what DataParallel or torch.compile put before every name."""
    while prefix := next((prefix for prefix in _PREFIXES if all(name.startswith(prefix) for name in weights)), None):
        weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    return weights


def _number(value: Any) -> float | None:
    if isinstance(value, torch.Tensor) and value.numel() == 1 and not value.is_complex():
        value = value.item()
    return float(value) if type(value) in (int, float) and abs(value) < sys.float_info.max else None


def _config_in(value: Any, path: Path) -> dict[str, Any] | None:
    """The config as plain data, out of the object that held it: under `_config`, `config`, or a mangled name."""
    if isinstance(value, StandIn):
        held = value.state[0] if isinstance(value.state, tuple) and value.state else value.state
        found = [item for item in held.values() if isinstance(item, dict)] if isinstance(held, dict) else []
        value = next((item for item in found if "arch" in item), None)
    if not isinstance(value, dict):
        return None
    config = _plain(value, path, itertools.count())
    require_plain({"config": config, "offered": []}, path)
    return config


def _plain(value: Any, path: Path, counter: Iterator[int], depth: int = 0) -> Any:
    """Ordinary dicts and lists in place of their relatives, and text in place of paths."""
    if depth > MAX_DEPTH or next(counter) > MAX_VALUES:  # it may even hold itself
        raise CheckpointError(f"{path}: its config is larger or nested deeper than any config file")
    if isinstance(value, dict):
        return {key: _plain(item, path, counter, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, path, counter, depth + 1) for item in value]
    if isinstance(value, PathStandIn):
        return str(PurePosixPath(*map(str, value.args)))
    return value
