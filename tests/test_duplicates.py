"""Groups of copies against plain loops over all pairs."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools import duplicates
from tools.duplicates import MAX_BITS, correlations, exact_groups, near_groups


def grouped_by_hand(num, are_alike):
    """Sets of positions that hang together, by trying all pairs until nothing changes."""
    groups = [{at} for at in range(num)]
    for a, b in itertools.combinations(range(num), 2):
        if are_alike(a, b):
            left, right = (next(group for group in groups if at in group) for at in (a, b))
            if left is not right:
                groups.remove(right)
                left |= right
    return sorted(sorted(group) for group in groups if len(group) > 1)


def hashes_like_each_other(chance, num, num_centres):
    """Hashes a few bits away from some centres, so that all distances from 0 to about 8 occur."""
    centres = chance.integers(0, 2**64, num_centres, dtype=np.uint64)
    bits_N = centres[chance.integers(0, num_centres, num)]
    for _ in range(4):
        flips = np.uint64(1) << chance.integers(0, 64, num, dtype=np.uint64)
        bits_N = np.where(chance.random(num) < 0.6, bits_N ^ flips, bits_N)
    return bits_N


@given(seed=st.integers(0, 10**6), num=st.integers(0, 60), num_centres=st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_near_groups_are_those_of_all_pairs(seed, num, num_centres):
    chance = np.random.default_rng(seed)
    bits_N = hashes_like_each_other(chance, num, num_centres)
    grids_NP = np.tile(np.arange(256, dtype=np.uint8), (num, 1))

    groups = near_groups(bits_N, grids_NP)

    expected = grouped_by_hand(num, lambda a, b: (int(bits_N[a]) ^ int(bits_N[b])).bit_count() <= MAX_BITS)
    assert sorted(group.tolist() for group in groups) == expected


def test_pairs_come_once_whatever_the_size_of_the_portions(monkeypatch):
    bits_N = hashes_like_each_other(np.random.default_rng(0), 80, 3)

    seen = {}
    for chunk in (1, 7, 1 << 20):
        monkeypatch.setattr(duplicates, "_CHUNK", chunk)
        pairs = [
            tuple(sorted(pair))
            for left, right in duplicates._close_pairs(bits_N)
            for pair in zip(left.tolist(), right.tolist(), strict=True)
        ]
        assert len(set(pairs)) == len(pairs)
        seen[chunk] = set(pairs)

    assert seen[1] == seen[7] == seen[1 << 20] != set()


def test_thousands_alike_are_one_group_without_comparing_all_pairs(monkeypatch):
    monkeypatch.setattr(duplicates, "MAX_NEIGHBOURS", 3)
    bits_N = np.where(np.arange(500) % 2, np.uint64(5), np.uint64(7))

    groups = near_groups(bits_N, np.tile(np.arange(256, dtype=np.uint8), (500, 1)))

    assert sum(len(left) for left, _ in duplicates._close_pairs(bits_N)) <= 4 * 3 * 500
    assert [len(group) for group in groups] == [500]


def test_equal_hashes_of_different_pictures_are_not_enough():
    chance = np.random.default_rng(1)
    grids_NP = chance.integers(0, 256, (4, 256), dtype=np.uint8)
    grids_NP[3] = np.clip(grids_NP[1] * 0.5 + 60, 0, 255)  # less contrast, lighter

    groups = near_groups(np.full(4, 77, np.uint64), grids_NP)

    assert [group.tolist() for group in groups] == [[1, 3]]


def test_pictures_without_contrast_are_alike_to_nothing():
    grids_NP = np.full((3, 256), 200, np.uint8)
    grids_NP[:, 0] = 203

    assert near_groups(np.zeros(3, np.uint64), grids_NP) == []


def test_correlations_are_numpys():
    chance = np.random.default_rng(2)
    left_MP, right_MP = chance.integers(0, 256, (2, 20, 256), dtype=np.uint8)

    expected = [np.corrcoef(left, right)[0, 1] for left, right in zip(left_MP, right_MP, strict=True)]

    assert correlations(left_MP, right_MP) == pytest.approx(expected, abs=1e-5)


@given(labels=st.lists(st.integers(0, 5), max_size=30))
@settings(deadline=None)
def test_exact_groups_are_those_of_all_pairs(labels):
    digests_ND = np.zeros((len(labels), 32), np.uint8)
    digests_ND[:, 31] = labels

    groups = exact_groups(digests_ND)

    assert [group.tolist() for group in groups] == grouped_by_hand(len(labels), lambda a, b: labels[a] == labels[b])


def test_the_parts_of_a_hash_are_all_of_it():
    masks = [int(mask) for mask in duplicates._masks()]

    assert [mask.bit_count() for mask in masks] == [16] * 4
    assert sum(masks) == 2**64 - 1
