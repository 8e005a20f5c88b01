"""Grad-CAM against what it must be by hand, and the layer that it takes."""

import pytest
import torch
from torch import nn
from torchvision import models

from model.explain import find_layer, grad_cam
from model.mlp import MLP
from model.mnist_model import MnistModel
from model.quick_net import QuickNet
from model.vgg import VGG
from utils.errors import ConfigError


class Pooled(nn.Module):
    """Convolution, ReLU, mean over the image, Linear: for such a network Grad-CAM is CAM (section 3.1 of the paper)."""

    def __init__(self, *, in_place: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 5, 3, padding=1)
        self.relu = nn.ReLU(inplace=in_place)
        self.head = nn.Linear(5, 3)

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        return self.head(self.relu(self.conv(images_NCHW)).mean((2, 3)))


def images(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("in_place", [False, True])
def test_it_is_the_weighted_sum_of_the_maps(in_place: bool) -> None:
    torch.manual_seed(0)
    model = Pooled(in_place=in_place).requires_grad_(False)
    batch, classes = images(4, 2, 6, 7), torch.tensor([0, 2, 1, 2])

    layer = find_layer(model, batch[:1])
    heat = grad_cam(model, layer, batch, classes)

    assert layer == "relu"
    maps = nn.functional.conv2d(batch, model.conv.weight, model.conv.bias, padding=1).relu()
    for row, index in enumerate(classes.tolist()):
        by_hand = sum(model.head.weight[index, channel] * maps[row, channel] for channel in range(5)).relu()
        assert heat[row].numpy() == pytest.approx((by_hand / by_hand.max()).numpy(), abs=1e-5)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not model._modules["relu"]._forward_hooks


def test_nothing_that_speaks_for_a_class_is_no_heat() -> None:
    model = Pooled(in_place=False)
    nn.init.constant_(model.head.weight, -1.0)

    heat = grad_cam(model, "relu", images(1, 2, 6, 6), torch.tensor([0]))

    assert heat.tolist() == torch.zeros(1, 6, 6).tolist()


def test_it_finds_where_the_only_thing_is() -> None:
    model = VGG(2, [8, "M", 8], in_channels=1, classifier_width=0, pool_size=1, dropout=0.0)
    nn.init.ones_(model.features[0].weight)
    nn.init.ones_(model.features[3].weight)
    nn.init.constant_(model.classifier[-1].weight, 1.0)
    image = torch.zeros(1, 1, 32, 32)
    image[:, :, 4:10, 20:28] = 1

    heat = grad_cam(model, find_layer(model, image), image, torch.tensor([1]))[0]

    row, column = divmod(int(heat.argmax()), 32)
    assert 4 <= row < 10
    assert 20 <= column < 28
    assert heat.max() == 1
    assert float(heat[20:].max()) < 0.1


@pytest.mark.parametrize(
    ("model", "side", "channels", "expected"),
    [
        (VGG(3, [4, "M", 4, "M"], batch_norm=True, pool_size=2), 16, 3, "features.6"),
        (MnistModel(), 28, 1, "conv2_drop"),
        (QuickNet(10), 32, 3, None),
        (models.resnet18(num_classes=3), 64, 3, "layer4"),
        (models.mobilenet_v3_small(num_classes=3), 64, 3, "features"),
        (models.densenet121(num_classes=3), 64, 3, "features"),
        (models.convnext_tiny(num_classes=3), 64, 3, "features"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_the_layer_is_the_last_map_of_any_network(
    model: nn.Module, side: int, channels: int, expected: str | None
) -> None:
    image = images(2, channels, side, side)

    layer = find_layer(model, image[:1])
    heat = grad_cam(model, layer, image, torch.tensor([0, 1]))

    assert expected is None or layer == expected
    assert heat.shape == (2, side, side)
    assert bool(heat.isfinite().all())


@pytest.mark.parametrize(
    ("model", "side"),
    [
        (MLP(3, in_channels=3, image_size=[8, 8]), 8),
        (models.VisionTransformer(32, 8, 3, 2, 16, 32, num_classes=3), 32),
        (models.swin_t(num_classes=3), 64),
    ],
    ids=["MLP", "ViT", "Swin"],
)
def test_networks_without_such_a_map_are_told_apart(model: nn.Module, side: int) -> None:
    with pytest.raises(ConfigError, match="has no convolution near its end"):
        find_layer(model, images(1, 3, side, side))
