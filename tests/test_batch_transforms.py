"""Crops, flips and erased rectangles of whole batches are those of a plain loop over the images, in numpy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as F

from data_loader.batch_transforms import RandomCrop, RandomErasing, RandomHorizontalFlip
from utils.draws import draws_for, key_array

repeatable = settings(derandomize=True, deadline=None, database=None, max_examples=40)
MODES = ["constant", "edge", "reflect", "symmetric"]


def pixels(num_images=5, channels=3, height=7, width=6, *, floats=False, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (num_images, channels, height, width), generator=generator, dtype=torch.uint8)
    return images.float() / 100 - 1 if floats else images


def draws_of(num_images, epoch=0, first=0, seed=3):
    return draws_for(seed, key_array([(epoch, first + number) for number in range(num_images)]), 1)[0]


def done(transform, images, **key):
    """What came out, and the drawn numbers."""
    drawn_RN = transform.draw(draws_of(len(images), **key), tuple(images.shape[1:])).astype(np.float32)
    return transform.apply(images, torch.from_numpy(drawn_RN)), drawn_RN


# --- crop ---------------------------------------------------------------------------------------------------------


@repeatable
@given(
    st.integers(1, 4), st.integers(1, 4), st.integers(3, 9), st.integers(3, 9), st.integers(0, 2),
    st.sampled_from(MODES), st.booleans(), st.booleans(), st.data(),
)  # fmt: skip
def test_crops_are_windows_of_the_image_that_numpy_pads(
    num_images, channels, height, width, padding, mode, floats, is_last, data
):
    size = data.draw(st.tuples(st.integers(1, height + 2 * padding), st.integers(1, width + 2 * padding)))
    images = pixels(num_images, channels, height, width, floats=floats)
    images = images.contiguous(memory_format=torch.channels_last) if is_last else images

    cropped, (top_N, left_N) = done(RandomCrop(size, padding=padding, padding_mode=mode), images)

    assert cropped.shape == (num_images, channels, *size)
    assert cropped.dtype == images.dtype
    border = ((0, 0), (padding, padding), (padding, padding))
    for image, result, top, left in zip(images.numpy(), cropped.numpy(), top_N, left_N, strict=True):
        padded = np.pad(image, border, mode=mode)
        window = padded[:, int(top) : int(top) + size[0], int(left) : int(left) + size[1]]
        assert np.array_equal(result, window)


def test_every_place_is_drawn_and_equally_often():
    _, places_2N = done(RandomCrop(None, padding=2), pixels(5000, 1, 4, 4))

    counts = np.bincount((places_2N[0] * 5 + places_2N[1]).astype(int), minlength=25)

    # 200 each; their standard deviation is 14.
    assert counts.shape == (25,)
    assert np.abs(counts - 200).max() < 56


def test_a_fill_is_in_the_units_of_the_images():
    white, (top_N, _) = done(RandomCrop(None, padding=7, fill=255), pixels(20, 1, 7, 6))
    floats, _ = done(RandomCrop(None, padding=7, fill=-0.5), pixels(20, 1, 7, 6, floats=True))

    at = int(np.argmin(top_N))
    assert top_N[at] < 5
    assert bool((white[at, :, 0] == 255).all())
    assert bool((floats[at, :, 0] == -0.5).all())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": None}, "needs a padding"),
        ({"size": 0}, "at least 1"),
        ({"size": [4, 4, 4]}, "one number or height and width"),
        ({"size": []}, "one number or height and width"),
        ({"size": 4, "padding": 2, "fill": 3, "padding_mode": "reflect"}, 'only used with padding_mode "constant"'),
    ],
)
def test_a_crop_that_makes_no_sense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        RandomCrop(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 8}, "7x6 with a padding of 0 are smaller than the window of 8x8"),
        ({"size": None, "padding": 6, "padding_mode": "reflect"}, "have only 5 pixels to mirror"),
        ({"size": None, "padding": 7, "padding_mode": "symmetric"}, "have only 6 pixels to mirror"),
        ({"size": None, "padding": 1, "fill": 256}, "0 to 255"),
        ({"size": None, "padding": 1, "fill": 0.5}, "0 to 255"),
    ],
)
def test_images_that_cannot_be_cropped_so_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        done(RandomCrop(**arguments), pixels())


# --- flip ---------------------------------------------------------------------------------------------------------


@repeatable
@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9), st.booleans(), st.booleans())
def test_flips_mirror_the_images_that_were_drawn(num_images, channels, height, width, floats, alternating):
    images = pixels(num_images, channels, height, width, floats=floats)

    flipped, (drawn_N,) = done(RandomHorizontalFlip(alternating=alternating), images)

    for image, result, is_flipped in zip(images.numpy(), flipped.numpy(), drawn_N, strict=True):
        assert is_flipped in (0, 1)
        assert np.array_equal(result, image[:, :, ::-1] if is_flipped else image)


@pytest.mark.parametrize("p", [0.0, 0.2, 0.5, 1.0])
def test_as_many_are_flipped_as_the_probability_says(p):
    drawn_1N = RandomHorizontalFlip(p).draw(draws_of(10_000), (1, 1, 1))

    assert abs(drawn_1N.mean() - p) <= 4 * (p * (1 - p) / 10_000) ** 0.5


def test_independent_flips_of_two_epochs_agree_for_half_of_the_images():
    first, second = (RandomHorizontalFlip().draw(draws_of(10_000, epoch), (1, 1, 1)) for epoch in (0, 1))

    assert abs((first == second).mean() - 0.5) < 0.02


def test_alternating_flips_show_every_image_both_ways_in_two_epochs():
    drawn = [RandomHorizontalFlip(alternating=True).draw(draws_of(10_000, epoch), (1, 1, 1)) for epoch in range(4)]

    assert abs(drawn[0].mean() - 0.5) < 0.02
    assert np.array_equal(drawn[1], ~drawn[0])
    assert np.array_equal(drawn[2], drawn[0])
    assert np.array_equal(drawn[3], drawn[1])


def test_a_sample_that_is_drawn_again_in_an_epoch_goes_on_alternating():
    draws = draws_for(1, key_array([(2, 9), (2, 9, 1), (2, 9, 2)]), 1)[0]

    (drawn_N,) = RandomHorizontalFlip(alternating=True).draw(draws, (1, 1, 1))

    assert drawn_N[0] == drawn_N[2] != drawn_N[1]


def test_alternating_flips_have_no_other_probability():
    with pytest.raises(ValueError, match=r"p must be 0\.5, got 0\.3"):
        RandomHorizontalFlip(0.3, alternating=True)


# --- erasing ------------------------------------------------------------------------------------------------------


@repeatable
@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 20), st.integers(1, 20), st.booleans())
def test_erased_rectangles_are_those_of_torchvisions_function(num_images, channels, height, width, per_channel):
    images = pixels(num_images, channels, height, width, floats=True)
    values = [0.1 * channel - 0.2 for channel in range(channels)] if per_channel else 0.7

    erased, edges_4N = done(RandomErasing(p=0.8, scale=(0.02, 0.6), value=values), images)

    for image, result, (top, bottom, left, right) in zip(images, erased, edges_4N.T.astype(int), strict=True):
        value = torch.tensor(values if per_channel else [values]).view(-1, 1, 1)
        assert 0 <= top <= bottom <= height
        assert 0 <= left <= right <= width
        assert torch.equal(result, F.erase(image, top, left, bottom - top, right - left, value))


def test_rectangles_have_the_area_the_ratio_and_the_frequency_that_were_asked_for():
    edges_4N = RandomErasing(p=0.3, scale=(0.1, 0.2), ratio=(0.5, 2)).draw(draws_of(5000), (3, 400, 300))

    heights_N, widths_N = edges_4N[1] - edges_4N[0], edges_4N[3] - edges_4N[2]
    is_erased_N = heights_N > 0
    areas, ratios = (heights_N * widths_N)[is_erased_N], (heights_N / np.maximum(widths_N, 1))[is_erased_N]
    assert abs(is_erased_N.mean() - 0.3) < 0.026
    # Sides are rounded to whole pixels, of which there are at least 77.
    assert 0.098 < areas.min() / 120_000 < 0.103
    assert 0.197 < areas.max() / 120_000 < 0.203
    assert abs(areas.mean() / 120_000 - 0.15) < 0.004
    assert 0.49 < ratios.min() < 0.53
    assert 1.9 < ratios.max() < 2.05
    assert abs(np.log(ratios).mean()) < 0.05
    assert edges_4N[1].max() == 400  # the last row and the last column can be reached
    assert edges_4N[3].max() == 300


def test_nothing_is_erased_where_no_rectangle_fits():
    edges_4N = RandomErasing(p=1, scale=(1, 1), ratio=(1, 1)).draw(draws_of(50), (1, 8, 8))

    assert not edges_4N.any()


@pytest.mark.parametrize(
    "arguments", [{"scale": (0.3, 0.1)}, {"scale": (0, 1.1)}, {"ratio": (0, 1)}, {"ratio": (2, 1)}]
)
def test_ranges_that_make_no_sense_are_refused(arguments):
    with pytest.raises(ValueError, match="the smaller first"):
        RandomErasing(**arguments)


def test_a_value_for_each_of_other_channels_is_refused():
    with pytest.raises(ValueError, match="value has 3 numbers, yet images have 1 channels"):
        RandomErasing(value=[0, 0, 0]).draw(draws_of(1), (1, 8, 8))


# --- all ----------------------------------------------------------------------------------------------------------

EACH = [
    RandomCrop(None, padding=2),
    RandomCrop(4, padding=2, padding_mode="reflect"),
    RandomHorizontalFlip(),
    RandomHorizontalFlip(alternating=True),
    RandomErasing(p=1, value=[1.0, 2.0, 3.0]),
]


@pytest.mark.parametrize("transform", EACH, ids=lambda transform: type(transform).__name__)
def test_an_image_comes_out_the_same_in_any_batch_and_its_batch_is_left_as_it_was(transform):
    images = pixels(12, floats=True)
    before = images.clone()

    together, _ = done(transform, images)
    alone = [done(transform, images[number : number + 1], first=number)[0] for number in range(12)]

    assert torch.equal(together, torch.cat(alone))
    assert torch.equal(images, before)


@pytest.mark.parametrize("transform", EACH, ids=lambda transform: type(transform).__name__)
def test_nothing_asks_the_device_for_a_number(transform):
    # A tensor on "meta" has no numbers: whoever asks for one, as .item() or a mask as an index do, fails.
    drawn_RN = torch.from_numpy(transform.draw(draws_of(4), (3, 8, 8)).astype(np.float32)).to("meta")

    assert transform.apply(torch.empty(4, 3, 8, 8, device="meta"), drawn_RN).device.type == "meta"
