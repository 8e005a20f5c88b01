"""prefetch.py: the same batches in the same order, one ahead where there is a GPU to send them to."""

import pytest
import torch

from trainer.prefetch import ahead


def numbered(num_batches, fetched):
    for number in range(num_batches):
        fetched.append(number)
        yield torch.full((2, 1, 3, 3), number, dtype=torch.uint8), torch.tensor([number, number + 1])


def test_on_a_cpu_batches_pass_as_they_are_and_none_is_fetched_early():
    fetched = []

    for number, (images, targets) in enumerate(ahead(numbered(3, fetched), torch.device("cpu"))):
        assert fetched == list(range(number + 1))
        assert images.unique().tolist() == [number]
        assert targets.tolist() == [number, number + 1]

    assert fetched == [0, 1, 2]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("num_batches", [0, 1, 2, 7])
def test_on_a_gpu_they_are_there_one_ahead(num_batches):
    fetched, device = [], torch.device("cuda", 0)

    for number, (images, targets) in enumerate(ahead(numbered(num_batches, fetched), device)):
        assert len(fetched) == min(number + 2, num_batches)
        assert images.device == targets.device == device
        assert images.unique().tolist() == [number]
        assert targets.tolist() == [number, number + 1]

    assert fetched == list(range(num_batches))
