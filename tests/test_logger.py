"""logger.py: which lines reach the screen and which the file."""

import logging
import re

import pytest

from logger.logger import close_log, open_log


@pytest.fixture(autouse=True)
def _closed_afterwards():
    yield
    close_log()


def speak(log):
    for say, word in ((log.debug, "detail"), (log.info, "progress"), (log.warning, "trouble")):
        say(word)


@pytest.mark.parametrize(
    ("verbosity", "shown"),
    [(0, ["trouble"]), (1, ["progress", "trouble"]), (2, ["detail", "progress", "trouble"])],
)
def test_screen_shows_plain_lines_as_verbosity_says_and_the_file_holds_everything(tmp_path, capsys, verbosity, shown):
    speak(open_log(tmp_path, verbosity))

    output = capsys.readouterr()
    assert output.out.splitlines() == shown
    assert output.err == ""
    assert [line.split()[-1] for line in (tmp_path / "info.log").read_text().splitlines()] == [
        "detail",
        "progress",
        "trouble",
    ]


def test_lines_of_the_file_carry_date_and_level(tmp_path):
    open_log(tmp_path).warning("장치 없음: µ")

    text = (tmp_path / "info.log").read_text(encoding="utf-8")

    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d WARNING 장치 없음: µ\n", text)


def test_reopened_log_goes_on_in_the_same_file_and_says_nothing_twice(tmp_path, capsys):
    for word in ("first", "second"):
        open_log(tmp_path).info(word)
    open_log(tmp_path)

    assert capsys.readouterr().out.splitlines() == ["first", "second"]
    assert len((tmp_path / "info.log").read_text().splitlines()) == 2


def test_another_run_in_the_same_process_writes_to_its_own_file_only(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        open_log(tmp_path / name).info(name)

    assert (tmp_path / "a" / "info.log").read_text().endswith(" a\n")
    assert (tmp_path / "b" / "info.log").read_text().count("\n") == 1


def test_without_a_folder_there_is_the_screen_alone(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)

    open_log(None).info("tested")

    assert capsys.readouterr().out == "tested\n"
    assert list(tmp_path.iterdir()) == []


def test_closing_frees_the_file_and_may_be_done_twice(tmp_path):
    log = open_log(tmp_path)
    file = next(handler for handler in log.handlers if isinstance(handler, logging.FileHandler))

    close_log()
    close_log()

    assert file.stream is None
    assert log.handlers == []


def test_logs_of_other_libraries_are_left_as_they_are(tmp_path, caplog):
    other = logging.getLogger("some.library")

    open_log(tmp_path, 0)
    other.warning("of its own")

    assert not other.disabled
    assert caplog.messages == ["of its own"]
    assert (tmp_path / "info.log").read_text() == ""
