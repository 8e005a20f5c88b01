"""micro_batches.py: batches that do not fit are cut, once, and nothing of a failed attempt is left."""

import gc
import logging
import weakref

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from trainer.micro_batches import BufferCopy, MicroBatches, largest
from utils.device import is_out_of_memory

GPU_IS_FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
MACHINE_IS_FULL = RuntimeError(
    "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
)


@given(num_images=st.integers(1, 70), at_once=st.none() | st.integers(1, 80))
def test_pieces_are_few_even_and_together_the_batch(num_images, at_once):
    pieces = MicroBatches("training")
    pieces.images_at_once = at_once
    images, targets = torch.arange(num_images * 2).view(num_images, 2), torch.arange(num_images)

    parts = list(pieces.cut(images, targets))

    sizes = [len(part) for part, _ in parts]
    assert torch.equal(torch.cat([part for part, _ in parts]), images)
    assert torch.equal(torch.cat([part for _, part in parts]), targets)
    assert max(sizes) <= (at_once or num_images)
    assert max(sizes) - min(sizes) <= 1
    assert len(sizes) == -(-num_images // (at_once or num_images))


@pytest.mark.parametrize("error", [GPU_IS_FULL, MACHINE_IS_FULL, MemoryError()])
def test_it_is_halved_until_it_fits_said_once_and_kept(error, caplog):
    pieces, tried, undone = MicroBatches("training"), [], []

    def work():
        sizes = [len(part) for (part,) in pieces.cut(torch.zeros(33))]
        tried.append(max(sizes))
        if max(sizes) > 10:
            raise error
        return sizes

    with caplog.at_level(logging.WARNING, "run"):
        results = [pieces.fitting(work, 33, lambda: undone.append(None)) for _ in range(2)]

    assert results == [[9, 8, 8, 8]] * 2
    assert tried == [33, 17, 9, 9]
    assert len(undone) == 2
    (record,) = caplog.records
    assert "out of memory with 33 images at once; from now on training takes 9 at most" in record.message


def test_a_batch_that_is_small_itself_is_halved_from_its_own_size():
    pieces, tried = MicroBatches("training"), []
    pieces.images_at_once = 64

    def work():
        tried.append(max(len(part) for (part,) in pieces.cut(torch.zeros(6))))
        if tried[-1] > 3:
            raise GPU_IS_FULL

    pieces.fitting(work, 6)

    assert tried == [6, 3]


@pytest.mark.parametrize("error", [RuntimeError("shapes cannot be multiplied"), ValueError("x")])
def test_other_errors_are_not_retried(error):
    pieces, tried = MicroBatches("training"), []

    def work():
        tried.append(None)
        raise error

    with pytest.raises(type(error)):
        pieces.fitting(work, 8)

    assert (len(tried), pieces.images_at_once) == (1, None)


def test_where_one_image_does_not_fit_the_error_comes_through():
    pieces, tried = MicroBatches("training"), []

    def work():
        tried.append(pieces.images_at_once)
        raise GPU_IS_FULL

    with pytest.raises(torch.OutOfMemoryError):
        pieces.fitting(work, 5)

    assert tried == [None, 3, 2, 1]


def test_what_a_failed_attempt_held_is_free_before_the_next():
    pieces, held, alive = MicroBatches("training"), [], []

    def work():
        gc.disable()
        alive.append([one() is not None for one in held])
        tensor = torch.zeros(3)
        held.append(weakref.ref(tensor))
        if len(held) < 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    try:
        pieces.fitting(work, 8)
    finally:
        gc.enable()

    assert alive == [[], [False]]


@pytest.mark.parametrize(
    ("error", "expected"), [(GPU_IS_FULL, True), (MACHINE_IS_FULL, True), (MemoryError(), True), (OSError(12), False)]
)
def test_errors_on_memory_are_told_from_others(error, expected):
    assert is_out_of_memory(error) is expected


def test_a_real_allocation_that_is_too_large_is_one_of_them():
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        torch.empty(2**59, dtype=torch.float64)  # 4 EiB

    assert is_out_of_memory(caught.value)


def test_buffers_are_put_back_whatever_their_kind():
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 3), nn.BatchNorm1d(3))
    copies = BufferCopy(model)
    model(torch.randn(4, 3))
    copies.keep()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}

    model(torch.randn(4, 3))
    assert not torch.equal(model[0].running_mean, before["0.running_mean"])
    copies.put_back()

    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    assert int(model[0].num_batches_tracked) == 1


def test_the_largest_batch_of_a_step_counts():
    assert largest([(torch.zeros(3, 1), torch.zeros(3)), (torch.zeros(5, 1), torch.zeros(5))]) == 5
