"""run.json: every process of a run with its command, its versions and its end."""

import json
import platform
import re
import subprocess
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

import train
from logger.run_dir import RunDir
from logger.run_record import git_state, hardware, recorded
from utils.errors import OutputError


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir.create(tmp_path / "saved", "name")


def processes(run: RunDir) -> list[dict[str, Any]]:
    return json.loads((run.models / "run.json").read_text(encoding="utf-8"))["processes"]


def test_a_run_says_how_it_was_started_and_that_it_ended(run: RunDir, tmp_path: Path) -> None:
    with recorded(run, ["-c", "my config.json", "--lr", "0.1"], {"seed": 3}, tmp_path):
        (during,) = processes(run)

    (after,) = processes(run)
    assert (during["ended"], during["outcome"]) == (None, None)
    assert after["command"] == "python train.py -c 'my config.json' --lr 0.1"
    assert after["seed"] == 3
    assert after["outcome"] == "finished"
    assert after["versions"]["python"] == platform.python_version()
    assert after["versions"]["torch"] == version("torch")
    started, ended = (time.strptime(after[key], "%Y-%m-%dT%H:%M:%S%z") for key in ("started", "ended"))
    assert started <= ended


@pytest.mark.parametrize(
    ("error", "outcome"), [(KeyboardInterrupt(), "interrupted"), (ValueError("no"), "ValueError: no")]
)
def test_how_it_ended_is_kept_and_raised_on(run: RunDir, tmp_path: Path, error: BaseException, outcome: str) -> None:
    with pytest.raises(type(error)), recorded(run, [], {}, tmp_path):
        raise error

    assert processes(run)[0]["outcome"] == outcome
    assert processes(run)[0]["ended"] is not None


def test_a_continued_run_has_an_entry_for_each_process(
    small_config: Callable[..., dict[str, Any]], config_file: Callable[[dict[str, Any]], Path]
) -> None:
    first = train.main(["-c", str(config_file(small_config())), "trainer.epochs=1", "--lr", "0.02"])
    assert first is not None
    last = str(first.models_dir / "last.pth")

    train.main(["-r", last, "trainer.epochs=2"])

    one, two = processes(first.recorder.run)
    assert one["overrides"] == ["trainer.epochs=1", "--lr 0.02"]
    assert one["continued_from"] is None
    assert two["continued_from"] == last
    assert two["overrides"] == ["trainer.epochs=2"]
    assert two["device"].startswith("CPU")
    assert one["first_step_after_s"] > 0 < two["first_step_after_s"]
    log = next(first.recorder.run.log.glob("info.log")).read_text(encoding="utf-8")
    said = re.search(r"first step after ([0-9.]+) s", log)
    assert said is not None
    assert float(said[1]) == pytest.approx(one["first_step_after_s"], abs=0.06)


def test_a_damaged_record_is_not_overwritten(run: RunDir, tmp_path: Path) -> None:
    (run.models / "run.json").write_text("{", encoding="utf-8")

    with pytest.raises(OutputError, match="is damaged"), recorded(run, [], {}, tmp_path):
        pass

    assert (run.models / "run.json").read_text(encoding="utf-8") == "{"


def test_the_commit_and_whether_files_differ_from_it(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        done = subprocess.run(["git", "-C", str(tmp_path), *who, *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    assert git_state(tmp_path) is None
    git("init", "-q")
    assert git_state(tmp_path) is None  # no commit yet
    (tmp_path / "file").write_text("1")
    git("add", ".")
    git("commit", "-qm", "first")

    clean = git_state(tmp_path)
    (tmp_path / "file").write_text("2")
    dirty = git_state(tmp_path)

    commit = git("rev-parse", "HEAD")
    assert clean == {"commit": commit, "is_dirty": False}
    assert dirty == {"commit": commit, "is_dirty": True}


def test_without_git_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")

    assert git_state(tmp_path) is None


def test_the_machine_is_described() -> None:
    about = hardware()

    assert about["cpu"]
    assert about["cpu_cores"] >= 1
    assert about["cpu_threads"] == 1  # as tests set it
