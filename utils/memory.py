"""How much memory this process may still take: of the machine, and of the container that it runs in."""

import os
from pathlib import Path

MACHINE = Path("/proc/meminfo")
# Limit and use of a container: of control groups version 2, then 1.
CONTAINER = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ),
)


def available_bytes() -> int:
    """What could be taken without swapping; 0 where the system does not say."""
    try:
        lines = dict(line.split(":", 1) for line in MACHINE.read_text().splitlines())
        available = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        available = _by_sysconf()
    for limit, usage in CONTAINER:
        try:
            available = min(available, max(0, int(limit.read_text()) - int(usage.read_text())))
        except (OSError, ValueError):  # no container, or "max": no limit
            continue
    return available


def _by_sysconf() -> int:
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 0
