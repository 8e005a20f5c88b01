"""run.json: how each process of a run was started, on what, and how it ended. Called by train.py."""

import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from logger.run_dir import RunDir
from logger.status import Status
from utils.config_tree import to_json
from utils.durable_file import replace_file
from utils.errors import OutputError
from utils.stop import RunStopped

LIBRARIES = ("torch", "torchvision", "torchmetrics", "numpy", "pandas", "Pillow", "pydantic", "tensorboard")


@contextmanager
def recorded(run: RunDir, words: Sequence[str], about: dict[str, Any], root: Path) -> Iterator[dict[str, Any]]:
    """Adds this process to run.json, and how it ended: "finished", "stopped: SIGTERM", "interrupted", or an error.

    Where the process is killed, `ended` and `outcome` stay null. A continued run has one entry for each process.

    Args:
        run: its folders.
        words: the command line behind the script's name.
        about: what the caller knows: seed, overrides, what was continued, devices.
        root: the project's folder, whose git commit is recorded.

    Yields:
        The entry; what is added to it is written at the end.
    """
    path = run.models / "run.json"
    try:
        before = json.loads(path.read_text(encoding="utf-8"))["processes"] if path.exists() else []
    except (ValueError, KeyError, TypeError):
        raise OutputError(f"{path}: is damaged, so this process cannot be added to it; move it away") from None
    entry = {
        "command": shlex.join(["python", "train.py", *words]),
        **about,
        "git": git_state(root),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
        "hardware": hardware(),
        "started": _now(),
        "first_step_after_s": None,
        "ended": None,
        "outcome": None,
    }
    record = {"name": run.name, "run_id": run.run_id, "processes": [*before, entry]}
    _replace(path, record)
    status = Status(run.models / "STATUS.json")
    status.say("running", reason=None, to_continue=None, digests=None)  # what an earlier process said is over
    state = "failed"
    try:
        yield entry
        state, entry["outcome"] = "finished", "finished"
    except BaseException as error:
        entry["outcome"] = f"{type(error).__name__}: {error}"[:500]
        if isinstance(error, KeyboardInterrupt):
            state, entry["outcome"] = "stopped", "interrupted"
        elif isinstance(error, RunStopped):
            state, entry["outcome"] = "stopped", f"stopped: {error}"
        raise
    finally:
        entry["ended"] = _now()
        can_go_on = state != "finished" and (run.models / "last.pth").exists()
        command = run.command_to_continue if can_go_on else None
        # On a full disk what ended the run says more than that this cannot be written either.
        with suppress(OutputError) if state == "failed" else nullcontext():
            _replace(path, record)
        with suppress(OutputError) if state == "failed" else nullcontext():
            Status(run.models / "STATUS.json").say(state, reason=entry["outcome"], to_continue=command)


def _replace(path: Path, record: dict[str, Any]) -> None:
    replace_file(path, lambda file: file.write(to_json(record).encode()), "the record of the run")


def git_state(folder: Path) -> dict[str, Any] | None:
    """The commit of a folder and whether files differ from it; None where there is no git, or no commit."""
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return {"commit": commit, "is_dirty": bool(_git(folder, "status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def hardware() -> dict[str, Any]:
    """The machine, as far as results and times depend on it."""
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_name(),
        "cpu_cores": os.cpu_count(),
        "cpu_threads": torch.get_num_threads(),
        "gpus": gpus,
    }


def _cpu_name() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
