"""A small network that learns pictures of about 32 px in a few epochs.

The first layer is not learned: it whitens patches of the training images, so that the layers behind it begin with
inputs that are as large and as independent of each other as they would otherwise have to learn to make them.

Source: Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", arXiv 2404.00498, section 3; the whitening goes
back to Page, "How to train your ResNet" (2019).
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from base.base_model import BaseModel

_PATCH_PX = 2
_EPSILON = 5e-4  # the least variance that a direction counts with


class QuickNet(BaseModel):
    """A whitening convolution, then blocks of two 3x3 convolutions with pooling, batch norm and GELU; one Linear layer.

    Batch norms scale by one and learn their shift only. Convolutions begin as the identity where their outputs are
    inputs already. Takes images of any size from `minimum_side_px` on.

    Args:
        num_classes: K.
        in_channels: C of the images.
        widths: outputs of each block.
        norm_momentum: share of the newest batch in the running statistics of the batch norms, 0 to 1.
        logit_scale: factor on the scores, which keeps the first steps small.

    Raises:
        ValueError: a count or width below 1.

    >>> QuickNet(10)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        *,
        widths: Sequence[int] = (64, 256, 256),
        norm_momentum: float = 0.4,
        logit_scale: float = 1 / 9,
    ) -> None:
        super().__init__()
        if min(num_classes, in_channels, *widths) < 1 or not widths:
            raise ValueError(
                f"num_classes, in_channels and widths must be 1 or more; received {num_classes}, {in_channels} and "
                f"{list(widths)}"
            )
        self.in_channels = in_channels
        self.logit_scale = logit_scale
        # Each direction twice, the second time negative: behind the GELU nothing of it is lost.
        directions = 2 * in_channels * _PATCH_PX**2
        self.whitening = nn.Conv2d(in_channels, directions, _PATCH_PX)
        self.whitening.weight.requires_grad_(False)
        nn.init.zeros_(self.whitening.bias)  # type: ignore[arg-type]
        ends = (directions, *widths)
        self.blocks = nn.Sequential(*(_block(before, after, norm_momentum) for before, after in pairwise(ends)))
        self.minimum_side_px: int = 2 ** len(widths) + 1
        self.classifier = nn.Linear(widths[-1], num_classes, bias=False)

    @torch.no_grad()
    def initialize_from(self, images_NCHW: torch.Tensor) -> None:
        """Sets the whitening to the principal directions of the images' patches, each divided by its deviation.

        Args:
            images_NCHW: some thousand training images, normalised as in training.
        """
        patches_NDL = F.unfold(images_NCHW.double(), _PATCH_PX)
        patches_MD = patches_NDL.transpose(1, 2).reshape(-1, patches_NDL.shape[1])
        covariance_DD = patches_MD.T @ patches_MD / len(patches_MD)
        variances_D, vectors_DD = torch.linalg.eigh(covariance_DD)
        # The sign of an eigenvector is the library's choice; this makes it one and the same everywhere.
        signs_D = vectors_DD.gather(0, vectors_DD.abs().argmax(0, keepdim=True)).sign()
        scaled_DD = (vectors_DD * signs_D / torch.sqrt(variances_D + _EPSILON)).T.flip(0)
        kernels = scaled_DD.reshape(-1, self.in_channels, _PATCH_PX, _PATCH_PX)
        self.whitening.weight.copy_(torch.cat((kernels, -kernels)))

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        """Scores `logits_NK`.

        Raises:
            ValueError: the images have other channels, or are too small for that many poolings.
        """
        channels, height, width = images_NCHW.shape[1:]
        if channels != self.in_channels:
            raise ValueError(f"QuickNet is built for {self.in_channels} channels, received {channels}; set in_channels")
        if min(height, width) < self.minimum_side_px:
            raise ValueError(
                f"images of {height}x{width} px are too small for this QuickNet; {self.minimum_side_px} px is the "
                f"least, or fewer widths"
            )
        features = self.blocks(F.gelu(self.whitening(images_NCHW)))
        return self.classifier(features.amax((2, 3))) * self.logit_scale


def _block(before: int, after: int, norm_momentum: float) -> nn.Sequential:
    return nn.Sequential(
        _convolution(before, after),
        nn.MaxPool2d(2),
        _shift_norm(after, norm_momentum),
        nn.GELU(),
        _convolution(after, after),
        _shift_norm(after, norm_momentum),
        nn.GELU(),
    )


def _convolution(before: int, after: int) -> nn.Conv2d:
    layer = nn.Conv2d(before, after, 3, padding=1, bias=False)
    with torch.no_grad():
        nn.init.dirac_(layer.weight[: min(before, after)])
    return layer


def _shift_norm(channels: int, momentum: float) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels, momentum=momentum, eps=1e-12)
    norm.weight.requires_grad_(False)
    return norm
