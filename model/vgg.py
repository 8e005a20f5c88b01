"""VGG networks: stacks of 3x3 convolutions that halve the image a few times, then a small classifier.

Built by name from the config's `arch`, either one of the four published depths or a list of one's own.

Source: Simonyan & Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition",
arXiv 1409.1556, table 1.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from base.base_model import BaseModel

_STAGE_WIDTHS = (64, 128, 256, 512, 512)
# Convolutions in each stage: columns A, B, D and E of table 1. A pooling ends each stage.
_STAGE_DEPTHS = {
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}


class VGG(BaseModel):
    """Convolutions and poolings by a list, an average pool to a fixed grid, and one or two Linear layers.

    Takes images of any size from `minimum_side_px` on. The keys `features.*` are those of torchvision's VGGs.

    Args:
        num_classes: K.
        layers: a published depth, or the layers in order: a number is a 3x3 convolution with that many
            outputs (then ReLU), "M" a 2x2 max pooling that halves height and width.
        in_channels: C of the images.
        batch_norm: puts a batch norm behind each convolution, which then has no bias of its own.
        classifier_width: outputs of the hidden Linear layer; 0 leaves it out.
        dropout: fraction dropped before the last Linear layer in training, 0 to 1.
        pool_size: side of the grid that the classifier sees. The first Linear layer grows with its square:
            1 suits images of about 32 px, whose features are one cell wide after five poolings.

    Raises:
        ValueError: an unknown name, a list without a convolution or with something else in it, or a number
            out of range.
    """

    def __init__(
        self,
        num_classes: int,
        layers: Literal["vgg11", "vgg13", "vgg16", "vgg19"] | Sequence[int | Literal["M"]] = "vgg11",
        *,
        in_channels: int = 3,
        batch_norm: bool = False,
        classifier_width: int = 1024,
        dropout: float = 0.3,
        pool_size: int = 7,
    ) -> None:
        super().__init__()
        if min(num_classes, in_channels, pool_size) < 1 or classifier_width < 0:
            raise ValueError(
                "num_classes, in_channels and pool_size must be 1 or more, classifier_width 0 or more; received "
                f"{num_classes}, {in_channels}, {pool_size} and {classifier_width}"
            )
        plan = _checked_plan(layers)
        self.in_channels = in_channels
        self.minimum_side_px: int = 2 ** plan.count("M")
        self.features, out_channels = _build_features(plan, in_channels, batch_norm)
        self.pool_size = pool_size
        self.pool = nn.AdaptiveAvgPool2d(pool_size)
        width = out_channels * pool_size**2
        hidden: list[nn.Module] = []
        if classifier_width:
            hidden = [nn.Linear(width, classifier_width), nn.ReLU(inplace=True)]
            width = classifier_width
        self.classifier = nn.Sequential(*hidden, nn.Dropout(dropout), nn.Linear(width, num_classes))
        self.apply(_initialize)

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        """Scores `logits_NK`.

        Raises:
            ValueError: the images have other channels, or are too small for that many poolings.
        """
        channels, height, width = images_NCHW.shape[1:]
        if channels != self.in_channels:
            raise ValueError(
                f"VGG was built for {self.in_channels} channels, received images of shape "
                f"{tuple(images_NCHW.shape)}; set in_channels"
            )
        if min(height, width) < self.minimum_side_px:
            raise ValueError(
                f"images of {height}x{width} px are too small for this VGG: its poolings ('M') halve them to "
                f"nothing; {self.minimum_side_px}x{self.minimum_side_px} px is the minimum"
            )
        features = self.features(images_NCHW)
        # At 224 px the features have the grid's size already: the pool would only copy them, and its gradient
        # on CUDA is refused by torch.use_deterministic_algorithms.
        if features.shape[-2:] != (self.pool_size, self.pool_size):
            features = self.pool(features)
        return self.classifier(features.flatten(1))


def _checked_plan(layers: str | Sequence[int | str]) -> list[int | str]:
    """The layers as a list; raises ValueError for what cannot be one."""
    if isinstance(layers, str):
        if layers not in _STAGE_DEPTHS:
            raise ValueError(f"layers '{layers}' is none of {', '.join(_STAGE_DEPTHS)}; a list of layers will do too")
        plan: list[int | str] = []
        for width, depth in zip(_STAGE_WIDTHS, _STAGE_DEPTHS[layers], strict=True):
            plan += [width] * depth + ["M"]
        return plan
    for layer in layers:
        is_width = isinstance(layer, int) and not isinstance(layer, bool) and layer > 0
        if not is_width and layer != "M":
            raise ValueError(f"layers holds {layer!r}; each must be a number of channels, 1 or more, or 'M'")
    if all(layer == "M" for layer in layers):
        raise ValueError(f"layers has no convolution: {list(layers)}; add a number of channels")
    return list(layers)


def _build_features(plan: list[int | str], in_channels: int, batch_norm: bool) -> tuple[nn.Sequential, int]:
    """The convolutional part, and how many channels come out of it."""
    modules: list[nn.Module] = []
    channels = in_channels
    for layer in plan:
        if isinstance(layer, str):
            modules.append(nn.MaxPool2d(2))
            continue
        # Batch norm subtracts the mean, and with it any bias in front of it.
        modules.append(nn.Conv2d(channels, layer, kernel_size=3, padding=1, bias=not batch_norm))
        if batch_norm:
            modules.append(nn.BatchNorm2d(layer))
        modules.append(nn.ReLU(inplace=True))
        channels = layer
    return nn.Sequential(*modules), channels


def _initialize(module: nn.Module) -> None:
    """Weights that keep the signal's size through many ReLUs; torch's default shrinks it with depth.

    Source: He et al., "Delving Deep into Rectifiers", arXiv 1502.01852, section 2.2.
    """
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.01)
    if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
