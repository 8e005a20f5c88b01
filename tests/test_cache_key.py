"""cache_key.py: what is computed once is what draws nothing, and a fingerprint differs where pixels may."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from data_loader.cache_key import fingerprint_of_pixels, in_full, made_by, shape_of_all, split_leading, stamp_of
from data_loader.cache_place import NotCachedError
from data_loader.dataset import ImageFiles


class MyResize(v2.Resize):
    """Somebody's own, which may do anything."""


def names(transforms):
    return [type(one).__name__ for one in transforms]


@pytest.mark.parametrize(
    ("transforms", "leading", "rest"),
    [
        ([], [], []),
        ([v2.Resize(4), v2.CenterCrop(4)], ["Resize", "CenterCrop"], []),
        ([v2.Pad(1), v2.Grayscale(), v2.RandomHorizontalFlip()], ["Pad", "Grayscale"], ["RandomHorizontalFlip"]),
        ([v2.RandomCrop(4), v2.Resize(2)], [], ["RandomCrop", "Resize"]),
        ([v2.RGB(), v2.RandomGrayscale(), v2.Resize(2)], ["RGB"], ["RandomGrayscale", "Resize"]),
        ([v2.Resize(4), v2.ToDtype(torch.float32, scale=True)], ["Resize"], ["ToDtype"]),
        ([MyResize(4)], [], ["MyResize"]),
        (
            [v2.Compose([v2.Resize(4), v2.Compose([v2.CenterCrop(2), v2.RandomRotation(5)])]), v2.Pad(1)],
            ["Resize", "CenterCrop"],
            ["RandomRotation", "Pad"],
        ),
        ([v2.RandomApply([v2.Resize(4)])], [], ["RandomApply"]),
    ],
)
def test_leading_is_what_comes_before_the_first_that_may_draw_or_give_floats(transforms, leading, rest):
    first, last = split_leading(transforms)

    assert (names(first), names(last)) == (leading, rest)


def test_leading_and_rest_do_what_the_whole_does():
    whole = [v2.Compose([v2.Resize(9), v2.Pad(1)]), v2.CenterCrop(7), v2.RandomResizedCrop(5), v2.ColorJitter(0.5)]
    image_CHW = torch.randint(0, 256, (3, 12, 15), dtype=torch.uint8)
    leading, rest = split_leading(whole)
    kept = v2.Compose(leading)(image_CHW)

    torch.manual_seed(3)
    expected = v2.Compose(whole)(image_CHW)
    torch.manual_seed(3)
    found = v2.Compose(rest)(kept)

    assert kept.dtype == torch.uint8
    assert torch.equal(found, expected)


@pytest.mark.parametrize("transform", [v2.Resize(5), v2.CenterCrop(5), v2.Pad(2), v2.Grayscale(3), v2.RGB()])
def test_what_counts_as_deterministic_draws_nothing_and_keeps_uint8(transform):
    image_CHW = torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8)
    before = torch.get_rng_state()

    results = [transform(image_CHW) for _ in range(2)]

    assert torch.equal(*results)
    assert results[0].dtype == torch.uint8
    assert torch.equal(torch.get_rng_state(), before)


@pytest.fixture
def files(tmp_path):
    """`files((8, 6), None)`: pictures of these widths and heights; None for a file that is no picture."""

    def write(*sizes):
        paths = []
        for number, size in enumerate(sizes):
            paths.append(str(tmp_path / f"{number}.png"))
            if size is None:
                (tmp_path / f"{number}.png").write_bytes(b"no picture")
            else:
                Image.new("RGB", size).save(paths[-1])
        return ImageFiles(paths, [0] * len(paths), ["a"])

    return write


def through(data, transforms):
    return shape_of_all(data.with_transform(v2.Compose(transforms) if transforms else None), transforms)


def test_the_shape_is_that_of_all_images(files):
    assert through(files((8, 6), (8, 6)), []) == (3, 6, 8)
    assert through(files((8, 6), (5, 9)), [v2.Resize([4, 7])]) == (3, 4, 7)
    assert through(files((8, 6), (5, 9)), [v2.Resize(4), v2.CenterCrop(4), v2.Grayscale()]) == (1, 4, 4)
    assert through(files(None, (8, 6)), [v2.CenterCrop(3)]) == (3, 3, 3)


@pytest.mark.parametrize("transforms", [[], [v2.Resize(4)], [v2.Pad(2)]])
def test_images_that_differ_in_size_are_not_cached(files, transforms):
    with pytest.raises(NotCachedError, match=r"^they differ in size \(\d+x\d+, \d+x\d+\); a CenterCrop or"):
        through(files((8, 6), (8, 6), (5, 9)), transforms)


def test_the_one_other_size_in_a_hundred_need_not_be_seen(files):
    sizes = [(8, 6)] * 100
    sizes[1] = (5, 9)

    assert through(files(*sizes), []) == (3, 6, 8)


def test_nothing_is_cached_of_what_cannot_be_read_or_transformed(files):
    with pytest.raises(NotCachedError, match="no image can be read"):
        through(files(None, None), [])
    with pytest.raises(NotCachedError, match="a transform fails"):
        through(files((8, 6)), [v2.Pad(100, padding_mode="reflect")])


def fingerprint(**changes):
    facts = {
        "about": {"version": 1},
        "names": ["a/1.png", "a/2.png"],
        "stamps_N2": np.array([[5, 6], [7, 8]]),
    } | changes
    return fingerprint_of_pixels(**facts | changes)


def test_a_fingerprint_tells_every_change():
    others = [
        fingerprint(about={"version": 2}),
        fingerprint(names=["a/1.png", "a/3.png"]),
        fingerprint(names=["a/2.png", "a/1.png"]),
        fingerprint(stamps_N2=np.array([[5, 6], [7, 9]])),
        fingerprint(stamps_N2=np.array([[5, 6], [8, 8]])),
    ]

    assert len({fingerprint(), *others}) == 6
    assert fingerprint() == fingerprint()


def test_every_setting_of_a_transform_is_told():
    variants = [
        v2.Resize(4),
        v2.Resize(5),
        v2.Resize([4, 4]),
        v2.Resize(4, max_size=9),
        v2.Resize(4, antialias=False),
        v2.Resize(4, interpolation=InterpolationMode.NEAREST),
        v2.CenterCrop(4),
        v2.Pad(4),
        v2.Pad(4, fill=1),
        v2.Pad(4, fill={torch.Tensor: 3}),
        v2.Pad(4, padding_mode="edge"),
        v2.Grayscale(1),
        v2.Grayscale(3),
    ]

    assert len({in_full(one) for one in variants}) == len(variants)
    assert in_full(v2.Pad(4, fill=1)) == in_full(v2.Pad(4, fill=1))


def test_all_that_decodes_and_resizes_is_named_with_its_version():
    assert {"pillow", "torch", "torchvision", "torchcodec", "libjpeg_turbo", "cpu"} <= made_by().keys()
    assert made_by()["torch"] == torch.__version__.partition("+")[0] or made_by()["torch"] == torch.__version__


def test_a_stamp_is_size_and_time_or_tells_that_there_is_no_file(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")

    assert stamp_of(tmp_path / "a") == (5, (tmp_path / "a").stat().st_mtime_ns)
    assert stamp_of(tmp_path / "b") == (-1, -1)
