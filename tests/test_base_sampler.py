"""The two orders that every loader needs, and what any sampler of the menu promises."""

import numpy as np
import pytest
import torch

from base.base_sampler import BaseSampler, RandomSampler, SequentialSampler
from parse_config import NESTED

TARGETS_N = torch.tensor([0, 1, 2, 0, 1, 2, 0, 0, 1, 0])
# One way to build each sampler of the menu for ten samples.
ARGUMENTS = {
    "BalancedSampler": {},
    "BatchSampler": {"sampler": SequentialSampler(), "batch_size": 3},
    "RandomSampler": {},
    "SequentialSampler": {},
    "SubsetRandomSampler": {"indices": [7, 2, 4]},
    "WeightedRandomSampler": {"weights": [1.0] * 10, "num_samples": 25},
}
MENU = {
    NESTED["sampler"].table.find(name).__name__: NESTED["sampler"].table.find(name)
    for name in NESTED["sampler"].table.menu()
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(params=sorted(MENU))
def sampler(request):
    return MENU[request.param](**ARGUMENTS[request.param])


def test_every_sampler_of_the_menu_is_tried_here():
    assert set(MENU) == set(ARGUMENTS)


def test_any_sampler_gives_positions_and_as_many_as_it_says(sampler):
    order = sampler.order(TARGETS_N, 10, generator())

    assert order.dtype == torch.int64
    assert order.shape == (sampler.num_drawn(10),)
    assert int(order.min()) >= 0
    assert int(order.max()) < 10


def test_any_sampler_gives_the_same_order_for_the_same_generator_and_asks_no_other(sampler):
    first = sampler.order(TARGETS_N, 10, generator(3))
    state = torch.get_rng_state()

    second = sampler.order(TARGETS_N, 10, generator(3))

    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)


def test_any_sampler_keeps_no_state_from_one_order_to_the_next(sampler):
    expected = sampler.order(TARGETS_N, 10, generator(4))

    for seed in range(4):
        sampler.order(TARGETS_N, 10, generator(seed))

    assert torch.equal(sampler.order(TARGETS_N, 10, generator(4)), expected)


def test_a_sampler_that_gives_no_order_cannot_be_made():
    class Nothing(BaseSampler):
        pass

    with pytest.raises(TypeError, match="abstract"):
        Nothing()


def test_a_sampler_of_ones_own_draws_every_sample_once_where_it_says_nothing_else():
    class Backwards(BaseSampler):
        def order(self, targets_N, num_samples, generator):
            return torch.arange(num_samples).flip(0)

    assert Backwards().num_drawn(7) == 7


@pytest.mark.parametrize("num_samples", [0, 1, 5])
def test_sequential_is_ascending(num_samples):
    assert SequentialSampler().order(None, num_samples, generator()).tolist() == list(range(num_samples))


@pytest.mark.parametrize("num_samples", [0, 1, 2, 100])
def test_random_is_a_permutation(num_samples):
    order = RandomSampler().order(None, num_samples, generator())

    assert sorted(order.tolist()) == list(range(num_samples))


def test_random_gives_each_permutation_equally_often():
    orders = [tuple(RandomSampler().order(None, 3, generator(seed)).tolist()) for seed in range(600)]

    counts = np.unique(orders, axis=0, return_counts=True)[1]
    # Each of 6 comes 100 times in the mean with a deviation of sqrt(600 * 1/6 * 5/6) = 9; 5 deviations are 46.
    assert len(counts) == 6
    assert abs(counts - 100).max() < 46


@pytest.mark.parametrize(("asked", "drawn"), [(1, 1), (9, 9), (10, 10), (11, 10), (1000, 10)])
def test_without_replacement_no_more_are_drawn_than_there_are(asked, drawn):
    sampler = RandomSampler(num_samples=asked)

    order = sampler.order(None, 10, generator()).tolist()

    assert sampler.num_drawn(10) == len(order) == len(set(order)) == drawn


@pytest.mark.parametrize("asked", [1, 10, 1000])
def test_with_replacement_as_many_are_drawn_as_asked(asked):
    order = RandomSampler(replacement=True, num_samples=asked).order(None, 10, generator())

    assert len(order) == asked
    assert RandomSampler(replacement=True).num_drawn(10) == 10


def test_with_replacement_draws_are_uniform():
    order = RandomSampler(replacement=True, num_samples=10_000).order(None, 10, generator())

    counts = np.bincount(order.numpy(), minlength=10)
    # 1000 in the mean with a deviation of 30; 5 deviations are 150.
    assert abs(counts - 1000).max() < 150


@pytest.mark.parametrize("asked", [0, -1])
def test_less_than_one_sample_is_refused(asked):
    with pytest.raises(ValueError, match=f"at least 1, got {asked}"):
        RandomSampler(num_samples=asked)
