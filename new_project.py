"""Makes a copy of this project to start one's own: `python new_project.py ../my_project`."""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from utils.errors import OutputError, exit_on_user_error

ROOT = Path(__file__).resolve().parent
# What belongs to this copy alone, or is made anew: results, data, environments, caches, version control.
LEFT_BEHIND = ("saved", "data", ".git", ".venv", "__pycache__", ".*_cache", ".hypothesis", ".coverage", "CHANGELOG.md")


def main(words: Sequence[str] | None = None) -> Path:
    """Copies everything but results, data and caches; refuses a folder that holds something.

    Raises:
        OutputError: the folder is not empty, lies inside this project, or cannot be written.
    """
    parser = argparse.ArgumentParser(prog="new_project.py", description=__doc__)
    parser.add_argument("folder", type=Path, help="the new project's folder; must not exist, or be empty")
    target: Path = parser.parse_args(words).folder.expanduser().resolve()
    if target == ROOT or ROOT in target.parents:
        raise OutputError(f"{target}: lies inside this project; choose a folder beside it")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise OutputError(f"{target}: is there already and not empty")
    try:
        shutil.copytree(ROOT, target, ignore=shutil.ignore_patterns(*LEFT_BEHIND), dirs_exist_ok=True)
    except OSError as error:
        raise OutputError(f"{target}: cannot write ({error.strerror or error})") from None
    return target


if __name__ == "__main__":
    with exit_on_user_error():
        folder = main()
        print(f"A new project is in {folder}. Next:\n  cd {folder}\n  make demo")
