"""paths.py: a list of paths is any list of strings, in one block of memory that workers share."""

import os
import pickle
import tracemalloc
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_loader.paths import PathList

# What a path can hold: letters of one to four bytes, and bytes that are no letters.
NAMES = st.lists(st.text(st.sampled_from("/a.é한🐜\udcff"), max_size=6), max_size=12)


@given(names=NAMES)
@settings(max_examples=100, derandomize=True, deadline=None)
def test_any_strings_come_back_as_they_were(names):
    paths = PathList.of(names)

    assert list(paths) == names
    assert [paths[at] for at in range(len(names))] == names
    assert [paths[-at] for at in range(1, len(names) + 1)] == names[::-1]
    assert paths.prefix == os.path.commonprefix(names)  # noqa: RUF071  letter by letter is what is meant


@given(names=NAMES, data=st.data())
@settings(max_examples=100, derandomize=True, deadline=None)
def test_parts_and_choices_are_those_of_a_list(names, data):
    paths = PathList.of(names)
    part = data.draw(st.slices(len(names)))
    chosen = data.draw(st.lists(st.integers(0, len(names) - 1), max_size=20)) if names else []

    assert list(paths[part]) == names[part]
    assert list(paths.chosen(torch.tensor(chosen, dtype=torch.int64))) == [names[at] for at in chosen]
    assert list(paths[part].chosen(torch.arange(len(names[part])))) == names[part]


@given(lists=st.lists(NAMES, max_size=4))
@settings(max_examples=50, derandomize=True, deadline=None)
def test_lists_below_one_folder_are_joined(lists):
    parts = [PathList.of(["/data/x", *names], prefix="/data/")[1:] for names in lists]

    assert list(PathList.joined(parts)) == [f"/data/{name}" for names in lists for name in names]


def test_lists_of_different_folders_are_not_joined():
    with pytest.raises(ValueError, match="different prefixes"):
        PathList.joined([PathList.of(["a"], prefix="x/"), PathList.of(["a"], prefix="y/")])


@pytest.mark.parametrize("at", [3, -4, 10**9])
def test_a_number_beyond_the_end_is_refused_as_by_a_list(at):
    with pytest.raises(IndexError):
        PathList.of(["a", "b", "c"])[at]


def test_it_equals_a_list_of_the_same_strings_only():
    paths = PathList.of(["a/1", "a/2"])

    assert paths == ["a/1", "a/2"]
    assert paths == PathList.of(["1", "2"], prefix="a/")
    assert paths != ["a/1", "a/3"]
    assert paths != ["a/1"]
    assert paths != "a/"
    assert paths != 2
    assert repr(paths) == "PathList(['a/1', 'a/2']; 2 paths)"


def test_numbers_of_numpy_are_numbers():
    assert PathList.of(["a", "b"])[np.int64(1)] == "b"


def test_it_travels_to_another_process_as_a_whole():
    paths = PathList.of(["a/1", "a/2", "a/3"])

    assert list(pickle.loads(pickle.dumps(paths[1:]))) == ["a/2", "a/3"]


def test_it_takes_the_bytes_of_the_names_and_eight_each():
    names = [f"/a/long/folder/n{number:08d}.jpg" for number in range(10_000)]
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    paths = PathList.of(iter(names))

    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()

    assert paths.prefix == "/a/long/folder/n0000"
    # The numbers after the prefix and the suffix; an end each. Memory of torch's own is not traced.
    assert len(paths.letters) == 10_000 * len("0000.jpg")
    assert held < 10_000 * (8 + 8) + 10_000


def test_neither_a_look_nor_a_walk_leaves_objects_behind():
    paths = PathList.of([f"{number}.jpg" for number in range(5_000)])
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]

    num_letters = sum(len(path) for path in paths) + sum(len(paths[at]) for at in range(len(paths)))

    assert tracemalloc.get_traced_memory()[0] - before < 5_000
    tracemalloc.stop()
    assert num_letters == 2 * (10 * 5 + 90 * 6 + 900 * 7 + 4_000 * 8)


def test_sending_it_to_a_worker_that_is_started_leaves_it_where_it_is():
    paths = PathList.of(["a/b.png", "a/c.png"])

    sent = pickle.loads(bytes(ForkingPickler.dumps(paths)))

    # torch moves a tensor that is sent into shared memory, and frees what a view of it may still show.
    assert not paths.letters.is_shared()
    assert list(sent) == list(paths) == ["a/b.png", "a/c.png"]
