"""Files of the safetensors format: told apart from torch's by their first bytes, and read by its library."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

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
