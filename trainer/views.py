"""Judging several views of each image and averaging the scores, such as an image and its mirror image.

Source: Krizhevsky et al., "ImageNet Classification with Deep Convolutional Neural Networks" (2012), section 4.1; the
shifted views as in Jordan, arXiv 2404.00498, section 3.5.
"""

from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

Kind = Literal["none", "flip", "flip_and_shift"]
_SHIFT_PX = 1


class Views(nn.Module):
    """A network in evaluation mode that is asked about each image more than once.

    Args:
        network: gives logits_NK of images_NCHW.
        kind: "flip" asks about the image and its mirror image; "flip_and_shift" besides about both of them moved one
            pixel towards two opposite corners, with half the weight: six times the work of one look.
    """

    def __init__(self, network: nn.Module, kind: Literal["flip", "flip_and_shift"]):
        super().__init__()
        self.network, self.kind = network, kind

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        """The mean `logits_NK` over the views."""
        logits_NK = self._both_sides(images_NCHW)
        if self.kind == "flip":
            return logits_NK
        height, width = images_NCHW.shape[2:]
        wide = F.pad(images_NCHW, (_SHIFT_PX,) * 4, "reflect")
        corners = [
            self._both_sides(wide[:, :, start : start + height, start : start + width]) for start in (0, 2 * _SHIFT_PX)
        ]
        return 0.5 * logits_NK + 0.25 * (corners[0] + corners[1])

    def _both_sides(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        return 0.5 * (self.network(images_NCHW) + self.network(images_NCHW.flip(3)))


def seen(network: nn.Module, kind: Kind) -> nn.Module:
    """The network itself, or one that looks more than once."""
    return network if kind == "none" else Views(network, kind)
