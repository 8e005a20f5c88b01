"""memory.py: the smaller of what the machine and the container have."""

import pytest

from utils import memory


@pytest.fixture
def system(tmp_path, monkeypatch):
    """`system(machine, limit, usage)`: what the files of the system say; None for a file that is not there."""

    def write(machine, limit, usage):
        for name, text in (("machine", machine), ("limit", limit), ("usage", usage)):
            if text is not None:
                (tmp_path / name).write_text(text)
        monkeypatch.setattr(memory, "MACHINE", tmp_path / "machine")
        monkeypatch.setattr(memory, "CONTAINER", ((tmp_path / "limit", tmp_path / "usage"),))

    return write


MACHINE = "MemTotal:       16000 kB\nMemFree:  1 kB\nMemAvailable:    8000 kB\nHugePages_Total:       0\n"


@pytest.mark.parametrize(
    ("limit", "usage", "expected"),
    [
        (None, None, 8_192_000),
        ("max\n", "1000\n", 8_192_000),
        ("3000000\n", "1000000\n", 2_000_000),
        ("3000000\n", "4000000\n", 0),
        ("99000000\n", "1000000\n", 8_192_000),
    ],
)
def test_it_is_the_smaller_of_what_machine_and_container_leave(system, limit, usage, expected):
    system(MACHINE, limit, usage)

    assert memory.available_bytes() == expected


@pytest.mark.parametrize("machine", [None, "nonsense", "MemAvailable: many kB"])
def test_without_the_file_the_system_is_asked(system, machine, monkeypatch):
    system(machine, None, None)
    monkeypatch.setattr(memory.os, "sysconf", {"SC_AVPHYS_PAGES": 7, "SC_PAGE_SIZE": 4096}.__getitem__)

    assert memory.available_bytes() == 7 * 4096


def test_a_system_that_does_not_say_has_none(system, monkeypatch):
    system(None, None, None)
    monkeypatch.delattr(memory.os, "sysconf")

    assert memory.available_bytes() == 0
