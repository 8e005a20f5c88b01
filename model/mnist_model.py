"""The LeNet-like network that pytorch-template's `config.json` names, so that its configs run here unchanged."""

import torch
from torch import nn
from torch.nn import functional as F

from base.base_model import BaseModel

_IMAGE_SHAPE_CHW = (1, 28, 28)


class MnistModel(BaseModel):
    """Two 5x5 convolutions and two Linear layers for 1x28x28 images.

    Its output is log-probabilities, so its loss is `nll_loss`. Cross-entropy gives the same value, as it
    normalises once more what is normalised already.

    Source: after LeNet-5; LeCun et al., "Gradient-Based Learning Applied to Document Recognition", 1998,
    section II.B, with max pooling, ReLU and dropout in place of its own.

    Raises:
        ValueError: fewer than one class.
    """

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"num_classes must be 1 or more, received {num_classes}")
        self.conv1 = nn.Conv2d(1, 10, kernel_size=5)
        self.conv2 = nn.Conv2d(10, 20, kernel_size=5)
        # Neighbouring pixels of a feature map agree, so only dropping whole channels takes anything away.
        self.conv2_drop = nn.Dropout2d()
        self.fc1 = nn.Linear(320, 50)  # 20 channels of 4x4: 28 - 4 = 24, halved 12, - 4 = 8, halved 4
        self.fc1_drop = nn.Dropout()
        self.fc2 = nn.Linear(50, num_classes)

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        """Log-probabilities of shape (N, K), at most 0; the exponentials of a row sum to 1.

        Raises:
            ValueError: the images are not 1x28x28.
        """
        if tuple(images_NCHW.shape[1:]) != _IMAGE_SHAPE_CHW:
            raise ValueError(
                f"MnistModel takes images of shape (N, 1, 28, 28), received {tuple(images_NCHW.shape)}; "
                "MLP and VGG can be built for other sizes"
            )
        features = F.relu(F.max_pool2d(self.conv1(images_NCHW), 2))
        features = F.relu(F.max_pool2d(self.conv2_drop(self.conv2(features)), 2))
        hidden = self.fc1_drop(F.relu(self.fc1(features.flatten(1))))
        return F.log_softmax(self.fc2(hidden), dim=1)
