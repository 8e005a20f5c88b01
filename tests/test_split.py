"""A split loses no sample, keeps the classes' shares, and is the same each time."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from utils.errors import DataError
from utils.split import split_indices, split_without_classes

repeatable = settings(derandomize=True, deadline=None, database=None, max_examples=70)


def names_of(counts):
    return [f"class{index}" for index in range(len(counts))]


def shuffled_targets(counts, seed=0):
    """`counts[k]` times the class k, in a mixed order."""
    targets = np.repeat(np.arange(len(counts)), counts)
    return torch.from_numpy(np.random.default_rng(seed).permutation(targets))


def split(counts, size, seed=0):
    return split_indices(shuffled_targets(counts), size, seed, names_of(counts))


def counts_in(targets_N, indices, num_classes):
    return np.bincount(targets_N.numpy()[indices.numpy()], minlength=num_classes)


@st.composite
def class_counts(draw, smallest=2):
    """Images of each class; a class may have none, and at least one class has some."""
    counts = draw(st.lists(st.just(0) | st.integers(smallest, 40), min_size=1, max_size=8))
    assume(any(counts))
    return counts


@st.composite
def counts_and_size(draw):
    """Class counts and a number of validation images that can leave each class in both parts."""
    counts = draw(class_counts())
    num_present, total = sum(count > 0 for count in counts), sum(counts)
    return counts, draw(st.integers(num_present, total - num_present))


@repeatable
@given(counts_and_size(), st.integers(-5, 5))
def test_every_index_is_in_exactly_one_part_and_both_are_ascending(case, seed):
    counts, size = case

    train, validation = split(counts, size, seed)

    assert sorted([*train.tolist(), *validation.tolist()]) == list(range(sum(counts)))
    assert train.tolist() == sorted(train.tolist())
    assert validation.tolist() == sorted(validation.tolist())
    assert train.dtype == validation.dtype == torch.int64


@repeatable
@given(counts_and_size())
def test_a_number_is_met_exactly(case):
    counts, size = case

    _, validation = split(counts, size)

    assert len(validation) == size


@repeatable
@given(class_counts(), st.floats(0.01, 0.99))
def test_a_fraction_is_met_to_the_nearest_sample(counts, fraction):
    num_present, total = sum(count > 0 for count in counts), sum(counts)
    assume(num_present <= math.floor(fraction * total) and math.ceil(fraction * total) <= total - num_present)

    _, validation = split(counts, fraction)

    assert abs(len(validation) - fraction * total) <= 0.5


@repeatable
@given(counts_and_size())
def test_every_class_is_in_both_parts(case):
    counts, size = case
    targets_N = shuffled_targets(counts)

    train, validation = split(counts, size)

    present = np.array(counts) > 0
    assert ((counts_in(targets_N, train, len(counts)) > 0) == present).all()
    assert ((counts_in(targets_N, validation, len(counts)) > 0) == present).all()


def largest_remainder(counts, size):
    """Hamilton's method, as it is done by hand: the whole parts, then one each to the largest fractions."""
    exact = [size * count / sum(counts) for count in counts]
    quotas = [math.floor(share) for share in exact]
    by_fraction = sorted(range(len(counts)), key=lambda k: (-(exact[k] - quotas[k]), k))
    for k in by_fraction[: size - sum(quotas)]:
        quotas[k] += 1
    return quotas


@repeatable
@given(class_counts(), st.data())
def test_shares_are_hamiltons_where_no_class_is_too_small_for_its_own(counts, data):
    size = data.draw(st.integers(1, sum(counts) - 1))
    exact = [size * count / sum(counts) for count in counts]
    assume(all(1 <= share <= count - 1 for share, count in zip(exact, counts, strict=True) if count))
    targets_N = shuffled_targets(counts)

    _, validation = split(counts, size)

    quotas = counts_in(targets_N, validation, len(counts))
    assert quotas.tolist() == largest_remainder(counts, size)
    assert all(abs(quota - share) < 1 for quota, share in zip(quotas, exact, strict=True))


@repeatable
@given(st.lists(st.integers(2, 6), min_size=2, max_size=3), st.data())
def test_small_classes_take_no_more_from_the_others_than_they_must(counts, data):
    size = data.draw(st.integers(len(counts), sum(counts) - len(counts)))
    targets_N = shuffled_targets(counts)
    exact = np.array([size * count / sum(counts) for count in counts])

    _, validation = split(counts, size)

    # All allowed shares, by trying every one: none is nearer to the exact shares in its worst class.
    allowed = [c for c in np.ndindex(*counts) if sum(c) == size and min(c) >= 1]
    best = min(np.abs(np.array(c) - exact).max() for c in allowed)
    worst = np.abs(counts_in(targets_N, validation, len(counts)) - exact).max()
    assert worst <= best + 1e-9


@pytest.mark.parametrize(
    ("counts", "size", "quotas"),
    [
        ([50, 50], 20, [10, 10]),
        ([50, 50], 0.2, [10, 10]),
        ([90, 10], 10, [9, 1]),
        ([98, 2], 10, [9, 1]),
        ([60, 0, 40], 10, [6, 0, 4]),
        ([2, 2, 2], 3, [1, 1, 1]),
        ([10, 2], 8, [7, 1]),
        ([3, 3, 3], 4, [2, 1, 1]),
    ],
)
def test_shares_counted_by_hand(counts, size, quotas):
    _, validation = split(counts, size)

    assert counts_in(shuffled_targets(counts), validation, len(counts)).tolist() == quotas


def test_the_same_seed_gives_the_same_split_whatever_was_drawn_before():
    first = split([30, 20], 10, seed=3)
    torch.rand(100)

    second = split([30, 20], 10, seed=3)

    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_splitting_leaves_the_global_generator_alone():
    state = torch.get_rng_state()

    split([30, 20], 10)

    assert torch.equal(torch.get_rng_state(), state)


def test_other_seeds_give_other_splits():
    splits = {tuple(split([30, 20], 10, seed)[1].tolist()) for seed in range(50)}

    # Two of 5,000,000,000,000 equally likely splits are equal with a chance of 1 in 10**9.
    assert len(splits) == 50


def test_each_sample_is_as_likely_as_its_neighbours():
    times = np.zeros(40)
    for seed in range(400):
        times[split([20, 20], 10, seed)[1].numpy()] += 1

    # Each is drawn 100 times in the mean, with a deviation of sqrt(400 * 1/4 * 3/4) = 8.7; 5 deviations are 43.
    assert abs(times - 100).max() < 43


@pytest.mark.parametrize("size", [0, 1, -1, 9, 10, 11, 0.04, 0.96, 1.0, 1.5, -0.5])
def test_a_size_that_leaves_a_part_without_a_class_is_refused_with_the_numbers(size):
    with pytest.raises(DataError, match=rf"validation_split: {size} is -?\d+ of 10 images; with 2 classes"):
        split([5, 5], size)


def test_a_class_of_one_image_is_refused_by_name():
    with pytest.raises(DataError, match="class 'class1' has 1 image"):
        split([5, 1, 5], 4)


def test_no_images_at_all_are_refused():
    with pytest.raises(DataError, match="of 0 images"):
        split([0, 0], 0.2)


@repeatable
@given(st.integers(2, 60), st.data())
def test_without_classes_every_index_is_in_one_part_and_the_number_is_met(num_samples, data):
    size = data.draw(st.integers(1, num_samples - 1))

    train, validation = split_without_classes(num_samples, size, seed=1)

    assert sorted([*train.tolist(), *validation.tolist()]) == list(range(num_samples))
    assert len(validation) == size


@pytest.mark.parametrize("num_samples", [0, 1])
def test_without_classes_too_few_samples_are_refused(num_samples):
    with pytest.raises(DataError, match="validation_split"):
        split_without_classes(num_samples, 0.2, seed=1)
