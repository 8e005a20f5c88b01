"""Which files a data set has, and that its facts come in order, from processes that may die."""

import os
import signal
from pathlib import Path

import pytest
from PIL import Image

from tools import data_facts
from tools.data_facts import WHOLE, list_folders, read_pictures
from tools.picture_facts import facts_of_all
from utils.errors import DataError, LoaderError

MARK = "dies"


def facts_or_death(paths):
    """Instead of `facts_of_all`, in a process of its own."""
    if any(MARK in path for path in paths):
        os.kill(os.getpid(), signal.SIGKILL)
    return facts_of_all(paths)


@pytest.fixture
def tree(tmp_path):
    """Ten pictures of ten widths in two classes."""
    for number in range(10):
        path = tmp_path / "tree" / "ab"[number // 5] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20 + number, 30)).save(path)
    return tmp_path / "tree"


def test_a_tree_is_one_part_and_hidden_things_are_named(tree):
    (tree / ".git").mkdir()
    (tree / ".git" / "inside.png").touch()
    (tree / "a" / ".DS_Store").touch()
    (tree / "b" / "read.me").write_text("x")

    listing = list_folders([tree])

    assert (listing.parts, listing.classes, len(listing)) == ([WHOLE], ["a", "b"], 10)
    assert [Path(path).relative_to(tree).as_posix() for path in listing.hidden] == [".git", "a/.DS_Store"]
    assert listing.ignored == [(str(tree / "b" / "read.me"), "not an image (looks like text)")]


def test_a_folder_that_is_named_twice_counts_once(tree):
    assert len(list_folders([tree, tree])) == 10


def test_a_name_that_is_not_utf8_is_said(tree):
    with open(os.path.join(os.fsencode(tree), b"a", b"\xff.png"), "wb"):
        pass

    with pytest.raises(DataError, match="not UTF-8"):
        list_folders([tree])


@pytest.mark.parametrize("num_processes", [1, 2])
def test_facts_stand_beside_their_files(num_processes, tree, monkeypatch):
    monkeypatch.setattr(data_facts, "_AT_ONCE", 1)

    pictures = read_pictures(list_folders([tree]), num_processes)

    assert [Path(path).name for path in pictures.paths] == [f"{number}.png" for number in range(10)]
    assert pictures.sizes[:, 0].tolist() == list(range(20, 30))
    assert pictures.labels.tolist() == [0] * 5 + [1] * 5


def test_a_process_that_is_killed_is_a_line_and_not_a_wait(tree, monkeypatch):
    Image.new("RGB", (20, 20)).save(tree / "b" / f"{MARK}.png")
    monkeypatch.setattr(data_facts, "_AT_ONCE", 1)
    monkeypatch.setattr(data_facts, "facts_of_all", facts_or_death)

    with pytest.raises(LoaderError, match=r"was killed or crashed.*--processes 1"):
        read_pictures(list_folders([tree]), 2)
