"""Numbers of chance for whole batches: one hash for all samples at once, without a generator and without a loop.

Each number is a function of (seed, epoch, index, repeat, use, number): the same whatever the size of the batch, the
worker or the device. The hash is the finaliser of splitmix64, chained over those; numpy computes it on the CPU, a few
numbers a sample. Like `seed_for`, the mapping belongs to KEYS_VERSION (utils/seed.py): a new use changes none of the
others, another hash would change all.

Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014 (splitmix64).
"""

from collections.abc import Sequence

import numpy as np

from utils.seed import seed_for

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
# Instead of an epoch in the keys of what is to be the same in every epoch.
_ANY_EPOCH = -1


def key_array(keys: Sequence[tuple[int, ...]]) -> np.ndarray:
    """int64 (N, 3): epoch, index, and how often the epoch has drawn that sample before.

    >>> key_array([(4, 17), (4, 3, 1)]).tolist()
    [[4, 17, 0], [4, 3, 1]]
    """
    return np.array([(*key, 0)[:3] for key in keys], dtype=np.int64).reshape(-1, 3)


def hashed(start: np.ndarray, numbers: np.ndarray | int) -> np.ndarray:
    """uint64, spread over all bits, of uint64 and int64 numbers that broadcast against each other.

    For one start no two numbers give the same, because each step can be undone.
    """
    state = (start ^ np.asarray(numbers, dtype=np.int64).astype(np.uint64)) + _GAMMA
    state ^= state >> np.uint64(30)
    state *= _FIRST
    state ^= state >> np.uint64(27)
    state *= _SECOND
    state ^= state >> np.uint64(31)
    return state


class Draws:
    """What one use of chance may draw for the samples of a batch.

    Args:
        states_N: hashes of the samples' keys.
        keys_N3: see `key_array`.
        root: the hash that all keys begin with.
        use: tells uses apart, such as the operations of a list.
    """

    def __init__(self, states_N: np.ndarray, keys_N3: np.ndarray, root: np.ndarray, use: int):
        self.keys_N3 = keys_N3
        self._states_N, self._root, self._use = states_N, root, use

    def uniform(self, num_rows: int) -> np.ndarray:
        """float64 (rows, N), each number in [0, 1) and independent of the others."""
        return _fractions(hashed(self._states_N, self._use), num_rows)

    def uniform_of_index(self, num_rows: int) -> np.ndarray:
        """The same, but for each sample the same in all epochs."""
        states_N = _of_keys(self._root, self.keys_N3 * [0, 1, 0] + [_ANY_EPOCH, 0, 0])
        return _fractions(hashed(states_N, self._use), num_rows)


def draws_for(root: int, keys_N3: np.ndarray, num_uses: int) -> list[Draws]:
    """For each use of chance, from 0 on, what it may draw for the samples of a batch.

    Args:
        root: the run's seed.
        keys_N3: see `key_array`.
        num_uses: how many there are.
    """
    start = np.array([seed_for(root, "augment")], dtype=np.uint64)
    states_N = _of_keys(start, keys_N3)
    return [Draws(states_N, keys_N3, start, use) for use in range(num_uses)]


def _of_keys(start: np.ndarray, keys_N3: np.ndarray) -> np.ndarray:
    return hashed(hashed(hashed(start, keys_N3[:, 0]), keys_N3[:, 1]), keys_N3[:, 2])


def _fractions(states_N: np.ndarray, num_rows: int) -> np.ndarray:
    # The upper 53 bits are what a float64 can hold.
    return (hashed(states_N, np.arange(num_rows)[:, None]) >> np.uint64(11)) * 2.0**-53
