"""parts.py: what a loader does with the parts of its data, to train or to test."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import v2

from data_loader.dataset import ImageTensors
from data_loader.parts import ImageDataLoader, Parts, Pixels, part_for_test, tensor_of_pixels
from utils.errors import ConfigError, DataError

CLASSES = ["a", "b", "c"]
PLAIN = Pixels([], [], (0.5,), (0.25,))


def tensors(num_images, name, channels=1):
    """Image number i holds i everywhere, its class is i % 3."""
    numbers = torch.arange(num_images, dtype=torch.uint8)
    images = numbers.view(-1, 1, 1, 1).expand(-1, channels, 2, 2).contiguous()
    return ImageTensors(images, numbers % 3, CLASSES, name=name)


def parts(*names):
    sizes = {"train": 30, "validation": 12, "test": 9}
    held = {name: tensors(sizes[name], name) for name in names}
    return Parts("numbers", **held, folders={name: f"numbers/{name}" for name in names})


class Loader(ImageDataLoader):
    def __init__(self, of, defaults, *, training, **options):
        super().__init__(of, defaults, training=training, **options)


def loader(of, *, training=True, defaults=PLAIN, **options):
    return Loader(of, defaults, training=training, **options)


def numbers_of(batches):
    """Which images came, by what they hold."""
    return torch.cat([images_NCHW[:, 0, 0, 0] for images_NCHW, _ in batches]).tolist()


def test_training_part_comes_in_batches_and_the_validation_part_of_its_own_in_its_order():
    train = loader(parts("train", "validation"), batch_size=8)

    valid = train.split_validation()

    assert sorted(numbers_of(train)) == list(range(30))
    assert numbers_of(valid) == list(range(12))
    assert [len(targets_N) for _, targets_N in valid] == [8, 4]


def test_a_fifth_is_split_off_where_there_is_no_validation_part_each_class_in_its_share():
    train = loader(parts("train", "test"))

    valid = train.split_validation()

    assert (len(train.indices), len(valid.indices)) == (24, 6)
    assert np.bincount(torch.cat([targets_N for _, targets_N in valid])).tolist() == [2, 2, 2]
    assert sorted(numbers_of(train) + numbers_of(valid)) == list(range(30))


@pytest.mark.parametrize("size", [0.5, 9])
def test_split_of_another_size_is_taken_from_the_training_part(size):
    valid = loader(parts("train"), validation_split=size).split_validation()

    assert len(valid.indices) == (15 if size == 0.5 else 9)


def test_zero_splits_nothing_off_and_there_is_no_validation():
    train = loader(parts("train"), validation_split=0)

    assert train.split_validation() is None
    assert len(train.indices) == 30


def test_a_split_where_there_is_a_validation_part_is_refused():
    with pytest.raises(ConfigError, match=r"validation_split: 0\.2, yet the data has a validation part"):
        loader(parts("train", "validation"), validation_split=0.2)


@pytest.mark.parametrize(
    ("names", "split", "expected", "words"),
    [
        ("train validation test", None, list(range(9)), "9 test images of numbers/test"),
        ("validation test", None, list(range(9)), "9 test images of numbers/test"),
        ("train validation", None, list(range(12)), "12 validation images of numbers/validation"),
        ("train", 0, list(range(30)), "all 30 images of numbers/train"),
    ],
)
def test_a_test_uses_test_images_else_validation_images_else_all_and_says_which(names, split, expected, words):
    test = loader(parts(*names.split()), training=False, validation_split=split)

    assert numbers_of(test) == expected
    assert test.source == words


@given(split=st.one_of(st.none(), st.integers(3, 27), st.floats(0.1, 0.9)), seed=st.integers(0, 99))
@settings(max_examples=40, derandomize=True, deadline=None)
def test_a_test_without_test_images_sees_those_that_training_split_off_under_the_same_seed(split, seed):
    valid = loader(parts("train"), validation_split=split, seed=seed).split_validation()

    test = loader(parts("train"), training=False, validation_split=split, seed=seed)

    assert numbers_of(test) == numbers_of(valid)
    assert test.source == f"the validation part of numbers/train ({len(valid.indices)} images)"
    assert [test.sample_name(i) for i in range(3)] == [f"train/{number}" for number in numbers_of(test)[:3]]


def test_a_test_sees_every_image_once_in_order_whatever_training_does():
    test = loader(
        parts("train", "test"),
        training=False,
        shuffle=True,
        drop_last=True,
        batch_size=4,
        transform=[v2.RandomInvert()],
    )

    assert numbers_of(test) == list(range(9))
    assert [len(targets_N) for _, targets_N in test] == [4, 4, 1]


def test_what_is_missing_is_said():
    with pytest.raises(DataError, match=r"numbers: no training images \(expected numbers/train/<class>/<image>\)"):
        loader(parts("test"))
    with pytest.raises(DataError, match="numbers: no images to test on"):
        part_for_test(parts(), 0.2, 0)


def test_validation_and_test_are_seen_through_the_evaluation_transforms_only():
    invert, keep = [v2.RandomInvert(1.0)], [v2.RandomInvert(0.0)]
    for of in (parts("train"), parts("train", "validation")):
        train = loader(of, transform=invert, eval_transform=keep, shuffle=False, batch_size=99)

        assert all(number > 200 for number in numbers_of(train))
        assert all(number < 30 for number in numbers_of(train.split_validation()))
        assert int(train.first_image().max()) < 30
    test = loader(parts("train", "test"), training=False, transform=invert, eval_transform=keep)
    assert numbers_of(test) == list(range(9))


def test_transforms_of_the_loader_are_used_where_the_config_names_none_and_an_empty_list_names_none_at_all():
    defaults = Pixels([v2.CenterCrop(1)], [v2.Resize(4)], (0.5,), (0.25,))

    by_default = loader(parts("train"), defaults=defaults)
    without = loader(parts("train"), defaults=defaults, transform=[], eval_transform=[])

    assert next(iter(by_default))[0].shape[1:] == (1, 1, 1)
    assert by_default.first_image().shape == (1, 4, 4)
    assert next(iter(without))[0].shape[1:] == without.first_image().shape == (1, 2, 2)


def test_mean_and_std_are_the_loaders_unless_the_config_says_others_or_transforms_give_floats():
    floats = [v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5], [0.25])]

    default, given_here = loader(parts("train")), loader(parts("train"), mean=[0.1], std=[0.2])
    finished = loader(parts("train"), transform=floats, eval_transform=floats)

    assert (default.mean, default.std) == ((0.5,), (0.25,))
    assert (given_here.mean, given_here.std) == ([0.1], [0.2])
    assert (finished.mean, finished.std) == (None, None)
    assert default.split_validation().mean == (0.5,)
    assert finished.split_validation().std is None
    assert next(iter(finished))[0].dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mean": [0.1, 0.2]}, "2 numbers, yet images have 1 channel"),
        ({"std": [0.1, 0.2, 0.3]}, "3 numbers, yet images have 1 channel"),
        ({"mean": []}, "0 numbers, yet images have 1 channel"),
        ({"std": [0.0]}, r"must be above 0, got 0\.0"),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_mean_and_std_that_do_not_fit_the_images_are_refused_before_anything_is_trained(options, message, training):
    [name] = options

    with pytest.raises(ConfigError, match=rf"^data_loader\.args\.{name}: {message}") as caught:
        loader(parts("train"), training=training, **options)

    assert caught.value.path == f"data_loader.args.{name}"


def test_one_mean_serves_all_channels():
    colour = Parts("colour", tensors(30, "train", channels=3))

    assert loader(colour, mean=[0.5], std=[0.5]).mean == [0.5]


def test_test_images_are_counted_also_while_training():
    assert loader(parts("train", "test")).num_test_samples == 9
    assert loader(parts("train")).num_test_samples == 0


def test_grey_and_colour_arrays_become_nchw_in_one_block():
    grey_NHW = torch.arange(24, dtype=torch.uint8).reshape(2, 3, 4)
    colour_NHWC = torch.arange(72, dtype=torch.uint8).reshape(2, 3, 4, 3)

    grey, colour = tensor_of_pixels(grey_NHW), tensor_of_pixels(colour_NHWC)

    assert np.array_equal(grey.numpy(), grey_NHW.numpy()[:, None])
    assert np.array_equal(colour.numpy(), np.moveaxis(colour_NHWC.numpy(), 3, 1))
    assert grey.is_contiguous()
    assert colour.is_contiguous()
