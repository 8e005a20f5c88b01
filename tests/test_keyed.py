"""A batch depends on (seed, epoch, index) alone: not on workers, on a restart, or on what was drawn before."""

import random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, default_collate

from base.base_sampler import BaseSampler, RandomSampler, SequentialSampler
from base.keyed import MAX_REPLACEMENTS, FailedBatch, KeyedBatches, KeyedDataset, PatchedBatch
from utils.errors import DataError
from utils.seed import seed_for


class Drawing:
    """Ten samples of which each is noise from the global generator, and its own index."""

    def __len__(self):
        return 10

    def __getitem__(self, index):
        return torch.rand(2), index


class FromMemory:
    """Answers whole batches of even indices at once."""

    def __len__(self):
        return 10

    def __getitem__(self, index):
        return torch.tensor([float(index)]), index

    def get_batch(self, indices):
        if any(index % 2 for index in indices):
            return None
        return "at once", list(indices)


def batches_of(sampler=None, indices=range(10), *, batch_size=4, drop_last=False, seed=1, targets_N=None):
    return KeyedBatches(
        torch.tensor(list(indices), dtype=torch.int64),
        targets_N,
        sampler or RandomSampler(),
        batch_size=batch_size,
        drop_last=drop_last,
        seed=seed,
    )


def fetched(num_workers, *, epoch=3, batches_done=0, seed=1):
    """All batches of an epoch as a loader gives them."""
    batches = batches_of(seed=seed)
    batches.epoch, batches.batches_done = epoch, batches_done
    loader = DataLoader(
        KeyedDataset(Drawing(), default_collate, seed),
        batch_sampler=batches,
        num_workers=num_workers,
        collate_fn=lambda batch: batch,
        generator=torch.Generator(),
    )
    return list(loader)


def equal(first, second):
    return len(first) == len(second) and all(
        torch.equal(a, b) for pair in zip(first, second, strict=True) for a, b in zip(*pair, strict=True)
    )


# --- the same batches --------------------------------------------------------------------------------------------


def test_every_sample_draws_from_its_own_key():
    expected = {
        index: torch.rand(2, generator=torch.Generator().manual_seed(seed_for(1, "sample", 3, index)))
        for index in range(10)
    }

    for images, indices in fetched(0):
        for image, index in zip(images, indices.tolist(), strict=True):
            assert torch.equal(image, expected[index])


def test_the_number_of_workers_changes_nothing():
    assert equal(fetched(0), fetched(2))


@pytest.mark.parametrize("batches_done", [0, 1, 2, 3])
def test_skipped_batches_leave_the_others_as_they_were(batches_done):
    assert equal(fetched(0, batches_done=batches_done), fetched(0)[batches_done:])


def test_skipped_batches_leave_the_others_as_they_were_with_workers():
    assert equal(fetched(2, batches_done=1), fetched(0)[1:])


def test_the_global_generators_neither_matter_nor_move():
    first = fetched(0)
    torch.manual_seed(99)
    random.seed(99)
    np.random.seed(99)
    state = torch.get_rng_state()

    second = fetched(0)

    assert equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("other", [{"epoch": 4}, {"seed": 2}])
def test_another_epoch_and_another_seed_have_another_order_and_other_draws(other):
    first, second = fetched(0), fetched(0, **other)

    by_index = [
        {index: image for images, indices in batches for image, index in zip(images, indices.tolist(), strict=True)}
        for batches in (first, second)
    ]
    assert [indices.tolist() for _, indices in first] != [indices.tolist() for _, indices in second]
    assert not any(torch.equal(by_index[0][index], by_index[1][index]) for index in range(10))


def test_a_collate_function_draws_from_the_key_of_the_batch():
    dataset = KeyedDataset(Drawing(), lambda samples: torch.rand(3), 1)

    drawn = dataset.__getitems__([(3, 7), (3, 2)])

    assert torch.equal(drawn, torch.rand(3, generator=torch.Generator().manual_seed(seed_for(1, "batch", 3, 7))))


# --- batches of keys ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_samples", "batch_size", "drop_last", "sizes"),
    [
        (10, 4, False, [4, 4, 2]),
        (10, 4, True, [4, 4]),
        (8, 4, False, [4, 4]),
        (8, 4, True, [4, 4]),
        (3, 4, False, [3]),
        (3, 4, True, []),
        (0, 4, False, []),
        (5, 1, False, [1] * 5),
    ],
)
def test_an_epoch_is_cut_into_batches(num_samples, batch_size, drop_last, sizes):
    batches = batches_of(SequentialSampler(), range(num_samples), batch_size=batch_size, drop_last=drop_last)

    assert [len(batch) for batch in batches] == sizes
    assert len(batches) == len(sizes)
    assert batches.num_drawn == num_samples


def test_keys_are_the_epoch_and_the_index_in_the_data_set():
    batches = batches_of(SequentialSampler(), [20, 5, 7], batch_size=2)
    batches.epoch = 6

    assert list(batches) == [[(6, 20), (6, 5)], [(6, 7)]]


def test_the_order_of_an_epoch_is_that_of_a_generator_of_its_own():
    batches = batches_of(indices=range(10))
    batches.epoch = 2

    keys = [key for batch in batches for key in batch]

    generator = torch.Generator().manual_seed(seed_for(1, "order", 2))
    assert [index for _, index in keys] == torch.randperm(10, generator=generator).tolist()


def test_the_length_is_that_of_a_whole_epoch_wherever_it_is_entered():
    batches = batches_of()
    batches.batches_done = 2

    assert len(batches) == 3
    assert len(list(batches)) == 1


def test_a_new_epoch_does_not_touch_one_that_is_under_way():
    batches = batches_of(SequentialSampler(), batch_size=5)
    under_way = iter(batches)
    first = next(under_way)

    batches.epoch, batches.batches_done = 1, 1
    second = next(under_way)

    assert {epoch for epoch, _ in [*first, *second]} == {0}
    assert len(second) == 5


def test_the_sampler_is_told_the_classes_of_its_part():
    seen = []

    class Asking(BaseSampler):
        def order(self, targets_N, num_samples, generator):
            seen.append((targets_N.tolist(), num_samples))
            return torch.arange(num_samples)

    list(batches_of(Asking(), [4, 8], targets_N=torch.tensor([1, 0])))

    assert seen == [([1, 0], 2)]


# --- whole batches and failures ----------------------------------------------------------------------------------


def test_a_data_set_that_answers_whole_batches_is_asked_for_them():
    dataset = KeyedDataset(FromMemory(), default_collate, 0)

    assert dataset.__getitems__([(0, 4), (0, 2)]) == ("at once", [4, 2])


def test_where_it_answers_none_each_sample_is_asked_for():
    images, indices = KeyedDataset(FromMemory(), default_collate, 0).__getitems__([(0, 4), (0, 3)])

    assert images.tolist() == [[4.0], [3.0]]
    assert indices.tolist() == [4, 3]


def test_the_length_is_the_data_sets():
    assert len(KeyedDataset(Drawing(), default_collate, 0)) == 10


class Failing:
    def __init__(self, error):
        self.error = error

    def __getitem__(self, index):
        raise self.error


def test_a_data_error_comes_home_as_text():
    batch = KeyedDataset(Failing(DataError("cat/1.jpg: truncated")), default_collate, 0).__getitems__([(0, 1)])

    assert batch == FailedBatch("cat/1.jpg: truncated")


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), OSError("x")])
def test_what_the_users_own_class_raises_is_raised(error):
    with pytest.raises(type(error)) as caught:
        KeyedDataset(Failing(error), default_collate, 0).__getitems__([(0, 1)])

    assert caught.value is error


def test_a_sample_that_fails_leaves_the_global_generator_alone():
    state = torch.get_rng_state()

    KeyedDataset(Failing(DataError("x")), default_collate, 0).__getitems__([(0, 1)])

    assert torch.equal(torch.get_rng_state(), state)


def test_images_of_different_sizes_are_told_with_both_and_what_would_do():
    class Growing:
        def __getitem__(self, index):
            return torch.zeros(3, 4 + index, 5), 0

    batch = KeyedDataset(Growing(), default_collate, 0).__getitems__([(0, 1), (0, 0), (0, 1)])

    assert isinstance(batch, FailedBatch)
    assert "(3, 4, 5) and (3, 5, 5)" in batch.message
    assert "Resize" in batch.message


def test_another_error_of_a_collate_function_is_its_own():
    def broken(samples):
        raise RuntimeError("a mistake in code")

    with pytest.raises(RuntimeError, match="a mistake in code"):
        KeyedDataset(Drawing(), broken, 0).__getitems__([(0, 1), (0, 2)])


# --- samples that cannot be read ---------------------------------------------------------------------------------


class Spoilt:
    """Ten samples, each its own index; some cannot be read."""

    skips_bad = True

    def __init__(self, *bad):
        self.bad = bad

    def __len__(self):
        return 10

    def __getitem__(self, index):
        if index in self.bad:
            raise DataError(f"{index}.png: damaged")
        return torch.tensor([float(index)]), index


def spoilt(*bad, part=range(10), seed=1):
    return KeyedDataset(Spoilt(*bad), default_collate, seed, None if part is None else torch.tensor(list(part)))


# Computed apart from the project, with hashlib: blake2b of (1, *key, attempt) under "replace", halved, modulo 10.
@pytest.mark.parametrize(("key", "other"), [((0, 4), 0), ((1, 4), 0), ((3, 7), 1), ((3, 7, 2), 2)])
def test_a_replacement_is_drawn_by_the_key_of_the_bad_one_and_never_changes(key, other):
    dataset = spoilt(key[1])

    batch = dataset.__getitems__([key])

    assert batch.batch[1].tolist() == [other]
    assert batch.bad == [(key[1], f"{key[1]}.png: damaged")]


def test_a_replacement_that_is_bad_is_replaced_by_the_next_of_the_same_key():
    batch = spoilt(4, 0, part=[*range(4), 0, *range(5, 10)]).__getitems__([(0, 4), (0, 5)])

    # The first draw of (0, 4) is position 0, the second position 4, where the part has sample 0 again.
    assert seed_for(1, "replace", 0, 4, 3) % 10 not in (0, 4)
    assert batch.batch[1].tolist() == [seed_for(1, "replace", 0, 4, 3) % 10, 5]
    assert [index for index, _ in batch.bad] == [4, 0, 0]


def test_replacements_come_from_the_part_only():
    drawn = {int(spoilt(5, part=[2, 3, 8]).__getitems__([(epoch, 5)]).batch[1]) for epoch in range(30)}

    assert drawn == {2, 3, 8}


def test_a_replacement_draws_what_the_bad_one_would_have_drawn():
    class Drawn(Spoilt):
        def __getitem__(self, index):
            return torch.rand(2), super().__getitem__(index)[1]

    batch = KeyedDataset(Drawn(4), default_collate, 1, torch.arange(10)).__getitems__([(0, 4)])

    expected = torch.rand(2, generator=torch.Generator().manual_seed(seed_for(1, "sample", 0, 4)))
    assert torch.equal(batch.batch[0][0], expected)


def test_without_a_part_bad_samples_are_left_out():
    batch = spoilt(4, 6, part=None).__getitems__([(0, 4), (0, 5), (0, 6), (0, 7)])

    assert batch.batch[1].tolist() == [5, 7]
    assert [index for index, _ in batch.bad] == [4, 6]


def test_of_a_batch_of_bad_samples_nothing_is_left_without_a_part():
    assert spoilt(4, part=None).__getitems__([(0, 4)]) == PatchedBatch(None, [(4, "4.png: damaged")])


def test_good_batches_are_not_wrapped():
    assert not isinstance(spoilt().__getitems__([(0, 4)]), PatchedBatch)


def test_where_all_are_bad_it_gives_up_after_as_many_draws_as_are_no_chance():
    batch = spoilt(*range(10)).__getitems__([(0, 4)])

    assert MAX_REPLACEMENTS == 8
    assert isinstance(batch, FailedBatch)
    assert batch.message.endswith(".png: damaged\n  the 8 images drawn before it cannot be read either")


def test_a_data_set_that_does_not_skip_fails_the_batch():
    dataset = spoilt(4)
    dataset.dataset.skips_bad = False

    assert dataset.__getitems__([(0, 5), (0, 4)]) == FailedBatch("4.png: damaged")


class Pictures:
    """Three pictures whose channels lie as asked for; the second is cut from a larger one."""

    def __init__(self, channels_last, dtype=torch.uint8):
        pixels = torch.arange(3 * 5 * 6 * 3).reshape(3, 5, 6, 3).to(dtype).permute(0, 3, 1, 2)
        pixels = pixels if channels_last else pixels.contiguous()
        self.images = [pixels[0, :, :4, :5].clone(), pixels[1, :, 1:, 1:], pixels[2, :, :4, :5].flip(2)]

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return self.images[index], index


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("channels_last", [True, False])
def test_batch_lies_in_memory_as_its_images_do_and_is_the_default_one(channels_last, dtype, num_workers):
    pictures = Pictures(channels_last, dtype)
    loader = DataLoader(
        KeyedDataset(pictures, default_collate, 0),
        batch_sampler=batches_of(SequentialSampler(), range(3)),
        num_workers=num_workers,
        collate_fn=lambda batch: batch,
    )

    ((images_NCHW, targets_N),) = list(loader)

    assert torch.equal(images_NCHW, torch.stack([image.contiguous() for image in pictures.images]))
    assert torch.equal(targets_N, torch.arange(3))
    layout = torch.channels_last if channels_last else torch.contiguous_format
    assert images_NCHW.is_contiguous(memory_format=layout)


# --- batches that tell their keys ---------------------------------------------------------------------------------


def test_keys_come_with_the_batch_where_they_are_asked_for():
    dataset = KeyedDataset(Drawing(), default_collate, 1, tells_keys=True)

    batch = dataset.__getitems__([(3, 7), (3, 2), (3, 7, 1)])

    assert batch.bad == []
    assert batch.keys_N3.tolist() == [[3, 7, 0], [3, 2, 0], [3, 7, 1]]
    assert batch.batch[1].tolist() == [7, 2, 7]
    assert PatchedBatch("nothing to pin", [], batch.keys_N3).pin_memory().keys_N3 is batch.keys_N3
    assert equal([batch.batch], [KeyedDataset(Drawing(), default_collate, 1).__getitems__([(3, 7), (3, 2), (3, 7, 1)])])


def test_a_replaced_sample_keeps_the_key_of_the_one_that_cannot_be_read():
    dataset = KeyedDataset(Spoilt(4), default_collate, 1, torch.arange(10), tells_keys=True)

    batch = dataset.__getitems__([(0, 4), (0, 5)])

    assert [index for index, _ in batch.bad] == [4]
    assert batch.keys_N3.tolist() == [[0, 4, 0], [0, 5, 0]]


def test_a_batch_that_was_not_read_has_no_keys():
    dataset = KeyedDataset(Failing(DataError("x")), default_collate, 0, tells_keys=True)

    assert isinstance(dataset.__getitems__([(0, 1)]), FailedBatch)
