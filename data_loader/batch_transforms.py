"""Operations on whole batches for `data_loader.args.batch_transform`: crops, flips, erased rectangles.

They have the names and arguments of torchvision.transforms.v2 where they mean the same; there one call draws once for
all images that it gets, here every image has a draw of its own. Those that mix images are in mixing.py.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge, Le
from torch.nn.functional import pad

from base.base_batch_transform import BatchTransform, ShapeCHW
from utils.draws import Draws

Probability = Annotated[float, Ge(0), Le(1)]


class RandomCrop(BatchTransform):
    """A window at a random place of the image, which may be padded first: with `padding` 4, a shift by up to 4 pixels.

    Args:
        size: of the window in pixels, one number or height and width; None for the image's own.
        padding: pixels added on each side.
        fill: of the padding where `padding_mode` is "constant", in the units of the images as they arrive: 0 to 255 for
            uint8.
        padding_mode: "constant", "edge" repeats the last pixel, "reflect" mirrors without it, "symmetric" with it.

    Source: `RandomCrop` of torchvision.transforms.v2; padding by 4 for CIFAR is that of He et al., "Deep Residual
    Learning", arXiv 1512.03385, section 4.2, the reflection that of Zagoruyko and Komodakis, arXiv 1605.07146.
    """

    def __init__(
        self,
        size: int | Sequence[int] | None,
        padding: Annotated[int, Ge(0)] = 0,
        fill: float = 0,
        padding_mode: Literal["constant", "edge", "reflect", "symmetric"] = "constant",
    ):
        if size is None and not padding:
            raise ValueError("without a size it needs a padding, or there is nothing to choose")
        sides = [] if size is None else [size] if isinstance(size, int) else list(size)
        if size is not None and (len(sides) not in (1, 2) or min(sides) < 1):
            raise ValueError(f"size must be one number or height and width, each at least 1, got {size}")
        if fill and padding_mode != "constant":
            raise ValueError(f'fill is only used with padding_mode "constant", not "{padding_mode}"')
        self.size_HW = (sides[0], sides[-1]) if sides else None
        self.padding, self.fill, self.padding_mode = padding, fill, padding_mode

    def shape_after(self, shape_CHW: ShapeCHW) -> ShapeCHW:
        """With the window's sides."""
        return (shape_CHW[0], *(self.size_HW or shape_CHW[1:]))

    def draw(self, draws: Draws, shape_CHW: ShapeCHW) -> np.ndarray:
        """The window's upper and left edge in the padded image; ValueError where it does not fit in."""
        _, height, width = shape_CHW
        _, window_height, window_width = self.shape_after(shape_CHW)
        places = (height + 2 * self.padding - window_height + 1, width + 2 * self.padding - window_width + 1)
        if min(places) < 1:
            raise ValueError(
                f"images of {height}x{width} with a padding of {self.padding} are smaller than the window of "
                f"{window_height}x{window_width}"
            )
        most = min(height, width) - (1 if self.padding_mode == "reflect" else 0)
        if self.padding > most and self.padding_mode in ("reflect", "symmetric"):
            raise ValueError(f"images of {height}x{width} have only {most} pixels to mirror, padding is {self.padding}")
        return np.floor(draws.uniform(2) * np.array(places)[:, None])

    def apply(self, images_NCHW: torch.Tensor, drawn_RN: torch.Tensor) -> torch.Tensor:
        """Copies each window out of one view of all windows; ValueError at a fill that the pixels cannot hold."""
        _, height, width = self.shape_after((0, *images_NCHW.shape[2:]))
        windows = self._padded(images_NCHW).unfold(2, height, 1).unfold(3, width, 1)
        top_N, left_N = drawn_RN.long()
        return windows[torch.arange(len(images_NCHW), device=images_NCHW.device), :, top_N, left_N]

    def _padded(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        border = self.padding
        if not border:
            return images_NCHW
        if self.padding_mode == "constant":
            if not images_NCHW.is_floating_point() and self.fill not in range(256):
                raise ValueError(f"fill must be a whole number of 0 to 255 for uint8 images, got {self.fill}")
            return pad(images_NCHW, (border, border, border, border), value=self.fill)
        # By hand, because torch mirrors floats only.
        return self._extended(self._extended(images_NCHW, 2), 3)

    def _extended(self, images: torch.Tensor, axis: int) -> torch.Tensor:
        border, side = self.padding, images.shape[axis]
        if self.padding_mode == "edge":
            shape = [border if at == axis else length for at, length in enumerate(images.shape)]
            before, after = (images.narrow(axis, place, 1).expand(shape) for place in (0, side - 1))
        else:
            left_out = 1 if self.padding_mode == "reflect" else 0
            places = (left_out, side - border - left_out)
            before, after = (images.narrow(axis, place, border).flip(axis) for place in places)
        return torch.cat([before, images, after], dim=axis)


class RandomHorizontalFlip(BatchTransform):
    """Mirrors left and right.

    Args:
        p: probability.
        alternating: instead of drawing in each epoch, half of the images (by a hash of their index) are mirrored in
            even epochs and the other half in odd ones, so that any two epochs in a row show an image both ways.

    Source: `RandomHorizontalFlip` of torchvision.transforms.v2; alternating flip is Jordan, "94% on CIFAR-10 in 3.29
    Seconds on a Single GPU", arXiv 2404.00498, section 3.6.
    """

    def __init__(self, p: Probability = 0.5, alternating: bool = False):
        if alternating and p != 0.5:
            raise ValueError(f"alternating mirrors half of the images, so that p must be 0.5, got {p}")
        self.p, self.alternating = p, alternating

    def draw(self, draws: Draws, shape_CHW: ShapeCHW) -> np.ndarray:
        """1 for the images to mirror, else 0."""
        if not self.alternating:
            return draws.uniform(1) < self.p
        # A sample that is drawn again within an epoch goes on alternating.
        is_odd_N = (draws.keys_N3[:, 0] + draws.keys_N3[:, 2]) % 2 == 1
        return (draws.uniform_of_index(1) < 0.5) ^ is_odd_N

    def apply(self, images_NCHW: torch.Tensor, drawn_RN: torch.Tensor) -> torch.Tensor:
        """Mirrors all and chooses."""
        return torch.where(drawn_RN.view(-1, 1, 1, 1) > 0, images_NCHW.flip(3), images_NCHW)


class RandomErasing(BatchTransform):
    """Fills a random rectangle of the normalised image with one value; the default, 0, is the mean colour of the data.

    As in torchvision, ten rectangles are drawn until one is smaller than the image, and if none is, nothing is erased.
    torchvision's value "random" (noise in place of a colour) is not offered.

    Args:
        p: probability that anything is erased.
        scale: smallest and largest part of the area.
        ratio: smallest and largest height over width.
        value: of the normalised pixels, one number or one a channel.

    Source: Zhong et al., "Random Erasing Data Augmentation", arXiv 1708.04896; `RandomErasing` of
    torchvision.transforms.v2.
    """

    needs_floats = True
    ATTEMPTS = 10

    def __init__(
        self,
        p: Probability = 0.5,
        scale: tuple[float, float] = (0.02, 0.33),
        ratio: tuple[float, float] = (0.3, 3.3),
        value: float | Sequence[float] = 0.0,
    ):
        if not 0 <= scale[0] <= scale[1] <= 1:
            raise ValueError(f"scale must be two parts of the area, 0 to 1, the smaller first, got {list(scale)}")
        if not 0 < ratio[0] <= ratio[1]:
            raise ValueError(f"ratio must be two numbers above 0, the smaller first, got {list(ratio)}")
        self.p, self.scale, self.ratio = p, scale, ratio
        self.values = [value] if isinstance(value, int | float) else list(value)

    def draw(self, draws: Draws, shape_CHW: ShapeCHW) -> np.ndarray:
        """Rows from and to, columns from and to; all 0 where nothing is erased."""
        channels, height, width = shape_CHW
        if len(self.values) not in (1, channels):
            raise ValueError(f"value has {len(self.values)} numbers, yet images have {channels} channels")
        numbers = draws.uniform(3 + 2 * self.ATTEMPTS)
        (chance_N, down_N, right_N), tries = numbers[:3], numbers[3:].reshape(2, self.ATTEMPTS, -1)
        areas = height * width * (self.scale[0] + (self.scale[1] - self.scale[0]) * tries[0])
        low, high = map(math.log, self.ratio)
        ratios = np.exp(low + (high - low) * tries[1])
        heights, widths = np.rint(np.sqrt(areas * ratios)), np.rint(np.sqrt(areas / ratios))
        fits = (heights < height) & (widths < width)
        first = fits.argmax(axis=0)[None]
        erases_N = (chance_N < self.p) & fits.any(axis=0)
        heights_N = np.take_along_axis(heights, first, axis=0)[0]
        widths_N = np.take_along_axis(widths, first, axis=0)[0]
        top_N, left_N = np.floor(down_N * (height - heights_N + 1)), np.floor(right_N * (width - widths_N + 1))
        return np.stack([top_N, top_N + heights_N, left_N, left_N + widths_N]) * erases_N

    def apply(self, images_NCHW: torch.Tensor, drawn_RN: torch.Tensor) -> torch.Tensor:
        """Fills the rectangles."""
        filled = images_NCHW
        for channel, value in enumerate(self.values):
            is_erased = inside(images_NCHW, drawn_RN)
            if len(self.values) > 1:
                is_erased = is_erased & _is_channel(images_NCHW, channel)
            filled = filled.masked_fill(is_erased, value)
        return filled


def inside(images_NCHW: torch.Tensor, edges_4N: torch.Tensor) -> torch.Tensor:
    """Which pixels (N, 1, H, W) lie within a rectangle: rows from and to, columns from and to, the latter excluded."""
    rows, columns = (torch.arange(side, device=images_NCHW.device) for side in images_NCHW.shape[2:])
    top, bottom, left, right = edges_4N[:4, :, None]
    rows_NH, columns_NW = (rows >= top) & (rows < bottom), (columns >= left) & (columns < right)
    return (rows_NH[:, :, None] & columns_NW[:, None, :])[:, None]


def _is_channel(images_NCHW: torch.Tensor, channel: int) -> torch.Tensor:
    return (torch.arange(images_NCHW.shape[1], device=images_NCHW.device) == channel).view(1, -1, 1, 1)
