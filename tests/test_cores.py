"""cores.py: what the system, and what a container's limit, leave of the machine."""

import os

import pytest

from utils import cores
from utils.cores import usable_cores


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """`machine(8, {"cpu.max": "150000 100000"})`: so many cores to run on, and those files of the kernel."""

    def make(num_cores, files):
        monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(num_cores)), raising=False)
        monkeypatch.setattr(cores, "_CGROUP", tmp_path)
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text + "\n")

    return make


def version_1(quota):
    return {"cpu/cpu.cfs_quota_us": str(quota), "cpu/cpu.cfs_period_us": "100000"}


@pytest.mark.parametrize(
    ("num_cores", "files", "usable"),
    [
        (8, {}, 8),
        (8, {"cpu.max": "max 100000"}, 8),
        (8, {"cpu.max": "300000 100000"}, 3),
        (8, {"cpu.max": "370000 100000"}, 3),
        (8, {"cpu.max": "50000 100000"}, 1),
        (2, {"cpu.max": "300000 100000"}, 2),
        (8, {"cpu.max": "nonsense"}, 8),
        (8, {"cpu.max": "5 0"}, 8),
        (8, version_1(-1), 8),
        (8, version_1(250000), 2),
        (8, version_1("?"), 8),
    ],
)
def test_the_smaller_of_both_counts(machine, num_cores, files, usable):
    machine(num_cores, files)

    assert usable_cores() == usable


def test_a_system_without_affinity_counts_its_cores(machine, monkeypatch):
    machine(8, {})
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)

    assert usable_cores() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores() == 1
