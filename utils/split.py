"""Divides samples into a training and a validation part, each class in its share. Called by base and data_loader."""

import hashlib
import os
from collections.abc import Iterable

import torch

from utils.errors import DataError
from utils.seed import generator_for, seed_for


def split_indices(
    targets_N: torch.Tensor, size: float, seed: int, class_names: list[str]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draws the validation part, stratified: every class gives its share, at least one image.

    Args:
        targets_N: class indices, int64.
        size: the fraction of all samples (a float between 0 and 1) or their number (an int).
        seed: the run's seed; the same seed, data and size give the same split.
        class_names: for messages.

    Returns:
        Indices of the training and of the validation part, each ascending.

    Raises:
        DataError: the size is out of range, or a class is too small to be in both parts.
    """
    num_samples = len(targets_N)
    num_wanted = size if isinstance(size, int) else round(size * num_samples)
    counts = torch.bincount(targets_N, minlength=len(class_names)).tolist()
    for name, count in zip(class_names, counts, strict=True):
        if count == 1:
            raise DataError(f"validation_split: class '{name}' has 1 image; a split needs at least 2 of each class")
    present = [index for index, count in enumerate(counts) if count]
    if not present or not len(present) <= num_wanted <= num_samples - len(present):
        raise DataError(
            f"validation_split: {size} is {num_wanted} of {num_samples} images; with {len(present)} classes "
            f"it must leave each part at least one image of each"
        )
    quotas = _quotas({index: counts[index] for index in present}, num_wanted)
    chosen = []
    for index, quota in quotas.items():
        members = torch.nonzero(targets_N == index).flatten()
        shuffle = torch.randperm(len(members), generator=generator_for(seed, "split", index))
        chosen.append(members[shuffle[:quota]])
    is_validation = torch.zeros(num_samples, dtype=torch.bool)
    is_validation[torch.cat(chosen)] = True
    return torch.nonzero(~is_validation).flatten(), torch.nonzero(is_validation).flatten()


def split_without_classes(num_samples: int, size: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The same for data whose classes are not known beforehand: a plain draw."""
    return split_indices(torch.zeros(num_samples, dtype=torch.int64), size, seed_for(seed, "unknown classes"), ["?"])


def digest_of_part(names: list[str], held_back: list[str]) -> dict[str, int | str]:
    """Tells whether the same samples are held back: their number, that of all samples, and a digest of their names.

    Args:
        names: of all samples; paths count from the folder that all of them share, so that a copy counts as the same.
        held_back: the names in the part, in its order.
    """
    shared = _shared_folder(names)
    digest = _digest(name.removeprefix(shared) for name in held_back)
    return {"num_held_back": len(held_back), "num_samples": len(names), "digest": digest}


def fingerprint_of(names: list[str], targets: list[int], classes: list[str]) -> dict[str, list[int | str]]:
    """How many samples each class has, and a digest of their names, by the name of the class."""
    shared, of_class = _shared_folder(names), {index: [] for index in range(len(classes))}  # type: ignore[var-annotated]
    for name, target in zip(names, targets, strict=True):
        of_class.setdefault(target, []).append(name.removeprefix(shared))
    return {
        classes[index] if index < len(classes) else str(index): [len(own), _digest(own)]
        for index, own in of_class.items()
    }


def changes_of_data(before: dict[str, list[int | str]], now: dict[str, list[int | str]]) -> list[str]:
    """In words, how the second fingerprint differs from the first, class by class."""
    lines = []
    for name in dict.fromkeys([*before, *now]):
        (count_before, digest_before), (count, digest) = before.get(name, [0, ""]), now.get(name, [0, ""])
        if count != count_before:
            lines.append(f"{name}: {count} images, were {count_before}")
        elif digest != digest_before:
            lines.append(f"{name}: {count} images of other names")
    return lines


def _shared_folder(names: list[str]) -> str:
    return os.path.commonpath(names) if len(names) > 1 and all(map(os.path.isabs, names)) else ""


def _digest(names: Iterable[str]) -> str:
    return hashlib.blake2b("\n".join(names).encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()


def _quotas(counts: dict[int, int], num_wanted: int) -> dict[int, int]:
    """Shares of `num_wanted` by largest remainder, each at least 1 and at most one less than the class has."""
    total = sum(counts.values())
    exact = {index: num_wanted * count / total for index, count in counts.items()}
    quotas = {index: min(max(int(exact[index]), 1), counts[index] - 1) for index in counts}
    while (missing := num_wanted - sum(quotas.values())) != 0:
        step = 1 if missing > 0 else -1
        movable = [i for i in counts if 1 <= quotas[i] + step <= counts[i] - 1]
        furthest = max(movable, key=lambda i: (step * (exact[i] - quotas[i]), -i))
        quotas[furthest] += step
    return quotas
