"""index.py: a listing that is used again gives what listing anew would give, and is not used where that is in doubt."""

import os
import random
import time

import pytest
import torch

from data_loader import folder, index
from data_loader.folder import FileRules, read_parts
from tests.test_folder import JPEG, PNG, tree  # noqa: F401  (a fixture)
from utils.errors import DataError

CUT = JPEG[: len(JPEG) // 2]
NAMES = [f"{name}/{number}.png" for name in ("ant", "bee", "cat") for number in range(4)] + ["bee/in/x.png"]


@pytest.fixture(autouse=True)
def _small_and_patient(monkeypatch, tmp_path):
    """Folders of a few files count as large, and as old, and the project's own folder is left alone."""
    monkeypatch.setattr(index, "INDEX_DIR", tmp_path / "cache" / "index")
    monkeypatch.setattr(index, "MIN_FILES", 1)
    monkeypatch.setattr(index, "_STEP_NS", -(10**10))


@pytest.fixture
def data_dir(tree):  # noqa: F811
    folder = tree(*NAMES)
    tree("ant/notes.txt", "ant/.hidden", "readme.md", content=b"")
    return folder


@pytest.fixture
def looked_at(monkeypatch):
    """How many files each start looked at, and whether it listed folders."""
    starts, find, scan = [], folder.find_bad_images, folder.scan_class_folders
    monkeypatch.setattr(folder, "find_bad_images", lambda paths, **how: starts.append(len(paths)) or find(paths, **how))
    monkeypatch.setattr(folder, "scan_class_folders", lambda *args: starts.append("listed") or scan(*args))
    return starts


def everything(data_dir, **rules):
    """All that is known of the training part after a start, or what is said of it."""
    try:
        parts = read_parts(data_dir, FileRules(**rules), training=True)
    except DataError as error:
        return str(error)
    data = parts.train
    return list(data.paths), data.targets.tolist(), data.classes, data.num_left_out, parts.notes


def anew(data_dir, monkeypatch, **rules):
    with monkeypatch.context() as patch:
        patch.setattr("data_loader.folder.load_index", lambda folder: None)
        patch.setattr("data_loader.folder.save_index", lambda *_: None)
        return everything(data_dir, **rules)


def wait_for_the_clock(folder):
    """Until a change of a file or folder gets another time than it would have got before."""
    (folder / "clock").write_bytes(b"")
    before = (folder / "clock").stat().st_mtime_ns
    while (folder / "clock").stat().st_mtime_ns == before:
        (folder / "clock").write_bytes(b"")


def test_a_second_start_lists_nothing_looks_at_nothing_and_gives_the_same(data_dir, looked_at):
    first = everything(data_dir)
    second = everything(data_dir)

    assert looked_at == ["listed", 13, 0]
    assert first == second
    assert first[4] == [
        f"{data_dir}: 2 file(s) ignored, not images: {data_dir}/ant/notes.txt, {data_dir}/readme.md",
        f"{data_dir}: 1 hidden file(s) or folder(s) ignored",
    ]


def change_at_random(data_dir, dice):
    """One change of any kind."""
    files = sorted(path for path in data_dir.rglob("*") if path.is_file())
    folders = sorted(path for path in data_dir.rglob("*") if path.is_dir())
    file, place, name = dice.choice(files), dice.choice(folders), f"{dice.randrange(10**6)}.png"
    changes = [
        lambda: (place / name).write_bytes(PNG),
        lambda: (place / name).write_bytes(CUT),
        lambda: (place / f".{name}").write_bytes(b""),
        lambda: (place / "x.txt").write_bytes(b"x"),
        lambda: file.unlink(),
        lambda: file.rename(place / name),
        lambda: file.write_bytes(PNG),
        lambda: file.write_bytes(CUT),
        lambda: (place / name.removesuffix(".png")).mkdir(),
        lambda: (place / name).symlink_to(file),
        lambda: (data_dir / f"new{dice.randrange(10)}").mkdir(exist_ok=True),
    ]
    dice.choice(changes)()


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("rule", ["error", "skip"])
def test_after_any_changes_a_start_gives_what_listing_anew_gives(data_dir, monkeypatch, seed, rule):
    # Every file is probed here, so that also what is written into a file is noticed.
    dice = random.Random(seed)
    for _ in range(6):
        everything(data_dir, on_bad_image=rule)
        wait_for_the_clock(data_dir.parent)
        change_at_random(data_dir, dice)

        assert everything(data_dir, on_bad_image=rule) == anew(data_dir, monkeypatch, on_bad_image=rule)
        assert everything(data_dir, on_bad_image="skip") == anew(data_dir, monkeypatch, on_bad_image="skip")


def test_other_classes_than_before_find_their_images(data_dir, monkeypatch):
    everything(data_dir)
    rules = {"classes": ["dog", "cat", "ant", "bee"]}

    assert everything(data_dir, **rules) == anew(data_dir, monkeypatch, **rules)
    assert everything(data_dir, classes=["ant", "bee"]) == anew(data_dir, monkeypatch, classes=["ant", "bee"])


def test_bad_images_are_looked_at_again_and_only_those(data_dir, looked_at, monkeypatch):
    monkeypatch.setattr(index, "NUM_PROBES", 1)  # of the first file only: the others are not noticed by their times
    (data_dir / "bee" / "2.png").write_bytes(CUT)
    left_out = everything(data_dir, on_bad_image="skip")
    assert everything(data_dir, on_bad_image="skip") == left_out
    assert "bee/2.png: " in everything(data_dir, on_bad_image="error")

    (data_dir / "bee" / "2.png").write_bytes(PNG)
    mended = everything(data_dir, on_bad_image="error")

    assert looked_at == ["listed", 13, 1, 1, 1]
    assert (left_out[3], mended[3], len(mended[0])) == (1, 0, 13)


def test_a_file_that_is_written_anew_among_the_probes_has_all_looked_at(data_dir, looked_at, monkeypatch):
    monkeypatch.setattr(index, "NUM_PROBES", 4)  # every third of 13
    everything(data_dir)
    (data_dir / "ant" / "3.png").write_bytes(CUT)

    assert everything(data_dir).startswith(f"{data_dir}/ant/3.png: ")
    assert looked_at == ["listed", 13, "listed", 13]


def test_a_file_that_is_written_anew_beside_the_probes_is_met_when_it_is_decoded(data_dir, monkeypatch):
    # What is given up: see docs/decisions/0024-large-folders-and-workers.md.
    monkeypatch.setattr(index, "NUM_PROBES", 4)
    everything(data_dir)
    (data_dir / "ant" / "2.png").write_bytes(CUT)

    data = read_parts(data_dir, FileRules(), training=True).train

    with pytest.raises(DataError, match=r"ant/2\.png: "):
        data.pixels(2)


def test_the_data_folder_is_not_written_to(data_dir):
    before = {path: path.stat() for path in data_dir.rglob("*")}

    everything(data_dir)
    everything(data_dir)

    assert {path: path.stat() for path in data_dir.rglob("*")}.keys() == before.keys()
    assert len(list(index.INDEX_DIR.iterdir())) == 1


def test_any_damage_to_the_index_is_as_good_as_no_index(data_dir, looked_at):
    whole = everything(data_dir)
    (file,) = index.INDEX_DIR.iterdir()
    content = file.read_bytes()
    dice = random.Random(0)
    flipped = [bytearray(content) for _ in range(40)]
    for one in flipped:
        one[dice.randrange(len(one))] ^= 1 << dice.randrange(8)
    cut = [content[: dice.randrange(len(content))] for _ in range(20)]
    # The digest is right, and the rest of another version or kind.
    other = [index._packed({"suffixes": [".png"]}, index.PathList.of([])), content.replace(b"index 1", b"index 2")]

    for damaged in [*flipped, *cut, *other, b"", b"PK\x03\x04", content + b"x"]:
        looked_at.clear()
        file.write_bytes(damaged)
        assert everything(data_dir) == whole
        assert looked_at == ["listed", 13]
    assert file.read_bytes() == content


def test_a_folder_that_has_just_been_changed_is_not_relied_upon(data_dir, looked_at, monkeypatch):
    monkeypatch.setattr(index, "_STEP_NS", 2 * 10**9)

    everything(data_dir)
    everything(data_dir)

    assert looked_at == ["listed", 13, "listed", 13]
    # Nor is a change that came after the listing began.
    found = index.ClassFolders(folders={"": index.FolderState(time.time_ns(), 0, 0)})
    index.save_index(data_dir, found, [], started_ns=0)
    assert not index.INDEX_DIR.exists()


def test_a_small_folder_is_listed_and_looked_at_each_time(data_dir, looked_at, monkeypatch):
    monkeypatch.setattr(index, "MIN_FILES", 14)

    everything(data_dir)

    assert not index.INDEX_DIR.exists()


def test_a_tree_with_links_that_are_passed_over_is_listed_each_time(data_dir, looked_at):
    (data_dir / "dog").symlink_to(data_dir.parent / "elsewhere")
    before = everything(data_dir)
    (data_dir.parent / "elsewhere").mkdir()
    (data_dir.parent / "elsewhere" / "a.png").write_bytes(PNG)

    after = everything(data_dir)

    assert (len(before[0]), len(after[0])) == (13, 14)


@pytest.mark.parametrize("way", ["full", "no folder", "a folder in its place"])
def test_a_place_that_cannot_be_written_is_no_matter(data_dir, monkeypatch, way):
    if way == "full":
        monkeypatch.setattr("utils.durable_file.os.fsync", lambda number: (_ for _ in ()).throw(OSError(28, "full")))
    elif way == "no folder":
        index.INDEX_DIR.parent.parent.mkdir(exist_ok=True)
        index.INDEX_DIR.parent.write_bytes(b"")
    else:
        index._file_of(data_dir).mkdir(parents=True)

    assert everything(data_dir) == everything(data_dir)
    assert not index.INDEX_DIR.is_dir() or not [path for path in index.INDEX_DIR.iterdir() if path.is_file()]


def test_two_folders_have_two_indexes_and_each_part_its_own(tree, looked_at):  # noqa: F811
    data_dir = tree(*(f"{part}/{name}" for part in ("train", "val", "test") for name in NAMES))

    first = read_parts(data_dir, FileRules(), training=True)
    second = read_parts(data_dir, FileRules(), training=True)

    assert looked_at == [*["listed", 13] * 3, 0, 0, 0]
    for part in ("train", "validation", "test"):
        assert getattr(first, part).paths == getattr(second, part).paths
        assert torch.equal(getattr(first, part).targets, getattr(second, part).targets)
    assert len(list(index.INDEX_DIR.iterdir())) == 3


def test_a_folder_by_a_relative_path_has_the_paths_that_were_asked_for(data_dir, monkeypatch, looked_at):
    everything(data_dir)
    monkeypatch.chdir(data_dir.parent)

    paths = read_parts(type(data_dir)("data"), FileRules(), training=True).train.paths

    assert looked_at == ["listed", 13, 0]
    assert paths[0] == os.path.join("data", "ant", "0.png")
