"""Files of the safetensors format: told apart from torch's by their first bytes, read and written by its library."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, load_file, save

from utils.errors import CheckpointError

_MAX_HEADER_BYTES = 100_000_000  # what the library takes
_POINTER = b"version h"  # of Git LFS; utils/checkpoint.py says what it is


def is_safetensors(path: Path) -> bool:
    """Whether a file is one: by its content, or where that is damaged by its name; False where none can be read.

    The name alone decides for torch too, from some version on: torch.load then asks the same library.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(9)
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return False
    # The length of the header, then the header, which is JSON. No zip and no pickle has four zeros and a brace there.
    if start[8:] == b"{" and int.from_bytes(start[:8], "little") <= _MAX_HEADER_BYTES:
        return True
    return path.name.endswith(".safetensors") and start not in (b"", _POINTER)


def load_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """Names and tensors, on the CPU.

    Raises:
        CheckpointError: the file is truncated or damaged. (What was changed in a number cannot be seen: no digest.)
    """
    try:
        return load_file(path)
    # The library's own error, and what torch says of a data type that it does not have.
    except (SafetensorError, OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{path}: truncated or damaged safetensors ({reason:.150})") from None


def safetensors_bytes(state_dict: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> bytes:
    """The content of such a file, the same for the same tensors and texts.

    Args:
        state_dict: names to tensors; those that share memory are written each.
        metadata: names to texts.
    """
    data = save({name: tensor.contiguous().clone() for name, tensor in state_dict.items()}, dict(metadata))
    # The library writes the metadata in another order each time.
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def safetensors_parts(data: bytes) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of a file's content."""
    length = int.from_bytes(data[:8], "little")
    return load(data), json.loads(data[8 : 8 + length])["__metadata__"]


def safetensors_metadata(path: Path) -> dict[str, str]:
    """Names and texts in the file's header; none where it has none, or cannot be read."""
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError):
        return {}  # whoever reads the tensors says what is wrong
