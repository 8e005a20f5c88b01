"""How much smaller a photograph may be decoded, judged by the transform that comes first.

Used by dataset.py where `scaled_decoding` is on. Decoding at a half is cheaper in a large JPEG; its
pixels are averages of blocks, so those of the finished image differ a little (docs/decisions/0023).
"""

from collections.abc import Iterator

import torch
from torch import nn
from torchvision.transforms import v2

from data_loader.decode import Reduction

# The resize that follows needs pixels to average; with twice as many its result is hardly another.
_SPARE = 2
_FACTORS = (8, 4, 2)


def reduction_before(transform: object) -> Reduction | None:
    """A function (height, width) -> 1, 2, 4 or 8 for images that go into `transform`; None where it may not be done.

    A `Resize` or `RandomResizedCrop` must come first. What it takes from the decoded image, the whole or the crop that
    it is going to draw, keeps at least twice the height and width that it gives. Other transforms count pixels.
    """
    first = next(_in_order(transform), None)
    if isinstance(first, v2.Resize) and first.size is not None:
        size = list(first.size)
        return lambda height, width: _factor((height, width), _resized(height, width, size))
    if isinstance(first, v2.RandomResizedCrop):
        crop = first
        return lambda height, width: _factor(_next_crop(crop, height, width), (crop.size[0], crop.size[1]))
    return None


def _in_order(transform: object) -> Iterator[object]:
    if isinstance(transform, v2.Compose | nn.Sequential):
        steps = transform.transforms if isinstance(transform, v2.Compose) else list(transform)
        for step in steps:
            yield from _in_order(step)
    elif transform is not None:
        yield transform


def _resized(height: int, width: int, size: list[int]) -> tuple[float, float]:
    """What Resize makes of an image; its `max_size` could only make it smaller."""
    if len(size) == 2:
        return size[0], size[1]
    shrinks = size[0] / min(height, width)
    return height * shrinks, width * shrinks


def _next_crop(crop: v2.RandomResizedCrop, height: int, width: int) -> tuple[int, int]:
    """Height and width of the crop that would be drawn next from a whole image, without using up any chance.

    From the smaller image it is drawn anew with the same random numbers: as large a part of it, perhaps elsewhere.
    """
    state = torch.get_rng_state()
    drawn = crop.make_params([torch.empty(1, 1, 1).expand(3, height, width)])
    torch.set_rng_state(state)
    return drawn["height"], drawn["width"]


def _factor(taken: tuple[float, float], given: tuple[float, float]) -> int:
    room = min(there / wanted for there, wanted in zip(taken, given, strict=True)) / _SPARE
    return next((factor for factor in _FACTORS if factor <= room), 1)
