"""collate.py: images of different sizes in one batch, against numpy's padding."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_loader.collate import pad_to_largest

SIZES = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=6)


@given(sizes=SIZES, channels=st.sampled_from([1, 3]), fill=st.integers(0, 255))
@settings(derandomize=True, deadline=None)
def test_each_image_is_padded_on_the_right_and_below_to_the_largest_height_and_width(sizes, channels, fill):
    chance = np.random.default_rng(len(sizes))
    images = [chance.integers(0, 256, (channels, *size), dtype=np.uint8) for size in sizes]
    samples = [(torch.from_numpy(image), 10 + index) for index, image in enumerate(images)]

    images_NCHW, targets_N = pad_to_largest(samples, fill=fill)

    height, width = max(h for h, _ in sizes), max(w for _, w in sizes)
    expected = [
        np.pad(image, ((0, 0), (0, height - h), (0, width - w)), constant_values=fill)
        for image, (h, w) in zip(images, sizes, strict=True)
    ]
    assert images_NCHW.dtype == torch.uint8
    assert np.array_equal(images_NCHW.numpy(), np.stack(expected))
    assert targets_N.dtype == torch.int64
    assert targets_N.tolist() == list(range(10, 10 + len(sizes)))


def test_images_of_one_size_are_only_stacked():
    images = torch.arange(24, dtype=torch.float32).reshape(2, 1, 3, 4)

    images_NCHW, _ = pad_to_largest([(images[0], 0), (images[1], 1)], fill=7)

    assert torch.equal(images_NCHW, images)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_padding_is_black_where_nothing_is_said_and_keeps_the_dtype(dtype):
    samples = [(torch.ones(1, 1, 2, dtype=dtype), 0), (torch.ones(1, 2, 1, dtype=dtype), 1)]

    images_NCHW, _ = pad_to_largest(samples)

    assert images_NCHW.dtype == dtype
    assert images_NCHW[:, 0].tolist() == [[[1, 1], [0, 0]], [[1, 0], [1, 0]]]
