"""new_project.py makes a copy that stands on its own."""

from pathlib import Path

import pytest

import new_project
from utils.errors import OutputError


def test_the_copy_has_code_configs_and_tests_and_no_results(tmp_path: Path) -> None:
    target = new_project.main([str(tmp_path / "mine")])

    names = {path.name for path in target.iterdir()}
    assert names >= {
        "train.py",
        "test.py",
        "export.py",
        "config.json",
        "configs",
        "tests",
        "base",
        "model",
        "requirements.txt",
    }
    assert not names & {"saved", "data", ".git", ".venv"}
    assert (target / "train.py").read_text() == (new_project.ROOT / "train.py").read_text()
    assert (target / "data_loader" / "data_loaders.py").exists()


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "work.txt").write_text("precious")

    with pytest.raises(OutputError, match="not empty"):
        new_project.main([str(tmp_path / "mine")])

    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["work.txt"]


def test_a_copy_into_itself_is_refused() -> None:
    with pytest.raises(OutputError, match="inside this project"):
        new_project.main([str(new_project.ROOT / "saved" / "mine")])
