"""What a trained network looked at, as PNG bytes: predict.py and the report of a test ask here.

`overlays` is for images that one has in hand, `overlays_of` for positions in a loader, such as those of the worst
mistakes.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from logger.overlay import overlay_png
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
        pictures: list[bytes] = []
        for start in range(0, len(images_NCHW), CHUNK):
            part_NCHW, classes = images_NCHW[start : start + CHUNK], torch.tensor(classes_N[start : start + CHUNK])
            heat_NHW = grad_cam(self.model, self.layer, self.to_input(part_NCHW), classes)
            pictures += [
                overlay_png(image_CHW, heat_HW) for image_CHW, heat_HW in zip(part_NCHW, heat_NHW, strict=True)
            ]
        return pictures

    def overlays_of(self, loader: Any, classes: dict[int, int]) -> Iterator[tuple[int, bytes]]:
        """(position, PNG) of images of a loader, one at a time.

        Args:
            loader: of evaluation.
            classes: by position in the loader's own order (as `sample_name` counts), of which class it is asked.

        Raises:
            DataError: an image cannot be read any more.
        """
        for position, index in classes.items():
            image_CHW = loader.dataset.dataset[int(loader.indices[position])][0]
            yield position, self.overlays(image_CHW[None], [index])[0]
