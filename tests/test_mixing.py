"""MixUp and CutMix are those of a plain loop, and their shares have the distribution that was asked for."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_loader.mixing import CutMix, MixUp, SymmetricBeta
from utils.draws import draws_for, key_array

repeatable = settings(derandomize=True, deadline=None, database=None, max_examples=40)
UNIFORM = (np.arange(2000) + 0.5) / 2000


def draws_of(num_images, first=0):
    return draws_for(3, key_array([(1, first + number) for number in range(num_images)]), 1)[0]


def noise(num_images, channels=3, height=7, width=6):
    return torch.rand(num_images, channels, height, width, generator=torch.Generator().manual_seed(0))


def done(transform, images, num_classes=4):
    """Images, targets before and after, and the drawn numbers."""
    drawn_RN = transform.draw(draws_of(len(images)), tuple(images.shape[1:])).astype(np.float32)
    targets_NK = torch.eye(num_classes)[torch.arange(len(images)) % num_classes]
    rows = torch.from_numpy(drawn_RN)
    return transform.apply(images, rows), targets_NK, transform.mix(targets_NK, rows), drawn_RN


# --- the share ----------------------------------------------------------------------------------------------------


def test_a_share_of_alpha_1_is_the_uniform_number_itself():
    assert np.allclose(SymmetricBeta(1)(UNIFORM), UNIFORM, atol=1e-12)


def test_a_share_of_alpha_one_half_follows_the_arcsine_law():
    assert np.allclose(SymmetricBeta(0.5)(UNIFORM), np.sin(np.pi * UNIFORM / 2) ** 2, atol=1e-6)


def test_a_share_of_alpha_2_follows_its_polynomial():
    share = SymmetricBeta(2)(UNIFORM)

    assert np.allclose(3 * share**2 - 2 * share**3, UNIFORM, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.1, 0.2, 0.4, 0.9, 1.1, 8, 32, 1000, 10_000])
def test_a_share_of_any_alpha_has_the_mean_and_the_variance_of_the_beta_distribution(alpha):
    share = SymmetricBeta(alpha)(UNIFORM)

    assert np.all((share >= 0) & (share <= 1))
    assert np.all(np.diff(share) >= 0)
    assert abs(share.mean() - 0.5) < 1e-6
    # 2,000 evenly spread numbers leave out a little of both ends.
    assert share.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.003)


# --- MixUp --------------------------------------------------------------------------------------------------------


@repeatable
@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 6), st.integers(1, 6), st.sampled_from([0.2, 1.0, 3.0]))
def test_mixed_images_and_targets_are_those_of_a_loop(num_images, channels, height, width, alpha):
    images = noise(num_images, channels, height, width)

    mixed, targets_NK, mixed_NK, (own_N,) = done(MixUp(alpha, p=0.7), images)

    for number, own in enumerate(own_N):
        partner = number - 1  # of the first image the last
        expected = images[number].numpy() * own + images[partner].numpy() * (1 - own)
        assert np.allclose(mixed[number].numpy(), expected, atol=1e-6)
        expected_K = targets_NK[number].numpy() * own + targets_NK[partner].numpy() * (1 - own)
        assert np.allclose(mixed_NK[number].numpy(), expected_K, atol=1e-6)
    assert torch.allclose(mixed_NK.sum(1), torch.ones(num_images))


def test_shares_are_drawn_for_each_image_and_some_stay_as_they_are():
    (own_N,) = MixUp(1.0, p=0.6).draw(draws_of(5000), (1, 1, 1))

    assert abs((own_N == 1).mean() - 0.4) < 0.028
    shares = own_N[own_N < 1]
    assert len(np.unique(shares)) == len(shares)
    assert abs(shares.mean() - 0.5) < 0.022
    assert abs(shares.var() - 1 / 12) < 0.006


def test_an_unmixed_image_is_the_same_to_the_last_bit():
    images = noise(6)

    mixed, targets_NK, mixed_NK, _ = done(MixUp(p=0.0), images)

    assert torch.equal(mixed, images)
    assert torch.equal(mixed_NK, targets_NK)


# --- CutMix -------------------------------------------------------------------------------------------------------


@repeatable
@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 12), st.integers(1, 12), st.booleans())
def test_cut_images_and_targets_are_those_of_a_loop(num_images, channels, height, width, as_uint8):
    images = noise(num_images, channels, height, width)
    images = (images * 255).byte() if as_uint8 else images

    mixed, targets_NK, mixed_NK, drawn_RN = done(CutMix(p=0.8), images)

    assert mixed.dtype == images.dtype
    for number, (top, bottom, left, right) in enumerate(drawn_RN[:4].T.astype(int)):
        expected = images[number].numpy().copy()
        expected[:, top:bottom, left:right] = images[number - 1].numpy()[:, top:bottom, left:right]
        assert np.array_equal(mixed[number].numpy(), expected)
        other = (bottom - top) * (right - left) / (height * width)
        expected_K = targets_NK[number].numpy() * (1 - other) + targets_NK[number - 1].numpy() * other
        assert np.allclose(mixed_NK[number].numpy(), expected_K, atol=1e-6)


def test_rectangles_before_they_are_cut_off_have_the_share_that_was_drawn():
    drawn_RN = CutMix(1.0).draw(draws_of(5000), (1, 200, 100))

    top_N, bottom_N, left_N, right_N, own_N = drawn_RN
    is_whole_N = (top_N > 0) & (bottom_N < 200) & (left_N > 0) & (right_N < 100)
    # Sides have the ratio of the image's, within the pixel that is cut off at each end.
    assert np.all(np.abs((bottom_N - top_N) - 2 * (right_N - left_N))[is_whole_N] <= 2)
    assert np.allclose(own_N, 1 - (bottom_N - top_N) * (right_N - left_N) / 20_000)
    # Of a side x**0.5, x uniform, that lies around a uniform point: 0.5 * E[...] by a sum over a grid of both.
    side, middle = np.meshgrid(UNIFORM**0.5, UNIFORM)
    inside = np.minimum(middle + side / 2, 1) - np.maximum(middle - side / 2, 0)
    expected = (inside.mean(axis=0) ** 2).mean()
    assert abs((1 - own_N).mean() - expected) < 0.02


# --- both ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transform", [MixUp(), CutMix()], ids=["MixUp", "CutMix"])
def test_a_share_does_not_depend_on_the_batch(transform):
    together = transform.draw(draws_of(8), (3, 20, 20))
    alone = [transform.draw(draws_of(1, first=number), (3, 20, 20)) for number in range(8)]

    assert np.array_equal(together, np.concatenate(alone, axis=1))


@pytest.mark.parametrize("transform", [MixUp(), CutMix()], ids=["MixUp", "CutMix"])
def test_nothing_asks_the_device_for_a_number(transform):
    drawn_RN = torch.from_numpy(transform.draw(draws_of(4), (3, 8, 8)).astype(np.float32)).to("meta")

    assert transform.apply(torch.empty(4, 3, 8, 8, device="meta"), drawn_RN).device.type == "meta"
    assert transform.mix(torch.empty(4, 3, device="meta"), drawn_RN).device.type == "meta"
