"""scan.py: the listing of a tree, held against a plain walk and against torchvision's, and what it was read from."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.datasets import ImageFolder

from data_loader.scan import FolderState, scan_class_folders
from utils.errors import DataError

NAMES = st.sampled_from(["a", "b", "B", "a.png", "é.JPG", "z.gif", ".h", ".h.png", "10.png", "2.png", "png"])
# A tree is a file (None), a link by its target, or a folder of trees.
TREES = st.recursive(
    st.none() | st.sampled_from([".", "..", "../..", "a", "b", "../b", "gone", "/", "a.png"]),
    lambda inside: st.dictionaries(NAMES, inside, max_size=4),
    max_leaves=14,
)


def make(place: Path, tree) -> None:
    if tree is None:
        place.write_bytes(b"")
    elif isinstance(tree, str):
        place.symlink_to(tree)
    else:
        place.mkdir()
        for name, inside in tree.items():
            make(place / name, inside)


def leads_back(path, folder):
    real = os.path.realpath(path)
    return os.path.commonpath([real, os.path.realpath(folder)]) == real


def walked(folder):
    """(images by class, what is passed over, how many are hidden), by os.walk and a realpath of everything."""
    images, ignored, num_hidden = {}, [], 0
    _, folders, files = next(os.walk(folder))
    for name in sorted([*folders, *files]):
        path = os.path.join(folder, name)
        if name.startswith("."):
            num_hidden += 1
        elif name not in folders or leads_back(path, folder):
            ignored.append(path)
        else:
            images[name], visited = [], {os.path.realpath(path)}
            for here, inside, names in os.walk(path, followlinks=True):
                num_hidden += sum(one.startswith(".") for one in (*inside, *names))
                seen = sorted(one for one in inside if not one.startswith("."))
                inside.clear()
                for one in seen:
                    below = os.path.join(here, one)
                    if os.path.realpath(below) in visited or leads_back(below, path):
                        ignored.append(below)
                    else:
                        visited.add(os.path.realpath(below))
                        inside.append(one)
                for one in sorted(one for one in names if not one.startswith(".")):
                    is_image = one.lower().endswith((".png", ".jpg"))
                    (images[name] if is_image else ignored).append(os.path.join(here, one))
    return images, ignored, num_hidden


@given(tree=st.dictionaries(NAMES, TREES, min_size=1, max_size=5))
@settings(max_examples=100, derandomize=True, deadline=None)
def test_any_tree_with_links_is_listed_as_a_plain_walk_lists_it(tmp_path_factory, tree):
    folder = tmp_path_factory.mktemp("tree") / "data"
    make(folder, tree)

    found = scan_class_folders(folder)

    assert (found.files, found.ignored, found.num_hidden) == walked(folder)
    assert list(found.files) == sorted(found.files)


@given(
    tree=st.dictionaries(
        st.sampled_from("abcB"),
        st.dictionaries(st.sampled_from(["x.png", "10.png", "2.JPG", "deep"]), st.none(), min_size=1),
        min_size=1,
    )
)
@settings(max_examples=40, derandomize=True, deadline=None)
def test_a_plain_tree_is_listed_as_torchvision_lists_it(tmp_path_factory, tree):
    folder = tmp_path_factory.mktemp("tree") / "data"
    make(folder, {name: {**inside, "sub": {"y.png": None, "more": {"z.png": None}}} for name, inside in tree.items()})

    found = scan_class_folders(folder)

    theirs = ImageFolder(folder)
    samples = [(path, number) for number, files in enumerate(found.files.values()) for path in files]
    assert samples == theirs.samples
    assert list(found.files) == theirs.classes


def test_every_folder_is_noted_as_it_was_and_hidden_ones_are_not_entered(tmp_path):
    make(tmp_path / "data", {"a": {"x.png": None, "in": {"y.png": None}, ".no": {"z.png": None}}, "b": {}})

    found = scan_class_folders(tmp_path / "data")

    below = {"": "data", "a": "data/a", "a/in": "data/a/in", "b": "data/b"}
    assert found.folders == {name: FolderState.of(str(tmp_path / path)) for name, path in below.items()}
    assert not found.has_links


@pytest.mark.parametrize("link", ["lost", "a/lost", "a/lost.txt"])
def test_a_link_that_is_passed_over_is_remembered(tmp_path, link):
    make(tmp_path / "data", {"a": {"x.png": None}})
    (tmp_path / "data" / link).symlink_to("nowhere")

    assert scan_class_folders(tmp_path / "data").has_links


def _now_ns(folder):
    """By the clock of the file system."""
    (folder / "clock").write_bytes(b"")
    return (folder / "clock").stat().st_ctime_ns


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "new.png").write_bytes(b""),
        lambda folder: (folder / "x.png").unlink(),
        lambda folder: (folder / "x.png").rename(folder / "y.png"),
        lambda folder: (folder / "sub").mkdir(),
    ],
)
def test_a_folders_state_tells_a_change_of_its_names_though_its_time_is_set_back(tmp_path, change):
    make(tmp_path / "data", {"x.png": None})
    os.utime(tmp_path / "data", ns=(10**18, 10**18))
    before = FolderState.of(str(tmp_path / "data"))
    while _now_ns(tmp_path) <= before.ctime_ns:
        pass  # the clock of a file system moves in steps of some milliseconds

    change(tmp_path / "data")
    os.utime(tmp_path / "data", ns=(10**18, 10**18))

    after = FolderState.of(str(tmp_path / "data"))
    assert (before.mtime_ns, before.inode) == (after.mtime_ns, after.inode)
    assert before != after


@pytest.mark.skipif(os.name == "nt", reason="names are no bytes there")
@pytest.mark.parametrize("name", [b"a/caf\xe9.png", b"caf\xe9", b"caf\xe9.txt", b"a/.caf\xe9"])
def test_a_name_that_is_not_utf_8_is_refused(tmp_path, name):
    make(tmp_path / "data", {"a": {"x.png": None}})
    with open(os.fsencode(tmp_path / "data") + b"/" + name, "wb"):
        pass

    with pytest.raises(DataError, match="a name that is not UTF-8"):
        scan_class_folders(tmp_path / "data")


def test_a_folder_that_is_gone_is_named(tmp_path):
    with pytest.raises(DataError, match=r"/lost: cannot be read \(No such file or directory\)"):
        scan_class_folders(tmp_path / "lost")
