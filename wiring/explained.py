"""What a trained network looked at, as PNG bytes: predict.py and the report of a test ask here.

`overlays` is for images that one has in hand, `heat_of` for positions in a loader, such as those of the worst mistakes.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from logger.overlay import heat_png, overlay_png
from model.explain import find_layer, grad_cam
from wiring.trained import Trained

CHUNK = 16  # images whose gradients are kept at once; an evaluation's batch may be far larger


class Explainer:
    """Grad-CAM overlays of one network.

    Args:
        trained: the network.
        shape_CHW: of an image as its evaluation transforms give it.

    Raises:
        ConfigError: the network has no layer for it.
    """

    def __init__(self, trained: Trained, shape_CHW: Sequence[int]):
        self.model, self.to_input = trained.model, trained.to_input()
        blank_1CHW = torch.zeros(1, *shape_CHW, dtype=torch.uint8)
        self.layer = find_layer(self.model, self.to_input(blank_1CHW))

    def overlays(self, images_NCHW: torch.Tensor, classes_N: Sequence[int]) -> list[bytes]:
        """A PNG for each image: the image, and beside it where it speaks for the class.

        Args:
            images_NCHW: as the evaluation transforms give them.
            classes_N: of which class it is asked, for each.
        """
        heat_NHW = self._heat(images_NCHW, classes_N)
        return [overlay_png(image_CHW, heat_HW) for image_CHW, heat_HW in zip(images_NCHW, heat_NHW, strict=True)]

    def _heat(self, images_NCHW: torch.Tensor, classes_N: Sequence[int]) -> torch.Tensor:
        classes = torch.tensor(classes_N)
        parts = zip(images_NCHW.split(CHUNK), classes.split(CHUNK), strict=True)
        return torch.cat([grad_cam(self.model, self.layer, self.to_input(images), asked) for images, asked in parts])

    def heat_of(self, loader: Any, classes: dict[int, int]) -> Iterator[tuple[int, bytes]]:
        """(position, PNG of the image under its heat) of images of a loader, one at a time.

        Args:
            loader: of evaluation.
            classes: by position in the loader's own order (as `sample_name` counts), of which class it is asked.

        Raises:
            DataError: an image cannot be read any more.
        """
        for position, index in classes.items():
            image_CHW = loader.dataset.dataset[int(loader.indices[position])][0]
            yield position, heat_png(image_CHW, self._heat(image_CHW[None], [index])[0])
