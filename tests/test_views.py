"""Scores over several views of an image, against the mean over views made by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from trainer.views import Views, seen


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 8, 5)).eval()


def test_an_image_and_its_mirror_image_count_alike(network):
    images_NCHW = torch.randn(3, 3, 8, 10)
    mirrored = torch.from_numpy(np.ascontiguousarray(images_NCHW.numpy()[..., ::-1]))

    found = Views(network, "flip")(images_NCHW)

    torch.testing.assert_close(found, (network(images_NCHW) + network(mirrored)) / 2)
    torch.testing.assert_close(found, Views(network, "flip")(mirrored))


def test_shifted_views_count_half(network):
    images_NCHW = torch.randn(2, 3, 8, 10)
    padded = np.pad(images_NCHW.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)), mode="reflect")
    views = [(0.25, padded[:, :, 1:9, 1:11]), (0.125, padded[:, :, :8, :10]), (0.125, padded[:, :, 2:, 2:])]

    found = Views(network, "flip_and_shift")(images_NCHW)

    expected = sum(
        weight * network(torch.from_numpy(np.ascontiguousarray(view[..., ::side])))
        for weight, view in views
        for side in (1, -1)
    )
    torch.testing.assert_close(found, expected)


def test_without_views_it_is_the_network_itself(network):
    assert seen(network, "none") is network
    assert isinstance(seen(network, "flip"), Views)
