"""`-r auto` takes the newest whole checkpoint of the newest run, of those that the command line asks for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import train
from parse_config import newest_checkpoint
from utils.errors import CheckpointError


@pytest.fixture
def runs(small_config: Callable[..., dict[str, Any]], config_file: Callable[..., Path], tmp_path: Path) -> Path:
    """A folder with a run of "first" and a later one of "second"."""
    path = str(config_file(small_config(arch={"type": "MLP", "args": {"hidden_widths": [4]}})))
    for name in ("first", "second"):
        train.main(["-c", path, f"name={name}", "trainer.epochs=1"])
    return tmp_path / "saved"


def newest(*words: str) -> Path | None:
    path, _ = newest_checkpoint(train.read_words([*words, "-r", "auto"]))
    return path


def test_without_a_config_it_is_the_newest_of_the_folder_and_of_the_name(runs: Path) -> None:
    for words, name in [([], "second"), (["name=first"], "first"), (["name=second"], "second")]:
        found = newest(f"trainer.save_dir={runs}", *words)

        assert found is not None
        assert (found.name, found.parents[1].name) == ("last.pth", name)


def test_without_a_config_and_a_run_there_is_nothing_to_begin(runs: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no run of 'third' below .*saved has a checkpoint, and without -c"):
        newest(f"trainer.save_dir={runs}", "name=third")


def test_with_a_config_it_is_the_newest_of_its_name_or_none_yet(runs: Path, tmp_path: Path) -> None:
    config = str(tmp_path / "config.json")

    assert newest("-c", config) is None
    found = newest("-c", config, "name=first")

    assert found is not None
    assert found.parents[1].name == "first"
