"""samplers.py: the law that each sampler keeps, for any data, and by chi-square where it draws by chance."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from base.base_sampler import BaseSampler
from data_loader import samplers
from data_loader.samplers import (
    BalancedSampler,
    BatchSampler,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

many = settings(derandomize=True, deadline=None)
SEEDS = st.integers(0, 2**31)
TARGETS = st.lists(st.integers(0, 4), min_size=1, max_size=30)


def drawn(sampler, num_samples, seed=0, targets=None):
    targets_N = None if targets is None else torch.tensor(targets)
    return sampler.order(targets_N, num_samples, torch.Generator().manual_seed(seed)).tolist()


# One of each kind, for any number of samples from 4 on.
MENU = {
    "sequential": lambda n: SequentialSampler(),
    "random": lambda n: RandomSampler(),
    "random with replacement": lambda n: RandomSampler(replacement=True, num_samples=2 * n),
    "random, some": lambda n: RandomSampler(num_samples=3),
    "subset": lambda n: SubsetRandomSampler([0, n - 1, 1]),
    "weighted": lambda n: WeightedRandomSampler([1.0] * n, num_samples=5),
    "weighted without replacement": lambda n: WeightedRandomSampler([1.0] * n, replacement=False),
    "balanced": lambda n: BalancedSampler(),
    "balanced, some": lambda n: BalancedSampler(num_samples=7),
    "batches": lambda n: BatchSampler(RandomSampler(), batch_size=3),
}


@pytest.mark.parametrize("name", MENU)
@given(targets=st.lists(st.integers(0, 4), min_size=4, max_size=30), seed=SEEDS)
@many
def test_every_sampler_gives_positions_of_samples_as_many_as_it_says_and_the_same_for_a_seed(name, targets, seed):
    n = len(targets)
    sampler = MENU[name](n)

    order, again = (drawn(sampler, n, seed, targets) for _ in range(2))

    assert len(order) == sampler.num_drawn(n)
    assert all(type(position) is int and 0 <= position < n for position in order)
    assert order == again


def test_menu_holds_every_sampler_of_the_file():
    kinds = {type(make(4)) for make in MENU.values()}

    assert kinds == {getattr(samplers, name) for name in samplers.__all__}
    assert all(issubclass(kind, BaseSampler) for kind in kinds)


@given(n=st.integers(1, 40), seed=SEEDS)
@many
def test_random_order_is_a_permutation_and_sequential_order_is_none(n, seed):
    assert sorted(drawn(RandomSampler(), n, seed)) == list(range(n))
    assert drawn(SequentialSampler(), n, seed) == list(range(n))


def test_another_seed_is_another_order():
    orders = {tuple(drawn(RandomSampler(), 20, seed)) for seed in range(50)}

    assert len(orders) == 50


def test_random_order_puts_every_sample_everywhere_equally_often():
    first = np.bincount([drawn(RandomSampler(), 5, seed)[0] for seed in range(2000)], minlength=5)

    assert chisquare(first).pvalue > 1e-3


@given(n=st.integers(1, 20), wanted=st.integers(1, 30), seed=SEEDS)
@many
def test_some_at_random_are_distinct_and_never_more_than_there_are(n, wanted, seed):
    order = drawn(RandomSampler(num_samples=wanted), n, seed)

    assert len(order) == len(set(order)) == min(n, wanted)


def test_replacement_draws_independently_and_evenly():
    order = drawn(RandomSampler(replacement=True, num_samples=10_000), 10)

    assert chisquare(np.bincount(order, minlength=10)).pvalue > 1e-3
    pairs = np.bincount(10 * np.array(order[::2]) + np.array(order[1::2]), minlength=100)
    assert chisquare(pairs).pvalue > 1e-3


@given(indices=st.lists(st.integers(0, 19), min_size=1, max_size=20, unique=True), seed=SEEDS)
@many
def test_subset_is_a_permutation_of_the_indices_and_nothing_else(indices, seed):
    assert sorted(drawn(SubsetRandomSampler(indices), 20, seed)) == sorted(indices)


def test_subset_has_another_order_in_another_epoch():
    sampler = SubsetRandomSampler(range(100, 120))

    assert drawn(sampler, 200, 1) != drawn(sampler, 200, 2)


def test_weights_are_the_frequencies_of_the_draws():
    weights = np.array([1.0, 0.0, 2.0, 5.0])

    counts = np.bincount(drawn(WeightedRandomSampler(weights.tolist(), num_samples=16_000), 4), minlength=4)

    assert counts[1] == 0
    assert chisquare(counts[[0, 2, 3]], 16_000 * weights[[0, 2, 3]] / 8).pvalue > 1e-3


def test_weights_without_replacement_take_each_drawable_sample_once_and_heavy_ones_first():
    sampler = WeightedRandomSampler([0, 1, 1, 98, 0], num_samples=3, replacement=False)

    orders = [drawn(sampler, 5, seed) for seed in range(400)]

    assert all(sorted(order) == [1, 2, 3] for order in orders)
    # 98 of 100 come first: 392 of 400, give or take four standard deviations of 2.8.
    assert 381 <= sum(order[0] == 3 for order in orders) <= 400


def test_balanced_draws_every_class_equally_often_and_every_image_of_a_class_too():
    targets = [0] * 90 + [1] * 9 + [2] * 1

    order = np.array(drawn(BalancedSampler(num_samples=9000), 100, targets=targets))

    assert chisquare(np.bincount(np.array(targets)[order])).pvalue > 1e-3
    assert chisquare(np.bincount(order[order < 90], minlength=90)).pvalue > 1e-3


def test_balanced_leaves_a_class_without_images_out():
    order = drawn(BalancedSampler(num_samples=1000), 3, targets=[0, 4, 4])

    assert chisquare([order.count(0), order.count(1) + order.count(2)]).pvalue > 1e-3


@given(n=st.integers(1, 40), size=st.integers(1, 9), seed=SEEDS)
@many
def test_batches_keep_neighbours_together_and_a_smaller_one_last(n, size, seed):
    order = drawn(BatchSampler(SequentialSampler(), size), n, seed)

    batches = [order[start : start + size] for start in range(0, n, size)]
    assert sorted(order) == list(range(n))
    assert all(batch == list(range(batch[0], batch[0] + len(batch))) for batch in batches)
    assert batches[-1] == list(range(n))[(len(batches) - 1) * size :] or n % size == 0


def test_batches_are_shuffled_as_wholes_unless_told_not_to():
    shuffled = {tuple(drawn(BatchSampler(SequentialSampler(), 2), 6, seed)) for seed in range(100)}
    kept = drawn(BatchSampler(SequentialSampler(), 2, shuffle_batches=False), 6)

    assert len(shuffled) == 6  # of the 3! orders of three batches
    assert kept == [0, 1, 2, 3, 4, 5]


def test_targets_reach_the_sampler_inside_a_batch_sampler():
    order = drawn(BatchSampler(BalancedSampler(num_samples=8), 4), 2, targets=[0, 1])

    assert set(order) == {0, 1}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomSampler(num_samples=0), "num_samples must be at least 1, got 0"),
        (lambda: SubsetRandomSampler([]), "at least one position"),
        (lambda: SubsetRandomSampler([3, -1]), "none below 0"),
        (lambda: WeightedRandomSampler([]), "weights must be finite, not negative"),
        (lambda: WeightedRandomSampler([1, -0.1]), "weights must be finite, not negative"),
        (lambda: WeightedRandomSampler([0, 0]), "not all 0"),
        (lambda: WeightedRandomSampler([1, float("nan")]), "finite"),
        (lambda: WeightedRandomSampler([1, float("inf")]), "finite"),
        (lambda: WeightedRandomSampler([1, 1], num_samples=0), "num_samples is 0"),
        (lambda: WeightedRandomSampler([1, 0], num_samples=2, replacement=False), "1 samples can be drawn"),
        (lambda: BalancedSampler(num_samples=0), "num_samples must be at least 1, got 0"),
        (lambda: BatchSampler(RandomSampler(), 0), "batch_size must be at least 1, got 0"),
    ],
)
def test_arguments_that_make_no_sense_are_refused_with_a_reason(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("sampler", "targets", "message"),
    [
        (SubsetRandomSampler([0, 5]), [0] * 5, "index 5 is beyond the 5 training samples"),
        (WeightedRandomSampler([1, 1, 1]), [0] * 5, "3 weights for 5 training samples"),
        (BalancedSampler(), None, "needs a data set with `targets`"),
        (BatchSampler(SubsetRandomSampler([9]), 2), [0] * 5, "index 9 is beyond"),
    ],
)
def test_arguments_that_do_not_fit_the_data_are_refused_with_a_reason(sampler, targets, message):
    with pytest.raises(ValueError, match=message):
        drawn(sampler, 5, targets=targets)
