"""What every model of the project promises: images in, one score for each class out."""

from abc import ABC, abstractmethod
from typing import TypeGuard

import torch
from torch import nn

INITIAL_IMAGES = 5000


class BaseModel(nn.Module, ABC):
    """A classifier. Subclasses build their layers in `__init__` and say in `forward` how they are used.

    A constructor that takes `num_classes`, `in_channels` or `image_size` is told them by the data where the
    config is silent.
    """

    @abstractmethod
    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        """Scores `logits_NK` for float images, already scaled and normalised."""

    def initialize_from(self, images_NCHW: torch.Tensor) -> None:
        """Called once before a new run, for networks whose first weights come from the data; others let it be.

        Args:
            images_NCHW: up to `INITIAL_IMAGES` training images of one size from all over the set, normalised, without
                augmentation.
        """

    @property
    def num_trainable_parameters(self) -> int:
        """How many numbers training may change."""
        return count_trainable(self)

    def extra_repr(self) -> str:
        """Adds the number of trainable parameters to what `print(model)` shows."""
        return f"trainable parameters: {self.num_trainable_parameters:,}"


def count_trainable(model: nn.Module) -> int:
    """The number of trainable parameters of any model, torchvision's included."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def is_made_for_images(model: nn.Module) -> TypeGuard[BaseModel]:
    """Whether a model's first weights come from training images, see `BaseModel.initialize_from`."""
    return isinstance(model, BaseModel) and type(model).initialize_from is not BaseModel.initialize_from
