"""From a batch as the loader gives it to the network's input: moved to the device, made float, scaled, normalised.

Training, validation, test and prediction all come through here, so their pixels cannot differ.
"""

from collections.abc import Sequence
from typing import Any

import torch

from base.base_model import INITIAL_IMAGES
from utils.errors import DataError


class PixelsToInput:
    """Moves images to the device and, where they are uint8, scales them to [0, 1] and normalises them.

    Done once for the batch instead of image by image: a third of the arithmetic, and a quarter of the bytes to copy.

    Args:
        mean, std: per channel for pixels in [0, 1]; None scales only. Images that are floats already are finished.
        device: where the network is.
        layout: how the network's weights lie in memory, and so the images (model/check.py).
    """

    def __init__(
        self,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
        device: torch.device,
        layout: torch.memory_format = torch.contiguous_format,
    ):
        self.device = device
        self.layout = layout
        # Both are applied to values of 0 to 255, which saves the division of every pixel.
        self.shift = 255 * torch.tensor(mean if mean is not None else [0.0], device=device).view(1, -1, 1, 1)
        self.scale = 1 / (255 * torch.tensor(std if std is not None else [1.0], device=device).view(1, -1, 1, 1))

        self._rows: tuple[torch.Size, torch.Tensor, torch.Tensor] | None = None

    def __call__(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        """float32 images_NCHW on the device."""
        return self.normalised(self.moved(images_NCHW))

    def moved(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        """The same pixels on the device."""
        return images_NCHW.to(self.device, non_blocking=True)

    def normalised(self, moved_NCHW: torch.Tensor) -> torch.Tensor:
        """float32, in the network's layout, of pixels that are on the device; those that are so stay as they are."""
        is_finished = moved_NCHW.dtype != torch.uint8
        floats = moved_NCHW.to(torch.float32, memory_format=self.layout)
        if is_finished:
            return floats
        if floats.is_contiguous():
            return floats.sub_(self.shift).mul_(self.scale)
        # With the channels last, three numbers in turn meet as many pixels at a time: 4 times slower than whole lines.
        shift, scale = self._whole_lines(floats.shape)
        floats.permute(0, 2, 3, 1).flatten(2).sub_(shift).mul_(scale)
        return floats

    def pixels(self, inputs_NCHW: torch.Tensor) -> torch.Tensor:
        """Back from what `normalised` made of uint8: uint8 again, to be looked at."""
        return (inputs_NCHW / self.scale + self.shift).round().clamp(0, 255).to(torch.uint8)

    def _whole_lines(self, shape_NCHW: torch.Size) -> tuple[torch.Tensor, torch.Tensor]:
        """Shift and scale for each number of a line of W pixels of C channels, kept until the size changes."""
        shape_CHW = shape_NCHW[1:]
        if self._rows is None or self._rows[0] != shape_CHW:
            channels, _, width = shape_CHW
            shift, scale = (row.flatten().expand(channels).repeat(width) for row in (self.shift, self.scale))
            self._rows = (shape_CHW, shift, scale)
        return self._rows[1], self._rows[2]


def initial_images(loader: Any) -> torch.Tensor:
    """Normalised training images_NCHW on the CPU, from all over the set, for `BaseModel.initialize_from`.

    Args:
        loader: of the training images; they are seen through its evaluation transforms. Which they are follows from
            their number alone.

    Raises:
        DataError: one cannot be read, and the config does not pass over such.
    """
    count, data = len(loader.indices), loader.eval_dataset
    chosen = loader.indices[torch.linspace(0, count - 1, min(count, INITIAL_IMAGES)).round().long()]
    images = []
    for index in chosen.tolist():
        try:
            images.append(data[index][0])
        except DataError:
            if not getattr(data, "skips_bad", False):
                raise
    return PixelsToInput(loader.mean, loader.std, torch.device("cpu"))(torch.stack(images))
