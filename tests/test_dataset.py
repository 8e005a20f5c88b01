"""dataset.py: samples by index, through transforms and in part, from files and from memory."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_loader.dataset import ImageData, ImageFiles, ImageTensors
from utils.errors import DataError

CLASSES = ["cat", "dog", "fox"]


def inverted(image_CHW):
    return 255 - image_CHW


@pytest.fixture
def tensors():
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (7, 3, 4, 5), dtype=np.uint8))
    return ImageTensors(images, [0, 1, 2, 0, 1, 2, 0], CLASSES, name="train")


@pytest.fixture
def pictures(tmp_path):
    """Four PNG files, and what is in them."""
    pixels = np.random.default_rng(1).integers(0, 256, (4, 6, 5, 3), dtype=np.uint8)
    paths = [str(tmp_path / f"{index}.png") for index in range(4)]
    for path, pixels_HWC in zip(paths, pixels, strict=True):
        Image.fromarray(pixels_HWC).save(path)
    return paths, pixels


def test_sample_in_memory_is_its_image_and_a_plain_int(tensors):
    image_CHW, target = tensors[4]

    assert torch.equal(image_CHW, tensors.images_NCHW[4])
    assert (type(target), target) == (int, 1)
    assert len(tensors) == 7


def test_sample_of_a_file_is_its_pixels_as_pillow_reads_them(pictures):
    paths, pixels = pictures
    data = ImageFiles(paths, [2, 0, 1, 1], CLASSES)

    image_CHW, target = data[2]

    assert image_CHW.dtype == torch.uint8
    assert np.array_equal(image_CHW.numpy(), pixels[2].transpose(2, 0, 1))
    assert target == 1


def test_grey_is_asked_for_by_channels(pictures):
    paths, pixels = pictures

    image_CHW, _ = ImageFiles(paths, [0, 0, 1, 1], CLASSES, channels=1)[0]

    assert np.array_equal(image_CHW.numpy()[0], np.asarray(Image.fromarray(pixels[0]).convert("L")))


def test_transform_sees_uint8_pixels_and_its_result_is_the_sample(tensors):
    seen = []

    image_CHW, _ = tensors.with_transform(lambda image: seen.append(image) or inverted(image))[3]

    assert seen[0].dtype == torch.uint8
    assert torch.equal(image_CHW, 255 - tensors.images_NCHW[3])


def test_another_transform_is_another_view_and_changes_and_copies_nothing(tensors):
    view = tensors.with_transform(inverted)
    plain = view.with_transform(None)

    assert tensors.transform is None
    assert torch.equal(plain[0][0], tensors[0][0])
    assert view.images_NCHW.data_ptr() == tensors.images_NCHW.data_ptr()


def test_classes_and_targets_are_known_without_opening_a_file():
    data = ImageFiles(["/not/there/a.png", "/not/there/b.png"], [1, 0], CLASSES)

    assert (len(data), data.targets.tolist(), data.classes) == (2, [1, 0], CLASSES)
    assert data.targets.dtype == torch.int64
    assert data.sample_name(1) == "/not/there/b.png"


def test_file_that_cannot_be_read_is_a_data_error_with_its_path(tmp_path):
    data = ImageFiles([str(tmp_path / "lost.png")], [0], CLASSES)

    with pytest.raises(DataError, match=r"lost\.png: no such file"):
        data[0]


@given(chosen=st.lists(st.integers(0, 6), min_size=1, max_size=12))
@settings(derandomize=True, deadline=None)
def test_subset_has_the_chosen_samples_in_the_order_given(chosen):
    images = torch.arange(7 * 2, dtype=torch.uint8).reshape(7, 1, 1, 2)
    whole = ImageTensors(images, [0, 1, 2, 0, 1, 2, 0], CLASSES, name="train").with_transform(inverted)
    files = ImageFiles([f"{index}.png" for index in range(7)], whole.targets, CLASSES, channels=1)

    part, some_files = whole.subset(torch.tensor(chosen)), files.subset(torch.tensor(chosen))

    assert len(part) == len(some_files) == len(chosen)
    for position, index in enumerate(chosen):
        assert torch.equal(part[position][0], whole[index][0])
        assert part[position][1] == whole[index][1] == int(some_files.targets[position])
        assert part.sample_name(position) == whole.sample_name(index) == f"train/{index}"
        assert some_files.sample_name(position) == f"{index}.png"
    assert (len(whole), len(files), some_files.channels) == (7, 7, 1)


def test_subset_in_memory_is_a_copy_so_that_the_whole_can_be_freed(tensors):
    part = tensors.subset(torch.tensor([0, 1]))

    part.images_NCHW.zero_()

    assert bool(tensors.images_NCHW[0].any())


@given(indices=st.lists(st.integers(0, 6), min_size=1, max_size=12))
@settings(derandomize=True, deadline=None)
def test_whole_batch_from_memory_equals_its_samples_stacked(indices):
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (7, 1, 3, 2), dtype=np.uint8))
    data = ImageTensors(images, [2, 1, 0, 0, 1, 2, 1], CLASSES, name="train")

    images_NCHW, targets_N = data.get_batch(indices)

    assert torch.equal(images_NCHW, torch.stack([data[index][0] for index in indices]))
    assert targets_N.tolist() == [data[index][1] for index in indices]
    assert (images_NCHW.dtype, targets_N.dtype) == (torch.uint8, torch.int64)


def test_no_whole_batch_where_a_transform_must_see_each_image(tensors):
    assert tensors.with_transform(inverted).get_batch([0, 1]) is None


def test_names_of_samples_in_memory_are_the_part_and_the_number(tensors):
    assert tensors.sample_name(5) == "train/5"
    assert ImageData([0, 1], CLASSES).sample_name(1) == "1"
