"""How batches are prepared never changes them: one digest for every number and kind of workers."""

from pathlib import Path
from typing import Any

import pytest
from torchvision.transforms import v2

from data_loader.data_loaders import ImageFolderDataLoader
from tests.faults import trials
from utils.plain import digest_of

TRANSFORM = [v2.RandomResizedCrop(12), v2.RandomHorizontalFlip(), v2.ColorJitter(0.3, 0.3)]
WAYS: list[dict[str, Any]] = [
    {"num_workers": 1},
    {"num_workers": 2, "prefetch_factor": 5},
    {"num_workers": 2, "persistent_workers": True},
    {"num_workers": 1, "multiprocessing_context": "forkserver"},
]
WAYS += trials(
    [],
    [
        {"num_workers": 4},
        {"num_workers": 1, "multiprocessing_context": "spawn"},
        {"num_workers": 2, "multiprocessing_context": "forkserver", "persistent_workers": True, "prefetch_factor": 1},
    ],
)


def digest_of_batches(folder: Path, **options: Any) -> str:
    """Of two epochs, the second entered at its third batch."""
    loader = ImageFolderDataLoader(folder, transform=TRANSFORM, eval_transform=[], batch_size=10, seed=5, **options)
    batches = []
    for epoch, first in ((0, 0), (1, 2)):
        loader.set_epoch(epoch, first)
        batches += [list(batch) for batch in loader]
    loader.close()
    return digest_of(batches)


@pytest.fixture(scope="module")
def expected(shapes_dir: Path) -> str:
    return digest_of_batches(shapes_dir)


@pytest.mark.parametrize("options", WAYS, ids=str)
def test_batches_have_one_digest_however_they_are_prepared(options: dict, shapes_dir: Path, expected: str) -> None:
    assert digest_of_batches(shapes_dir, **options) == expected


def test_another_seed_has_another_digest(shapes_dir: Path, expected: str) -> None:
    loader = ImageFolderDataLoader(shapes_dir, transform=TRANSFORM, eval_transform=[], batch_size=10, seed=6)

    assert digest_of([list(batch) for batch in loader]) != expected
