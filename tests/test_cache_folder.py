"""cache_folder.py: the limit holds, the oldest go first, what is in use stays, and --clear-cache frees it all."""

import os
from types import SimpleNamespace

import pytest

import train
from data_loader.cache_file import size_of_file
from data_loader.cache_place import NotCachedError, on_disk
from utils import cache_folder
from utils.cache_folder import in_words, make_room
from utils.errors import OutputError

SHAPE = (2, 3, 10, 10)
SIZE = size_of_file(SHAPE)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_folder, "CACHE_DIR", tmp_path / "saved" / "cache")
    monkeypatch.setattr(cache_folder, "MAX_RESERVE_BYTES", 0)
    return tmp_path / "saved" / "cache"


def make(name, *, last_used_s=None, limit_bytes=10**9):
    store = on_disk(name, name.encode(), SHAPE, limit_bytes, print)
    if last_used_s is not None:
        os.utime(store.path, (last_used_s, last_used_s))
    return store


def there(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_least_recently_used_goes_first_and_only_as_many_as_must(folder):
    for name, last_used_s in (("b", 200), ("a", 300), ("c", 100), ("d", 400)):
        make(name, last_used_s=last_used_s)

    assert make_room(SIZE, 3 * SIZE) == ""

    assert there(folder) == ["a", "d"]


def test_to_open_a_cache_is_to_use_it(folder):
    for name, last_used_s in (("a", 100), ("b", 200)):
        make(name, last_used_s=last_used_s)
    make("a")

    make_room(SIZE, 2 * SIZE)

    assert there(folder) == ["a"]


def test_what_is_in_use_stays(folder):
    in_use = make("a", last_used_s=100)
    make("b", last_used_s=200)

    reason = make_room(SIZE, SIZE)

    assert there(folder) == ["a"]
    assert reason.startswith("caches in use hold ")
    assert in_use.num_there == 0
    with pytest.raises(NotCachedError, match="caches in use hold"):
        make("c", limit_bytes=SIZE)


def test_more_than_the_limit_removes_nothing(folder):
    make("a")

    assert make_room(2 * SIZE, SIZE).endswith(f"are more than cache_limit_gb allows ({in_words(SIZE)})")
    assert there(folder) == ["a"]


def test_the_disk_keeps_some_to_spare(folder, monkeypatch):
    monkeypatch.setattr(cache_folder, "MAX_RESERVE_BYTES", 5_000_000_000)
    disk = SimpleNamespace(total=10**12, free=5_000_000_000 + SIZE)
    monkeypatch.setattr(cache_folder.shutil, "disk_usage", lambda path: disk)

    assert make_room(SIZE, 10**9) == ""
    assert make_room(SIZE + 1, 10**9).endswith("and the disk can spare " + in_words(SIZE))
    disk.total = 10**10  # a small disk: a tenth
    disk.free = 10**9 + SIZE
    assert make_room(SIZE, 10**9) == ""
    assert make_room(SIZE + 1, 10**9) != ""


def test_clear_cache_removes_all_and_says_how_much(folder, capsys):
    store = make("a")
    for _ in range(2):
        store.path.with_name("more").write_bytes(b"x" * 3_000_000)

    assert train.main(["--clear-cache"]) is None

    assert not folder.exists()
    assert capsys.readouterr().out == f"removed the cache of decoded pixels ({folder}): 3.0 MB freed\n"


def test_clear_cache_without_any_is_no_error(folder, capsys):
    train.main(["--clear-cache"])

    assert "0.0 MB freed" in capsys.readouterr().out


def test_clear_cache_of_a_link_empties_the_place_that_it_names(folder, tmp_path):
    (tmp_path / "fast").mkdir()
    folder.parent.mkdir()
    folder.symlink_to(tmp_path / "fast")
    make("a")

    train.main(["--clear-cache"])

    assert folder.is_symlink()
    assert list((tmp_path / "fast").iterdir()) == []


def test_clear_cache_that_cannot_be_done_is_said(folder):
    folder.parent.mkdir()
    folder.write_bytes(b"a file")

    with pytest.raises(OutputError, match="cannot be removed"):
        train.main(["--clear-cache"])


def test_clear_cache_with_a_config_goes_on_to_train(folder, small_config, config_file):
    make("a")
    config = small_config()
    config["trainer"]["epochs"] = 1

    trainer = train.main(["-c", str(config_file(config)), "--clear-cache"])

    assert trainer.epochs_done == 1
    assert not folder.exists()
