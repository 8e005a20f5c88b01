"""What any loader promises: every sample, in an order of its epoch, and a validation part that is never trained on."""

import signal

import pytest
import torch

from base.base_data_loader import BaseDataLoader
from base.base_sampler import BaseSampler, RandomSampler
from data_loader.samplers import BalancedSampler, BatchSampler, SubsetRandomSampler
from utils.errors import ConfigError, DataError


class Samples:
    """Sample i is the image i + noise of the global generator, where noise is asked for; its class is i % 3."""

    def __init__(self, num_samples=20, noise=0.0, num_classes=3, offset=0):
        self.num_samples, self.noise, self.offset = num_samples, noise, offset
        self.targets = [index % num_classes for index in range(num_samples)]
        self.classes = [f"class{index}" for index in range(num_classes)]

    def __len__(self):
        return self.num_samples

    def __getitem__(self, index):
        image = torch.full((1, 2, 2), float(index + self.offset)) + self.noise * torch.rand(1, 2, 2)
        return image, self.targets[index]

    def sample_name(self, index):
        return f"picture {index}"


class Plain:
    """Knows nothing of its classes and names."""

    def __len__(self):
        return 20

    def __getitem__(self, index):
        return torch.full((1, 2, 2), float(index)), index % 3


class Loader(BaseDataLoader):
    def __init__(self, dataset=None, **options):
        super().__init__(Samples() if dataset is None else dataset, **{"batch_size": 6, "seed": 1, **options})


def indices_of(loader):
    """Which samples came, in order."""
    return [int(image[0, 0, 0]) for images, _ in loader for image in images]


def equal(first, second):
    return len(first) == len(second) and all(
        torch.equal(a, b) for pair in zip(first, second, strict=True) for a, b in zip(*pair, strict=True)
    )


def test_the_base_itself_cannot_be_made():
    with pytest.raises(TypeError, match="abstract"):
        BaseDataLoader(Samples())


# --- training batches --------------------------------------------------------------------------------------------


def test_batches_are_images_and_their_targets():
    batches = list(Loader())

    assert [tuple(images.shape) for images, _ in batches] == [(6, 1, 2, 2)] * 3 + [(2, 1, 2, 2)]
    assert len(Loader()) == 4
    for images, targets in batches:
        assert targets.dtype == torch.int64
        assert targets.tolist() == [int(image[0, 0, 0]) % 3 for image in images]


def test_every_epoch_has_every_sample_once_and_an_order_of_its_own():
    loader = Loader()
    orders = []

    for epoch in range(5):
        loader.set_epoch(epoch)
        orders.append(tuple(indices_of(loader)))

    assert all(sorted(order) == list(range(20)) for order in orders)
    assert len(set(orders)) == 5


def test_an_epoch_has_the_same_order_each_time():
    loader = Loader()
    loader.set_epoch(3)
    first = indices_of(loader)
    loader.set_epoch(4)
    indices_of(loader)

    loader.set_epoch(3)

    assert indices_of(loader) == first


def test_without_shuffle_samples_come_as_they_lie_there():
    loader = Loader(shuffle=False)

    for epoch in (0, 1):
        loader.set_epoch(epoch)
        assert indices_of(loader) == list(range(20))


@pytest.mark.parametrize("batches_done", [0, 1, 3, 4])
def test_an_epoch_can_be_entered_after_any_batch(batches_done):
    loader = Loader(Samples(noise=0.5))
    loader.set_epoch(2)
    whole = list(loader)

    loader.set_epoch(2, batches_done)

    assert equal(list(loader), whole[batches_done:])
    assert len(loader) == 4


@pytest.mark.parametrize("persistent_workers", [False, True])
def test_workers_never_change_the_result(persistent_workers):
    plain = Loader(Samples(noise=0.5))
    worked = Loader(Samples(noise=0.5), num_workers=2, persistent_workers=persistent_workers)

    for epoch in (0, 1):
        plain.set_epoch(epoch)
        worked.set_epoch(epoch)
        assert equal(list(worked), list(plain))


def test_persistent_workers_without_workers_are_refused():
    with pytest.raises(ConfigError) as caught:
        Loader(persistent_workers=True)

    assert caught.value.path == "data_loader.args.persistent_workers"
    assert caught.value.message == "needs num_workers above 0"


def test_pinning_without_a_gpu_means_nothing():
    assert len(list(Loader(pin_memory=not torch.cuda.is_available()))) == 4


@pytest.mark.parametrize("num_workers", [0, 1])
def test_going_through_the_data_leaves_the_global_generator_alone(num_workers):
    loader = Loader(Samples(noise=0.5), num_workers=num_workers)
    state = torch.get_rng_state()

    list(loader)

    assert torch.equal(torch.get_rng_state(), state)


def test_the_seed_decides_order_and_draws():
    first, same, other = (list(Loader(Samples(noise=0.5), seed=seed)) for seed in (1, 1, 2))

    assert equal(first, same)
    assert not equal(first, other)


def test_workers_leave_an_interrupt_to_the_main_process():
    class Handlers(Plain):
        def __getitem__(self, index):
            return torch.zeros(1, 1, 1), int(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)

    batches = list(Loader(Handlers(), num_workers=1))

    assert all(bool(ignored.all()) for _, ignored in batches)


@pytest.mark.parametrize("drop_last", [False, True])
def test_the_number_of_samples_is_what_an_epoch_shows(drop_last):
    loader = Loader(drop_last=drop_last)

    assert loader.num_samples == len(indices_of(loader)) == (18 if drop_last else 20)
    assert len(loader) == (3 if drop_last else 4)


@pytest.mark.parametrize(
    ("sampler", "num_samples"),
    [
        (RandomSampler(num_samples=7), 7),
        (RandomSampler(True, 50), 50),
        (SubsetRandomSampler([3, 5]), 2),
        (BalancedSampler(), 20),
    ],
)
def test_a_sampler_decides_the_order_instead_of_shuffle(sampler, num_samples):
    loader = Loader(sampler=sampler, shuffle=False)

    assert loader.num_samples == len(indices_of(loader)) == num_samples


def test_a_collate_function_makes_the_batch():
    loader = Loader(collate_fn=lambda samples: ("made", len(samples)))

    assert list(loader) == [("made", 6)] * 3 + [("made", 2)]


# --- validation --------------------------------------------------------------------------------------------------


def test_without_a_split_there_is_no_validation():
    for nothing in (0, 0.0, None):
        loader = Loader(validation_split=nothing)
        assert loader.split_validation() is None
        assert sorted(indices_of(loader)) == list(range(20))


@pytest.mark.parametrize(("size", "num_validation"), [(0.25, 5), (6, 6), (0.5, 10)])
@pytest.mark.parametrize("dataset", [Samples(), Plain()])
def test_no_sample_is_in_both_parts_and_none_is_lost(dataset, size, num_validation):
    loader = Loader(dataset, validation_split=size)
    validation = loader.split_validation()

    trained = set()
    for epoch in range(3):
        loader.set_epoch(epoch)
        trained |= set(indices_of(loader))
    judged = indices_of(validation)

    assert len(judged) == num_validation
    assert judged == sorted(judged)
    assert sorted([*trained, *judged]) == list(range(20))


def test_the_split_keeps_every_class_in_both_parts():
    loader = Loader(validation_split=3)

    assert sorted(index % 3 for index in indices_of(loader.split_validation())) == [0, 1, 2]
    assert set(loader.targets[loader.indices].tolist()) == {0, 1, 2}


def test_the_split_is_the_runs_seeds_and_not_the_epochs():
    first, same, other = (Loader(validation_split=10, seed=seed) for seed in (1, 1, 2))
    same.set_epoch(5)

    assert indices_of(first.split_validation()) == indices_of(same.split_validation())
    assert indices_of(first.split_validation()) != indices_of(other.split_validation())


def test_validation_sees_the_same_samples_through_the_evaluation_transforms():
    loader = Loader(Samples(noise=0.5), eval_dataset=Samples(offset=100), validation_split=5)

    judged = indices_of(loader.split_validation())

    assert [index - 100 for index in judged] == loader.validation_indices.tolist()


def test_validation_data_of_its_own_is_used_whole_and_nothing_is_split_off():
    loader = Loader(validation_dataset=Samples(7, offset=100))
    validation = loader.split_validation()

    assert sorted(indices_of(loader)) == list(range(20))
    assert indices_of(validation) == list(range(100, 107))


def test_a_split_beside_validation_data_of_its_own_is_refused():
    with pytest.raises(ConfigError) as caught:
        Loader(validation_dataset=Samples(7), validation_split=0.2)

    assert caught.value.path == "data_loader.args.validation_split"
    assert caught.value.message == "0.2, yet the data has a validation part of its own; set it to 0 to use that"


def test_validation_is_the_same_in_every_epoch_and_drops_nothing():
    validation = Loader(validation_split=10, drop_last=True, sampler=BalancedSampler(7)).split_validation()

    first = list(validation)
    validation.set_epoch(7)

    assert equal(list(validation), first)
    assert [len(targets) for _, targets in first] == [6, 4]
    assert validation.num_samples == 10
    assert len(validation) == 2


def test_validation_has_the_classes_and_the_normalisation_of_the_training():
    loader = Loader(validation_dataset=Plain())
    loader.mean, loader.std = (0.5,), (0.25,)

    validation = loader.split_validation()

    assert (validation.mean, validation.std) == ((0.5,), (0.25,))
    assert validation.classes == loader.classes == ["class0", "class1", "class2"]


def test_validation_with_workers_is_the_same():
    alone, worked = (Loader(Samples(noise=0.5), validation_split=10, num_workers=n).split_validation() for n in (0, 1))

    assert equal(list(worked), list(alone))


# --- classes and names -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("targets", "classes", "expected"),
    [
        ([0, 1, 1], ["cat", "dog"], ["cat", "dog"]),
        ([0, 2, 2], None, ["0", "1", "2"]),
        (None, None, []),
        (torch.tensor([1, 0, 1]), None, ["0", "1"]),
        ([0, 0, 0], [5, 6], ["5", "6"]),
    ],
)
def test_classes_are_the_data_sets_or_their_numbers(targets, classes, expected):
    dataset = Samples(3)
    dataset.targets, dataset.classes = targets, classes

    assert Loader(dataset, shuffle=False).classes == expected


def test_a_sample_is_named_by_its_position_in_the_part():
    loader = Loader(validation_split=5)
    validation = loader.split_validation()

    assert [validation.sample_name(position) for position in range(5)] == [
        f"picture {i}" for i in indices_of(validation)
    ]
    assert loader.sample_name(0) == f"picture {int(loader.indices[0])}"


def test_a_sample_without_a_name_has_its_number():
    validation = Loader(Plain(), validation_split=5).split_validation()

    assert [validation.sample_name(position) for position in range(5)] == [str(i) for i in indices_of(validation)]


def test_the_first_image_is_one_of_the_part_through_the_evaluation_transforms():
    loader = Loader(eval_dataset=Samples(offset=100), validation_split=5)

    image_CHW = loader.first_image()

    assert tuple(image_CHW.shape) == (1, 2, 2)
    assert float(image_CHW[0, 0, 0]) == 100 + int(loader.indices[0])


@pytest.mark.parametrize("item", [5, (torch.zeros(2, 2), 0), torch.zeros(3), "a picture", ([1, 2], 0)])
def test_an_item_that_is_no_image_and_class_is_told_with_what_is_wanted(item):
    class Wrong(Plain):
        def __getitem__(self, index):
            return item

    with pytest.raises(DataError, match=r"^Loader: an item must be \(image tensor \(C, H, W\), class index\), got "):
        Loader(Wrong()).first_image()


# --- what is wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [0, -1])
def test_less_than_one_image_a_batch_is_refused(batch_size):
    with pytest.raises(ConfigError) as caught:
        Loader(batch_size=batch_size)

    assert caught.value.path == "data_loader.args.batch_size"
    assert caught.value.message == f"must be at least 1, got {batch_size}"


@pytest.mark.parametrize("options", [{}, {"shuffle": False}, {"validation_split": 0.2}, {"drop_last": True}])
def test_no_images_are_refused(options):
    with pytest.raises(DataError, match=r"no images|of 0 images"):
        Loader(Samples(0), **options)


def test_fewer_images_than_a_batch_are_refused_where_they_would_all_be_dropped():
    with pytest.raises(ConfigError) as caught:
        Loader(batch_size=64, drop_last=True)

    assert str(caught.value) == (
        "data_loader.args.batch_size: 64, yet there are 20 training images: drop_last leaves all out"
    )
    assert (caught.value.path, caught.value.also) == ("data_loader.args.batch_size", "data_loader.args.drop_last")


@pytest.mark.parametrize(
    ("sampler", "dataset", "said"),
    [
        (BalancedSampler(), Plain(), "BalancedSampler says: the balanced sampler needs"),
        (SubsetRandomSampler([25]), Samples(), "SubsetRandomSampler says: index 25 is beyond the 20"),
    ],
)
def test_what_a_sampler_cannot_do_with_the_data_is_found_before_the_first_epoch(sampler, dataset, said):
    with pytest.raises(ConfigError, match=rf"^data_loader\.args\.sampler: {said}"):
        Loader(dataset, sampler=sampler)


def test_a_batch_sampler_of_another_size_is_refused_with_both():
    with pytest.raises(ConfigError) as caught:
        Loader(sampler=BatchSampler(RandomSampler(), 4))

    assert str(caught.value) == "data_loader.args.batch_size: 6, yet the sampler's batches have 4 images"
    assert (caught.value.path, caught.value.also) == ("data_loader.args.batch_size", "data_loader.args.sampler")


def test_another_mistake_of_a_sampler_of_ones_own_keeps_its_error():
    class Broken(BaseSampler):
        def order(self, targets_N, num_samples, generator):
            return targets_N["x"]

    with pytest.raises((IndexError, TypeError)):
        Loader(sampler=Broken())


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_bad_file_ends_the_epoch_with_one_line_that_names_it(num_workers):
    class Bad(Plain):
        def __getitem__(self, index):
            if index == 13:
                raise DataError("cat/13.jpg: truncated")
            return super().__getitem__(index)

    with pytest.raises(DataError) as caught:
        list(Loader(Bad(), num_workers=num_workers))

    assert str(caught.value) == "cat/13.jpg: truncated"
