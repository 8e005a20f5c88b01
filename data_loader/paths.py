"""A list of paths that stays small: one block of bytes, where a Python list is a million objects.

Forked workers share a block of memory with the process that trains. The strings of a list they copy, one page after
another, because each look at a string counts a reference in it. Used by dataset.py, scan.py and index.py.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Self, overload

import numpy as np
import torch

# A path may hold what is no letter (PEP 383); this gives back every string as it was.
_HOW = ("utf-8", "surrogatepass")


class PathList(Sequence[str]):
    """Paths by their number. What all of them begin with is kept once.

    Args:
        prefix: what every path begins with.
        letters: the rest of all paths, one after the other, in UTF-8: uint8 (number of bytes,).
        ends: where each path ends in `letters`, after a leading 0: int64 (number of paths + 1,).
    """

    def __init__(self, prefix: str, letters: torch.Tensor, ends: torch.Tensor):
        self.prefix = prefix
        # No tensors, which torch moves elsewhere when it sends them to a worker that is started and not forked, so that
        # a view of them would show freed memory. To index arrays also takes a fifth of the time.
        self._letters, self._ends = letters.numpy(), ends.numpy()

    @property
    def letters(self) -> torch.Tensor:
        """The rest of all paths, see above."""
        return torch.from_numpy(self._letters)

    @property
    def ends(self) -> torch.Tensor:
        """Where each ends, see above."""
        return torch.from_numpy(self._ends)

    @classmethod
    def of(cls, paths: Iterable[str], prefix: str | None = None) -> Self:
        """Packs paths.

        Args:
            paths: in their order.
            prefix: what is known to stand before each of `paths`, and not in it; None finds what they share.
        """
        names = list(paths)
        if prefix is None:
            # What the first and the last in the order of letters share, all share.
            first, last = (min(names), max(names)) if names else ("", "")
            num_shared = next((at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
            prefix, names = first[:num_shared], [name[num_shared:] for name in names]
        rests = [name.encode(*_HOW) for name in names]
        ends = np.zeros(len(rests) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, rests), np.int64, len(rests)), out=ends[1:])
        return cls(
            prefix, torch.from_numpy(np.frombuffer(bytearray(b"".join(rests)), np.uint8)), torch.from_numpy(ends)
        )

    @classmethod
    def joined(cls, parts: "Sequence[PathList]", prefix: str = "") -> Self:
        """All paths of all parts, which must have one prefix; `prefix` is for no parts at all."""
        if not parts:
            return cls.of([], prefix)
        if any(part.prefix != parts[0].prefix for part in parts):
            raise ValueError("the parts have different prefixes")
        letters = torch.cat([part.letters[part.ends[0] : part.ends[-1]] for part in parts])
        lengths = torch.cat([part.ends.diff() for part in parts])
        return cls(parts[0].prefix, letters, torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]))

    def chosen(self, indices: torch.Tensor) -> Self:
        """Some of the paths (copied), in the order given: int64 indices from 0 on."""
        starts, lengths = self.ends[:-1][indices], self.ends.diff()[indices]
        ends = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
        # The place of each byte: that of its path's first, and how far it is behind that.
        places = torch.arange(int(ends[-1])) + (starts - ends[:-1]).repeat_interleave(lengths)
        return type(self)(self.prefix, self.letters[places], ends)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> "PathList": ...
    def __getitem__(self, index: int | slice) -> "str | PathList":
        """One path; or, by a slice without steps, a part that shares this one's memory."""
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step != 1:
                return self.chosen(torch.tensor(range(start, stop, step), dtype=torch.int64))
            return type(self)(self.prefix, self.letters, self.ends[start : max(start, stop) + 1])
        index = range(len(self))[index]
        return self.prefix + self._letters[self._ends[index] : self._ends[index + 1]].tobytes().decode(*_HOW)

    def __iter__(self) -> Iterator[str]:
        # By thousands, which takes a third of the time that one by one does.
        for first in range(0, len(self), 1000):
            ends = self._ends[first : first + 1001].tolist()
            letters = self._letters[ends[0] : ends[-1]].tobytes()
            for start, end in pairwise(ends):
                yield self.prefix + letters[start - ends[0] : end - ends[0]].decode(*_HOW)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str) or not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # like a list's

    def __repr__(self) -> str:
        return f"PathList({list(self[:3])}{', ...' if len(self) > 3 else ''}; {len(self)} paths)"

    def __reduce__(self) -> tuple[Any, ...]:
        return (_of_arrays, (type(self), self.prefix, self._letters, self._ends))


def _of_arrays(kind: type[PathList], prefix: str, letters: np.ndarray, ends: np.ndarray) -> PathList:
    return kind(prefix, torch.from_numpy(letters), torch.from_numpy(ends))
