"""worker_choice.py: what "auto" means on which machine, and that it changes the speed only."""

import pytest
import torch

from base import worker_choice
from base.worker_choice import chosen_workers, workers_for
from data_loader.dataset import ImageTensors
from tests.test_base_data_loader import Loader, Samples, equal

IMAGES = ImageTensors(torch.zeros(20, 1, 2, 2, dtype=torch.uint8), [0, 1] * 10, ["a", "b"], name="train")


@pytest.fixture
def machine(monkeypatch):
    """`machine(4, has_gpu=True)`."""

    def make(cores, *, has_gpu=False):
        monkeypatch.setattr(worker_choice, "usable_cores", lambda: cores)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)

    return make


@pytest.mark.parametrize(
    ("cores", "has_gpu", "workers"),
    [
        (1, False, 0),
        (2, False, 1),
        (3, False, 1),
        (8, False, 4),
        (64, False, 8),
        (1, True, 1),
        (2, True, 1),
        (4, True, 3),
        (64, True, 8),
    ],
)
def test_half_the_cores_prepare_or_with_a_gpu_all_but_one(cores, has_gpu, workers):
    assert workers_for(cores, has_gpu=has_gpu)[0] == workers


def test_the_choice_is_noted_with_its_reason(machine):
    machine(6)
    loader = Loader(num_workers="auto")

    assert loader.num_workers == 3
    assert loader.notes == ["num_workers auto: 3, because 6 cores compute and prepare, and no GPU was found"]
    machine(6, has_gpu=True)
    assert chosen_workers("auto", Samples(), {})[2] == [
        "num_workers auto: 5, because a GPU computes and 6 cores can prepare"
    ]


def test_a_number_is_taken_as_it_is_and_not_spoken_of(machine):
    machine(2)
    loader = Loader(num_workers=3)

    assert (loader.num_workers, loader.notes) == (3, [])


def test_the_loader_of_validation_has_as_many(machine):
    machine(2)
    loader = Loader(num_workers="auto", validation_split=5)

    assert loader.split_validation().num_workers == 1
    assert loader.split_validation().notes == []


def test_whole_batches_from_memory_need_no_workers(machine):
    machine(8, has_gpu=True)

    assert Loader(IMAGES, num_workers="auto").num_workers == 0
    assert Loader(IMAGES.with_transform(torch.neg), num_workers="auto").num_workers == 7


@pytest.mark.parametrize("cores", [1, 2, 4])
def test_options_of_workers_are_no_mistake_beside_auto_and_no_batch_changes(machine, cores):
    machine(cores)
    options = {"persistent_workers": True, "prefetch_factor": 3, "multiprocessing_context": "fork"}
    loader = Loader(Samples(noise=0.5), num_workers="auto", **options, validation_split=5)

    assert (loader.num_workers, loader.persistent_workers) == (cores // 2, cores > 1)
    assert loader.split_validation().persistent_workers is (cores > 1)
    assert equal(list(loader), list(Loader(Samples(noise=0.5), validation_split=5)))
    loader.close()
