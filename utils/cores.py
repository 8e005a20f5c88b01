"""How many processor cores this process may use, which is often fewer than the machine has."""

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def usable_cores() -> int:
    """At least 1: those that the process may run on, or as many as a container's share of time amounts to."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota()
    return max(1, cores if quota is None else min(cores, int(quota)))


def _quota() -> float | None:
    """Cores' worth of time by the container's own limit; None where there is none.

    Source: "cpu.max" in the kernel's cgroup-v2.rst, "cpu.cfs_quota_us" in sched-bwc.rst for version 1.
    """
    try:
        of_time, period = (_CGROUP / "cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        try:
            of_time, period = (
                (_CGROUP / "cpu" / f"cpu.cfs_{name}_us").read_text(encoding="ascii") for name in ("quota", "period")
            )
        except (OSError, ValueError):
            return None
    try:
        share = float(of_time) / float(period)
    except (ValueError, ZeroDivisionError):  # "max": no limit
        return None
    return share if share > 0 else None  # -1 in version 1: no limit
