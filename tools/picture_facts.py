"""What one image file says of itself: its bytes' digest, its size and mode, what is wrong, and numbers on its pixels.

Called by data_facts.py, in several processes. A file is read once. What may be believed of a stranger's file is
decided in data_loader/decode.py, which decodes for training too.
"""

import hashlib
import io
import os
import warnings
from collections.abc import Sequence
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image

from data_loader.decode import Picture, file_problem, read_picture, require_regular
from utils.errors import DataError

GRID = 16  # side of the small grey picture that near duplicates are compared by
FLAT_LEVELS = 8  # of 256: a JPEG of one colour has a few
ENOUGH_PX = 512  # a large JPEG is decoded smaller while its shorter side keeps so many pixels
_MAX_BYTES = 1 << 26  # larger files are read piece by piece

_LEVELS = np.arange(256) / 255
_POWERS = np.stack([_LEVELS, _LEVELS**2])
_SUFFIXES = {
    "JPEG": (".jpg", ".jpeg"),
    "MPO": (".jpg", ".jpeg"),
    "PNG": (".png",),
    "BMP": (".bmp",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm"),
}


class PictureFacts(NamedTuple):
    """Of one file; all but the first three say something only where `problem` is None.

    Attributes:
        num_bytes: of the file.
        digest: SHA-256 of the file; b"" where it cannot be read.
        problem: why it cannot be decoded.
        format, mode: Pillow's names, as stored.
        width, height: in pixels, as stored.
        is_misnamed: the file's ending belongs to another format; it is read all the same.
        is_transparent: it has an alpha channel or a transparent colour.
        is_animated: it has more frames, of which only the first is used.
        is_flat: one colour and nothing else.
        is_reduced: the moments are from a smaller picture, see `ENOUGH_PX`.
        bits: the difference hash, 64 bits.
        grid: grey levels, GRID x GRID bytes.
        moments: mean of each channel, then mean of its square, for pixels in [0, 1]; of the RGB picture.
    """

    num_bytes: int
    digest: bytes
    problem: str | None
    format: str = ""
    mode: str = ""
    width: int = 0
    height: int = 0
    is_misnamed: bool = False
    is_transparent: bool = False
    is_animated: bool = False
    is_flat: bool = False
    is_reduced: bool = False
    bits: int = 0
    grid: bytes = bytes(GRID * GRID)
    moments: tuple[float, ...] = (0.0,) * 6


def facts_of_all(paths: Sequence[str]) -> list[PictureFacts]:
    """Of each file, in order; what Pillow warns of is left to what it raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [facts_of(path) for path in paths]


def facts_of(path: str) -> PictureFacts:
    """Reads and decodes a file; a file that cannot be is a fact as well."""
    num_bytes, digest = 0, b""
    try:
        require_regular(path)
        with open(path, "rb") as file:
            num_bytes = os.fstat(file.fileno()).st_size
            if num_bytes <= _MAX_BYTES:
                data = file.read(num_bytes)
                num_bytes, digest = len(data), hashlib.sha256(data).digest()
                return _seen(num_bytes, digest, path, io.BytesIO(data))
            digest = hashlib.file_digest(file, "sha256").digest()
            file.seek(0)
            return _seen(num_bytes, digest, path, file)
    except DataError as error:
        return PictureFacts(num_bytes, digest, str(error))
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return PictureFacts(num_bytes, digest, file_problem(path) or "cannot be read")


def _seen(num_bytes: int, digest: bytes, path: str, file: BinaryIO) -> PictureFacts:
    picture = read_picture(path, file, _reduction)
    image = picture.upright
    counts_CV = np.array(image.histogram(), np.float64).reshape(3, 256)
    means, squares = (counts_CV @ _POWERS.T / (image.width * image.height)).T
    # Summed up by blocks once, and the two small pictures from that: a fifth of a millisecond for each would be much.
    small = image.convert("L").resize((72, 64), Image.Resampling.BOX, reducing_gap=1.0)
    return PictureFacts(
        num_bytes,
        digest,
        None,
        *picture[1:5],
        is_misnamed=os.path.splitext(path)[1].lower() not in _SUFFIXES.get(picture.format, ()),
        is_transparent=picture.is_transparent,
        is_animated=picture.is_animated,
        is_flat=bool((_ranges(counts_CV) <= FLAT_LEVELS).all()),
        is_reduced=_is_reduced(picture),
        bits=difference_hash(np.asarray(small.resize((9, 8), Image.Resampling.BOX))),
        grid=small.resize((GRID, GRID), Image.Resampling.BOX).tobytes(),
        moments=(*means.tolist(), *squares.tolist()),
    )


def difference_hash(grey_HW: np.ndarray) -> int:
    """64 bits, a row after the other: whether a place is lighter than the one on its left.

    Args:
        grey_HW: the picture as 8 rows of 9 places.

    Source: N. Krawetz, "Kind of Like That", hackerfactor.com, 2013 ("dHash").
    """
    return int.from_bytes(np.packbits(grey_HW[:, 1:] > grey_HW[:, :-1]).tobytes(), "big")


def _ranges(counts_CV: np.ndarray) -> np.ndarray:
    """Of each channel, the highest value that occurs less the lowest."""
    occurs_CV = counts_CV > 0
    return 255 - occurs_CV[:, ::-1].argmax(1) - occurs_CV.argmax(1)


def _reduction(height: int, width: int) -> int:
    return next((factor for factor in (8, 4, 2) if min(height, width) // factor >= ENOUGH_PX), 1)


def _is_reduced(picture: Picture) -> bool:
    return picture.upright.width * picture.upright.height < picture.width * picture.height
