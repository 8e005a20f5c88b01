"""cache_place.py: one file for all who want it, on the disk or in memory, or a reason."""

import errno
import gc
import multiprocessing
import os

import pytest
import torch

from data_loader import cache_place
from data_loader.cache_file import size_of_file
from data_loader.cache_place import NotCachedError, in_memory, on_disk
from utils import cache_folder

SHAPE = (5, 1, 3, 3)
IMAGES = torch.arange(45, dtype=torch.uint8).reshape(SHAPE)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_folder, "CACHE_DIR", tmp_path / "cache")
    monkeypatch.setattr(cache_folder, "MAX_RESERVE_BYTES", 0)
    return tmp_path / "cache"


def opened():
    return on_disk("abc", b"header", SHAPE, 10**9, pytest.fail)


def test_two_who_open_share_one_file_and_nothing_is_left_aside(folder):
    first, second = opened(), opened()

    first.write(1, IMAGES[1])

    assert torch.equal(second.read(1), IMAGES[1])
    assert [path.name for path in (folder / "abc").iterdir()] == ["pixels.bin"]


def test_of_two_who_make_it_at_once_the_first_is_kept(folder, monkeypatch):
    link, others = os.link, []

    def after_another(source, target):
        if not others:
            monkeypatch.setattr(os, "link", link)
            others.append(opened())
            others[0].write(2, IMAGES[2])
        link(source, target)

    monkeypatch.setattr(os, "link", after_another)

    assert torch.equal(opened().read(2), IMAGES[2])


def test_a_disk_without_links_does_as_well(folder, monkeypatch):
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(errno.EPERM, "not permitted")))

    opened().write(2, IMAGES[2])

    assert torch.equal(opened().read(2), IMAGES[2])


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_folder_that_cannot_be_written_is_a_reason(folder, monkeypatch, number):
    monkeypatch.setattr(cache_place.Path, "mkdir", lambda *_, **__: (_ for _ in ()).throw(OSError(number, "why")))

    with pytest.raises(NotCachedError, match=r"abc: why$"):
        opened()


def test_a_file_in_the_way_is_a_reason(folder):
    folder.write_bytes(b"")

    with pytest.raises(NotCachedError, match="Not a directory"):
        opened()


def fill(index, done):
    store = opened()
    for _ in range(50):
        for one in ((index + number) % 5 for number in range(5)):
            store.write(one, IMAGES[one])
    done.put(index)


def test_processes_that_fill_it_at_once_agree(folder):
    context = multiprocessing.get_context("fork")
    done = context.SimpleQueue()
    processes = [context.Process(target=fill, args=(index, done)) for index in range(3)]

    for process in processes:
        process.start()
    for process in processes:
        process.join(60)

    assert sorted(done.get() for _ in processes) == [0, 1, 2]
    later = opened()
    assert all(torch.equal(later.read(index), IMAGES[index]) for index in range(5))


def read_two(store, results):
    store.write(1, IMAGES[1])
    results.put([None if image is None else image.tolist() for image in (store.read(0), store.read(1), store.read(2))])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_memory_is_shared_with_processes_however_they_start(method):
    store = in_memory(b"header", SHAPE, 10**6)
    store.write(0, IMAGES[0])
    context = multiprocessing.get_context(method)
    results = context.SimpleQueue()

    process = context.Process(target=read_two, args=(store, results))
    process.start()
    found = results.get()
    process.join()

    assert found == [IMAGES[0].tolist(), IMAGES[1].tolist(), None]
    assert torch.equal(store.read(1), IMAGES[1])


def test_memory_is_given_back_with_the_store():
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    store = in_memory(b"header", SHAPE, 10**6)
    assert len(os.listdir("/proc/self/fd")) > before

    del store
    gc.collect()

    assert len(os.listdir("/proc/self/fd")) == before


def test_memory_that_there_is_not_is_a_reason(monkeypatch):
    with pytest.raises(NotCachedError, match=r"are needed, and half the free memory and cache_limit_gb leave 0\.0 MB"):
        in_memory(b"header", SHAPE, size_of_file(SHAPE) - 1)
    monkeypatch.setattr(os, "memfd_create", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOMEM, "no memory")))
    with pytest.raises(NotCachedError, match="memory: no memory"):
        in_memory(b"header", SHAPE, 10**6)
    monkeypatch.delattr(os, "memfd_create")
    with pytest.raises(NotCachedError, match="this system shares no memory"):
        in_memory(b"header", SHAPE, 10**6)


def test_a_system_without_writes_at_a_place_keeps_nothing_on_the_disk(folder, monkeypatch):
    monkeypatch.delattr(os, "pwrite")

    with pytest.raises(NotCachedError, match="this system cannot"):
        opened()
