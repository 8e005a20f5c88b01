"""Which pictures are the same, and which nearly: from digests, difference hashes and small grey pictures to groups.

Called by data_findings.py. Nothing here opens a file, and nothing compares all pairs unless all are alike.
"""

from collections.abc import Iterator

import numpy as np

MAX_BITS = 3  # of 64 that may differ
MIN_CORRELATION = 0.95  # of the small grey pictures: a hash alone takes strangers for one another
MIN_DEVIATION = 3.0  # grey levels; below it there is nothing to compare but noise
MAX_NEIGHBOURS = 200  # that one is compared with in each part of its hash; only among hundreds alike some are missed
_CHUNK = 1 << 18  # pairs of hashes that are looked at together
_BLOCK = 1 << 13  # pairs of small pictures


def exact_groups(digests_ND: np.ndarray) -> list[np.ndarray]:
    """Positions of equal rows, at least two a group, groups in the order of their first.

    Args:
        digests_ND: uint8, one digest a row.
    """
    if not len(digests_ND):
        return []
    rows_N = np.ascontiguousarray(digests_ND).view(f"V{digests_ND.shape[1]}").ravel()
    return groups_of_equal(np.unique(rows_N, return_inverse=True)[1].ravel())


def groups_of_equal(labels_N: np.ndarray) -> list[np.ndarray]:
    """Positions of equal integers, at least two a group, groups in the order of their first."""
    order = np.argsort(labels_N, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(labels_N[order])) + 1)
    return sorted((group for group in groups if len(group) > 1), key=lambda group: int(group[0]))


def near_groups(bits_N: np.ndarray, grids_NP: np.ndarray) -> list[np.ndarray]:
    """Positions of pictures that look alike, at least two a group; alike to one of a group is alike to all.

    Two are alike where their hashes differ in at most `MAX_BITS`, and their grey levels go together by
    `MIN_CORRELATION`, whatever their brightness and contrast. Pictures without contrast are alike to nothing.

    Args:
        bits_N: uint64 hashes.
        grids_NP: uint8, a row of grey levels for each picture.
    """
    has_contrast_N = np.concatenate(
        [np.zeros(0, bool), *(block.std(1) >= MIN_DEVIATION for block in _blocks(grids_NP, 10_000))]
    )
    kept = np.flatnonzero(has_contrast_N)
    parents = np.arange(len(bits_N))
    for left, right in _close_pairs(bits_N[kept]):
        for pairs_M2 in _blocks(kept[np.stack([left, right], 1)], _BLOCK):
            is_alike = correlations(grids_NP[pairs_M2[:, 0]], grids_NP[pairs_M2[:, 1]]) >= MIN_CORRELATION
            for a, b in pairs_M2[is_alike].tolist():
                parents[_root(parents, a)] = _root(parents, b)
    return groups_of_equal(np.array([_root(parents, at) for at in range(len(parents))], np.int64))


def _blocks(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    yield from (rows[start : start + size] for start in range(0, len(rows), size))


def _root(parents: np.ndarray, at: int) -> int:
    while parents[at] != at:
        parents[at] = parents[parents[at]]
        at = int(parents[at])
    return at


def correlations(left_MP: np.ndarray, right_MP: np.ndarray) -> np.ndarray:
    """Pearson's correlation of each row with the row beside it."""
    left_MP, right_MP = (rows - rows.mean(1, keepdims=True) for rows in (np.float32(left_MP), np.float32(right_MP)))
    lengths_M = np.sqrt((left_MP**2).sum(1) * (right_MP**2).sum(1))
    return (left_MP * right_MP).sum(1) / np.maximum(lengths_M, np.finfo(np.float32).tiny)


def _close_pairs(bits_N: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of positions whose hashes differ in few bits, in portions; each pair once.

    Hashes that differ in three bits are equal in one of four parts (pigeonhole), so only those are compared that are
    equal in some part. A part takes bits from all over the picture: the upper rows of many photographs are alike.
    """
    masks = _masks()
    for number, mask in enumerate(masks):
        keys = bits_N & mask
        order = np.lexsort((bits_N, keys))  # equal hashes beside each other
        keys = keys[order]
        ends = np.searchsorted(keys, keys, side="right")  # behind the last that is equal
        ends = np.minimum(ends, np.arange(len(ends)) + 1 + MAX_NEIGHBOURS)
        for left, right in _pairs_within(ends):
            left, right = order[left], order[right]
            differs = bits_N[left] ^ bits_N[right]
            is_close = _ones(differs) <= MAX_BITS
            for earlier in masks[:number]:
                is_close &= (differs & earlier) != 0  # or that part has found the pair already
            if is_close.any():
                yield left[is_close], right[is_close]


def _pairs_within(ends: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All pairs (i, j), i < j < ends[i], in portions of about `_CHUNK`."""
    starts = np.arange(len(ends))
    counts = ends - starts - 1
    sums = np.cumsum(counts)
    first = 0
    while first < len(ends):
        before = sums[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(sums, before + _CHUNK, side="right")))
        left = np.repeat(starts[first:last], counts[first:last])
        inside = np.arange(len(left)) - np.repeat(sums[first:last] - counts[first:last] - before, counts[first:last])
        if len(left):
            yield left, left + 1 + inside
        first = last


def _masks() -> list[np.uint64]:
    """Of bit 8 * row + column, part (row + column) mod 4."""
    return [
        np.uint64(sum(1 << (8 * row + column) for row in range(8) for column in range(8) if (row + column) % 4 == part))
        for part in range(4)
    ]


_ONES = np.array([bin(number).count("1") for number in range(1 << 16)], np.uint8)


def _ones(bits_N: np.ndarray) -> np.ndarray:
    return _ONES[np.ascontiguousarray(bits_N).view(np.uint16).reshape(-1, 4)].sum(1)
