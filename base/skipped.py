"""Samples that could not be read and were passed over: each is named once, and too many of them end the run."""

import logging
from collections.abc import Callable

from utils.errors import DataError

log = logging.getLogger("run")
MIN_BAD = 10  # a hundredth of a small data set would be none


class BadSamples(dict[int, str]):
    """By index of the sample, why it could not be read.

    Args:
        what_is_done: with each, in words.
    """

    def __init__(self, what_is_done: str):
        super().__init__()
        self.what_is_done = what_is_done

    def note(self, bad: list[tuple[int, str]], num_samples: int, name_of: Callable[[int], str]) -> None:
        """Says once of each sample that it cannot be read.

        Args:
            bad: index and reason of those that a batch met.
            num_samples: of the whole part.
            name_of: a sample's name by its index; not kept, because a loader in a circle would keep its workers.

        Raises:
            DataError: they are so many that it is the disk, or the whole data, that is damaged.
        """
        for index, reason in bad:
            if index not in self:
                self[index] = reason
                log.warning(f"warning: bad image {self.what_is_done}: {reason}")
        limit = max(MIN_BAD, num_samples // 100)
        if len(self) > limit:
            raise DataError(
                f"{name_of(bad[-1][0])}: the {len(self)}th of {num_samples} images that cannot be "
                f"read, and {limit} are as many as are passed over"
            )
