"""Writes what the faults came to into docs/reliability.md; a pytest plugin, loaded by `make faults` alone.

A test says which fault it tries through the fixture `fault`; those of the list below are counted by their names.
"""

import os
import platform
import re
from collections import defaultdict
from pathlib import Path

import torch

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reliability.md"
BEGIN, END = "<!-- begin: written by make faults -->", "<!-- end -->"
WHAT = {
    "F1": "SIGKILL at random instants, up to three times a run",
    "F2": "SIGKILL within an operation of a save",
    "F3": "the process dies at each operation on the disk",
    "F4": "each operation on the disk fails: full, I/O error, quota",
    "F5": "a disk that is full in earnest",
    "F6": "order of operations, for a loss of power",
    "F7": "flipped bits and truncations",
    "F8": "the newest, and all, checkpoints damaged, -r auto",
    "F9": "the checkpoint that was named is damaged",
    "F10": "temporary folder on another disk, SIGKILL",
    "F11": "SIGTERM to the trainer at random instants",
    "F12": "SIGTERM and SIGINT to the whole process group at random instants",
    "F13": "a second SIGINT",
    "F14": "SIGUSR1 to the trainer at random instants",
    "F16": "SIGTERM, then SIGKILL within 50 ms",
    "F20": "a worker is killed, crashes, hangs, raises, exits",
    "F21": "SIGKILL of the trainer: processes left after 15 s",
    "F22": "a loss, gradient, buffer or score that is not finite",
    "F23": "no memory left in a step",
    "F24": "images that cannot be read",
    "F25": "other workers at each start",
    "F28": "schedules and best across a resume",
    "F29": "TensorBoard after kills",
    "F30": "a changed config at a resume",
    "F31": "changed data at a resume",
    "F32": "two processes on one run",
    "F33": "a screen that takes nothing more",
    "F34": "a mistake in somebody's code within validation",
    "F35": "shared memory used up",
    "F36": "another thread count, device or torch at a resume",
    "broken": "deliberately broken variants, each caught",
    "hostile": "hostile checkpoints, configs and images: none runs code",
}
BY_NAME = [
    ("test_durable_file|test_checkpoint.py", "dies_at_any_operation|killed_in_the_middle", "F3"),
    ("test_durable_file|test_checkpoint.py", "fails_at_any_operation", "F4"),
    ("test_durable_file|test_checkpoint.py", "full_disk|disk_that_is_full|limit", "F5"),
    ("test_durable_file|test_checkpoint.py", "on_the_disk_before", "F6"),
    ("test_checkpoint.py", "flipped|truncated|lacks_its_last", "F7"),
    ("test_skipped|test_decode", "", "F24"),
    ("test_resume", "resume_at_any_epoch|no_entry", "F28"),
    ("test_resume", "new_learning_rate|longer_schedule|cannot_follow", "F30"),
    ("test_resume|test_continuation", "images_added|other_images|held_back|other_classes", "F31"),
    ("test_continuation", "same_machine|computes_otherwise", "F36"),
    ("test_broken", "", "broken"),
    ("test_security", "hostile|code|changed_parts", "hostile"),
]
found: dict = defaultdict(lambda: {"passed": 0, "failed": 0, "skipped": 0, "seconds": 0.0, "trials": []})


def pytest_runtest_logreport(report):
    """Counts a trial once it is over, or could not begin."""
    if report.when != "call" and report.outcome == "passed":
        return
    told = dict(report.user_properties)
    names = [told["fault"]] if "fault" in told else [f for p, n, f in BY_NAME if _is(report.nodeid, p, n)][:1]
    for name in names:
        row = found[name.partition(",")[0]]
        row[report.outcome] += 1
        row["seconds"] += report.duration
        row["trials"].append(told.get("trial", ""))


def _is(nodeid, part, name):
    file, _, test = nodeid.partition("::")
    return re.search(part, file) is not None and re.search(name, test) is not None


def pytest_sessionfinish(session):
    """Puts the table into the page, with the machine that it was made on."""
    if hasattr(session.config, "workerinput"):  # one of several processes that share the tests
        return
    rows = ["| fault | trials | passed | seconds | seeds |", "|---|---|---|---|---|"]
    for name in sorted(found, key=lambda one: list(WHAT).index(one)):
        row = found[name]
        number = row["passed"] + row["failed"]
        label = f"{name}: {WHAT[name]}" if name.startswith("F") else WHAT[name]
        rows.append(f"| {label} | {number} | {row['passed']} | {row['seconds']:.0f} | {_seeds(row['trials'])} |")
    total = sum(row["passed"] + row["failed"] for row in found.values())
    failed = sum(row["failed"] for row in found.values())
    seconds = sum(row["seconds"] for row in found.values())
    machine = (
        f"torch {torch.__version__}, Python {platform.python_version()}, {platform.system()}, {os.cpu_count()} cores"
    )
    rows += ["", f"{total} trials, {failed} failed, {seconds / 60:.0f} minutes of one process; {machine}."]
    if PAGE.exists() and BEGIN in PAGE.read_text(encoding="utf-8"):
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        page = before + BEGIN + "\n" + "\n".join(rows) + "\n" + END + rest.partition(END)[2]
        PAGE.write_text(page, encoding="utf-8")


def _seeds(trials):
    """Of those with a number, the first and the last."""
    numbers = [int(match[1]) for trial in trials if (match := re.fullmatch(r"seed (\d+)", trial))]
    return f"{min(numbers)} to {max(numbers)}" if numbers else ""
