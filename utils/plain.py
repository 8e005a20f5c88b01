"""Plain data: what `torch.load(weights_only=True)` opens again without an allow-list, and a digest of it.

torch writes check sums and never looks at them: a flipped bit loads without any error. The digest is taken over what
the data says, not over the bytes of a file, so that it lies inside the file and survives copying.
"""

import hashlib
import struct
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

import torch

_MAX_INT_BITS = 8 * 255 - 1  # `weights_only=True` knows the pickle code for up to 255 bytes, not the next one


def require_plain(value: Any, where: str = "checkpoint") -> None:
    """Refuses, with the key path, what would not open again.

    Raises:
        TypeError: naming the first value that is not plain data.
    """
    if type(value) is int and value.bit_length() > _MAX_INT_BITS:
        raise TypeError(f"{where} is an integer of {value.bit_length()} bits; {_MAX_INT_BITS} is the most that is read")
    if value is None or type(value) in (bool, int, float, str):
        return
    if type(value) in (torch.Tensor, torch.nn.Parameter):
        if value.layout != torch.strided or value.is_quantized:
            raise TypeError(f"{where} is a {value.layout} tensor; only ordinary ones are kept")
        require_plain(vars(value), f"{where} (what somebody attached to it)")
    # No other dicts: `weights_only=True` refuses a defaultdict.
    elif type(value) in (dict, OrderedDict, Counter):
        for key, item in value.items():
            require_plain(key, f"{where} (a key)")
            require_plain(item, f"{where}[{key!r}]")
    elif type(value) in (list, tuple):
        for index, item in enumerate(value):
            require_plain(item, f"{where}[{index}]")
    else:
        raise TypeError(f"{where} is a {type(value).__module__}.{type(value).__qualname__}, not plain data")


def digest_of(value: Any, max_bytes: int | None = None, check: Callable[[], None] | None = None) -> str:
    """SHA-256, in hex, of plain data: key paths, types, dtypes, shapes and every bit of the values.

    A Parameter counts as the tensor that it is, any kind of dict as a dict, and the order of its keys counts.

    Args:
        value: plain data.
        max_bytes: the most that it may unfold to.
        check: is called now and then, and may raise to end it.

    Raises:
        TypeError: something in it is not plain data.
        ValueError: it is larger than `max_bytes`.
    """
    digest, num_bytes = hashlib.sha256(), 0
    for piece in _pieces(value):
        if check is not None:
            check()
        digest.update(piece)
        num_bytes += len(piece) + 16  # nothing is free: nested empty lists are many pieces of a few bytes
        if max_bytes is not None and num_bytes > max_bytes:
            raise ValueError(f"more than {max_bytes} bytes")
    return digest.hexdigest()


def _pieces(value: Any) -> Iterable[Any]:
    """Bytes that tell the value from every other: each begins with a letter for its type, and its length."""
    if isinstance(value, torch.Tensor):
        tensor, size = value.detach(), value.untyped_storage().nbytes()
        if tensor.nbytes > size:  # expanded: its elements share memory, and unfolded it could be of any size
            place = f"{list(tensor.stride())}{tensor.storage_offset()}"
            yield f"e{tensor.dtype}{list(tensor.shape)}{place};{size};".encode()
            tensor = tensor.as_strided((size // tensor.itemsize,), (1,), 0)
        else:
            yield f"t{tensor.dtype}{list(tensor.shape)};".encode()
        # Only now, as a copy of an expanded one unfolds it; and one that is marked as conjugated has no bytes to view.
        tensor = tensor.cpu().resolve_conj().resolve_neg().contiguous()
        yield tensor.reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else b""
    elif isinstance(value, bool):  # before int, which it is too
        yield b"b1" if value else b"b0"
    elif isinstance(value, int):
        yield f"i{value};".encode()
    elif isinstance(value, float):
        yield b"f" + struct.pack("<d", value)
    elif isinstance(value, str):
        text = value.encode("utf-8", "surrogatepass")
        yield f"s{len(text)};".encode() + text
    elif value is None:
        yield b"n"
    elif isinstance(value, dict):
        yield f"d{len(value)};".encode()
        for key, item in value.items():
            yield from _pieces(key)
            yield from _pieces(item)
    elif isinstance(value, list | tuple):
        yield f"{'l' if isinstance(value, list) else 'u'}{len(value)};".encode()
        for item in value:
            yield from _pieces(item)
    else:
        raise TypeError(f"a {type(value).__qualname__} has no digest")
