"""The smallest classifier: flat pixels through a few Linear layers.

Built by name from the config's `arch`. It knows the image size from its construction on, so it is the one
model here whose input cannot change size.
"""

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import nn

from base.base_model import BaseModel

# Names of torch.nn. The Literal is what the config is checked against; the same names are looked up below.
Activation = Literal["ReLU", "LeakyReLU", "ELU", "GELU", "SiLU", "Mish", "Tanh", "Sigmoid", "Identity"]


class MLP(BaseModel):
    """Linear layers with an activation and dropout after each one but the last.

    No hidden widths make it linear (softmax) classification. `activation="Identity"` puts nothing between
    the layers: a pair of Linear layers is then still a linear map of the pixels, however wide the hidden one.

    Args:
        num_classes: K.
        in_channels: C of the images.
        image_size: H and W of the images in pixels.
        hidden_widths: outputs of each hidden layer, first to last; may be empty.
        activation: a class of `torch.nn`, one instance after each hidden layer.
        dropout: fraction of each hidden layer's outputs that is dropped in training, 0 to 1.

    Raises:
        ValueError: a count or width below 1, an image size that is not two numbers, an activation that is
            not on the list, or dropout without a hidden layer to apply it to.

    >>> MLP(10, hidden_widths=(1024,), activation="Identity")(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 1,
        *,
        image_size: Sequence[int] = (28, 28),
        hidden_widths: Sequence[int] = (512,),
        activation: Activation = "ReLU",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if len(image_size) != 2:
            raise ValueError(f"image_size is height and width, two numbers; received {list(image_size)}")
        if min(num_classes, in_channels, *image_size, *hidden_widths) < 1:
            raise ValueError(
                "num_classes, in_channels, image_size and hidden_widths must be 1 or more; received "
                f"{num_classes}, {in_channels}, {list(image_size)} and {list(hidden_widths)}"
            )
        if activation not in get_args(Activation):
            raise ValueError(f"activation '{activation}' is none of {', '.join(get_args(Activation))}")
        if dropout and not hidden_widths:
            raise ValueError(f"dropout {dropout} would do nothing: it follows hidden layers and hidden_widths is empty")

        self.image_shape_CHW = (in_channels, *image_size)
        layers: list[nn.Module] = []
        width = math.prod(self.image_shape_CHW)
        for next_width in hidden_widths:
            # Dropout is there at 0 too, so that the keys of a checkpoint do not depend on it.
            layers += [nn.Linear(width, next_width), getattr(nn, activation)(), nn.Dropout(dropout)]
            width = next_width
        self.layers = nn.Sequential(*layers, nn.Linear(width, num_classes))

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        """Scores `logits_NK`.

        Raises:
            ValueError: the images have other channels or another size than the model was built for.
        """
        if tuple(images_NCHW.shape[1:]) != self.image_shape_CHW:
            channels, height, width = self.image_shape_CHW
            raise ValueError(
                f"MLP was built for images of shape (N, {channels}, {height}, {width}), received "
                f"{tuple(images_NCHW.shape)}; resize them, or set in_channels and image_size"
            )
        return self.layers(images_NCHW.flatten(1))
