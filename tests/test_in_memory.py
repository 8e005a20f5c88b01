"""in_memory.py: files of torchvision's data sets that are missing, damaged, or the real ones.

What these loaders share with all others is in test_data_loaders.py.
"""

import pickle
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision import datasets

from data_loader.folder import FileRules, read_parts
from data_loader.in_memory import Cifar10DataLoader, FashionMnistDataLoader, MnistDataLoader
from utils.errors import DataError

LOADERS = {"MNIST": MnistDataLoader, "FashionMNIST": FashionMnistDataLoader, "CIFAR10": Cifar10DataLoader}


def idx_bytes(array):
    """Source: LeCun, "The MNIST database", FILE FORMATS: type 8 is unsigned byte, sizes are big-endian."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def write_idx(folder, num_train_labels=40):
    folder.mkdir(parents=True)
    for prefix, num_images, num_labels in (("train", 40, num_train_labels), ("t10k", 20, 20)):
        images = np.arange(num_images * 28 * 28).reshape(num_images, 28, 28) % 251
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(idx_bytes(images))
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(idx_bytes(np.arange(num_labels) % 10))


@pytest.mark.parametrize("kind", LOADERS)
@pytest.mark.parametrize("download", [True, False])
def test_data_that_is_not_there_and_cannot_be_fetched_is_one_line(tmp_path, kind, download):
    with pytest.raises(DataError) as caught:
        LOADERS[kind](tmp_path / "none", download=download)

    message = str(caught.value)
    assert message.startswith(f"{kind} is not below {tmp_path / 'none'}")
    assert message.endswith(". Is there a network?" if download else ', and "download" is false')
    assert "\n" not in message


@given(size=st.integers(0, 16 + 20 * 28 * 28 - 1), which=st.sampled_from(["images-idx3", "labels-idx1"]))
@settings(max_examples=60, derandomize=True, deadline=None)
def test_idx_file_that_was_cut_off_is_a_data_error(tmp_path_factory, size, which):
    root = tmp_path_factory.getbasetemp() / "cut"
    if not root.exists():
        write_idx(root / "MNIST" / "raw")
    path = root / "MNIST" / "raw" / f"t10k-{which}-ubyte"
    whole = path.read_bytes()
    path.write_bytes(whole[: size % len(whole)])

    try:
        with pytest.raises(DataError, match=r"^MNIST below .+ cannot be read: .+$"):
            MnistDataLoader(root, download=False)
    finally:
        path.write_bytes(whole)


def test_images_and_labels_of_different_number_are_a_data_error(tmp_path):
    write_idx(tmp_path / "FashionMNIST" / "raw", num_train_labels=30)

    with pytest.raises(DataError, match=r"FashionMNIST in .+: 30 labels for 40 images \(train\)"):
        FashionMnistDataLoader(tmp_path, download=False)


def test_cifar_file_that_is_no_pickle_is_a_data_error(tmp_path, monkeypatch):
    # torchvision compares the files with the MD5 of the real ones.
    monkeypatch.setattr(datasets.cifar, "check_integrity", lambda path, md5=None: True)
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    batch = {"data": np.zeros((10, 3072), np.uint8), "labels": list(range(10))}
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        (folder / name).write_bytes(pickle.dumps(batch))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    assert len(Cifar10DataLoader(tmp_path, download=False).classes) == 10
    (folder / "data_batch_3").write_bytes(b"<html>not found</html>")

    with pytest.raises(DataError, match=r"CIFAR10 below .+ cannot be read: invalid load key"):
        Cifar10DataLoader(tmp_path, download=False)


def test_cifar_files_that_are_not_the_real_ones_are_not_taken(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        (folder / name).write_bytes(b"")

    with pytest.raises(DataError, match=r"CIFAR10 is not below .+, or not whole, and \"download\" is false"):
        Cifar10DataLoader(tmp_path, download=False)


def test_mnist_is_60000_and_10000_digits_with_the_mean_and_std_of_its_loader(real_images):
    root = real_images("MNIST").parent

    train, test = MnistDataLoader(root, download=False), MnistDataLoader(root, download=False, training=False)

    images = train.samples.images_NCHW
    assert images.shape == (60000, 1, 28, 28)
    assert (train.num_samples, train.split_validation().num_samples) == (48000, 12000)
    assert (test.num_samples, test.classes) == (10000, [str(digit) for digit in range(10)])
    # By the histogram of grey levels, in double precision.
    levels, counts = np.arange(256) / 255, np.bincount(images.flatten().numpy(), minlength=256)
    mean = (levels * counts).sum() / counts.sum()
    std = np.sqrt(((levels - mean) ** 2 * counts).sum() / counts.sum())
    assert (train.mean, train.std) == ((pytest.approx(mean, abs=5e-5),), (pytest.approx(std, abs=5e-5),))


def test_cifar_means_and_stds_are_those_of_the_pictures(real_images):
    data_dir = real_images("CIFAR-10-images")
    data = read_parts(data_dir, FileRules(), training=False).test

    sample_NCHW = torch.stack([data[index][0] for index in range(0, 10000, 10)]).double() / 255

    # Of 1,000 of 10,000 test images: within 3 of 255 grey levels of the training set's.
    assert sample_NCHW.mean((0, 2, 3)).numpy() == pytest.approx(Cifar10DataLoader.pixels.mean, abs=3 / 255)
    assert sample_NCHW.std((0, 2, 3)).numpy() == pytest.approx(Cifar10DataLoader.pixels.std, abs=3 / 255)
