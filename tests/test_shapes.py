"""shapes.py: what is drawn, and that the folder appears whole or not at all."""

import json
import os
import random
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from data_loader import shapes
from data_loader.shapes import SHAPES, ShapesSettings, draw_shape, draw_shapes_folder
from utils.errors import DataError
from utils.seed import seed_for

SMALL = ShapesSettings(3, train_per_class=3, val_per_class=2, test_per_class=1, image_size_px=24, seed=5)


def luma_HW(image):
    return np.asarray(image) @ np.array([0.299, 0.587, 0.114])


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", SHAPES)
def test_same_seed_draws_the_same_picture_and_another_seed_another(name):
    first, again, other = (np.asarray(draw_shape(name, 32, seed=seed)) for seed in (1, 1, 2))

    assert first.shape == (32, 32, 3)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_global_random_state_is_neither_read_nor_moved():
    drawn, states = [], []
    for seed in (0, 1):
        np.random.seed(seed)
        random.seed(seed)
        before = (random.getstate(), np.random.get_state()[1].tolist())
        drawn.append(np.asarray(draw_shape("star", 32, seed=7)))
        states.append(before == (random.getstate(), np.random.get_state()[1].tolist()))

    assert np.array_equal(*drawn)
    assert states == [True, True]


@pytest.mark.parametrize("name", SHAPES)
def test_shape_and_background_lie_on_two_sides_of_middle_grey(name):
    for seed in range(40):
        luma = luma_HW(draw_shape(name, 64, seed=seed))

        # Even the thinnest shape covers 3 %, and the widest leaves 3 %; between the two sides lie only edges.
        assert (luma < 110).mean() > 0.03
        assert (luma > 145).mean() > 0.03
        assert ((luma >= 110) & (luma <= 145)).mean() < 0.15


def test_circle_has_the_area_of_an_ellipse_within_the_promised_sizes(monkeypatch):
    monkeypatch.setattr(shapes, "_scatter_clutter", lambda *_: None)

    for seed in range(40):
        is_light = luma_HW(draw_shape("circle", 64, seed=seed)) > 127.5
        # The circle never touches the corners of the picture; a radius is 0.25 to 0.42 of the side, squeezed by 0.85.
        share = (is_light != is_light[[0, 0, -1, -1], [0, -1, 0, -1]].all()).mean()
        assert np.pi * 0.25**2 * 0.85 * 0.95 < share < np.pi * 0.42**2 * 1.05


def test_classes_differ_in_outline_whatever_their_turn():
    # Compactness, 4 pi area / perimeter^2, and the share of the unit circle do not change when a shape is turned.
    features = []
    for name in SHAPES:
        outlines = shapes._OUTLINES_OF[name]()
        areas, perimeters = [], []
        for x, y in (outline.T for outline in outlines):
            areas.append(abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2)
            perimeters.append(np.hypot(np.roll(x, -1) - x, np.roll(y, -1) - y).sum())
        features.append((4 * np.pi * areas[0] / perimeters[0] ** 2, areas[0] / np.pi, len(outlines), sum(areas)))

    distances = [np.abs(np.subtract(a, b)).max() for i, a in enumerate(features) for b in features[:i]]

    assert min(distances) > 0.05


def test_outlines_stay_within_the_unit_circle_so_that_no_shape_is_cut_off():
    for name in SHAPES:
        body = shapes._OUTLINES_OF[name]()[0]
        assert np.linalg.norm(body, axis=1).max() == pytest.approx(1)


def test_folder_is_an_image_folder_tree_with_the_counts_asked_for(tmp_path):
    draw_shapes_folder(tmp_path / "data" / "shapes", SMALL)

    for split, count in {"train": 3, "val": 2, "test": 1}.items():
        assert sorted(os.listdir(tmp_path / "data" / "shapes" / split)) == sorted(SHAPES[:3])
        for name in SHAPES[:3]:
            files = sorted(os.listdir(tmp_path / "data" / "shapes" / split / name))
            assert files == [f"{index:04}.png" for index in range(count)]
    with Image.open(tmp_path / "data/shapes/val/triangle/0001.png") as image:
        expected = draw_shape("triangle", 24, seed=seed_for(5, "shapes", 1, 2, 1))
        assert np.array_equal(np.asarray(image), np.asarray(expected))


def test_no_two_pictures_of_the_set_are_equal(tmp_path):
    draw_shapes_folder(tmp_path / "a", SMALL)

    files = contents(tmp_path / "a")
    assert len(set(files.values())) == len(files) == 3 * (3 + 2 + 1) + 1


def test_second_call_with_the_same_settings_draws_nothing(tmp_path, monkeypatch):
    draw_shapes_folder(tmp_path / "a", SMALL)
    before = contents(tmp_path / "a")
    monkeypatch.setattr(shapes, "draw_shape", None)

    draw_shapes_folder(tmp_path / "a", SMALL)

    assert contents(tmp_path / "a") == before


def test_other_settings_are_refused_by_name_and_nothing_is_touched(tmp_path):
    draw_shapes_folder(tmp_path / "a", SMALL)
    before = contents(tmp_path / "a")

    with pytest.raises(DataError, match=r"image_size_px=24 \(not 32\); choose another data_dir, or delete"):
        draw_shapes_folder(tmp_path / "a", replace(SMALL, image_size_px=32))

    assert contents(tmp_path / "a") == before
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("text", [None, "{", "[1]", "7"])
def test_folder_of_somebody_else_is_refused_and_not_touched(tmp_path, text):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / ("photo.jpg" if text is None else "shapes.json")).write_text(text or "")

    with pytest.raises(DataError, match="holds no drawn shapes") as caught:
        draw_shapes_folder(tmp_path / "a", SMALL)

    assert len(contents(tmp_path / "a")) == 1
    assert "ImageFolderDataLoader" in str(caught.value)
    assert "delete" not in str(caught.value)


def test_empty_folder_and_a_link_to_another_place_are_drawn_into(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")

    for name in ("empty", "link"):
        draw_shapes_folder(tmp_path / name, SMALL)

    assert contents(tmp_path / "empty") == contents(tmp_path / "elsewhere")
    assert (tmp_path / "link").is_symlink()


def test_interrupted_drawing_leaves_nothing(tmp_path, monkeypatch):
    def interrupted_at_val(name, size_px, *, seed):
        if seed == seed_for(5, "shapes", 1, 0, 0):
            raise KeyboardInterrupt
        return draw_shape(name, size_px, seed=seed)

    monkeypatch.setattr(shapes, "draw_shape", interrupted_at_val)

    with pytest.raises(KeyboardInterrupt):
        draw_shapes_folder(tmp_path / "a", SMALL)

    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("other_seed", [5, 6])
def test_process_that_finishes_second_takes_the_result_of_the_first_if_it_is_the_same(
    tmp_path, monkeypatch, other_seed
):
    draw_all = shapes._draw_all

    def overtaken_while_drawing(folder, settings):
        monkeypatch.setattr(shapes, "_draw_all", draw_all)
        draw_shapes_folder(tmp_path / "a", replace(SMALL, seed=other_seed))
        draw_all(folder, settings)

    monkeypatch.setattr(shapes, "_draw_all", overtaken_while_drawing)

    if other_seed == SMALL.seed:
        draw_shapes_folder(tmp_path / "a", SMALL)
    else:
        with pytest.raises(DataError, match=r"seed=6 \(not 5\)"):
            draw_shapes_folder(tmp_path / "a", SMALL)

    assert os.listdir(tmp_path) == ["a"]
    assert json.loads((tmp_path / "a" / "shapes.json").read_text())["seed"] == other_seed


def test_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(DataError, match=r"file/shapes: cannot be written \(.+\)"):
        draw_shapes_folder(tmp_path / "file" / "shapes", SMALL)


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_classes", 1), ("num_classes", len(SHAPES) + 1), ("val_per_class", 0), ("image_size_px", 8)],
)
def test_settings_that_cannot_be_drawn_are_refused_by_name(name, value):
    with pytest.raises(DataError, match=f"^{name}: {value} "):
        replace(SMALL, **{name: value})
