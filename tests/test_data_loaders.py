"""data_loaders.py: what every loader of the menu keeps to, on small files of each kind, and on real images."""

import csv
import pickle
import struct

import numpy as np
import pytest
import torch
from torchvision import datasets
from torchvision.transforms import v2

from base.base_data_loader import BaseDataLoader
from data_loader import data_loaders, in_memory
from data_loader.data_loaders import CsvDataLoader, ImageFolderDataLoader, ShapesDataLoader
from utils.errors import ConfigError, DataError

SHAPES_ARGS = {"num_classes": 3, "train_per_class": 24, "val_per_class": 8, "test_per_class": 8, "image_size": 16}
# Ten classes of unequal size: 100 images to train on, 20 to test on.
COUNTS = [4, 6, 8, 10, 12, 8, 10, 12, 14, 16]
TRAIN_TARGETS = np.random.default_rng(0).permutation(np.repeat(np.arange(10), COUNTS))
TEST_TARGETS = np.arange(20) % 10
LIKE_A_FOLDER, IN_MEMORY = ["ImageFolder", "Csv", "Shapes"], ["Mnist", "FashionMnist", "Cifar10"]
MENU = {name: getattr(data_loaders, f"{name}DataLoader") for name in LIKE_A_FOLDER}
MENU |= {name: getattr(in_memory, f"{name}DataLoader") for name in IN_MEMORY}


def pixels(num_images, *shape):
    return np.random.default_rng(num_images).integers(0, 256, (num_images, *shape), dtype=np.uint8)


def idx_bytes(array):
    """Source: LeCun, "The MNIST database", FILE FORMATS: type 8 is unsigned byte, sizes are big-endian."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def write_idx(folder):
    folder.mkdir(parents=True)
    for prefix, targets in (("train", TRAIN_TARGETS), ("t10k", TEST_TARGETS)):
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(idx_bytes(pixels(len(targets), 28, 28)))
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(idx_bytes(targets))


def write_cifar(folder):
    folder.mkdir()
    names = [f"kind{index}" for index in range(10)]
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": names}))
    train = pixels(100, 3 * 32 * 32)
    for number in range(5):
        some = slice(20 * number, 20 * number + 20)
        batch = {"data": train[some], "labels": TRAIN_TARGETS[some].tolist()}
        (folder / f"data_batch_{number + 1}").write_bytes(pickle.dumps(batch))
    batch = {"data": pixels(20, 3 * 32 * 32), "labels": TEST_TARGETS.tolist()}
    (folder / "test_batch").write_bytes(pickle.dumps(batch))


def write_table(path, shapes_dir):
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split"])
        for image in sorted(shapes_dir.glob("t*/*/*.png")):
            writer.writerow([image.relative_to(shapes_dir), image.parent.name, image.parent.parent.name])


@pytest.fixture
def make(tmp_path, shapes_dir, monkeypatch):
    """`make("Mnist", **options)` builds that loader over small files of its kind."""
    # torchvision compares CIFAR's files with the MD5 of the real ones.
    monkeypatch.setattr(datasets.cifar, "check_integrity", lambda path, md5=None: True)

    def loader(name, **options):
        size = {} if {"transform", "eval_transform"} <= options.keys() else {"image_size": 14}
        if name == "Csv":
            write_table(tmp_path / "table.csv", shapes_dir)
            return CsvDataLoader(tmp_path / "table.csv", image_dir=shapes_dir, **size, **options)
        if name == "ImageFolder":
            return ImageFolderDataLoader(shapes_dir, **size, **options)
        if name == "Shapes":
            return ShapesDataLoader(shapes_dir, **SHAPES_ARGS, **options)
        if not (tmp_path / name).exists():
            if name == "Cifar10":
                (tmp_path / name).mkdir()
                write_cifar(tmp_path / name / "cifar-10-batches-py")
            else:
                write_idx(tmp_path / name / {"Mnist": "MNIST"}.get(name, "FashionMNIST") / "raw")
        return MENU[name](tmp_path / name, download=False, **options)

    return loader


def names_of(loader):
    return [loader.sample_name(position) for position in range(len(loader.indices))]


def assert_same_batches(first, second):
    for (images, targets), (other_images, other_targets) in zip(first, second, strict=True):
        assert torch.equal(images, other_images)
        assert torch.equal(targets, other_targets)


every_loader = pytest.mark.parametrize("name", MENU)


def test_contract_is_held_against_the_whole_menu():
    found = {
        thing
        for module in (data_loaders, in_memory)
        for name, thing in vars(module).items()
        if isinstance(thing, type) and issubclass(thing, BaseDataLoader) and thing.__module__ == module.__name__
        if not name.startswith("_")
    }

    assert found == set(MENU.values())


@every_loader
def test_batches_are_uint8_nchw_and_int64_n_and_the_last_one_is_what_is_left(make, name):
    loader = make(name, batch_size=7)

    batches = list(loader)

    channels, side = loader.first_image().shape[:2]
    assert channels == (1 if "Mnist" in name else 3)
    assert {images.dtype for images, _ in batches} == {torch.uint8}
    assert {targets.dtype for _, targets in batches} == {torch.int64}
    sizes = [len(targets) for _, targets in batches]
    assert [tuple(images.shape) for images, _ in batches] == [(size, channels, side, side) for size in sizes]
    assert sizes == [7] * (len(loader.indices) // 7) + [len(loader.indices) % 7] * (len(loader.indices) % 7 > 0)
    assert len(loader) == len(batches)
    assert loader.num_samples == sum(sizes)


@every_loader
def test_target_of_an_image_is_the_index_of_its_class(make, name):
    loader = make(name, shuffle=False, validation_split=None, batch_size=500, transform=[], eval_transform=[])

    ((images, targets),) = loader

    names = names_of(loader)
    if name in LIKE_A_FOLDER:
        assert [loader.classes[target] for target in targets] == [path.split("/")[-2] for path in names]
        return
    numbers = [int(sample.removeprefix("train/")) for sample in names]
    assert targets.tolist() == TRAIN_TARGETS[numbers].tolist()
    flat = pixels(100, 28 * 28) if name != "Cifar10" else pixels(100, 3 * 32 * 32)
    assert np.array_equal(images.flatten(1).numpy(), flat[numbers])  # CIFAR stores planes: red, green, blue


@every_loader
def test_validation_images_are_none_of_the_training_images_and_each_class_has_its_share(make, name):
    train = make(name)

    valid = train.split_validation()

    assert set(names_of(train)).isdisjoint(names_of(valid))
    assert valid.classes == train.classes
    held = torch.bincount(torch.cat([targets for _, targets in valid])).numpy()
    trained = torch.bincount(torch.cat([targets for _, targets in train])).numpy()
    shares = (held + trained) * held.sum() / (held.sum() + trained.sum())
    assert np.abs(held - shares).max() < 1


@every_loader
def test_validation_sees_the_evaluation_transforms_in_its_own_order(make, name):
    train = make(name, transform=[v2.Resize((6, 5))], eval_transform=[v2.Resize((4, 7))], batch_size=500)

    ((images, targets),) = train.split_validation()
    ((images_again, _),) = train.split_validation()

    assert next(iter(train))[0].shape[2:] == (6, 5)
    assert images.shape[2:] == train.first_image().shape[1:] == (4, 7)
    assert torch.equal(images, images_again)
    assert len(targets) == len(train.split_validation().indices)


@every_loader
def test_same_seed_gives_the_same_batches_with_and_without_workers_and_another_seed_others(make, name):
    options = {"batch_size": 9, "transform": [v2.RandomCrop(8), v2.RandomHorizontalFlip()]}

    loaders = [make(name, seed=seed, num_workers=n, **options) for seed, n in ((1, 0), (1, 2), (2, 0))]
    first, with_workers, other = (list(loader) for loader in loaders)

    assert_same_batches(first, with_workers)
    assert not torch.equal(first[0][0], other[0][0])
    loaders[0].set_epoch(1)
    assert not torch.equal(first[0][0], next(iter(loaders[0]))[0])
    loaders[0].set_epoch(0)
    assert_same_batches(first, loaders[0])


@every_loader
def test_a_test_sees_the_test_images_once_and_in_order(make, name):
    test = make(name, training=False, batch_size=6, drop_last=True)

    targets = torch.cat([targets for _, targets in test]).tolist()

    assert test.num_samples == len(targets) == (24 if name in LIKE_A_FOLDER else 20)
    assert targets == ([0] * 8 + [1] * 8 + [2] * 8 if name in LIKE_A_FOLDER else TEST_TARGETS.tolist())
    assert all("test/" in sample for sample in names_of(test))
    assert test.source.startswith(f"{len(targets)} test images of ")


@every_loader
def test_options_of_torch_that_must_not_change_a_number_do_not(make, name):
    plain = make(name, batch_size=16)
    other = make(name, batch_size=16, pin_memory=True, num_workers=1, persistent_workers=True)

    for epoch in range(2):
        plain.set_epoch(epoch)
        other.set_epoch(epoch)
        assert_same_batches(plain, other)


@every_loader
def test_an_unfinished_epoch_goes_on_where_it_stopped(make, name):
    whole, rest = (make(name, batch_size=16, transform=[v2.RandomCrop(8)]) for _ in range(2))

    whole.set_epoch(3)
    rest.set_epoch(3, batches_done=2)

    assert_same_batches(list(whole)[2:], rest)


@pytest.mark.parametrize("name", LIKE_A_FOLDER)
def test_classes_of_a_test_may_be_given_and_decide_the_indices(make, name):
    given_order = ["triangle", "zebra", "square", "circle"]

    test = make(name, training=False, classes=given_order)

    assert test.classes == given_order
    for (_, targets), start in zip(test, range(0, 24, 16), strict=True):
        expected = [given_order.index(name.split("/")[-2]) for name in names_of(test)[start : start + 16]]
        assert targets.tolist() == expected


@pytest.mark.parametrize("name", ["ImageFolder", "Csv"])
def test_grey_is_one_channel_with_the_mean_of_imagenets_means(make, name):
    loader = make(name, channels=1)

    assert loader.first_image().shape == (1, 14, 14)
    assert loader.mean == (pytest.approx(0.449),)
    assert loader.std == (pytest.approx(0.226),)


def test_an_image_size_that_no_transform_would_use_is_refused(shapes_dir):
    with pytest.raises(ConfigError) as caught:
        ImageFolderDataLoader(shapes_dir, image_size=14, transform=[], eval_transform=[])

    assert caught.value.message == "transform and eval_transform say the size already; remove one or the other"
    assert (caught.value.path, caught.value.also) == ("data_loader.args.image_size", "data_loader.args.transform")


def test_pictures_without_an_image_size_are_cropped_to_224(shapes_dir):
    assert ImageFolderDataLoader(shapes_dir).first_image().shape == (3, 224, 224)


def test_drawn_shapes_of_other_settings_are_refused(shapes_dir):
    with pytest.raises(DataError, match="holds shapes drawn with"):
        ShapesDataLoader(shapes_dir, **{**SHAPES_ARGS, "image_size": 32})


def test_batch_size_below_one_is_refused(make):
    with pytest.raises(ConfigError, match=r"data_loader\.args\.batch_size: must be at least 1, got 0"):
        make("Mnist", batch_size=0)


def test_ants_and_bees_train_and_validate_and_the_stray_gif_is_noted(real_images):
    train = ImageFolderDataLoader(real_images("hymenoptera_data"), image_size=32, batch_size=4)

    images, targets = next(iter(train))

    assert (train.num_samples, train.split_validation().num_samples) == (244, 153)
    assert (images.shape, targets.shape) == ((4, 3, 32, 32), (4,))
    assert any("imageNotFound.gif" in note for note in train.notes)
