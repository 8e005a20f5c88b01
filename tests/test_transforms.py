"""transforms.py: the default pipeline against torchvision's on PIL images, and which transforms go together."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms as v1
from torchvision.transforms import v2

from data_loader.decode import decode_image
from data_loader.transforms import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    check_pixel_path,
    compose,
    makes_floats,
    resize_and_crop,
)
from trainer.pixels import PixelsToInput
from utils.errors import ConfigError

TO_FLOAT = v2.ToDtype(torch.float32, scale=True)
NORMALIZE = v2.Normalize(IMAGENET_MEAN, IMAGENET_STD)
CPU = torch.device("cpu")


def picture(height, width, seed):
    """Blocks of colour with noise over them: edges, flat places and single pixels, as photographs have."""
    chance = np.random.default_rng(seed)
    blocks = chance.integers(0, 256, (height // 16 + 1, width // 16 + 1, 3)).repeat(16, axis=0).repeat(16, axis=1)
    noisy = blocks[:height, :width] + chance.normal(0, 20, (height, width, 3))
    return noisy.round().clip(0, 255).astype(np.uint8)


def pil_pixels(image, image_size=224):
    """Tutorial way: torchvision on the PIL image."""
    resized = v1.CenterCrop(image_size)(v1.Resize(image_size * 256 // 224)(image))
    return np.asarray(resized).transpose(2, 0, 1).astype(int)


@settings(max_examples=25, derandomize=True, deadline=None)
@given(height=st.integers(40, 700), width=st.integers(40, 700), seed=st.integers(0, 9))
def test_default_pixels_are_torchvisions_on_pil_images_within_one_grey_level(height, width, seed):
    pixels_HWC = picture(height, width, seed)

    ours = compose(resize_and_crop(224))(torch.from_numpy(pixels_HWC.transpose(2, 0, 1).copy()))

    assert ours.dtype == torch.uint8
    # Pillow rounds between the two directions of the resize, torch with a few more bits.
    assert np.abs(ours.numpy().astype(int) - pil_pixels(Image.fromarray(pixels_HWC))).max() <= 1


def test_whole_default_way_from_file_to_input_is_totensor_and_normalize_within_one_grey_level(tmp_path):
    Image.fromarray(picture(333, 500, 3)).save(tmp_path / "a.jpg", quality=90)
    way = v1.Compose(
        [v1.Resize(256), v1.CenterCrop(224), v1.ToTensor(), v1.Normalize(list(IMAGENET_MEAN), list(IMAGENET_STD))]
    )

    pixels_CHW = compose(resize_and_crop(224))(decode_image(tmp_path / "a.jpg"))
    ours = PixelsToInput(IMAGENET_MEAN, IMAGENET_STD, CPU)(pixels_CHW[None])[0]

    with Image.open(tmp_path / "a.jpg") as image:
        difference_CHW = (ours - way(image)).abs()
    one_grey_level = 1 / 255 / torch.tensor(IMAGENET_STD).view(3, 1, 1)
    assert bool((difference_CHW <= one_grey_level * 1.001).all())
    assert float((difference_CHW < 1e-5).float().mean()) > 0.8  # most pixels do not differ at all


def test_default_pixels_of_photographs_are_torchvisions_within_one_grey_level(real_images):
    folder = real_images("hymenoptera_data") / "val" / "bees"

    for path in sorted(folder.glob("*.jpg"))[:8]:
        ours = compose(resize_and_crop(224))(decode_image(path)).numpy().astype(int)
        with Image.open(path) as image:
            assert np.abs(ours - pil_pixels(image)).max() <= 1, path


@pytest.mark.parametrize(("image_size", "resized"), [(224, 256), (299, 342), (32, 37), (1, 1)])
def test_shorter_side_is_resized_to_256_224ths_of_the_image_size(image_size, resized):
    resize, crop = resize_and_crop(image_size)

    assert resize.size == [resized]
    assert crop.size == (image_size, image_size)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(("height", "width"), [(40, 700), (257, 256), (1000, 333)])
def test_default_way_of_any_format_is_the_tutorials_within_one_grey_level(tmp_path, image_format, height, width):
    Image.fromarray(picture(height, width, 5)).save(tmp_path / "a", image_format, quality=85)

    ours = compose(resize_and_crop(224))(decode_image(tmp_path / "a")).numpy().astype(int)

    with Image.open(tmp_path / "a") as image:
        assert np.abs(ours - pil_pixels(image.convert("RGB"))).max() <= 1


def test_resize_averages_what_it_leaves_out():
    stripes_CHW = torch.tensor([0, 255], dtype=torch.uint8).repeat(64).expand(3, 128, 128)

    resized_CHW = resize_and_crop(28)[0](stripes_CHW)  # to 32: without antialiasing, whole stripes would be left

    assert bool(((resized_CHW[:, 2:-2, 2:-2].int() - 127).abs() <= 2).all())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("channels_last", [True, False])
def test_random_resized_crop_is_torchvisions_bit_for_bit(channels, channels_last):
    pixels_HWC = torch.from_numpy(picture(150, 211, 4)[:, :, :channels].copy())
    image = pixels_HWC.permute(2, 0, 1) if channels_last else pixels_HWC.permute(2, 0, 1).contiguous()
    original = v2.RandomResizedCrop((64, 80), scale=(0.1, 1.0))

    for seed in range(20):
        torch.manual_seed(seed)
        expected = original(image)
        torch.manual_seed(seed)
        assert torch.equal(compose([original])(image), expected)


def test_compose_applies_transforms_in_order_and_nothing_is_none():
    image = torch.arange(48, dtype=torch.uint8).reshape(3, 4, 4)
    crop, flip = v2.CenterCrop((4, 2)), v2.RandomHorizontalFlip(1.0)

    assert compose([]) is None
    assert torch.equal(compose([flip])(image), image.flip(2))
    assert torch.equal(compose((crop, flip))(image), image[:, :, 1:3].flip(2))


@pytest.mark.parametrize(
    ("transforms", "expected"),
    [
        ([], False),
        ([v2.Resize(8), v2.ToDtype(torch.uint8)], False),
        ([TO_FLOAT], True),
        ([v2.Resize(8), NORMALIZE], True),
        ([v2.Compose([v2.Resize(8), v2.Compose([TO_FLOAT])])], True),
        ([v2.ConvertImageDtype(torch.float32)], True),
        ([v2.ConvertImageDtype(torch.uint8)], False),
        ([v2.ToDtype(torch.float64)], True),
    ],
)
def test_list_that_gives_floats_is_known_without_running_it(transforms, expected):
    assert makes_floats(transforms) is expected


def test_pixels_are_normalised_by_the_loader_or_by_the_transforms_and_not_by_both():
    floats = [v2.Resize(8), TO_FLOAT, NORMALIZE]

    assert check_pixel_path([v2.Resize(8)], [], IMAGENET_MEAN, IMAGENET_STD) is False
    assert check_pixel_path(floats, floats, None, None) is True
    for mean, std, path in ((IMAGENET_MEAN, None, "mean"), (None, IMAGENET_STD, "std")):
        with pytest.raises(ConfigError, match=rf"^data_loader\.args\.{path}: the transforms normalise") as caught:
            check_pixel_path(floats, floats, mean, std)
        assert (caught.value.path, caught.value.also) == (f"data_loader.args.{path}", "data_loader.args.transform")


def test_floats_in_training_and_pixels_in_evaluation_are_refused_either_way():
    for train, evaluation in (([TO_FLOAT], []), ([], [NORMALIZE])):
        with pytest.raises(ConfigError, match="one of transform and eval_transform gives floats") as caught:
            check_pixel_path(train, evaluation, None, None)
        assert caught.value.path == "data_loader.args"
