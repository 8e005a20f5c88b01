"""progress.py: silent into a file, a bar on a terminal, and numbers read only to be shown."""

import io
import logging
import os
import pty
import re
import subprocess
import sys
import termios
from pathlib import Path

from logger import progress
from logger.progress import Progress, say_above_bar

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = """
from logger import progress
progress.REFRESH_S = 0.0
bar = progress.Progress(3, "epoch 1/2")
bar.bar.mininterval = 0.0
for number in range(3):
    bar.step(lambda: {"loss": number})
bar.close()
"""


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_nothing_is_written_where_stderr_is_no_terminal_and_no_number_is_asked_for(capfd):
    bar, asked = Progress(3, "epoch 1/2"), []

    for _ in range(3):
        bar.step(lambda: asked.append(1) or {})
    bar.close()

    assert capfd.readouterr() == ("", "")
    assert asked == []


def test_terminal_shows_one_moving_line_that_is_removed_at_the_end():
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    with subprocess.Popen([sys.executable, "-W", "error", "-c", SCRIPT], cwd=ROOT, stderr=theirs) as process:
        assert process.wait() == 0
    os.set_blocking(ours, False)

    shown = os.read(ours, 100_000).decode()
    os.close(theirs)
    os.close(ours)

    assert "epoch 1/2" in shown
    assert re.search(r"\b3/3\b", shown)
    assert "loss=1" in shown  # as of the step before
    assert "\n" not in shown.strip()
    assert shown.rstrip(" ").endswith("\r")
    assert shown.rsplit("\r", 2)[1].strip() == ""  # written over with blanks


def test_numbers_are_read_at_most_five_times_a_second(monkeypatch):
    clock, asked = [100.0], []
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    bar = Progress(1000, "epoch")

    for _ in range(1000):
        bar.step(lambda: asked.append(clock[0]) or {"loss": 1})
        clock[0] += 0.01
    bar.close()

    assert 45 <= len(asked) <= 50  # in 10 s
    assert bar.bar.n == 1000


def test_the_line_is_written_at_most_ten_times_a_second(monkeypatch):
    clock, screen = [100.0], Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    bar = Progress(10_000, "epoch")
    bar.bar._time = lambda: clock[0]
    bar.bar.start_t = bar.bar.last_print_t = clock[0]
    before = screen.getvalue().count("\r")

    for _ in range(10_000):
        bar.step(lambda: {"loss": 1})
        clock[0] += 0.001

    assert 50 <= screen.getvalue().count("\r") - before <= 100  # in 10 s
    bar.close()


def test_a_line_above_the_bar_is_logged_and_on_a_terminal_the_bar_is_cleared_first(monkeypatch, caplog):
    log, cleared = logging.getLogger("run"), []
    with caplog.at_level(logging.INFO, "run"):
        say_above_bar(log, "into a file")
        monkeypatch.setattr(progress.sys, "stderr", Terminal())
        bar = Progress(3, "epoch 1/2")
        monkeypatch.setattr(bar.bar, "clear", lambda *_, **__: cleared.append(list(caplog.messages)))
        say_above_bar(log, "over a bar")
        bar.close()

    assert caplog.messages == ["into a file", "over a bar"]
    assert cleared == [["into a file"]]
