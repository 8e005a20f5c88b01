"""scaled.py: how much smaller may be decoded, by hand calculation; sizes and pixels of real decodings."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.transforms import v2

from data_loader.data_loaders import ImageFolderDataLoader
from data_loader.decode import decode_image
from data_loader.scaled import reduction_before
from utils.errors import ConfigError


def smooth_picture(width, height):
    """Waves of some tens of pixels, as (H, W, 3)."""
    y_H1, x_1W = np.mgrid[0:height, 0:width] / 15
    planes = [128 + 60 * np.sin(x_1W * (1 + c / 5)) + 60 * np.cos(y_H1 * (1 + c / 7)) for c in range(3)]
    return np.stack(planes, axis=2).round().astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        for index in range(2):
            Image.fromarray(smooth_picture(800, 600)).save(tmp_path / name / f"{index}.jpg", quality=95)
    return tmp_path


@pytest.mark.parametrize(
    ("transform", "height", "width", "expected"),
    [
        (v2.Resize(256), 1536, 2048, 2),  # 1536 / 256 = 6, half of it is 3
        (v2.Resize(256), 2048, 1536, 2),
        (v2.Resize(256), 1024, 4096, 2),
        (v2.Resize(256), 1023, 4096, 1),
        (v2.Resize(256), 2048, 2048, 4),
        (v2.Resize(64), 1024, 1024, 8),
        (v2.Resize(10), 1000, 1000, 8),  # no JPEG is decoded smaller than that
        (v2.Resize((100, 400)), 800, 1600, 2),  # 8 and 4: the width decides
        (v2.Resize(256, max_size=300), 1024, 4096, 2),
        (v2.Compose([v2.Compose([v2.Resize(64)]), v2.RandomCrop(32)]), 1024, 1024, 8),
        (nn.Sequential(v2.Resize(64), v2.CenterCrop(32)), 1024, 1024, 8),
        (v2.RandomResizedCrop(224, scale=(1, 1), ratio=(1, 1)), 896, 896, 2),
        (v2.RandomResizedCrop(224, scale=(1, 1), ratio=(1, 1)), 895, 895, 1),
        (v2.RandomResizedCrop((100, 224), scale=(1, 1), ratio=(1, 1)), 896, 896, 2),
    ],
)
def test_twice_what_is_needed_is_kept(transform, height, width, expected):
    assert reduction_before(transform)(height, width) == expected


@pytest.mark.parametrize(
    "transform",
    [
        None,
        v2.CenterCrop(8),
        v2.Compose([v2.RandomCrop(8), v2.Resize(4)]),
        v2.Compose([v2.RandomHorizontalFlip(), v2.Resize(4)]),
        v2.Resize(None, max_size=8),
        v2.Identity(),
    ],
)
def test_transforms_that_count_pixels_get_all_of_them(transform):
    assert reduction_before(transform) is None


def test_crop_that_is_looked_at_is_the_one_that_is_drawn_and_no_chance_is_used():
    crop = v2.RandomResizedCrop(50, scale=(0.05, 1.0))
    image = torch.zeros(3, 600, 800, dtype=torch.uint8)
    seen, num_others = set(), 0

    for seed in range(30):
        torch.manual_seed(seed)
        factor = reduction_before(crop)(600, 800)
        drawn = crop.make_params([image])
        room = min(drawn["height"], drawn["width"]) / 50 / 2
        assert factor == max(f for f in (1, 2, 4, 8) if f == 1 or f <= room)
        seen.add(factor)

        torch.manual_seed(seed)
        smaller = crop.make_params([image[:, ::factor, ::factor]])
        num_others += any(abs(smaller[side] - drawn[side] / factor) > 1 for side in ("height", "width"))

    assert seen == {1, 2, 4}
    assert num_others <= 1  # a first draw that is too large by less than a pixel is taken from the smaller image


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_jpeg_is_decoded_smaller_and_upright(tmp_path, orientation, factor):
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(smooth_picture(801, 601)).save(tmp_path / "a.jpg", exif=exif, quality=95)
    asked = []

    pixels_CHW = decode_image(tmp_path / "a.jpg", 3, lambda *size: asked.append(size) or factor)

    upright = (601, 801) if orientation == 1 else (801, 601)
    assert set(asked) == {upright}
    assert pixels_CHW.shape == (3, *(-(-side // factor) for side in upright))


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_smaller_pixels_are_averages_of_blocks(tmp_path, factor):
    Image.fromarray(smooth_picture(800, 600)).save(tmp_path / "a.jpg", quality=95)

    pixels_CHW = decode_image(tmp_path / "a.jpg", 3, lambda height, width: factor).float()

    averages_CHW = nn.functional.avg_pool2d(decode_image(tmp_path / "a.jpg").float(), factor)
    assert float((averages_CHW - pixels_CHW).abs().mean()) < 1.5


def test_other_formats_are_decoded_whole(tmp_path):
    Image.fromarray(smooth_picture(801, 601)).save(tmp_path / "a.png")

    assert decode_image(tmp_path / "a.png", 3, lambda height, width: 8).shape == (3, 601, 801)


def test_loader_with_scaled_decoding_gives_the_same_sizes_and_nearly_the_same_pixels(folder):
    options = {"validation_split": 0, "shuffle": False, "batch_size": 2, "image_size": 112}

    whole = ImageFolderDataLoader(folder, **options)
    scaled = ImageFolderDataLoader(folder, scaled_decoding=True, **options)

    (ours, _), (expected, _) = next(iter(scaled)), next(iter(whole))
    assert ours.shape == expected.shape == (2, 3, 112, 112)
    assert 0 < float((ours.float() - expected.float()).abs().mean()) < 1


def test_batches_with_scaled_crops_do_not_depend_on_workers(folder):
    crop = [v2.RandomResizedCrop(64), v2.RandomHorizontalFlip()]
    options = {"validation_split": 0, "transform": crop, "scaled_decoding": True, "batch_size": 2}

    here = ImageFolderDataLoader(folder, **options)
    there = ImageFolderDataLoader(folder, num_workers=2, **options)

    for ours, theirs in zip(here, there, strict=True):
        assert torch.equal(ours[0], theirs[0])


def test_option_that_could_do_nothing_is_refused(folder):
    lists = {"transform": [v2.RandomCrop(32)], "eval_transform": [v2.CenterCrop(32)], "validation_split": 0}

    with pytest.raises(ConfigError, match="begins with Resize or RandomResizedCrop") as caught:
        ImageFolderDataLoader(folder, scaled_decoding=True, **lists)

    assert "data_loader.args.scaled_decoding" in str(caught.value) or caught.value.keys
    ImageFolderDataLoader(
        folder, scaled_decoding=True, **lists | {"eval_transform": [v2.Resize(32), v2.CenterCrop(32)]}
    )
