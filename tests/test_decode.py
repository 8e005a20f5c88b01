"""decode.py: pixels against numpy and hand calculation; damaged files, each with its plain reason."""

import io
import pickle
import struct
import warnings
import zlib
from contextlib import suppress

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from data_loader.decode import IMAGE_SUFFIXES, decode_image, file_problem, find_bad_images
from utils.errors import DataError

UPRIGHT_HWC = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
TURNED_HWC = UPRIGHT_HWC.transpose(1, 0, 2)
# By where EXIF says that row 0 and column 0 of the stored picture lie: for 6, right and top.
STORED_AS = {1: UPRIGHT_HWC, 2: UPRIGHT_HWC[:, ::-1], 3: UPRIGHT_HWC[::-1, ::-1], 4: UPRIGHT_HWC[::-1]}
STORED_AS |= {5: TURNED_HWC, 6: TURNED_HWC[::-1], 7: TURNED_HWC[::-1, ::-1], 8: TURNED_HWC[:, ::-1]}


def encoded(image_format, image=None, **options):
    buffer = io.BytesIO()
    (image or Image.fromarray(UPRIGHT_HWC)).save(buffer, image_format, **options)
    return buffer.getvalue()


def orientation_tag(orientation):
    exif = Image.Exif()
    exif[274] = orientation
    return exif


def bomb(side_px):
    """A PNG that promises side x side pixels and ends where they should begin."""
    header = b"IHDR" + struct.pack(">IIBBBBB", side_px, side_px, 8, 2, 0, 0, 0)
    header_chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + header_chunk + struct.pack(">I", 99) + b"IDAT"


JPEG, PNG = encoded("JPEG"), encoded("PNG")
BAD_FILES = {
    "zero_bytes.jpg": (b"", "empty file"),
    "text.png": (b"hello\tworld\n" * 20, "looks like text"),
    "korean.png": ("그림이 아님\n".encode() * 20, "looks like text"),
    "page.jpg": (b"<!DOCTYPE html>\n<html><body>404</body></html>", "looks like HTML"),
    "pointer.jpg": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "zeros.png": (bytes(2000), "only zero bytes"),
    "noise.bmp": (bytes(range(256)), "not an image"),
    "header_only.jpg": (JPEG[:20], "truncated"),
    "half.jpg": (JPEG[: len(JPEG) // 2], "truncated image"),
    "most.jpg": (JPEG[: len(JPEG) * 9 // 10], "truncated image"),
    "half.png": (PNG[: len(PNG) // 2], "truncated image"),
    "half.webp": (encoded("WEBP")[:500], "damaged"),
    "half.bmp": (encoded("BMP")[:500], "truncated image"),
    "half.ppm": (encoded("PPM")[:500], "truncated image"),
    "crc.png": (PNG[:3000] + bytes(255 - byte for byte in PNG[3000:3008]) + PNG[3008:], "damaged image"),
    "bomb.png": (bomb(side_px=30_000), "more than 89478485 pixels"),
    "small_bomb.png": (bomb(side_px=10_000), "more than 89478485 pixels"),
    "really_a_gif.jpg": (encoded("GIF"), "a GIF"),
    "float.tiff": (encoded("TIFF", Image.new("F", (4, 4))), "mode F"),
    "integer.tiff": (encoded("TIFF", Image.new("I", (4, 4))), "mode I"),
}
BAD_INSIDE = ("crc.png", "float.tiff", "integer.tiff")


@pytest.fixture
def write(tmp_path):
    def write_file(data, name="a.png"):
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return write_file


def test_rgb_png_comes_back_exactly_as_uint8_chw_in_writable_memory(write):
    pixels_CHW = decode_image(write(PNG))

    assert pixels_CHW.dtype == torch.uint8
    assert pixels_CHW.permute(1, 2, 0).is_contiguous()  # the channels last
    assert np.array_equal(pixels_CHW.numpy(), UPRIGHT_HWC.transpose(2, 0, 1))
    pixels_CHW.add_(1)


def test_one_channel_is_the_luma_of_bt601(write):
    grey_HW = decode_image(write(PNG), channels=1)[0].numpy()

    assert np.abs(grey_HW - UPRIGHT_HWC @ [0.299, 0.587, 0.114]).max() <= 0.51  # rounding to whole numbers


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("image_format", "options"), [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True})])
def test_picture_is_turned_upright_by_its_exif_orientation(write, orientation, image_format, options):
    stored = Image.fromarray(np.ascontiguousarray(STORED_AS[orientation]))

    pixels_CHW = decode_image(write(encoded(image_format, stored, exif=orientation_tag(orientation), **options)))

    assert np.array_equal(pixels_CHW.numpy(), UPRIGHT_HWC.transpose(2, 0, 1))


@pytest.mark.parametrize("orientation", [1, 6, 0, 9])
def test_jpeg_is_what_pillow_makes_of_it_and_a_senseless_orientation_is_none(write, orientation):
    path = write(encoded("JPEG", exif=orientation_tag(orientation)))

    pixels_CHW = decode_image(path)

    with Image.open(path) as image:
        expected_HWC = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(pixels_CHW.numpy(), expected_HWC.transpose(2, 0, 1))


def test_damaged_exif_block_leaves_the_picture_as_stored(write):
    path = write(encoded("PNG", exif=b"Exif\0\0this is no TIFF header"))

    assert torch.equal(decode_image(path), decode_image(write(PNG, "plain.png")))


@pytest.mark.parametrize(("image_format", "dtype"), [("PNG", "<u2"), ("TIFF", "<u2"), ("TIFF", ">u2"), ("PPM", "<u2")])
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_grey_is_rescaled_and_not_clipped(write, image_format, dtype, channels):
    values_HW = np.array([[0, 128, 129, 40_000, 65_535]], dtype=dtype)

    pixels_CHW = decode_image(write(encoded(image_format, Image.fromarray(values_HW))), channels)

    assert pixels_CHW.tolist() == [[[0, 0, 1, 156, 255]]] * channels  # 40000 / 257 = 155.6


@pytest.mark.parametrize(("mode", "colour"), [("RGBA", (10, 60, 110)), ("LA", (10,))])
def test_alpha_is_composited_onto_white(write, mode, colour):
    image = Image.new(mode, (2, 1), (*colour, 0))
    image.putpixel((1, 0), (*colour, 51))

    pixels_CHW = decode_image(write(encoded("PNG", image)))

    assert pixels_CHW[:, 0, 0].tolist() == [255, 255, 255]
    # 51 / 255 is one fifth of the colour and four fifths of white.
    assert pixels_CHW[:, 0, 1].tolist() == ([206, 216, 226] if mode == "RGBA" else [206] * 3)


@pytest.mark.parametrize("transparency", [None, 1, b"\xff\x00\xff"])
def test_palette_is_looked_up_and_its_transparent_entry_becomes_white(write, transparency):
    image = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8), "P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    options = {} if transparency is None else {"transparency": transparency}

    pixels_CHW = decode_image(write(encoded("PNG", image, **options)))

    second = [0, 255, 0] if transparency is None else [255, 255, 255]
    assert pixels_CHW[:, 0].T.tolist() == [[255, 0, 0], second, [0, 0, 255]]


def test_one_bit_picture_is_black_and_white(write):
    image = Image.new("1", (9, 1))
    image.putpixel((8, 0), 1)

    assert decode_image(write(encoded("PNG", image)), channels=1).tolist() == [[[0] * 8 + [255]]]


def test_cmyk_jpeg_keeps_its_colour(write):
    pixels_CHW = decode_image(write(encoded("JPEG", Image.new("CMYK", (8, 8), (0, 255, 255, 0)))))

    assert (pixels_CHW.float() - torch.tensor([255.0, 0, 0]).view(3, 1, 1)).abs().max() <= 3  # JPEG is lossy


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file_is_a_data_error_of_one_line_with_path_and_reason(write, name):
    data, reason = BAD_FILES[name]
    path = write(data, name)

    with pytest.raises(DataError) as caught:
        decode_image(path)

    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert reason in message
    assert "\n" not in message
    assert str(pickle.loads(pickle.dumps(caught.value))) == message
    if name not in BAD_INSIDE:
        assert message == f"{path}: {file_problem(path)}"


def test_bomb_is_refused_also_where_pillow_would_only_warn(write):
    with warnings.catch_warnings(action="ignore"), pytest.raises(DataError, match="more than 89478485 pixels"):
        decode_image(write(bomb(side_px=10_000)))


def test_missing_file_dangling_link_and_folder_have_plain_reasons(tmp_path):
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")

    found = find_bad_images([tmp_path / "gone.png", tmp_path / "link.png", tmp_path], thorough=True, num_threads=1)

    assert [reason for _, reason in found] == ["no such file", "a link to a file that is not there", "a folder"]
    assert [file_problem(path) for path, _ in found] == [reason for _, reason in found]


def test_jpeg_with_trailing_bytes_is_no_false_alarm(write):
    path = write(JPEG + b"x" * 100, "film_behind.jpg")

    assert file_problem(path) is None
    assert torch.equal(decode_image(path), decode_image(write(JPEG, "plain.jpg")))


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
def test_whole_file_is_passed_without_decoding(write, monkeypatch, image_format):
    path = write(encoded(image_format))
    monkeypatch.setattr(Image, "open", None)

    assert file_problem(path) is None


@pytest.mark.parametrize("thorough", [False, True])
def test_every_suffix_of_the_list_is_read_and_gif_is_not_in_it(write, thorough):
    formats = Image.registered_extensions()
    paths = [write(encoded(formats[suffix]), f"a{suffix}") for suffix in IMAGE_SUFFIXES]

    assert find_bad_images(paths, thorough=thorough, num_threads=2) == []
    assert ".gif" not in IMAGE_SUFFIXES


@pytest.mark.parametrize(("thorough", "expected"), [(False, [3, 599]), (True, [3, 300, 599])])
def test_bad_images_come_in_input_order_and_inner_damage_only_when_thorough(write, thorough, expected):
    good = write(encoded("PNG", Image.new("L", (2, 2))), "good.png")
    bad_at = {3: write(b"", "empty.png"), 300: write(BAD_FILES["crc.png"][0], "crc.png"), 599: write(b"x", "x.png")}

    found = find_bad_images([bad_at.get(i, good) for i in range(600)], thorough=thorough, num_threads=2)

    assert [path for path, _ in found] == [str(bad_at[i]) for i in expected]


@given(data=st.data(), original=st.sampled_from([JPEG, PNG, encoded("WEBP"), encoded("BMP")]))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_random_damage_gives_pixels_or_a_data_error_and_nothing_else(tmp_path_factory, data, original):
    damaged = bytearray(original)
    for position in data.draw(st.lists(st.integers(0, len(original) - 1), min_size=1, max_size=8)):
        damaged[position] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.png"
    path.write_bytes(damaged)

    with suppress(DataError):
        assert decode_image(path).dtype == torch.uint8
