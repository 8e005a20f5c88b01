"""Where results go: found out about before the work, and told in one line when it fails."""

import os
import sys
from pathlib import Path

import pytest

from logger.outputs import opened, output_of, require_room, write
from utils.errors import OutputError


@pytest.mark.parametrize(
    ("asked", "kind", "expected"),
    [
        (None, None, (Path("predictions.csv"), "csv")),
        (None, "jsonl", (Path("predictions.jsonl"), "jsonl")),
        ("x.JSON", None, (Path("x.JSON"), "json")),
        ("x.json", "csv", (Path("x.json"), "csv")),
        ("x.txt", None, (Path("x.txt"), "csv")),
        ("-", None, (None, "csv")),
    ],
)
def test_the_form_follows_the_name_unless_it_is_said(asked: str | None, kind: str | None, expected: object) -> None:
    assert output_of(asked, kind) == expected  # type: ignore[arg-type]


def test_inputs_are_not_overwritten_and_folders_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    require_room(["a.png"], [Path("new/deep/x.csv"), None], Path("heat"))

    assert (tmp_path / "new" / "deep").is_dir()
    assert (tmp_path / "heat").is_dir()
    with pytest.raises(OutputError, match="would be overwritten"):
        require_room([tmp_path / "a.png"], [Path("./a.png")], None)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_one_line() -> None:
    with pytest.raises(OutputError, match=r"/dev/full: cannot write .No space left"), opened(Path("/dev/full")) as file:
        file.write(b"x" * 1_000_000)  # more than is kept back
    with pytest.raises(OutputError, match="cannot write"):
        write(Path("/dev/full"), b"x")


def test_a_reader_that_has_seen_enough_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    inside, outside = os.pipe()
    os.close(inside)
    with os.fdopen(outside, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)

        with pytest.raises(SystemExit) as left, opened(None) as file:
            file.write(b"x" * 1_000_000)

    assert left.value.code == 1
