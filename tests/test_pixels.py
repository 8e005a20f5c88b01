"""pixels.py: the network's input against (x / 255 - mean) / std in double precision."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.pixels import PixelsToInput

CPU = torch.device("cpu")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def all_grey_levels(channels):
    """Every value that a pixel can have, in each channel."""
    return torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(2, channels, 1, 1)


def test_every_grey_level_becomes_what_totensor_and_normalize_make_of_it():
    inputs_NCHW = PixelsToInput(MEAN, STD, CPU)(all_grey_levels(3))

    levels = np.arange(256).reshape(1, 1, 16, 16) / 255
    expected = (levels - np.reshape(MEAN, (1, 3, 1, 1))) / np.reshape(STD, (1, 3, 1, 1))
    assert inputs_NCHW.dtype == torch.float32
    assert np.abs(inputs_NCHW.numpy() - expected).max() < 1e-6


@given(mean=st.lists(st.floats(0, 1), min_size=3, max_size=3), std=st.lists(st.floats(0.01, 1), min_size=3, max_size=3))
@settings(max_examples=50, derandomize=True, deadline=None)
def test_any_mean_and_std_are_exact_to_the_rounding_of_a_grey_level(mean, std):
    inputs_NCHW = PixelsToInput(mean, std, CPU)(all_grey_levels(3))

    levels = np.arange(256).reshape(1, 1, 16, 16) / 255
    std_1C11 = np.reshape(std, (1, 3, 1, 1))
    expected = (levels - np.reshape(mean, (1, 3, 1, 1))) / std_1C11
    # float32 rounds a grey level of up to 255 by at most 0.8e-5, once for 255 * mean and once for the difference.
    assert (np.abs(inputs_NCHW.numpy() - expected) <= 2 * 0.8e-5 / 255 / std_1C11 + 3e-7 * np.abs(expected)).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_one_number_serves_every_channel_and_none_only_scales(channels):
    pixels_NCHW = all_grey_levels(channels)

    one, none = (PixelsToInput(mean, std, CPU)(pixels_NCHW) for mean, std in (((0.5,), (0.25,)), (None, None)))

    scaled = pixels_NCHW.numpy() / 255
    assert np.abs(one.numpy() - (scaled - 0.5) / 0.25).max() < 1e-6
    assert np.abs(none.numpy() - scaled).max() < 1e-7
    assert float(none.max()) == 1.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_floats_are_finished_and_only_become_float32(dtype):
    images_NCHW = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)).to(dtype)

    inputs_NCHW = PixelsToInput(MEAN, STD, CPU)(images_NCHW)

    assert inputs_NCHW.dtype == torch.float32
    assert torch.equal(inputs_NCHW, images_NCHW.float())


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_layout_is_as_asked_for_and_changes_no_number(dtype, layout):
    images_NCHW = all_grey_levels(3).to(dtype)

    inputs_NCHW = PixelsToInput(MEAN, STD, CPU, layout)(images_NCHW)

    assert inputs_NCHW.is_contiguous(memory_format=layout)
    assert torch.equal(inputs_NCHW, PixelsToInput(MEAN, STD, CPU)(images_NCHW))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_batch_that_came_is_not_changed(dtype):
    images_NCHW = all_grey_levels(3).to(dtype)
    before = images_NCHW.clone()

    PixelsToInput(MEAN, STD, CPU)(images_NCHW)

    assert torch.equal(images_NCHW, before)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_whole_lines_follow_a_change_of_size(channels):
    to_input = PixelsToInput([0.5], [0.25], CPU, torch.channels_last)

    for height, width in ((5, 7), (7, 5), (5, 7), (1, 1), (3, 1)):
        images_NCHW = torch.full((2, channels, height, width), 255, dtype=torch.uint8)
        assert torch.equal(to_input(images_NCHW), torch.full((2, channels, height, width), 2.0))
