"""folder.py: which folder is which part, which files are images, what is passed over by name, what is refused."""

import io
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_loader.decode import IMAGE_SUFFIXES
from data_loader.folder import VALIDATION_NAMES, FileRules, read_parts, scan_class_folders
from utils.errors import DataError


def encoded(image_format="PNG", size=(4, 4)):
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, image_format)
    return buffer.getvalue()


PNG, GIF, JPEG = encoded(), encoded("GIF"), encoded("JPEG", (64, 64))


@pytest.fixture
def tree(tmp_path):
    """`tree("train/cat/a.png", ...)` makes those files below data_dir, as images unless they have another content."""

    def make(*names, content=PNG):
        for name in names:
            path = tmp_path / "data" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return tmp_path / "data"

    return make


def relative(data, data_dir):
    """What a part holds, as {class: paths below data_dir}."""
    found = {name: [] for name in data.classes}
    for path, target in zip(data.paths, data.targets.tolist(), strict=True):
        found[data.classes[target]].append(os.path.relpath(path, data_dir))
    return found


def message_of(data_dir, rules=None, *, training=True):
    with pytest.raises(DataError) as caught:
        read_parts(data_dir, rules or FileRules(), training=training)
    return str(caught.value)


@pytest.mark.parametrize("name", VALIDATION_NAMES)
def test_validation_part_goes_by_each_of_its_names(tree, name):
    data_dir = tree("train/cat/a.png", "train/dog/b.png", f"{name}/dog/c.png", f"{name}/cat/d.png", "test/dog/e.png")
    tree("test/cat/f.png")

    parts = read_parts(data_dir, FileRules(), training=True)

    assert relative(parts.train, data_dir) == {"cat": ["train/cat/a.png"], "dog": ["train/dog/b.png"]}
    assert relative(parts.validation, data_dir) == {"cat": [f"{name}/cat/d.png"], "dog": [f"{name}/dog/c.png"]}
    assert relative(parts.test, data_dir) == {"cat": ["test/cat/f.png"], "dog": ["test/dog/e.png"]}
    assert parts.folders == {
        "train": f"{data_dir}/train",
        "validation": f"{data_dir}/{name}",
        "test": f"{data_dir}/test",
    }
    assert parts.notes == []


def test_two_validation_parts_are_refused_by_name(tree):
    data_dir = tree("train/cat/a.png", "train/dog/a.png", "val/cat/a.png", "valid/cat/a.png")

    assert "both valid/ and val/; only one can be the validation part" in message_of(data_dir)


def test_one_tree_of_classes_is_the_training_part(tree):
    data_dir = tree("dog/b.png", "cat/a.png", "ant/c.png")

    parts = read_parts(data_dir, FileRules(), training=True)

    assert relative(parts.train, data_dir) == {"ant": ["ant/c.png"], "cat": ["cat/a.png"], "dog": ["dog/b.png"]}
    assert (parts.validation, parts.test) == (None, None)


def test_class_of_one_tree_may_be_called_like_a_part(tree):
    data_dir = tree("test/a.png", "exam/b.png", "val/c.png")

    parts = read_parts(data_dir, FileRules(), training=True)

    assert parts.train.classes == ["exam", "test", "val"]


def test_tree_of_a_test_part_only_serves_a_test_and_has_nothing_to_train_on(tree):
    data_dir = tree("test/dog/b.png", "test/cat/a.png")
    tree(".cache/x.bin", content=b"")

    parts = read_parts(data_dir, FileRules(), training=False)

    assert relative(parts.test, data_dir) == {"cat": ["test/cat/a.png"], "dog": ["test/dog/b.png"]}
    assert read_parts(data_dir, FileRules(), training=True).train is None


@pytest.mark.parametrize(
    ("present", "used"),
    [("train val test", "test"), ("train val", "validation"), ("train", "train"), ("val test", "test")],
)
def test_a_test_reads_one_part_and_does_not_look_at_the_others(tree, present, used):
    for part in present.split():
        data_dir = tree(f"{part}/cat/a.png", f"{part}/dog/b.png")
    folder = {"validation": "val"}.get(used, used)
    others = [part for part in present.split() if part != folder]
    tree(*(f"{part}/cat/broken.png" for part in others), content=b"no image")

    parts = read_parts(data_dir, FileRules(), training=False)

    assert [name for name in ("train", "validation", "test") if getattr(parts, name)] == [used]
    assert parts.folders == {used: str(data_dir / folder)}


def test_images_come_sorted_by_class_and_name_with_sub_folders_in_their_class(tree):
    data_dir = tree("b/2.png", "b/10.png", "b/day1/z.png", "b/day1/noon/y.png", "a/x.png")

    parts = read_parts(data_dir, FileRules(), training=True)

    assert relative(parts.train, data_dir) == {
        "a": ["a/x.png"],
        "b": ["b/10.png", "b/2.png", "b/day1/z.png", "b/day1/noon/y.png"],
    }


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
def test_suffix_of_an_image_may_be_in_any_case(tree, suffix):
    data_dir = tree(f"a/x{suffix.upper()}", f"b/y{suffix}", f"b/z{suffix.title()}")

    assert len(read_parts(data_dir, FileRules(), training=True).train) == 3


def test_stray_files_are_left_out_and_named(tree):
    data_dir = tree("a/1.png", "b/2.png")
    tree("a/spin.gif", "a/notes.txt", "readme.md", content=GIF)

    parts = read_parts(data_dir, FileRules(), training=True)

    assert relative(parts.train, data_dir) == {"a": ["a/1.png"], "b": ["b/2.png"]}
    (note,) = parts.notes
    assert note.startswith(f"{data_dir}: 3 file(s) ignored, not images: ")
    assert all(f"{data_dir}/{name}" in note for name in ("a/spin.gif", "a/notes.txt", "readme.md"))


def test_hidden_files_and_folders_are_left_out_and_counted(tree):
    data_dir = tree("a/1.png", "b/2.png", "a/.1.png", "b/.thumbs/t.png", ".git/x.png")
    tree("a/.DS_Store", content=b"")

    parts = read_parts(data_dir, FileRules(), training=True)

    assert relative(parts.train, data_dir) == {"a": ["a/1.png"], "b": ["b/2.png"]}
    assert parts.notes == [f"{data_dir}: 4 hidden file(s) or folder(s) ignored"]


@given(names=st.lists(st.text("ab.AB", min_size=1, max_size=4), min_size=2, max_size=6, unique=True), data=st.data())
@settings(max_examples=40, derandomize=True, deadline=None)
def test_any_tree_is_listed_like_a_plain_loop_would_list_it(tmp_path_factory, names, data):
    folder, expected = tmp_path_factory.mktemp("tree"), {}
    for name in sorted(set(names) - {".", ".."}):
        files = data.draw(st.lists(st.sampled_from(["x.png", ".x.png", "y.JPG", "z.gif", "png"]), unique=True))
        (folder / name).mkdir()
        for file in files:
            (folder / name / file).write_bytes(b"")
        if not name.startswith("."):
            expected[name] = [f"{folder}/{name}/{file}" for file in sorted(files) if file in ("x.png", "y.JPG")]

    found = scan_class_folders(folder)

    assert found.files == expected
    assert list(found.files) == sorted(expected)


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("cat/loop", ".."),
        ("cat/loop", "."),
        ("cat/in/loop", "../.."),
        ("cat/in/loop", ".."),
        ("loop", "."),
        ("loop", "loop"),
        ("loop", ".."),
        ("cat/loop", "loop"),
        ("cat/root", "/"),
    ],
)
def test_link_back_to_a_folder_above_is_passed_over_and_named(tree, link, target):
    data_dir = tree("cat/a.png", "cat/in/b.png", "dog/c.png")
    (data_dir / link).symlink_to(target)

    parts = read_parts(data_dir, FileRules(), training=True)

    assert relative(parts.train, data_dir) == {"cat": ["cat/a.png", "cat/in/b.png"], "dog": ["dog/c.png"]}
    assert parts.notes == [f"{data_dir}: 1 file(s) ignored, not images: {data_dir / link}"]


def test_links_to_images_and_to_folders_elsewhere_are_followed(tree, tmp_path):
    data_dir = tree("cat/a.png", "dog/b.png")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "c.png").write_bytes(PNG)
    (data_dir / "dog" / "c.png").symlink_to(tmp_path / "elsewhere" / "c.png")
    (data_dir / "fox").symlink_to(tmp_path / "elsewhere")
    (data_dir / "dog" / "more").symlink_to(tmp_path / "elsewhere")

    parts = read_parts(data_dir, FileRules(), training=True)

    assert relative(parts.train, data_dir) == {
        "cat": ["cat/a.png"],
        "dog": ["dog/b.png", "dog/c.png", "dog/more/c.png"],
        "fox": ["fox/c.png"],
    }


def test_folder_that_cannot_be_opened_is_an_error_and_not_an_empty_one(tree, monkeypatch):
    data_dir = tree("cat/a.png", "cat/locked/b.png", "dog/c.png")
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)

    assert message_of(data_dir) == f"{data_dir}/cat/locked: cannot be read (Permission denied)"


def test_empty_class_is_refused_or_left_out_by_name(tree):
    data_dir = tree("cat/a.png", "dog/b.png")
    (data_dir / "fox").mkdir()

    assert message_of(data_dir).startswith(f"{data_dir}/fox: no images (bmp jpeg jpg ")
    parts = read_parts(data_dir, FileRules(on_bad_image="skip"), training=True)
    assert parts.train.classes == ["cat", "dog"]
    assert parts.notes == [f"{data_dir}: empty class folders left out: fox"]


def test_places_that_hold_no_data_are_refused_each_with_its_reason(tree, tmp_path):
    assert message_of(tmp_path / "lost") == f"{tmp_path}/lost: no such folder (data_dir)"
    (tmp_path / "file").write_bytes(b"")
    assert message_of(tmp_path / "file") == f"{tmp_path}/file: not a folder (data_dir)"
    (tmp_path / "empty").mkdir()
    assert message_of(tmp_path / "empty").startswith(f"{tmp_path}/empty: no class folders (expected ")
    data_dir = tree("a.png", "b.png")
    assert message_of(data_dir).startswith(f"{data_dir}: no class folders")
    tree("cat/a.txt", "dog/b.gif")
    assert message_of(data_dir).startswith(f"{data_dir}: no images below cat, dog (looked for bmp jpeg ")


def test_one_class_is_refused(tree):
    data_dir = tree("train/cat/a.png")

    assert message_of(data_dir) == f"{data_dir}/train: only one class ('cat'); a classifier needs at least two"


def test_parts_with_other_classes_are_refused_with_what_is_missing_and_what_is_not_expected(tree):
    data_dir = tree(*(f"train/{name}/a.png" for name in "abc"), *(f"val/{name}/a.png" for name in "bcde"))

    assert message_of(data_dir).splitlines() == [
        f"{data_dir}/val: its classes are not the 3 expected (a, b, c)",
        "  missing: a",
        "  not expected: d, e",
    ]


def test_classes_of_a_test_are_mapped_by_name_to_those_of_the_model(tree):
    data_dir = tree("test/dog/b.png", "test/ant/a.png")
    rules = FileRules(classes=["zebra", "dog", "cat", "ant"])

    parts = read_parts(data_dir, rules, training=False)

    assert parts.test.classes == ["zebra", "dog", "cat", "ant"]
    assert parts.test.targets.tolist() == [1, 3]
    assert [os.path.basename(os.path.dirname(path)) for path in parts.test.paths] == ["dog", "ant"]
    assert parts.notes == [f"{data_dir}/test: no images of zebra, cat"]


def test_a_test_may_have_one_class_only_and_none_that_the_model_does_not_know(tree):
    data_dir = tree("test/dog/b.png")

    parts = read_parts(data_dir, FileRules(classes=["cat", "dog"]), training=False)

    assert parts.test.targets.tolist() == [1]
    tree("test/wolf/c.png")
    message = message_of(data_dir, FileRules(classes=["cat", "dog"]), training=False)
    assert message.splitlines()[-1] == "  not expected: wolf"


def test_truncated_image_stops_with_its_path_and_how_to_go_on(tree):
    data_dir = tree("cat/a.jpg", "dog/b.jpg", content=JPEG)
    tree("dog/cut.jpg", "dog/cut2.jpg", content=JPEG[: len(JPEG) // 2])

    assert message_of(data_dir).splitlines() == [
        f"{data_dir}/dog/cut.jpg: truncated image (2 bad images in all: {data_dir}/dog/cut2.jpg)",
        '  "on_bad_image": "skip" leaves such files out and names them',
    ]


def test_skipping_leaves_out_by_name_what_is_cut_and_keeps_what_only_decoding_would_show(tree):
    data_dir = tree("cat/a.jpg", "dog/b.jpg", content=JPEG)
    tree("cat/cut.jpg", content=JPEG[: len(JPEG) // 2])
    damaged = bytearray(encoded(size=(64, 64)))
    damaged[2000:2010] = bytes(255 - byte for byte in damaged[2000:2010])
    tree("dog/inner.png", content=bytes(damaged))  # its two ends are whole

    parts = read_parts(data_dir, FileRules(on_bad_image="skip"), training=True)

    assert relative(parts.train, data_dir) == {"cat": ["cat/a.jpg"], "dog": ["dog/b.jpg", "dog/inner.png"]}
    assert parts.notes == [f"bad image left out: {data_dir}/cat/cut.jpg: truncated image"]
    assert parts.train.num_left_out == 1
    assert parts.train.skips_bad
    with pytest.raises(DataError, match=r"dog/inner\.png: damaged image \("):
        parts.train.pixels(2)


def test_without_skipping_nothing_is_passed_over_later_either(tree):
    parts = read_parts(tree("cat/a.png", "dog/b.png"), FileRules(on_bad_image="error"), training=True)

    assert (parts.train.skips_bad, parts.train.num_left_out) == (False, 0)


def test_class_that_loses_all_its_images_to_skipping_is_named_and_a_part_that_does_is_refused(tree):
    data_dir = tree("cat/a.png", "dog/b.png")
    tree("fox/x.png", "fox/y.png", content=b"no image")

    parts = read_parts(data_dir, FileRules(on_bad_image="skip"), training=True)

    assert parts.train.targets.tolist() == [0, 1]
    assert parts.notes[-1] == "no image can be read of fox"
    tree("cat/a.png", "dog/b.png", content=b"no image")
    message = message_of(data_dir, FileRules(on_bad_image="skip"))
    assert message == f"{data_dir}/cat/a.png: not an image (looks like text); no image of this part can be read"


def test_grey_is_passed_on(tree):
    data_dir = tree("cat/a.png", "dog/b.png")

    assert read_parts(data_dir, FileRules(channels=1), training=True).train[0][0].shape == (1, 4, 4)


def test_ants_and_bees_are_244_and_153_photographs_and_the_stray_gif_is_named(real_images):
    data_dir = real_images("hymenoptera_data")

    parts = read_parts(data_dir, FileRules(), training=True)

    assert (len(parts.train), len(parts.validation), parts.test) == (244, 153, None)
    assert parts.train.classes == ["ants", "bees"]
    assert len(parts.notes) == 1
    assert "imageNotFound.gif" in parts.notes[0]


def test_sign_digits_are_2062_photographs_with_an_upper_case_suffix(real_images):
    data_dir = real_images("sign-digits") / "Dataset"

    parts = read_parts(data_dir, FileRules(), training=True)

    assert parts.train.classes == [str(digit) for digit in range(10)]
    assert len(parts.train) == 2062
    assert all(path.endswith(".JPG") for path in parts.train.paths)


def test_cifar_folders_hold_5000_and_1000_images_a_class(real_images, monkeypatch, tmp_path):
    monkeypatch.setattr("data_loader.index.INDEX_DIR", tmp_path)  # it would say that all were looked at
    monkeypatch.setattr("data_loader.folder.find_bad_images", lambda *_, **__: [])  # 60,000 files to open

    parts = read_parts(real_images("CIFAR-10-images"), FileRules(), training=True)

    assert np.bincount(parts.train.targets).tolist() == [5000] * 10
    assert np.bincount(parts.test.targets).tolist() == [1000] * 10
    assert parts.train.classes[:3] == ["airplane", "automobile", "bird"]
