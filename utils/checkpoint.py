"""Checkpoints on disk: plain data only, written aside and renamed, read with `weights_only=True`.

What a checkpoint holds is decided in base/base_trainer.py; this file only keeps it safe. A process that is
killed while it saves leaves the previous file whole: the new one is written beside it and takes its name in
one step. Reading never unpickles anything but tensors and plain containers.
"""

import contextlib
import os
import pickle
import struct
import warnings
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import torch

from utils.errors import CheckpointError, OutputError

FORMAT = 1

# What train.py and test.py rely on in a checkpoint, whoever made it.
_PARTS = {
    "config": dict,
    "offered": list,
    "classes": list,
    "run": dict,
    "model": dict,
    "monitor": dict,
    "epochs_done": int,
    "steps_done": int,
}

# What torch's reader was seen to raise on damaged files (struct.error by a text that begins with G).
_DAMAGED = (
    RuntimeError,
    EOFError,
    LookupError,
    ValueError,
    OSError,
    AttributeError,
    TypeError,
    AssertionError,
    OverflowError,
    MemoryError,
    struct.error,
)


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Writes `state` to `path`; the previous file stays whole until the new one is complete.

    Raises:
        TypeError: something in it is not a tensor, number, string, bool, None, list, tuple or dict of those.
        OutputError: the disk is full, or the place cannot be written.
    """
    require_plain(state)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        # A file object, not a path: only then does a full disk show as an OSError instead of "unexpected pos".
        with open(aside, "wb") as file:
            torch.save({"format": FORMAT, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except (OSError, RuntimeError) as error:
        reason = _os_error_behind(error)
        if reason is None:
            raise
        message = f"{path}: cannot write the checkpoint ({reason.strerror or reason}); the previous one is whole"
        raise OutputError(message) from error
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint of ours onto the CPU.

    Raises:
        CheckpointError: there is none, it is truncated or no checkpoint, or it is of another kind or format.
    """
    state = load_plain(path)
    if not isinstance(state, dict) or "format" not in state:
        raise CheckpointError(f"{path}: holds weights only, not a checkpoint of this project (use it with --weights)")
    if state["format"] != FORMAT:
        raise CheckpointError(f"{path}: format {state['format']}, this version reads {FORMAT}")
    for key, kind in _PARTS.items():
        if not isinstance(state.get(key), kind):
            found = f"its '{key}' is a {type(state[key]).__name__}" if key in state else f"it has no '{key}'"
            raise CheckpointError(f"{path}: incomplete, {found}")
    return state


def load_weights_file(path: Path) -> tuple[dict[str, torch.Tensor], list[str] | None]:
    """The weights in a file, to start another run from, and the class names where the file tells them.

    Raises:
        CheckpointError: the file cannot be read, or holds no named tensors.
    """
    state = load_plain(path)
    classes = None
    if isinstance(state, dict) and "format" in state:
        classes, state = state.get("classes"), state.get("model")
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not state or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise CheckpointError(f"{path}: holds no state dict (a dict of names and tensors)")
    return state, classes


def load_plain(path: Path) -> Any:
    """Opens a file with `weights_only=True`, with a line for each way in which it can fail."""
    if path.is_dir():
        raise CheckpointError(f"{path}: is a folder (give a .pth file)")
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            start = file.read(64)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise CheckpointError(f"{path}: {(getattr(error, 'strerror', None) or str(error)).lower()}") from None
    if size == 0:
        raise CheckpointError(f"{path}: is empty")
    if start.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{path}: not a checkpoint (a Git LFS pointer; run 'git lfs pull')")
    try:
        with warnings.catch_warnings():
            # torch warns of pickle protocols and TorchScript before it refuses them.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # The text advises `weights_only=False`, which would run whatever code a stranger's file brings.
        name = str(error).split("GLOBAL ")[-1].split(" ")[0] if "GLOBAL " in str(error) else None
        why = f"refers to '{name}', which is not plain data" if name else "not a checkpoint, or damaged"
        raise CheckpointError(f"{path}: {why}; refusing to load it") from None
    except _DAMAGED:
        raise CheckpointError(f"{path}: truncated or not a checkpoint ({size:,} bytes)") from None


def link(target: Path, name: Path, *, symbolic: bool = False) -> None:
    """Makes `name` show `target`, in one step: by a link, or by a copy where the file system has no links.

    A hard link (for names in one folder) keeps its content when `target` is replaced; a symbolic one follows.

    Raises:
        OutputError: the place cannot be written, or a folder is in the way.
    """
    aside = name.with_name(f".{name.name}.{os.getpid()}.tmp")
    try:
        aside.unlink(missing_ok=True)
        try:
            if symbolic:
                aside.symlink_to(os.path.relpath(target, name.parent))
            else:
                os.link(target, aside)
        except (OSError, NotImplementedError):
            aside.write_bytes(target.read_bytes())
        os.replace(aside, name)
    except OSError as error:
        raise OutputError(f"{name}: cannot write ({error.strerror or error})") from error
    finally:
        # Also after success: renaming one hard link of a file to another does nothing, and leaves both.
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


def require_plain(value: Any, where: str = "checkpoint") -> None:
    """Refuses, with the key path, what `weights_only=True` would not open again.

    Raises:
        TypeError: naming the first value that is not plain data.
    """
    if value is None or type(value) in (bool, int, float, str, torch.Tensor, torch.nn.Parameter):
        return
    # No other dicts: `weights_only=True` refuses a defaultdict.
    if type(value) in (dict, OrderedDict, Counter):
        for key, item in value.items():
            require_plain(key, f"{where} (a key)")
            require_plain(item, f"{where}[{key!r}]")
    elif type(value) in (list, tuple):
        for index, item in enumerate(value):
            require_plain(item, f"{where}[{index}]")
    else:
        raise TypeError(f"{where} is a {type(value).__module__}.{type(value).__qualname__}, not plain data")


def _os_error_behind(error: BaseException | None) -> OSError | None:
    """torch wraps a full disk in a RuntimeError that does not mention it; the cause hangs in the chain."""
    while error is not None:
        if isinstance(error, OSError):
            return error
        error = error.__cause__ or error.__context__
    return None
