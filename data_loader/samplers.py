"""The samplers that a config can choose: `"sampler": "balanced"` or `{"type": "RandomSampler", "args": {...}}`.

Names and arguments are those of torch.utils.data; the draws come from (seed, epoch) instead of a live generator.
"""

from collections.abc import Sequence

import torch

from base.base_sampler import BaseSampler, RandomSampler, SequentialSampler

__all__ = [
    "BalancedSampler",
    "BatchSampler",
    "RandomSampler",
    "SequentialSampler",
    "SubsetRandomSampler",
    "WeightedRandomSampler",
]


class SubsetRandomSampler(BaseSampler):
    """Only some samples, in a new random order each epoch.

    Args:
        indices: positions in the training part.
    """

    def __init__(self, indices: Sequence[int]):
        if not indices or min(indices) < 0:
            raise ValueError("indices must be a list of at least one position, none below 0")
        self.indices = torch.tensor(list(indices))

    def order(self, targets_N: torch.Tensor | None, num_samples: int, generator: torch.Generator) -> torch.Tensor:
        """A permutation of the indices; ValueError where one is beyond the data."""
        if int(self.indices.max()) >= num_samples:
            raise ValueError(f"index {int(self.indices.max())} is beyond the {num_samples} training samples")
        return self.indices[torch.randperm(len(self.indices), generator=generator)]

    def num_drawn(self, num_samples: int) -> int:
        """As many as there are indices."""
        return len(self.indices)


class WeightedRandomSampler(BaseSampler):
    """Draws each sample with a probability in proportion to its weight.

    Args:
        weights: one a training sample, finite, not negative, not all 0.
        num_samples: how many to draw; as many as there are weights by default.
        replacement: without it no sample comes twice, so `num_samples` is at most the number of weights above 0.
    """

    def __init__(self, weights: Sequence[float], num_samples: int | None = None, replacement: bool = True):
        self.weights = torch.tensor(list(weights), dtype=torch.float64)
        is_possible = torch.isfinite(self.weights) & (self.weights >= 0)
        if not bool(is_possible.all()) or not bool((self.weights > 0).any()):
            raise ValueError("weights must be finite, not negative, and not all 0")
        self.replacement = replacement
        self.num_samples = len(self.weights) if num_samples is None else num_samples
        drawable = int((self.weights > 0).sum())
        if self.num_samples < 1 or (not replacement and self.num_samples > drawable):
            raise ValueError(f"num_samples is {self.num_samples}, yet {drawable} samples can be drawn")

    def order(self, targets_N: torch.Tensor | None, num_samples: int, generator: torch.Generator) -> torch.Tensor:
        """Draws by weight; ValueError where the weights are not as many as the samples."""
        if len(self.weights) != num_samples:
            raise ValueError(f"{len(self.weights)} weights for {num_samples} training samples")
        return torch.multinomial(self.weights, self.num_samples, self.replacement, generator=generator)

    def num_drawn(self, num_samples: int) -> int:
        """`num_samples` of the constructor."""
        return self.num_samples


class BalancedSampler(BaseSampler):
    """Draws every class equally often, however many images it has: with replacement, by inverse class frequency.

    Args:
        num_samples: how many to draw an epoch; as many as there are training samples by default.
    """

    def __init__(self, num_samples: int | None = None):
        if num_samples is not None and num_samples < 1:
            raise ValueError(f"num_samples must be at least 1, got {num_samples}")
        self.num_samples = num_samples

    def order(self, targets_N: torch.Tensor | None, num_samples: int, generator: torch.Generator) -> torch.Tensor:
        """Draws by class; ValueError where the data set does not tell its classes."""
        if targets_N is None:
            raise ValueError("the balanced sampler needs a data set with `targets`")
        weights = 1.0 / torch.bincount(targets_N).double()[targets_N]
        return torch.multinomial(weights, self.num_drawn(num_samples), replacement=True, generator=generator)

    def num_drawn(self, num_samples: int) -> int:
        """`num_samples` of the constructor, or all."""
        return num_samples if self.num_samples is None else self.num_samples


class BatchSampler(BaseSampler):
    """Puts another sampler's order into batches and shuffles the batches: neighbours stay together.

    With a sequential sampler underneath, files are read in runs, which spinning disks and archives like.

    Args:
        sampler: the order that is cut into batches.
        batch_size: must be the loader's `batch_size`.
        shuffle_batches: a new order of the batches each epoch; a smaller last batch stays last.
    """

    def __init__(self, sampler: BaseSampler, batch_size: int, shuffle_batches: bool = True):
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.sampler = sampler
        self.batch_size = self.images_per_batch = batch_size
        self.shuffle_batches = shuffle_batches

    def order(self, targets_N: torch.Tensor | None, num_samples: int, generator: torch.Generator) -> torch.Tensor:
        """The inner order, its whole batches shuffled as wholes."""
        order = self.sampler.order(targets_N, num_samples, generator)
        whole = len(order) // self.images_per_batch * self.images_per_batch
        batches = order[:whole].reshape(-1, self.images_per_batch)
        if self.shuffle_batches:
            batches = batches[torch.randperm(len(batches), generator=generator)]
        return torch.cat([batches.flatten(), order[whole:]])

    def num_drawn(self, num_samples: int) -> int:
        """As many as the inner sampler draws."""
        return self.sampler.num_drawn(num_samples)
