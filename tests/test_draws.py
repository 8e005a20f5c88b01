"""Numbers for whole batches are a fixed hash of each sample's key; checked against plain integers, one at a time."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.draws import Draws, draws_for, hashed, key_array
from utils.seed import KEYS_VERSION

repeatable = settings(derandomize=True, deadline=None, database=None, max_examples=60)
numbers_64 = st.integers(-(2**63), 2**63 - 1)

# Computed apart from the project with the function `plain` below; checkpoints rely on them: never change one without
# a new KEYS_VERSION.
GOLDEN_OF_VERSION_1 = [
    ((123, (0, 0, 0), 0, 0), 0.09566193573811732),
    ((123, (4, 59999, 0), 1, 2), 0.7624903397524524),
    ((123, (4, 59999, 1), 1, 2), 0.644512175811165),
    ((-7, (0, 17, 0), 3, 22), 0.22120524135872954),
    ((2**63 - 1, (1000, 2**40, 5), 0, 1), 0.2993092270435207),
]


def splitmix(state: int) -> int:
    """One number of splitmix64, as it is printed in its paper, on Python's integers."""
    state = (state + 0x9E3779B97F4A7C15) % 2**64
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    state = (state ^ (state >> 27)) * 0x94D049BB133111EB % 2**64
    return state ^ (state >> 31)


def plain(root: int, key: tuple[int, ...], use: int, number: int) -> float:
    """The number of one sample, chained by hand."""
    digest = hashlib.blake2b(root.to_bytes(8, "little", signed=True), digest_size=8, person=b"augment").digest()
    state = int.from_bytes(digest, "little") >> 1
    for part in (*key, use, number):
        state = splitmix(state ^ (part % 2**64))
    return (state >> 11) / 2**53


def one(root: int, key: tuple[int, ...], use: int, number: int) -> float:
    return float(draws_for(root, key_array([key]), use + 1)[use].uniform(number + 1)[number, 0])


@pytest.mark.parametrize(("arguments", "golden"), GOLDEN_OF_VERSION_1)
def test_numbers_are_what_they_were_in_the_first_version(arguments, golden):
    assert KEYS_VERSION == 1
    assert one(*arguments) == golden


@repeatable
@given(numbers_64, st.tuples(*[st.integers(0, 2**62)] * 3), st.integers(0, 20), st.integers(0, 30))
def test_numbers_are_those_of_plain_integers(root, key, use, number):
    assert one(root, key, use, number) == plain(root, key, use, number)


def test_splitmix64_gives_its_published_numbers():
    # Of the reference program by Sebastiano Vigna with the state 0: 0xE220A8397B1DCDAF, then 0x6E789E6AA1B965F4.
    starts = np.array([0, 0x9E3779B97F4A7C15], dtype=np.uint64)

    assert [hex(number) for number in hashed(starts, 0).tolist()] == ["0xe220a8397b1dcdaf", "0x6e789e6aa1b965f4"]


def draws(keys, root=1, use=0) -> Draws:
    return draws_for(root, key_array(keys), use + 1)[use]


def test_a_sample_draws_the_same_in_any_batch():
    keys = [(3, index) for index in range(50)]

    together = draws(keys).uniform(4)
    alone = np.concatenate([draws([key]).uniform(4) for key in keys], axis=1)

    assert together.shape == (4, 50)
    assert np.array_equal(together, alone)


def test_more_rows_do_not_change_the_first():
    assert np.array_equal(draws([(0, 1), (0, 2)]).uniform(9)[:3], draws([(0, 1), (0, 2)]).uniform(3))


@pytest.mark.parametrize(
    "other", [{"root": 2}, {"use": 1}, {"keys": [(1, 1)]}, {"keys": [(0, 2)]}, {"keys": [(0, 1, 1)]}]
)
def test_another_seed_use_epoch_index_or_repeat_gives_other_numbers(other):
    first, second = draws([(0, 1)]), draws(**({"keys": [(0, 1)]} | other))

    assert not np.intersect1d(first.uniform(20), second.uniform(20)).size


def test_numbers_are_uniform_and_independent():
    numbers = np.concatenate(
        [draws([(epoch, index) for index in range(500)]).uniform(4) for epoch in range(25)], axis=1
    )

    # 12,500 samples: a mean is off by 0.0026 on average, a correlation by 0.009; four times as much would be odd.
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert np.abs(numbers.mean(axis=1) - 0.5).max() < 0.011
    assert np.abs(np.corrcoef(numbers) - np.eye(4)).max() < 0.036
    counts, _ = np.histogram(numbers, bins=50, range=(0, 1))
    assert np.abs(counts - 1000).max() < 4 * 1000**0.5
    neighbours = np.corrcoef(numbers[0, :-1], numbers[0, 1:])[0, 1]
    assert abs(neighbours) < 0.036


def test_numbers_of_an_index_are_the_same_in_all_epochs_and_none_of_an_epochs_own():
    first, second = draws([(0, 3), (0, 4)]), draws([(7, 3), (7, 4, 2)])

    assert np.array_equal(first.uniform_of_index(2), second.uniform_of_index(2))
    assert not np.intersect1d(first.uniform_of_index(2), first.uniform(2)).size


def test_no_samples_draw_nothing():
    assert draws([]).uniform(3).shape == (3, 0)
