"""sample_pixels.py: a picture for people, whatever the data set can give."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from base.base_data_loader import BaseDataLoader
from base.sample_pixels import pixels_of
from data_loader.data_loaders import ImageFolderDataLoader


@pytest.mark.parametrize("cache", ["off", "ram"])
def test_files_are_shown_as_they_are_whatever_the_transforms(shapes_dir: Path, cache: str) -> None:
    loader = ImageFolderDataLoader(shapes_dir, image_size=8, cache=cache, training=False)  # type: ignore[arg-type]

    pixels_CHW = pixels_of(loader, 3)

    expected = np.asarray(Image.open(loader.sample_name(3)).convert("RGB")).transpose(2, 0, 1)
    assert (pixels_CHW.numpy() == expected).all()


class Own(BaseDataLoader):
    """A loader as pytorch-template has them."""

    def __init__(self, dataset: Any):
        super().__init__(dataset, 2, shuffle=False)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (torch.tensor([[[3, 200]]], dtype=torch.uint8), [3, 200]),
        (torch.tensor([[[-1.0, 3.0]]]), [0, 255]),
        (torch.tensor([[[2.0, 2.0]]]), [0, 0]),
    ],
)
def test_what_only_gives_tensors_is_stretched(image: torch.Tensor, expected: list[int]) -> None:
    pixels_CHW = pixels_of(Own([(image, 0), (image, 1)]), 1)

    assert pixels_CHW.dtype == torch.uint8
    assert pixels_CHW.flatten().tolist() == expected
