"""What a user did wrong becomes plain lines and code 2; what a programmer did wrong keeps its traceback."""

import re
import sys

import pytest

import utils.errors
from utils.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    DeviceError,
    LoaderError,
    OutputError,
    TrainingError,
    UserError,
    coloured,
    exit_on_user_error,
    some,
)


def leave_with(error):
    """Raises the error where an entry script would; gives the exception that leaves it."""
    with pytest.raises(BaseException) as caught, exit_on_user_error():
        raise error
    return caught.value


def test_the_tree_at_the_top_of_the_file_is_the_tree_of_classes():
    drawn = {}  # name of the class -> name of the one above it
    above = ["UserError"]
    for indent, name in re.findall(r"^ {4}([ │]*)[├└]── (\w+)", utils.errors.__doc__, re.MULTILINE):
        depth = len(indent) // 4
        above[depth + 1 :] = [name]
        drawn[name] = above[depth]

    things = vars(utils.errors).values()
    classes = [thing for thing in things if isinstance(thing, type) and issubclass(thing, UserError)]

    assert drawn == {cls.__name__: cls.__base__.__name__ for cls in classes if cls is not UserError}
    assert drawn["LoaderError"] == "TrainingError"


@pytest.mark.parametrize("kind", [TrainingError, LoaderError])
def test_a_run_that_broke_in_the_middle_leaves_with_1_because_nothing_was_mistyped(kind, capsys):
    left = leave_with(kind("step 7: the loss is nan"))

    assert left.code == 1
    assert capsys.readouterr().err == "error: step 7: the loss is nan\n"


@pytest.mark.parametrize("kind", [UserError, ConfigError, DataError, CheckpointError, DeviceError, OutputError])
def test_a_user_error_is_printed_as_it_is_and_leaves_with_2(kind, capsys):
    left = leave_with(kind("config.json: no such file\nsecond line"))

    printed = capsys.readouterr()
    assert isinstance(left, SystemExit)
    assert left.code == 2
    assert (printed.out, printed.err) == ("", "error: config.json: no such file\nsecond line\n")


@pytest.mark.parametrize(
    "message",
    [
        "config.json:23:13: trainer.epochs: must be at least 1",
        "/data/my file:1.json:2:1: not valid JSON",
        "command line: trainer.epochs=0: must be at least 1",
        "command line:1:26: not valid JSON",
        "error: so it is",
    ],
)
def test_a_message_that_begins_with_a_place_is_printed_without_a_word_before_it(message, capsys):
    leave_with(ConfigError(message))

    assert capsys.readouterr().err == f"{message}\n"


@pytest.mark.parametrize(
    "message",
    [
        "config.json: no such file",
        "trainer.epochs: must be at least 1",
        "last.pth:12: damaged",
        "see\nconfig.json:23:13: here",
        " config.json:23:13: here",
        "the command line: so",
        "error of config.json",
    ],
)
def test_a_message_without_a_place_is_called_an_error(message, capsys):
    leave_with(ConfigError(message))

    assert capsys.readouterr().err == f"error: {message}\n"


def test_a_config_error_says_its_path_before_its_message():
    error = ConfigError("needs a monitor", "trainer.early_stop", "trainer.monitor")

    assert str(error) == "trainer.early_stop: needs a monitor"
    assert (error.message, error.path, error.also) == ("needs a monitor", "trainer.early_stop", "trainer.monitor")


def test_a_config_error_without_a_path_is_its_message():
    error = ConfigError("config.json: no such file")

    assert str(error) == "config.json: no such file"
    assert (error.message, error.path, error.also) == ("config.json: no such file", "", "")


def test_places_are_bold_and_markers_red():
    message = (
        "c.json:2:5: a.b: wrong ^^\n     2 | \tx\n       | \t^^^^\n     3 | ^\n       | ^x\n"
        "d.json:7:1: here\ncommand line: a=1: no\n1 problem"
    )

    assert coloured(message) == (
        "\033[1mc.json:2:5:\033[0m a.b: wrong ^^\n     2 | \tx\n       | \t\033[31m^^^^\033[0m\n     3 | ^\n"
        "       | ^x\n\033[1md.json:7:1:\033[0m here\n\033[1mcommand line:\033[0m a=1: no\n1 problem"
    )


@pytest.mark.parametrize(
    ("is_terminal", "environment", "is_coloured"),
    [
        (True, {}, True),
        (True, {"NO_COLOR": ""}, True),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"TERM": "dumb"}, False),
        (False, {}, False),
    ],
)
def test_only_a_terminal_that_wants_colours_gets_them(is_terminal, environment, is_coloured, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in {"TERM": "xterm", **environment}.items():
        monkeypatch.setenv(name, value)

    leave_with(DataError("x"))

    assert capsys.readouterr().err == ("\033[1merror:\033[0m x\n" if is_coloured else "error: x\n")


def test_colours_of_a_strangers_name_do_not_reach_a_terminal_with_colours(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")

    leave_with(DataError("\033[31mx"))

    assert capsys.readouterr().err == "\033[1merror:\033[0m \ufffd[31mx\n"


def test_the_traceback_of_a_user_error_does_not_follow_it_out():
    left = leave_with(DataError("x"))

    assert left.__suppress_context__
    assert left.__cause__ is None


def test_control_characters_of_a_strangers_name_do_not_reach_the_terminal(capsys):
    leave_with(ConfigError("loss.type: '\x1b[2J\x9b31m\x00\r\x7f' is not a loss\n\t오류"))

    assert capsys.readouterr().err == "error: loss.type: '\ufffd[2J\ufffd31m\ufffd\ufffd\ufffd' is not a loss\n\t오류\n"


def test_an_interrupt_leaves_with_130(capsys):
    left = leave_with(KeyboardInterrupt())

    assert isinstance(left, SystemExit)
    assert left.code == 130
    assert capsys.readouterr().err == "\ninterrupted\n"


@pytest.mark.parametrize("mistake", [ValueError("x"), TypeError("x"), RuntimeError("x"), OSError("x"), SystemExit(5)])
def test_mistakes_in_code_and_other_exits_pass_through_unchanged(mistake, capsys):
    left = leave_with(mistake)

    assert left is mistake
    assert capsys.readouterr().err == ""


def test_work_without_errors_says_nothing(capsys):
    with exit_on_user_error():
        done = True

    assert done
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("names", "limit", "text"),
    [
        ([], 5, ""),
        (["a"], 5, "a"),
        (["a", "b", "c"], 3, "a, b, c"),
        (["a", "b", "c", "d"], 3, "a, b, c and 1 more"),
        (["a", "b", "c", "d"], 1, "a and 3 more"),
    ],
)
def test_some_names_are_shown_and_the_rest_counted(names, limit, text):
    assert some(names, limit) == text
