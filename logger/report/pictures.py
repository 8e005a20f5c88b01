"""Small pictures inside the page, as data: URIs, within a budget of bytes and of pixels that are decoded for them."""

import base64
import io
from collections.abc import Iterable

import torch

from logger.judgement import Judgement

SIDE_PX = 128
SHARP_PX = 48  # images up to this side are kept as they are
JPEG_QUALITY = 80
MAX_PICTURES = 320
MAX_BYTES = 5_000_000
# Reading large photographs takes the time: this many pixels take a few seconds. Not counted as a time, so that a report
# of the same judgement always holds the same pictures.
MAX_PIXELS = 400_000_000


def thumbnails(judgement: Judgement, first: Iterable[int], then: Iterable[int]) -> dict[int, str]:
    """data: URIs of images by their position; "" of one that cannot be read.

    Args:
        judgement: whose images.
        first: of these every one is made.
        then: of these as many as the budget allows.
    """
    uris: dict[int, str] = {}
    for position in first:
        uris[position] = _of_position(judgement, position)[0]
    num_bytes, num_pixels = sum(map(len, uris.values())), 0
    for position in then:
        if len(uris) >= MAX_PICTURES or num_bytes > MAX_BYTES or num_pixels > MAX_PIXELS:
            break
        if position not in uris:
            uris[position], pixels = _of_position(judgement, position)
            num_bytes, num_pixels = num_bytes + len(uris[position]), num_pixels + pixels
    return uris


def _of_position(judgement: Judgement, position: int) -> tuple[str, int]:
    """A picture, and how many pixels were decoded for it."""
    try:
        image_CHW = judgement.image_of(position)
        return thumbnail(image_CHW), image_CHW.shape[1] * image_CHW.shape[2]
    except Exception:  # noqa: BLE001  a loader of anybody's reads it; a page without one picture is still a page
        return "", 0


def thumbnail(image_CHW: torch.Tensor) -> str:
    """A data: URI of an image, its longer side at most SIDE_PX.

    Args:
        image_CHW: uint8, one or three channels.

    Raises:
        ValueError: it is something else.
    """
    from PIL import Image  # here, because whoever writes no report need not wait for it

    if image_CHW.dtype != torch.uint8 or image_CHW.ndim != 3 or image_CHW.shape[0] not in (1, 3):
        raise ValueError(f"no picture: {image_CHW.dtype} of shape {tuple(image_CHW.shape)}")
    pixels = image_CHW.cpu().permute(1, 2, 0).contiguous().numpy()
    return _uri(Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels))


def overlay(content: bytes) -> str:
    """A data: URI of a picture that was made elsewhere, such as where a network looked; "" if it is none."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content)) as image:
            return _uri(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return ""


def _uri(image: "Image.Image") -> str:  # type: ignore[name-defined]  # noqa: F821
    buffer = io.BytesIO()
    if max(image.size) <= SHARP_PX:
        image.save(buffer, "PNG", optimize=True)
        kind = "png"
    else:
        image.thumbnail((SIDE_PX, SIDE_PX))
        image.save(buffer, "JPEG", quality=JPEG_QUALITY, optimize=True)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
