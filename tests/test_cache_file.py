"""cache_file.py: what was written is read, and nothing else ever is, whatever happens to the file."""

import logging
import os
import pickle
import resource
import signal
import zlib

import numpy as np
import pytest
import torch

from data_loader import cache_file
from data_loader.cache_file import HEADER_BYTES, DamagedFileError, PixelFile, size_of_file
from data_loader.cache_place import on_disk
from utils import cache_folder

SHAPE = (6, 3, 4, 5)
HEADER = b"decoded pixels\nabc\n"
IMAGES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, SHAPE, dtype=np.uint8))
PIXELS_BEGIN = 2 * HEADER_BYTES  # one block of header, one of entries


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_folder, "CACHE_DIR", tmp_path / "cache")
    monkeypatch.setattr(cache_folder, "MAX_RESERVE_BYTES", 0)
    return tmp_path / "cache" / "abc" / "pixels.bin"


@pytest.fixture
def store(place):
    return opened()


def opened():
    return on_disk("abc", HEADER, SHAPE, 10**9, lambda text: None)


def equal(image, index):
    return image is not None and image.dtype == torch.uint8 and torch.equal(image, IMAGES[index])


def overwrite(path, offset, content):
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(content)


def test_an_image_is_read_as_it_was_written_and_others_are_not_there(store):
    store.write(2, IMAGES[2])
    store.write(0, IMAGES[0].permute(0, 2, 1).contiguous().permute(0, 2, 1))  # of another layout in memory

    assert equal(store.read(2), 2)
    assert equal(store.read(0), 0)
    assert store.read(1) is None
    assert store.num_there == 2


def as_stored(image_CHW):
    """The channels of a pixel side by side."""
    return np.ascontiguousarray(image_CHW.numpy().transpose(1, 2, 0)).tobytes()


def test_the_file_is_laid_out_as_the_module_says(store, place):
    store.write(3, IMAGES[3])

    content = place.read_bytes()

    assert len(content) == size_of_file(SHAPE) == PIXELS_BEGIN + IMAGES.numel()
    assert content[:HEADER_BYTES] == HEADER.ljust(HEADER_BYTES, b"\0")
    assert np.frombuffer(content[HEADER_BYTES:][:48], "<u8").tolist() == [
        *(0, 0, 0),
        2**32 + zlib.crc32(as_stored(IMAGES[3])),
        *(0, 0),
    ]
    assert content[PIXELS_BEGIN + 180 : PIXELS_BEGIN + 240] == as_stored(IMAGES[3])


def test_what_is_read_is_a_copy(store):
    store.write(1, IMAGES[1])

    store.read(1).zero_()
    store.write(2, IMAGES[2])
    store.read_batch([1, 2]).zero_()

    assert equal(store.read(1), 1)


def test_a_batch_is_read_where_all_is_there_and_was_seen_to_be_whole(store, place):
    for index in (0, 1, 5):
        store.write(index, IMAGES[index])
    later = opened()

    assert torch.equal(store.read_batch([5, 0, 5]), IMAGES[[5, 0, 5]])
    assert store.read_batch([0, 2]) is None
    assert later.read_batch([0, 5]) is None  # no checksum was looked at yet
    assert equal(later.read(0), 0)
    assert equal(later.read(5), 5)
    assert torch.equal(later.read_batch([0, 5]), IMAGES[[0, 5]])


@pytest.mark.parametrize("bit", range(0, 60 * 8, 37))
def test_a_flipped_bit_of_an_image_is_seen_by_a_later_run_and_mended(store, place, bit):
    store.write(4, IMAGES[4])
    offset = PIXELS_BEGIN + 4 * 60 + bit // 8
    overwrite(place, offset, bytes([place.read_bytes()[offset] ^ (1 << bit % 8)]))
    later = opened()

    assert later.read(4) is None
    later.write(4, IMAGES[4])
    assert equal(opened().read(4), 4)


@pytest.mark.parametrize("bit", range(64))
def test_a_flipped_bit_of_an_entry_never_gives_other_pixels(store, place, bit):
    store.write(4, IMAGES[4])
    for index in (4, 1):  # one that is there, and one that is not
        entry = int(store.entries[index]) ^ (1 << bit)
        overwrite(place, HEADER_BYTES + 8 * index, entry.to_bytes(8, "little"))
    later = opened()

    assert later.read(4) is None
    assert later.read(1) is None


@pytest.mark.parametrize("num_bytes", [0, 10, HEADER_BYTES, PIXELS_BEGIN + 1, PIXELS_BEGIN + 359, PIXELS_BEGIN + 361])
def test_a_file_of_another_length_is_made_anew_and_said(store, place, num_bytes):
    store.write(0, IMAGES[0])
    os.truncate(place, num_bytes)
    notes = []

    later = on_disk("abc", HEADER, SHAPE, 10**9, notes.append)

    assert notes == [f"{place}: damaged, or of another version; made anew"]
    assert later.num_there == 0
    later.write(0, IMAGES[0])
    assert equal(opened().read(0), 0)


@pytest.mark.parametrize("offset", [0, 14, 20, 4095])
def test_a_header_with_one_other_byte_is_made_anew(store, place, offset):
    store.write(0, IMAGES[0])
    overwrite(place, offset, b"#")

    with pytest.raises(DamagedFileError):
        PixelFile(place, HEADER, SHAPE)
    assert opened().read(0) is None


def test_a_file_that_is_cut_while_it_is_open_is_read_and_written_no_more(store, place, caplog):
    store.write(0, IMAGES[0])
    os.truncate(place, HEADER_BYTES)  # to touch the pixels now would be a SIGBUS

    with caplog.at_level(logging.WARNING):
        store.write(1, IMAGES[1])

    assert store.read(0) is None
    assert store.read_batch([0]) is None
    assert place.stat().st_size == HEADER_BYTES
    assert "the file was changed by something else" in caplog.text


def test_a_full_disk_is_said_once_and_the_rest_is_read_as_before(store, caplog, monkeypatch):
    store.write(0, IMAGES[0])
    monkeypatch.setattr(os, "pwrite", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))

    with caplog.at_level(logging.WARNING):
        for index in (1, 2, 3):
            store.write(index, IMAGES[index])
    monkeypatch.undo()
    store.write(4, IMAGES[4])

    assert [record.getMessage().split(": ", 2)[2] for record in caplog.records] == [
        "no more pixels are cached (No space left on device); the run goes on and decodes what is missing"
    ]
    assert [store.read(index) is not None for index in range(5)] == [True, False, False, False, False]


def test_the_last_of_the_disk_is_left_to_others(place, caplog, monkeypatch):
    store = opened()
    store.reserve_bytes = 10**18

    with caplog.at_level(logging.WARNING):
        store.write(0, IMAGES[0])

    assert "the disk is nearly full" in caplog.text
    assert store.num_there == 0


def test_a_real_limit_of_the_system_ends_the_writing_only(store, caplog):
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (PIXELS_BEGIN + 90, before[1]))  # in the middle of the second image
    try:
        with caplog.at_level(logging.WARNING):
            for index in range(3):
                store.write(index, IMAGES[index])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)

    assert equal(store.read(0), 0)
    assert store.read(1) is None
    assert store.num_there == 1
    assert "File too large" in caplog.text


def test_an_image_of_another_shape_or_kind_is_not_kept(store):
    store.write(0, IMAGES[0, :, :, :4])
    store.write(1, IMAGES[1].float())
    store.write(2, IMAGES[2, :1])

    assert store.num_there == 0


def test_a_file_that_may_not_be_written_is_read(store, place, monkeypatch, caplog):
    store.write(0, IMAGES[0])
    open_file = os.open

    def refusing(path, flags, *rest):
        if flags & os.O_RDWR:
            raise PermissionError(13, "Permission denied")
        return open_file(path, flags, *rest)

    monkeypatch.setattr(os, "open", refusing)
    later = opened()
    later.write(1, IMAGES[1])

    assert equal(later.read(0), 0)
    assert later.read(1) is None
    assert caplog.text == ""


def in_child(action):
    """Runs it in a forked process, which ends without any cleaning up; its exit code."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            code = action() or 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("num_operations", range(7))
@pytest.mark.parametrize("is_torn", [False, True])
def test_a_process_that_is_killed_at_any_write_leaves_no_wrong_image(place, monkeypatch, num_operations, is_torn):
    opened()
    pwrite = os.pwrite

    def write_until_killed():
        done = 0

        def counting(number, content, offset):
            nonlocal done
            if done == num_operations:
                if is_torn:
                    pwrite(number, content[: len(content) // 2], offset)
                os.kill(os.getpid(), signal.SIGKILL)
            done += 1
            return pwrite(number, content, offset)

        os.pwrite = counting
        store = opened()
        for index in range(3):
            store.write(index, IMAGES[index])

    code = in_child(write_until_killed)
    later = opened()
    found = [later.read(index) for index in range(6)]

    assert code == (-signal.SIGKILL if num_operations < 6 else 0)
    assert [image is not None for image in found] == [index < num_operations // 2 for index in range(6)]
    assert all(equal(image, index) for index, image in enumerate(found) if image is not None)


def test_the_pixels_are_written_before_the_entry(store, monkeypatch):
    offsets, pwrite = [], os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda number, data, at: offsets.append(at) or pwrite(number, data, at))

    store.write(2, IMAGES[2])

    assert offsets == [PIXELS_BEGIN + 2 * 60, HEADER_BYTES + 2 * 8]


def test_a_write_that_stops_in_the_middle_goes_on(store, monkeypatch):
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda number, data, at: pwrite(number, data[:7], at))

    store.write(5, IMAGES[5])

    assert equal(opened().read(5), 5)


def test_what_a_forked_process_writes_is_read_here_and_known_to_be_whole(store):
    assert in_child(lambda: store.write(1, IMAGES[1])) == 0

    assert torch.equal(store.read_batch([1]), IMAGES[[1]])


def test_a_process_that_is_started_and_not_forked_opens_the_file_itself(store, place):
    store.write(1, IMAGES[1])

    copy = pickle.loads(pickle.dumps(store))
    copy.write(2, IMAGES[2])
    pickled = pickle.dumps(store)
    place.unlink()
    lost = pickle.loads(pickled)
    lost.write(3, IMAGES[3])

    assert equal(copy.read(1), 1)
    assert equal(store.read(2), 2)
    assert lost.read(1) is None
    assert lost.read_batch([1]) is None


def test_the_checksums_of_a_file_are_computed_once_in_a_run(store, monkeypatch):
    store.write(0, IMAGES[0])
    later, count = opened(), []
    monkeypatch.setattr(cache_file.zlib, "crc32", lambda data: count.append(1) or zlib_crc32(data))

    for _ in range(3):
        later.read(0)

    assert count == [1]


zlib_crc32 = zlib.crc32
