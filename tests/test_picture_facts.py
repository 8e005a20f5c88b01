"""What one file says of itself, against numpy and hashlib."""

import hashlib
import os

import numpy as np
import pytest
from PIL import Image

from data_loader.decode import file_problem
from tools import picture_facts
from tools.data_findings import kind_of_problem
from tools.picture_facts import difference_hash, facts_of, facts_of_all


def picture(seed=0, size=(144, 128)):
    values_HWC = np.random.default_rng(seed).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    return Image.fromarray(values_HWC).resize(size, Image.Resampling.NEAREST)


def test_hash_compares_neighbours_row_by_row():
    grey_HW = np.zeros((8, 9), np.uint8)
    grey_HW[0, 1] = 9  # lighter than the one on its left; the next is darker
    grey_HW[7, 8] = 9

    assert difference_hash(grey_HW) == (1 << 63) + 1


def test_numbers_are_those_of_the_pixels(tmp_path):
    path = str(tmp_path / "a.png")
    picture().save(path)

    facts = facts_of(path)

    pixels_HWC = np.asarray(picture()) / 255.0
    expected = (*pixels_HWC.mean((0, 1)), *(pixels_HWC**2).mean((0, 1)))
    assert facts.moments == pytest.approx(expected, abs=1e-9)
    assert facts.digest == hashlib.sha256((tmp_path / "a.png").read_bytes()).digest()
    assert facts.num_bytes == os.path.getsize(path)
    blocks_HW = np.asarray(picture().convert("L")).reshape(8, 16, 9, 16).mean((1, 3))
    assert facts.bits == difference_hash(blocks_HW)
    assert (facts.width, facts.height, facts.format, facts.mode) == (144, 128, "PNG", "RGB")
    assert [name for name in facts._fields if name.startswith("is_") and getattr(facts, name)] == []


@pytest.mark.parametrize("save", [{"quality": 70}, {"quality": 95, "progressive": True}])
def test_a_copy_of_another_size_and_quality_has_nearly_the_same_hash(save, tmp_path):
    picture().save(tmp_path / "a.png")
    picture().resize((333, 250), Image.Resampling.BICUBIC).save(tmp_path / "b.jpg", **save)

    first, second = facts_of_all([str(tmp_path / "a.png"), str(tmp_path / "b.jpg")])

    assert (first.bits ^ second.bits).bit_count() <= 3


def test_a_picture_that_lies_on_its_side_is_seen_upright(tmp_path):
    picture().save(tmp_path / "a.png")
    exif = Image.Exif()
    exif[274] = 6  # to be turned by 90 degrees to the right
    picture().transpose(Image.Transpose.ROTATE_90).save(tmp_path / "b.png", exif=exif)

    first, second = facts_of_all([str(tmp_path / "a.png"), str(tmp_path / "b.png")])

    assert (first.bits, first.grid) == (second.bits, second.grid)


@pytest.mark.parametrize(("levels", "is_flat"), [(0, True), (8, True), (9, False)])
def test_one_colour_may_differ_by_a_few_levels(levels, is_flat, tmp_path):
    values_HWC = np.full((20, 20, 3), (10, 200, 60), np.uint8)
    values_HWC[3, 4, 1] += levels
    Image.fromarray(values_HWC).save(tmp_path / "a.png")

    assert facts_of(str(tmp_path / "a.png")).is_flat is is_flat


def test_a_file_that_is_too_large_to_be_held_says_the_same(tmp_path, monkeypatch):
    path = str(tmp_path / "a.jpg")
    picture().save(path)
    whole = facts_of(path)

    monkeypatch.setattr(picture_facts, "_MAX_BYTES", 100)

    assert facts_of(path) == whole


@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
@pytest.mark.parametrize("size", [(500, 375), (2400, 1600)])
def test_cut_jpegs_are_found_at_full_and_at_reduced_size(share, size, tmp_path):
    path = tmp_path / "a.jpg"
    noise_HWC = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(noise_HWC).save(path, quality=50)
    content = path.read_bytes()
    assert facts_of(str(path)).problem is None
    assert facts_of(str(path)).is_reduced is (size[0] > 2000)

    path.write_bytes(content[: max(1000, int(len(content) * share))])

    assert facts_of(str(path)).problem == "truncated image"


def test_what_cannot_be_opened_is_a_fact(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "empty.jpg").touch()

    for name in ("pipe", "gone", "empty"):
        facts = facts_of(str(tmp_path / f"{name}.jpg"))
        assert facts.problem == file_problem(tmp_path / f"{name}.jpg") is not None
    assert facts_of("a\0b.jpg").problem


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "empty_file"),
        (b"GIF89a" + bytes(20), "not_an_image"),
        (b"<!DOCTYPE html>", "not_an_image"),
        (b"version https://git-lfs.github.com/spec/v1", "not_an_image"),
        (b"\x89PNG\r\n\x1a\n" + bytes(30), "undecodable"),
    ],
)
def test_problems_are_of_a_kind(content, kind, tmp_path):
    (tmp_path / "a.png").write_bytes(content)

    assert kind_of_problem(facts_of(str(tmp_path / "a.png")).problem) == kind
