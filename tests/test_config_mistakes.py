"""docs/config-mistakes.md says what the program says: each mistake there is made, and the whole output compared.

Where messages were changed on purpose, `REWRITE_MISTAKES=1 pytest tests/test_config_mistakes.py` writes the new ones
into both pages; read the difference before it is committed.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import new_project
import parse_config
import train
from utils import command_line
from utils.errors import UserError, exit_on_user_error
from wiring import building

ROOT = Path(__file__).resolve().parent.parent
ENGLISH, KOREAN = ROOT / "docs" / "config-mistakes.md", ROOT / "docs" / "config-mistakes.ko.md"
SHOWN_AS = "/home/me/project"

PART = re.compile(
    r"^## (?P<section>.+)$|^\*\*(?P<title>.+)\*\*$|^```(?P<language>\w+)\n(?P<block>(?:.*\n)*?)```$", re.MULTILINE
)
FILE = re.compile(r"// (\w+\.json)\n")
LEFT_OUT = re.compile(r'\s*// no "(\w+)"')
KEY = re.compile(r"""\s*["']?(\w+)["']?\s*[:=]""")


class Row(NamedTuple):
    """One mistake of the page."""

    section: str
    title: str
    changes: list[str]
    command: str
    message: str


def rows_of(page: str) -> tuple[str, list[Row]]:
    """The base config, and all mistakes."""
    section, base, rows = "", "", []
    for part in PART.finditer(page):
        if part["section"]:
            section = part["section"]
        elif part["title"]:
            rows.append(Row(section, part["title"], [], "python train.py -c config.json", ""))
        elif not rows:
            base = part["block"]
        elif part["language"] == "json":
            rows[-1].changes.append(part["block"])
        elif part["language"] == "sh":
            rows[-1] = rows[-1]._replace(command=part["block"].strip())
        else:
            rows[-1] = rows[-1]._replace(message=part["block"])
    return base, rows


def changed(base: str, change: str) -> str:
    """The base config with a mistake in it, put in as the page explains."""
    lines, at, seen = base.splitlines(), 0, set()
    keys = [match[1] if (match := KEY.match(line)) else None for line in lines]
    for line in change.splitlines():
        left_out, match = LEFT_OUT.fullmatch(line), KEY.match(line)
        key = left_out[1] if left_out else match[1] if match else None
        if key is not None and key in keys and key not in seen:
            at = keys.index(key)
            lines[at : at + 1], keys[at : at + 1] = ([], []) if left_out else ([line], [key])
            at -= bool(left_out)
        else:
            at += 1
            lines.insert(at, line)
            keys.insert(at, key)
        seen.add(key)
    return "\n".join(lines) + "\n"


def write_files(row: Row, folder: Path) -> None:
    """config.json with the mistake, and other files that belong to it."""
    lines = ""
    (folder / "config.json").write_text(BASE, encoding="utf-8")
    for change in row.changes:
        file = FILE.match(change)
        if file or change.startswith(("{", "[")):
            (folder / (file[1] if file else "config.json")).write_text(change, encoding="utf-8")
        else:
            lines += change
    if lines:
        (folder / "config.json").write_text(changed(BASE, lines), encoding="utf-8")


def words_of(row: Row) -> list[str]:
    python, script, *words = shlex.split(row.command)
    assert (python, script) == ("python", "train.py")
    return words


def tree(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def rewrite(row: Row, message: str) -> None:
    """Puts a new message into both pages."""
    index = ROWS.index(row)
    for page in (ENGLISH, KOREAN):
        text = page.read_text(encoding="utf-8")
        start, end = [part.span("block") for part in PART.finditer(text) if part["language"] == "text"][index]
        page.write_text(text[:start] + message + text[end:], encoding="utf-8")


BASE, ROWS = rows_of(ENGLISH.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def data(shapes_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`pictures` with three classes, and `two` with two of them."""
    folder = tmp_path_factory.mktemp("mistakes")
    (folder / "pictures").symlink_to(shapes_dir)
    for part in ("train", "val"):
        (folder / "two" / part).mkdir(parents=True)
        for name in ("circle", "square"):
            (folder / "two" / part / name).symlink_to(shapes_dir / part / name)
    return folder


def stand_in(folder: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a folder the project's, as far as paths are concerned, and the current one."""
    (folder / "data").symlink_to(data)
    for module in (command_line, parse_config, train, building):
        monkeypatch.setattr(module, "ROOT", folder)
    monkeypatch.chdir(folder)


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `saved` folder of a run of the base config."""
    folder = tmp_path_factory.mktemp("finished").resolve()
    (folder / "config.json").write_text(BASE, encoding="utf-8")
    with pytest.MonkeyPatch.context() as monkeypatch:
        stand_in(folder, data, monkeypatch)
        train.main(["-c", "config.json", "trainer.verbosity=0", "trainer.tensorboard=false"])
    return folder / "saved"


@pytest.fixture
def project(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path.resolve()
    stand_in(folder, data, monkeypatch)
    return folder


@pytest.fixture(scope="module")
def copied_project(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of its own, for the program to run in as a user runs it."""
    folder = new_project.main([str(tmp_path_factory.mktemp("copied") / "project")])
    (folder / "data").symlink_to(data)
    return folder


@pytest.mark.parametrize("row", ROWS, ids=[row.title.strip(".") for row in ROWS])
def test_a_mistake_gives_the_message_on_the_page(
    row: Row, project: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    write_files(row, project)
    if "-r saved/models/last.pth" in row.command:
        shutil.copytree(request.getfixturevalue("finished"), project / "saved", symlinks=True)
    before = tree(project)
    capsys.readouterr()

    with pytest.raises(SystemExit) as left, exit_on_user_error():
        train.main(words_of(row))

    said = capsys.readouterr()
    message = said.err.replace(str(project), SHOWN_AS)
    if os.environ.get("REWRITE_MISTAKES"):
        rewrite(row, message)
        pytest.skip("the message was written into the pages")
    assert message == row.message
    assert said.out == ""
    assert left.value.code == 2
    assert isinstance(left.value.__context__, UserError)
    assert tree(project) == before


@pytest.mark.parametrize(
    "title",
    [
        "A comma is missing in a line.",
        "Another type leaves the old arguments behind.",
        "Six in the file, one on the command line.",
    ],
)
def test_the_program_itself_says_the_same_and_leaves_with_code_2(title: str, copied_project: Path) -> None:
    [row] = [row for row in ROWS if row.title == title]
    write_files(row, copied_project)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}

    done = subprocess.run(
        [sys.executable, "train.py", *words_of(row)],
        cwd=copied_project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.stderr.replace(str(copied_project), SHOWN_AS) == row.message
    assert done.stdout == ""
    assert done.returncode == 2
    assert not (copied_project / "saved").exists()


def test_the_config_that_the_mistakes_are_made_in_has_none(finished: Path) -> None:
    assert (finished / "models" / "last.pth").is_file()


def test_every_row_has_a_title_of_its_own_a_mistake_and_a_message() -> None:
    titles = [row.title for row in ROWS]

    assert len(set(titles)) == len(titles) >= 45
    assert [row.title for row in ROWS if not row.message] == []
    usual = "python train.py -c config.json"
    assert [row.title for row in ROWS if not row.changes and row.command == usual] == []


def test_the_korean_page_has_the_same_mistakes_and_messages() -> None:
    base, rows = rows_of(KOREAN.read_text(encoding="utf-8"))

    assert base == BASE
    assert [row[2:] for row in rows] == [row[2:] for row in ROWS]


def test_the_korean_page_has_as_many_rows_in_each_section_each_with_a_korean_title() -> None:
    _, rows = rows_of(KOREAN.read_text(encoding="utf-8"))

    sections = [list(dict.fromkeys(row.section for row in page)) for page in (ROWS, rows)]

    by_section = [[sections[page].index(row.section) for row in found] for page, found in enumerate((ROWS, rows))]
    assert by_section[0] == by_section[1]
    assert [row.title for row in rows if not re.search("[가-힣]", row.title)] == []


def test_both_references_link_to_their_page_of_mistakes() -> None:
    for name, page in (("config.md", ENGLISH), ("config.ko.md", KOREAN)):
        assert f"({page.name})" in (ROOT / "docs" / name).read_text(encoding="utf-8")


def test_a_line_takes_the_place_of_the_one_with_its_key_or_follows_the_line_before() -> None:
    base = '{\n    "a": 1,\n    "b": 2,\n    "c": 3\n}\n'

    assert changed(base, '    "b": 7,\n    "new": 8,') == '{\n    "a": 1,\n    "b": 7,\n    "new": 8,\n    "c": 3\n}\n'
    assert changed(base, '    "b": 7,\n    "b": 8,') == '{\n    "a": 1,\n    "b": 7,\n    "b": 8,\n    "c": 3\n}\n'
    assert changed(base, '// no "b"') == '{\n    "a": 1,\n    "c": 3\n}\n'
