"""Seeds are hashes that never change, and drawing from one leaves no trace."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.seed import drawing_from, generator_for, seed_everything, seed_for, seed_step

repeatable = settings(derandomize=True, deadline=None, database=None, max_examples=60)
numbers_64 = st.integers(-(2**63), 2**63 - 1)

# Computed apart from the project, with struct and hashlib: blake2b of the numbers as little-endian 64-bit integers,
# 8 bytes, the purpose as its personalisation, halved. Checkpoints of older runs rely on them: never change one.
GOLDEN = [
    ((0, "order"), 1367507096119598776),
    ((123, "order", 0), 613765682178484322),
    ((123, "order", 1), 1767524982571830218),
    ((123, "sample", 0, 0), 5100269261071048777),
    ((123, "sample", 4, 59999), 8005586752431040393),
    ((123, "step", 7), 3523382466171732653),
    ((1, "replace", 3, 7, 1), 2398613374594756491),
    ((-1, "split", 2), 5868947787651550503),
    ((2**63 - 1, "batch", -(2**63)), 2396254902961479606),
]


@pytest.mark.parametrize(("arguments", "golden"), GOLDEN)
def test_seeds_are_what_they_were_in_the_first_version(arguments, golden):
    assert seed_for(*arguments) == golden


@repeatable
@given(numbers_64, st.lists(numbers_64, max_size=3))
def test_every_seed_is_one_that_torch_takes(root, numbers):
    seed = seed_for(root, "sample", *numbers)

    assert 0 <= seed < 2**63
    torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def many_seeds():
    """Of two runs, a hundred epochs, a thousand images."""
    return [seed_for(root, "sample", epoch, index) for root in (0, 1) for epoch in range(100) for index in range(1000)]


def test_two_hundred_thousand_samples_share_no_seed_in_63_bits(many_seeds):
    assert len(set(many_seeds)) == 200_000


def test_in_the_32_bits_that_torch_uses_seeds_collide_no_more_than_by_chance(many_seeds):
    # Of n draws out of 2**32, n**2 / 2**33 pairs are expected to be equal: 4.7 of 200,000; more than 20 would be odd.
    low = np.array(many_seeds, dtype=np.uint64).astype(np.uint32)

    assert 200_000 - len(np.unique(low)) <= 20


def test_sums_and_products_of_the_same_numbers_do_not_collide():
    seeds = [
        seed_for(root, "order", epoch, index) for root, epoch, index in [(1, 2, 3), (3, 2, 1), (2, 2, 2), (6, 1, 1)]
    ]
    seeds += [seed_for(7, "order"), seed_for(7, "order", 0), seed_for(7, "order", 0, 0), seed_for(0, "order", 7)]

    assert len(set(seeds)) == len(seeds)


@repeatable
@given(st.integers(-(2**63), 2**63 - 2), st.integers(-(2**63), 2**63 - 2))
def test_neighbours_differ_in_the_low_32_bits(root, number):
    low = {seed_for(r, "step", n) & 0xFFFFFFFF for r in (root, root + 1) for n in (number, number + 1)}

    assert len(low) == 4


def test_consecutive_seeds_flip_half_of_the_low_bits_on_average():
    flips = [(seed_for(n, "order") ^ seed_for(n + 1, "order")) & 0xFFFFFFFF for n in range(2000)]

    mean = sum(flip.bit_count() for flip in flips) / len(flips)

    # 16 of 32, with a standard error of sqrt(8 / 2000) = 0.06.
    assert abs(mean - 16) < 0.3


def test_purposes_are_kept_apart():
    purposes = ["order", "sample", "batch", "step", "split", "workers", "model", "python", "numpy", "torch"]

    assert len({seed_for(1, purpose) for purpose in purposes}) == len(purposes)


def test_a_purpose_that_would_have_to_be_cut_is_refused():
    with pytest.raises(ValueError, match="16 bytes"):
        seed_for(1, "a purpose that is long")


def test_a_number_beyond_64_bits_is_refused():
    with pytest.raises(OverflowError):
        seed_for(2**63, "order")


def test_generator_for_draws_what_a_generator_of_that_seed_draws():
    drawn = torch.rand(5, generator=generator_for(3, "order", 1))

    assert torch.equal(drawn, torch.rand(5, generator=torch.Generator().manual_seed(seed_for(3, "order", 1))))


def test_drawing_from_gives_the_seeds_numbers_and_restores_the_generator():
    torch.manual_seed(5)
    expected_outside = torch.rand(6)
    expected_inside = torch.rand(4, generator=torch.Generator().manual_seed(99))
    torch.manual_seed(5)

    before = torch.rand(3)
    with drawing_from(99):
        inside = torch.rand(4)
    after = torch.rand(3)

    assert torch.equal(inside, expected_inside)
    assert torch.equal(torch.cat([before, after]), expected_outside)


def test_drawing_from_restores_the_generator_after_an_error():
    state = torch.get_rng_state()

    with pytest.raises(KeyError), drawing_from(1):
        raise KeyError(float(torch.rand(1)))

    assert torch.equal(torch.get_rng_state(), state)


def test_drawing_from_can_be_nested():
    with drawing_from(1):
        first = torch.rand(1)
        with drawing_from(2):
            torch.rand(7)
        second = torch.rand(1)

    assert torch.equal(torch.cat([first, second]), torch.rand(2, generator=torch.Generator().manual_seed(1)))


def test_a_step_draws_the_same_whatever_was_drawn_before():
    seed_step(11, 40, torch.device("cpu"))
    first = torch.rand(3)
    torch.rand(1000)

    seed_step(11, 40, torch.device("cpu"))

    assert torch.equal(torch.rand(3), first)


def test_other_steps_and_other_runs_draw_other_numbers():
    drawn = set()
    for root, step in [(1, 0), (1, 1), (2, 0), (2, 1)]:
        seed_step(root, step, torch.device("cpu"))
        drawn.add(float(torch.rand(())))

    assert len(drawn) == 4


def test_seed_everything_seeds_python_numpy_and_torch():
    seed_everything(4)
    first = random.random(), float(np.random.rand()), float(torch.rand(()))

    seed_everything(4)
    second = random.random(), float(np.random.rand()), float(torch.rand(()))
    seed_everything(5)
    other = random.random(), float(np.random.rand()), float(torch.rand(()))

    assert first == second
    assert all(a != b for a, b in zip(first, other, strict=True))
