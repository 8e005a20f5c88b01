"""The picture behind a sample, for people to look at: before any transform where the data set can give that."""

from typing import Any

import torch

from base.base_data_loader import BaseDataLoader


def pixels_of(loader: BaseDataLoader, position: int) -> torch.Tensor:
    """uint8 pixels (C, H, W) of the sample at a position of the part, in its own order.

    Those before any transform where the data set has a `pixels(index)` (or is a cache of one that has); else what it
    gives to evaluation, where floats are stretched so that the darkest is 0 and the brightest 255.
    """
    index, samples = int(loader.indices[position]), loader.samples
    source: Any = getattr(samples, "files", samples)
    if hasattr(source, "pixels"):
        return source.pixels(index)
    image_CHW = loader.eval_dataset[index][0]
    if image_CHW.dtype == torch.uint8:
        return image_CHW
    lowest, highest = image_CHW.min(), image_CHW.max()
    return ((image_CHW - lowest) / (highest - lowest).clamp(min=1e-12) * 255).round().to(torch.uint8)
