"""jpeg.py: torchcodec's pixels against Pillow's own over the kinds of JPEG; what is left to Pillow; the header."""

import io
import sys
import types

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from data_loader import decode, jpeg
from data_loader.data_loaders import ImageFolderDataLoader
from data_loader.decode import decode_image
from utils.errors import DataError

CHANCE = np.random.default_rng(0)
needs_torchcodec = pytest.mark.skipif(jpeg.find_torchcodec() is None, reason="torchcodec is not installed")
KINDS = {
    "baseline": {},
    "progressive": {"progressive": True},
    "4:4:4": {"subsampling": 0},
    "4:2:2": {"subsampling": 1},
    "4:2:0 best": {"subsampling": 2, "quality": 100},
    "worst": {"quality": 5},
    "optimized": {"optimize": True},
    "restarts": {"restart_marker_blocks": 2},
    "RGB inside": {"keep_rgb": True, "subsampling": 0},  # says so by an Adobe marker
    "comment": {"comment": b"a comment"},
    "ICC": {"icc_profile": bytes(300)},
    "EXIF": {"exif": bytes(Image.Exif())},
    "XMP": {"xmp": b"<x:xmpmeta/>"},
}


def picture(width=57, height=41, mode="RGB"):
    """Smooth colour with noise, of odd size."""
    grid = Image.fromarray(CHANCE.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((width, height))
    noise = CHANCE.integers(-9, 10, (height, width, 3))
    return Image.fromarray((np.asarray(grid) + noise).clip(0, 255).astype(np.uint8)).convert(mode)


def encoded(image=None, **options):
    buffer = io.BytesIO()
    (image or picture()).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def turned(orientation):
    exif = Image.Exif()
    exif[274] = orientation
    return exif.tobytes()


def segment(marker, payload):
    return bytes([0xFF, marker]) + (len(payload) + 2).to_bytes(2, "big") + payload


def pillows(data, mode="RGB"):
    """What Pillow alone makes of it, upright, (C, H, W)."""
    with Image.open(io.BytesIO(data)) as image:
        values = np.asarray(ImageOps.exif_transpose(image).convert(mode))
    return values[None] if values.ndim == 2 else values.transpose(2, 0, 1)


@pytest.fixture
def decoded(tmp_path, monkeypatch):
    """`decoded(data)`: the pixels, and whether torchcodec made them."""

    def decode_bytes(data, channels=3):
        path = tmp_path / "a.jpg"
        path.write_bytes(data)
        made = []
        plain = jpeg.decode_plain_jpeg
        monkeypatch.setattr(decode, "decode_plain_jpeg", lambda *args: made.append(plain(*args)) or made[-1])
        pixels_CHW = decode_image(path, channels)
        return pixels_CHW.numpy(), any(pixels is pixels_CHW for pixels in made)

    return decode_bytes


@needs_torchcodec
@pytest.mark.parametrize("size", [(57, 41), (64, 48), (1, 1), (3, 200), (500, 333)])
@pytest.mark.parametrize("kind", KINDS)
def test_torchcodec_gives_pillows_pixels(decoded, kind, size):
    data = encoded(picture(*size), **KINDS[kind])

    pixels_CHW, by_torchcodec = decoded(data)

    assert by_torchcodec
    assert np.array_equal(pixels_CHW, pillows(data))


@needs_torchcodec
@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("L", 3), ("RGB", 1), ("CMYK", 3), ("CMYK", 1)])
def test_grey_is_torchcodecs_and_what_must_be_converted_is_pillows(decoded, mode, channels):
    data = encoded(picture(mode=mode))

    pixels_CHW, by_torchcodec = decoded(data, channels)

    assert by_torchcodec == (mode == "L")
    assert np.array_equal(pixels_CHW, pillows(data, "L" if channels == 1 else "RGB"))


@needs_torchcodec
@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("behind_xmp", [False, True])
def test_every_orientation_stands_upright_as_pillow_turns_it(decoded, orientation, behind_xmp):
    # torchcodec looks for EXIF in the first APP1 only.
    data = encoded(exif=turned(orientation))
    if behind_xmp:
        data = data[:2] + segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>") + data[2:]

    pixels_CHW, by_torchcodec = decoded(data)

    assert by_torchcodec == (orientation not in range(2, 9))
    assert np.array_equal(pixels_CHW, pillows(data))


@needs_torchcodec
def test_orientation_that_torchcodec_alone_would_see_is_none(decoded):
    # An APP1 that is no EXIF, though what lies six bytes on looks like it.
    data = encoded()
    data = data[:2] + segment(0xE1, b"Other\0" + turned(6)[6:]) + data[2:]

    pixels_CHW, _ = decoded(data)

    assert pixels_CHW.shape == (3, 41, 57)
    assert np.array_equal(pixels_CHW, pillows(data))


@needs_torchcodec
def test_bytes_behind_the_end_change_nothing(decoded):
    data = encoded()

    pixels_CHW, by_torchcodec = decoded(data + b"film" * 5000)

    assert by_torchcodec
    assert np.array_equal(pixels_CHW, pillows(data))


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
def test_cut_file_is_the_same_one_line_with_and_without_torchcodec(tmp_path, monkeypatch, options, part):
    path = tmp_path / "a.jpg"
    data = encoded(picture(300, 200), **options)
    path.write_bytes(data[: int(len(data) * part)])

    messages = []
    for find in (jpeg.find_torchcodec, lambda: None):
        monkeypatch.setattr(decode, "find_torchcodec", find)
        with pytest.raises(DataError) as caught:
            decode_image(path)
        messages.append(str(caught.value))

    assert messages == [f"{path}: truncated image"] * 2


@needs_torchcodec
def test_damaged_files_are_taken_or_refused_alike_with_and_without_torchcodec(tmp_path, monkeypatch, capfd):
    originals = [encoded(), encoded(progressive=True), encoded(exif=turned(6)), encoded(picture(mode="L"))]
    find = jpeg.find_torchcodec
    path = tmp_path / "a.jpg"
    num_by_torchcodec = 0

    def outcome():
        try:
            return decode_image(path).numpy()
        except DataError as error:
            return str(error)

    for index in range(300):
        data = bytearray(originals[index % 4])
        for at in CHANCE.integers(2, len(data), 1 + index % 5):
            data[at] = CHANCE.integers(0, 256)
        path.write_bytes(data)
        monkeypatch.setattr(decode, "find_torchcodec", find)
        ours = outcome()
        monkeypatch.setattr(decode, "find_torchcodec", lambda: None)
        pillow = outcome()
        assert type(ours) is type(pillow)
        assert np.array_equal(ours, pillow), data
        num_by_torchcodec += not isinstance(ours, str)

    assert num_by_torchcodec > 100
    capfd.readouterr()  # libjpeg's own warnings


@needs_torchcodec
@pytest.mark.parametrize(("context", "num_workers"), [("fork", 2), ("spawn", 1)])  # a spawned one imports torch anew
def test_workers_decode_after_the_trainer_has(tmp_path, context, num_workers):
    for index in range(6):
        folder = tmp_path / "ab"[index % 2]
        folder.mkdir(exist_ok=True)
        (folder / f"{index}.jpg").write_bytes(encoded())
    options = {"eval_transform": [], "transform": [], "batch_size": 2, "shuffle": False, "validation_split": 0}

    here = ImageFolderDataLoader(tmp_path, **options)
    there = ImageFolderDataLoader(tmp_path, num_workers=num_workers, multiprocessing_context=context, **options)

    assert f"JPEGs are decoded by {jpeg.jpeg_decoder()}" in here.notes
    assert torch.equal(there.first_image(), here.first_image())
    for ours, theirs in zip(here, there, strict=True):
        assert torch.equal(ours[0], theirs[0])
        assert torch.equal(ours[1], theirs[1])
        assert ours[0].is_contiguous(memory_format=torch.channels_last)
        assert theirs[0].is_contiguous(memory_format=torch.channels_last)


def fake_torchcodec(monkeypatch, decode_jpeg):
    module = types.ModuleType("torchcodec")
    module.decoders = types.SimpleNamespace(decode_jpeg=decode_jpeg)
    monkeypatch.setitem(sys.modules, "torchcodec", module)
    return jpeg.find_torchcodec.__wrapped__()


def test_torchcodec_that_is_missing_broken_or_unequal_is_not_used(monkeypatch):
    def off_by_one(data, mode):
        with Image.open(io.BytesIO(data.numpy().tobytes())) as image:
            return torch.from_numpy(np.asarray(image) ^ 1).permute(2, 0, 1)

    def equal(data, mode):
        return off_by_one(data, mode) ^ 1

    def fails(data, mode):
        raise OSError("undefined symbol")

    assert fake_torchcodec(monkeypatch, off_by_one) is None
    assert fake_torchcodec(monkeypatch, fails) is None
    assert fake_torchcodec(monkeypatch, equal) is not None
    monkeypatch.setitem(sys.modules, "torchcodec", None)
    assert jpeg.find_torchcodec.__wrapped__() is None


def test_names_say_what_decodes(monkeypatch):
    monkeypatch.setattr(jpeg, "find_torchcodec", lambda: None)

    assert jpeg.jpeg_decoder() == "Pillow"
    assert jpeg.decoder_name().startswith("JPEG by Pillow, Pillow ")


def test_header_is_read_up_to_the_first_scan():
    start = b"\xff\xd8" + segment(0xE0, b"JFIF\0") + segment(0xE1, b"Exif\0\0")
    frame = segment(0xC2, bytes([8, 0, 41, 1, 2, 3]) + bytes(9))

    header = jpeg.read_header(memoryview(start + frame + segment(0xE1, b"x") + segment(0xDA, bytes(10))))

    assert (header.height, header.width, header.components) == (41, 258, 3)
    assert header.app1_at == (12, len(start + frame) + 1)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8\xff",
        b"\xff\xd8" + segment(0xDA, bytes(10)),  # no frame
        b"\xff\xd8" + segment(0xC0, bytes([12, 0, 1, 0, 1, 1])) + segment(0xDA, b""),  # 12 bits
        b"\xff\xd8" + segment(0xC9, bytes([8, 0, 1, 0, 1, 1])) + segment(0xDA, b""),  # arithmetic coding
        b"\xff\xd8" + segment(0xC0, bytes([8, 0, 1, 0, 1, 1])) * 2 + segment(0xDA, b""),
        b"\xff\xd8" + segment(0xC0, bytes([8, 0])) + segment(0xDA, b""),  # too short
        b"\xff\xd8\xff\xe0\x00\x01" + segment(0xC0, bytes([8, 0, 1, 0, 1, 1])) + segment(0xDA, b""),
        b"\xff\xd8" + segment(0xC0, bytes([8, 0, 1, 0, 1, 1])) + b"\xff\xe0\xff\xff",  # past the end
        b"\xff\xd8\x00" + segment(0xC0, bytes([8, 0, 1, 0, 1, 1])) + segment(0xDA, b""),
        b"\xff\xd8\xff\xff" + segment(0xC0, bytes([8, 0, 1, 0, 1, 1])) + segment(0xDA, b""),
    ],
)
def test_strange_header_is_none_and_so_the_file_is_pillows(data):
    assert jpeg.read_header(memoryview(data)) is None
