"""From a file on disk to pixels: upright, 8 bit, grey or RGB, or one line that says what is wrong with the file.

`dataset.py` decodes through here, and whoever checks a folder asks here for its bad images. Plain JPEGs go through
torchcodec where it is installed (jpeg.py), all else through Pillow: torchvision's own decoder crashes the process on
a malformed PNG. Colour profiles (ICC) are not applied; resizing and every other change of the picture belong to
`transforms.py`.
"""

import io
import os
import stat
import struct
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO, Literal, NamedTuple

import numpy as np
import torch
from PIL import ExifTags, Image
from PIL.Image import Transpose

from data_loader.jpeg import decode_plain_jpeg, find_torchcodec, read_header
from utils.errors import DataError

FilePath = str | os.PathLike[str]
# How many times smaller an upright picture of that height and width may be decoded: 1, 2, 4 or 8.
Reduction = Callable[[int, int], int]
# No GIF: it is mostly animation, and which of its frames carries the label is a guess.
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})

# Pillow would try some forty formats on a stranger's file; these are the ones behind the suffixes.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM")

# How the stored picture is turned to stand upright. Source: EXIF 2.32, section 4.6.4, tag 274.
_UPRIGHT_BY = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}

_LYING = (5, 6, 7, 8)  # of those, the ones that swap width and height

_MAX_JPEG_BYTES = 1 << 26
_JPEG_MAGIC = b"\xff\xd8\xff"
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_TIFF_MAGICS = (b"II*\0", b"MM\0*")
_IMAGE_MAGICS = (_JPEG_MAGIC, _PNG_MAGIC, b"BM", b"RIFF", *_TIFF_MAGICS, b"P5", b"P6")
_OTHER_MAGICS = {
    b"version https://git-lfs": "a Git LFS pointer; run 'git lfs pull'",
    b"GIF8": "a GIF, which is not read; convert it to PNG",
}

# What Pillow's parsers were seen to raise on damaged files, warnings too where those are errors. A length that a
# file makes up is a MemoryError where memory is limited. DataError is raised here, for files that are refused,
# still without the path.
_BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)
_PARSING = (SyntaxError, ValueError, EOFError, TypeError, LookupError, ArithmeticError, struct.error)
_UNREADABLE = (OSError, DataError, MemoryError, UserWarning, *_PARSING, *_BOMB)


class Picture(NamedTuple):
    """A decoded file, and what it was before it became 8 bit and upright: Pillow's names, pixels."""

    upright: Image.Image
    format: str
    mode: str
    width: int
    height: int
    is_transparent: bool
    is_animated: bool


def read_picture(path: FilePath, file: BinaryIO, reduction: Reduction | None = None) -> Picture:
    """The same picture as `decode_image` gives, in RGB, by Pillow and with what is known of the file.

    Args:
        path: only to say what is wrong.
        file: its bytes, at their beginning.
        reduction: as there.

    Raises:
        DataError: the reason alone, without the path.
    """
    try:
        return _read_picture(file, "RGB", reduction)
    except _UNREADABLE as error:
        raise DataError(_plain_reason(path, error)) from error


def decode_image(path: FilePath, channels: int = 3, reduction: Reduction | None = None) -> torch.Tensor:
    """The pixels as uint8 (C, H, W): C is 1 (grey) or 3 (RGB), the first frame where there are several.

    Transparent places become white, 16-bit grey is rescaled (40000 becomes 156), EXIF orientation applied. In memory
    the channels of a pixel lie together, as decoders write them and as torch resizes them fastest. A `reduction`
    applies to JPEG alone, which can be decoded smaller at less cost.

    Raises:
        DataError: The file is missing, damaged, or not an image that can be taken; names path and reason.
    """
    mode = {1: "L", 3: "RGB"}[channels]
    try:
        return _decode(path, mode, reduction)
    except _UNREADABLE as error:
        raise DataError(f"{path}: {_plain_reason(path, error)}") from error


def file_problem(path: FilePath) -> str | None:
    """What is wrong with the file, or None; a look at its two ends, decoding only where they are suspicious.

    Sees what goes wrong with downloads and copies (empty, cut, something else by the name of an image).
    Damage between the two ends is seen by decoding only.
    """
    try:
        require_regular(path)
        with open(path, "rb", buffering=0) as file:
            head = file.read(32)
            num_bytes = file.seek(0, os.SEEK_END)
            file.seek(max(0, num_bytes - 64))
            tail = file.read(64)
    except (OSError, ValueError, DataError) as error:  # ValueError: a NUL in the name
        return _plain_reason(path, error)
    # A camera may append a film after the end mark of a JPEG, so a strange end is no proof.
    return None if _looks_whole(head, tail, num_bytes) else _decode_problem(path)


def find_bad_images(paths: Iterable[FilePath], *, thorough: bool, num_threads: int) -> list[tuple[str, str]]:
    """(path, reason) of each bad image, in the order of `paths`; `thorough` decodes every file fully."""
    problem_of = _decode_problem if thorough else file_problem
    names = [os.fspath(path) for path in paths]
    # A task per file would cost more than the cheap look itself.
    chunks = [names[start : start + 256] for start in range(0, len(names), 256)]
    with ThreadPoolExecutor(num_threads) as pool:
        found = pool.map(lambda chunk: [(name, problem_of(name)) for name in chunk], chunks)
        return [(name, reason) for chunk in found for name, reason in chunk if reason is not None]


def require_regular(path: FilePath) -> None:
    """A pipe would let whoever opens it wait for ever, and a device might have no end."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise DataError("not a regular file (a pipe or a device)")


def _decode(path: FilePath, mode: str, reduction: Reduction | None = None) -> torch.Tensor:
    require_regular(path)
    with open(path, "rb") as file:
        is_jpeg = file.read(len(_JPEG_MAGIC)) == _JPEG_MAGIC
        file.seek(0)
        # Pillow reads piece by piece what may be endless; a file larger than any JPEG is not read as a whole.
        if is_jpeg and find_torchcodec() is not None and os.fstat(file.fileno()).st_size <= _MAX_JPEG_BYTES:
            pixels_CHW = _plain_jpeg(np.fromfile(file, np.uint8), 3 if mode == "RGB" else 1, reduction)
            if pixels_CHW is not None:
                return pixels_CHW
            file.seek(0)
        return _decode_with_pillow(file, mode, reduction)


def _plain_jpeg(data: np.ndarray, channels: int, reduction: Reduction | None) -> torch.Tensor | None:
    """The pixels of a JPEG that needs nothing of Pillow's, or None; `data` is used up."""
    header = read_header(data.data)
    limit = Image.MAX_IMAGE_PIXELS
    if header is None or (limit is not None and header.height * header.width > limit):
        return None
    if header.app1_at:
        with Image.open(io.BytesIO(data.data), formats=_FORMATS) as image:
            if _orientation(image) in _UPRIGHT_BY:
                return None
    if reduction is not None and reduction(header.height, header.width) > 1:
        return None
    return decode_plain_jpeg(data, header, channels)


def _decode_with_pillow(file: BinaryIO, mode: str, reduction: Reduction | None) -> torch.Tensor:
    picture = _read_picture(file, mode, reduction).upright
    pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return pixels.view(picture.height, picture.width, -1).permute(2, 0, 1)


def _read_picture(file: BinaryIO, mode: str, reduction: Reduction | None) -> Picture:
    with Image.open(file, formats=_FORMATS) as image:
        # Pillow only warns up to twice the limit, and a warning filter is not safe with threads.
        if Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS:
            raise Image.DecompressionBombError
        # The second view of an MPO belongs to a camera's JPEG and moves nothing.
        is_animated = image.format not in ("JPEG", "MPO") and getattr(image, "is_animated", False)
        about = (image.format or "", image.mode, *image.size, image.has_transparency_data, is_animated)
        if reduction is not None and image.format in ("JPEG", "MPO"):
            is_turned = _orientation(image) in _LYING
            factor = reduction(image.width, image.height) if is_turned else reduction(image.height, image.width)
            image.draft(None, (max(1, image.width // factor), max(1, image.height // factor)))
        image.load()
        turn = _UPRIGHT_BY.get(_orientation(image))
        picture = _eight_bit(image, mode)
        return Picture(picture if turn is None else picture.transpose(turn), *about)


def _orientation(image: Image.Image) -> int:
    """The EXIF tag, 1 (as stored) where there is none; after `load`, since a PNG may carry it at its end."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except _UNREADABLE:
        return 1  # a damaged EXIF block says nothing against the pixels; viewers show them as stored


def _eight_bit(image: Image.Image, mode: str) -> Image.Image:
    # Mode I is 32 bit; Pillow uses it for 16-bit PGM too, and there the range of the values is known.
    if image.mode in ("F", "LAB") or (image.mode == "I" and image.format == "TIFF"):
        raise DataError(f"pixels of mode {image.mode} are not read; save it as 8- or 16-bit grey or RGB")
    if image.mode.startswith("I"):
        # Pillow's own conversion clips at 255: a 16-bit picture would come out white.
        values_HW = np.asarray(image).astype(np.uint32)
        image = Image.fromarray(((values_HW + 128) // 257).astype(np.uint8))
    elif image.has_transparency_data:
        # Dropping alpha would show whatever colour lies under the transparent pixels, often noise or black.
        # White is the page such pictures were drawn to lie on.
        layer = image.convert("RGBA")
        image = Image.new("RGB", layer.size, "white")
        image.paste(layer, mask=layer.getchannel("A"))
    return image if image.mode == mode else image.convert(mode)


def _decode_problem(path: FilePath) -> str | None:
    try:
        _decode(path, "RGB")
    except _UNREADABLE as error:
        return _plain_reason(path, error)
    return None


def _looks_whole(head: bytes, tail: bytes, num_bytes: int) -> bool:
    """Whether the two ends belong to a whole file; False also where they cannot tell (PPM has no end mark)."""
    if head.startswith(_JPEG_MAGIC):
        return b"\xff\xd9" in tail
    if head.startswith(_PNG_MAGIC):
        return b"IEND" in tail
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return int.from_bytes(head[4:8], "little") + 8 == num_bytes
    if head.startswith(b"BM"):
        return int.from_bytes(head[2:6], "little") == num_bytes
    # The directory of a TIFF usually lies behind the pixels, so a cut file points past its end.
    order: Literal["little", "big"] = "little" if head.startswith(b"II") else "big"
    return head.startswith(_TIFF_MAGICS) and int.from_bytes(head[4:8], order) < num_bytes


def _plain_reason(path: FilePath, error: Exception) -> str:
    """One line for a person, from what Pillow or the system raised."""
    if isinstance(error, _BOMB):
        return f"more than {Image.MAX_IMAGE_PIXELS} pixels, the limit for one image; make it smaller"
    if os.path.isdir(path):
        return "a folder"
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "a link to a file that is not there" if os.path.islink(path) else "no such file"
    if isinstance(error, Image.UnidentifiedImageError):
        return _what_it_is(path)
    if isinstance(error, OSError) and error.errno is not None:
        return f"cannot be read ({error.strerror})"
    if isinstance(error, DataError):
        return str(error)
    detail = " ".join(str(error).split())[:100] or type(error).__name__
    return "truncated image" if "truncated" in detail.lower() else f"damaged image ({detail})"


def _what_it_is(path: FilePath) -> str:
    with open(path, "rb") as file:
        head = file.read(512)
    if not head:
        return "empty file"
    for magic, reason in _OTHER_MAGICS.items():
        if head.startswith(magic):
            return reason
    if head.startswith(_IMAGE_MAGICS):
        return "damaged or truncated image (its header cannot be read)"
    if head[4:8] == b"ftyp":
        return "a HEIC, AVIF or video file, which is not read; convert it to JPEG"
    if b"<html" in head.lower() or b"<!doctype html" in head.lower():
        return "not an image (looks like HTML)"
    if not any(head):
        return "not an image (only zero bytes)"
    is_text = not any(byte < 9 or 13 < byte < 32 for byte in head)  # no control bytes but tab and line ends
    return "not an image (looks like text)" if is_text else "not an image"
