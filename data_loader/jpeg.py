"""JPEG through torchcodec where that is installed: the same pixels as Pillow's, without its copies.

Called by decode.py, which keeps Pillow for every other file and for whatever is refused here: torchcodec is shown
only plain JPEGs (8 bit, grey or colour, well-formed up to the first scan), since a decoder in C++ has more to lose.
"""

import functools
import io
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from PIL import Image, features

_APP1, _SCAN = 0xE1, 0xDA
_APP15 = 0xEF  # of no meaning to anybody, so that what carries it is passed over
_FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended, progressive; arithmetic and lossless ones are left to Pillow
_WITHOUT_LENGTH = (0x00, 0x01, *range(0xD0, 0xDA), 0xFF)


@dataclass(frozen=True)
class JpegHeader:
    """What the segments before the first scan say.

    Args:
        height, width: in pixels, as stored.
        components: 1 (grey), 3 (colour) or 4 (CMYK).
        app1_at: where the second bytes of the markers lie that hold EXIF or XMP.
    """

    height: int
    width: int
    components: int
    app1_at: tuple[int, ...]


def read_header(view: memoryview) -> JpegHeader | None:
    """The header of an 8-bit JPEG; None for anything else, and where the segments do not follow each other."""
    at = 2
    size: tuple[int, int, int] | None = None
    app1_at: list[int] = []
    if bytes(view[:2]) != b"\xff\xd8":
        return None
    while at + 4 <= len(view) and view[at] == 0xFF:
        marker, length = view[at + 1], view[at + 2] << 8 | view[at + 3]
        if marker == _SCAN:
            return None if size is None else JpegHeader(*size, tuple(app1_at))
        if marker in _WITHOUT_LENGTH or length < 2 or at + 2 + length > len(view):
            return None
        if marker in _FRAMES:
            if length < 8 or size is not None or view[at + 4] != 8:  # bits
                return None
            size = (view[at + 5] << 8 | view[at + 6], view[at + 7] << 8 | view[at + 8], view[at + 9])
        elif marker == _APP1:
            app1_at.append(at + 1)
        at += 2 + length
    return None


def decode_plain_jpeg(data: np.ndarray, header: JpegHeader, channels: int) -> torch.Tensor | None:
    """uint8 (C, H, W) as stored, not turned by EXIF; None where torchcodec is not there or not the one to ask.

    In memory the channels lie last. `data` (uint8) is changed: torchcodec reads EXIF otherwise than Pillow does (only
    in the first APP1), so it is shown none.
    """
    torchcodec = find_torchcodec()
    # Of a colour JPEG, libjpeg's grey is its own channel of luma; Pillow's is computed from the RGB pixels.
    if torchcodec is None or header.components not in (1, channels):
        return None
    data[list(header.app1_at)] = _APP15
    try:
        return torchcodec.decode_jpeg(torch.from_numpy(data), mode="RGB" if channels == 3 else "GRAY")
    except (RuntimeError, ValueError, MemoryError):
        return None  # damaged; Pillow finds words for it


@functools.cache
def find_torchcodec() -> Any:
    """The module `torchcodec.decoders`, or None where it is not installed, too old, or not equal to Pillow."""
    try:
        from torchcodec import decoders as found  # late: 0.2 s, and who has no JPEG needs none of it

        decoders: Any = found
        pixels_HWC = decoders.decode_jpeg(torch.from_numpy(_sample()), mode="RGB").permute(1, 2, 0)
    except Exception:  # noqa: BLE001  a wheel for another torch can fail in any way, and Pillow can do the work
        return None
    with Image.open(io.BytesIO(_sample().tobytes())) as image:
        return decoders if np.array_equal(pixels_HWC.numpy(), np.asarray(image)) else None


def _sample() -> np.ndarray:
    """A small JPEG with halved colour planes and odd sides, whose pixels differ between builds of libjpeg."""
    values_HWC = np.arange(29 * 43 * 3, dtype=np.uint32).reshape(29, 43, 3) ** 2 // 61 % 256
    buffer = io.BytesIO()
    Image.fromarray(values_HWC.astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return np.frombuffer(bytearray(buffer.getvalue()), np.uint8)


def jpeg_decoder() -> str:
    """Which library reads JPEGs here, with its version."""
    return "Pillow" if find_torchcodec() is None else f"torchcodec {version('torchcodec')}"


def decoder_name() -> str:
    """All that decodes, with versions."""
    libjpeg = features.version("libjpeg_turbo") or "of another kind"
    return f"JPEG by {jpeg_decoder()}, Pillow {version('pillow')}, libjpeg-turbo {libjpeg}"
