"""In which order, and how often, samples are visited. The two that every loader needs live here; the menu that a
config can choose from is data_loader/samplers.py."""

from abc import ABC, abstractmethod

import torch


class BaseSampler(ABC):
    """Chooses positions among the samples of a part; it knows nothing of files and keeps no state.

    It is asked once an epoch with a generator keyed by (seed, epoch), so the same epoch always has the same order.

    Attributes:
        batch_size: where the order is made for batches of one size; the loader's must then be the same.
    """

    batch_size: int | None = None

    @abstractmethod
    def order(self, targets_N: torch.Tensor | None, num_samples: int, generator: torch.Generator) -> torch.Tensor:
        """Positions (int64, each in [0, num_samples)) in the order of their visit.

        Args:
            targets_N: class indices of the samples, or None where the data set does not tell them.
            num_samples: how many samples there are.
            generator: the only source of chance.
        """

    def num_drawn(self, num_samples: int) -> int:
        """How many positions `order` will give for so many samples."""
        return num_samples


class SequentialSampler(BaseSampler):
    """Every sample once, always in the same order."""

    def order(self, targets_N: torch.Tensor | None, num_samples: int, generator: torch.Generator) -> torch.Tensor:
        """0, 1, 2, ..."""
        return torch.arange(num_samples)


class RandomSampler(BaseSampler):
    """Samples in a new random order each epoch.

    Args:
        replacement: draw each time from all samples, so that one may come twice and another not at all.
        num_samples: how many to draw; all by default. Without replacement at most as many as there are.
    """

    def __init__(self, replacement: bool = False, num_samples: int | None = None):
        if num_samples is not None and num_samples < 1:
            raise ValueError(f"num_samples must be at least 1, got {num_samples}")
        self.replacement = replacement
        self.num_samples = num_samples

    def order(self, targets_N: torch.Tensor | None, num_samples: int, generator: torch.Generator) -> torch.Tensor:
        """A permutation, or independent draws with replacement."""
        if self.replacement:
            return torch.randint(num_samples, (self.num_drawn(num_samples),), generator=generator)
        return torch.randperm(num_samples, generator=generator)[: self.num_drawn(num_samples)]

    def num_drawn(self, num_samples: int) -> int:
        """`num_samples` of the constructor, or all; without replacement never more than there are."""
        wanted = num_samples if self.num_samples is None else self.num_samples
        return wanted if self.replacement else min(wanted, num_samples)
