"""Checkpoints on disk: plain data only, written aside and renamed, read with `weights_only=True`.

What a checkpoint holds is decided in base/base_trainer.py; this file only keeps it safe: the new one is written
beside the old one and takes its name in one step, and a digest inside it tells whether it is what was written.
Reading never unpickles anything but tensors and plain containers.
"""

import mmap
import os
import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import torch

from utils.checkpoint_parts import missing_part
from utils.durable_file import replace_file
from utils.errors import CheckpointError
from utils.plain import digest_of, require_plain
from utils.safetensors_file import is_safetensors

FORMAT = 2
DIGEST = "sha256"  # of everything else in the file

_WEIGHTS_ONLY = "{path}: holds weights only, not a checkpoint of this project (use it with --weights, not with -r)"
# Objects in the checkpoints of pytorch-template, in the order in which one meets them there.
_OF_TEMPLATE = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "parse_config.ConfigParser")

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


class _Watched:
    """A file that asks before each write whether to go on."""

    def __init__(self, file: IO[bytes], check: Callable[[], None]):
        self.file, self.check, self.flush = file, check, file.flush

    def write(self, data: Any) -> int:
        self.check()
        return self.file.write(data)


def save_checkpoint(path: Path, state: dict[str, Any], check: Callable[[], None] | None = None) -> None:
    """Writes `state` to `path`; the previous file stays whole until the new one is complete.

    Args:
        path: of the file.
        state: plain data.
        check: is called now and then until the file is complete, and may raise to end it; torch makes a RuntimeError
            of some of what it raises.

    Raises:
        TypeError: something in it is not a tensor, number, string, bool, None, list, tuple or dict of those.
        OutputError: the disk is full, or the place cannot be written; the previous file is whole.
    """
    require_plain(state)
    state = {"format": FORMAT, **{key: value for key, value in state.items() if key != DIGEST}}
    state[DIGEST] = digest_of(state, check=check)

    # A file object, not a path: only then does a full disk show as an OSError instead of "unexpected pos".
    def write(file: IO[bytes]) -> None:
        torch.save(state, _Watched(file, check) if check is not None else file)  # type: ignore[arg-type]

    replace_file(path, write, "the checkpoint")


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint of ours onto the CPU.

    Raises:
        CheckpointError: there is none, it is truncated, damaged or no checkpoint, or it is of another kind or format.
    """
    state = load_plain(path) if not is_safetensors(path) else None
    if not isinstance(state, dict) or "format" not in state:
        raise CheckpointError(_WEIGHTS_ONLY.format(path=path) + _hint_of_template(state, path))
    if type(state["format"]) is not int or state["format"] != FORMAT:  # a stranger's may be a tensor
        found = state["format"] if type(state["format"]) is int else f"a {type(state['format']).__name__}"
        raise CheckpointError(f"{path}: format {found}, this version reads {FORMAT}")
    missing = missing_part(state)
    if missing:
        raise CheckpointError(f"{path}: incomplete, {missing}")
    require_undamaged(path, state)
    del state[DIGEST]
    return state


def require_undamaged(path: Path, state: dict[str, Any]) -> None:
    """Compares the content of one of our files with the digest in it.

    Raises:
        CheckpointError: they differ.
    """
    content = {key: value for key, value in state.items() if key != DIGEST}
    try:
        # A stranger's few bytes can stand for any amount of text, by naming one piece again and again.
        is_whole = digest_of(content, max_bytes=8 * path.stat().st_size + 10_000_000) == state[DIGEST]
    except (TypeError, ValueError, RuntimeError):  # no plain data, or containers that hold themselves
        is_whole = False
    if not is_whole:
        raise CheckpointError(f"{path}: damaged, it does not hold what was written (its digest differs)")


def load_plain(path: Path) -> Any:
    """Opens a file with `weights_only=True`, with a line for each way in which it can fail."""
    if path.is_dir():
        raise CheckpointError(f"{path}: is a folder (give a .pth file)")
    if path.exists() and not path.is_file():  # to open a pipe would wait for ever
        raise CheckpointError(f"{path}: is no file")
    try:
        with open(path, "rb") as file:  # once for all: a run that goes on replaces its files at any moment
            return _load_plain(path, file)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise CheckpointError(f"{path}: {(getattr(error, 'strerror', None) or str(error)).lower()}") from None


def _load_plain(path: Path, file: IO[bytes]) -> Any:
    size = os.fstat(file.fileno()).st_size
    if size == 0:
        raise CheckpointError(f"{path}: is empty")
    if file.read(64).startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{path}: not a checkpoint (a Git LFS pointer; run 'git lfs pull')")
    if _claims_more_than_it_has(file, size):
        raise CheckpointError(f"{path}: not a checkpoint, its content is compressed or asks for memory by itself")
    file.seek(0)
    try:
        with warnings.catch_warnings():
            # torch warns of pickle protocols and TorchScript before it refuses them.
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # The text advises `weights_only=False`, which would run whatever code a stranger's file brings.
        name = str(error).split("GLOBAL ")[-1].split(" ")[0] if "GLOBAL " in str(error) else None
        why = f"refers to '{name}', which is not plain data" if name else "not a checkpoint, or damaged"
        hint = _hint_of_template(name, path)
        raise CheckpointError(f"{path}: {why}; refusing to load it{hint}") from None
    except _DAMAGED:
        raise CheckpointError(f"{path}: truncated or not a checkpoint ({size:,} bytes)") from None


def _claims_more_than_it_has(file: IO[bytes], size: int) -> bool:
    """Whether a small file could fill the memory: torch writes neither compressed records nor byte arrays."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content.find(b"bytearray") >= 0:
            return True
    try:
        with zipfile.ZipFile(file) as archive:
            return sum(record.file_size for record in archive.infolist()) > size
    except (zipfile.BadZipFile, OSError, ValueError, LookupError, struct.error, NotImplementedError):
        return False  # another kind of file, or a damaged one: torch will say


def _hint_of_template(found: Any, path: Path) -> str:
    """What would do with a checkpoint of pytorch-template, by its keys or by the first object that was refused."""
    by_keys = isinstance(found, dict) and {"arch", "epoch", "state_dict"} <= found.keys()
    if not by_keys and not (isinstance(found, str) and found in _OF_TEMPLATE):
        return ""
    return f"\n  If pytorch-template wrote it: python -m tools.convert {path}"
