"""What a user did wrong becomes plain lines and code 2; what a programmer did wrong keeps its traceback."""

import re

import pytest

import utils.errors
from utils.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    DeviceError,
    OutputError,
    UserError,
    exit_on_user_error,
    some,
)


def leave_with(error):
    """Raises the error where an entry script would; gives the exception that leaves it."""
    with pytest.raises(BaseException) as caught, exit_on_user_error():
        raise error
    return caught.value


def test_the_tree_at_the_top_of_the_file_is_the_tree_of_classes():
    drawn = re.findall(r"[├└]── (\w+)", utils.errors.__doc__)

    things = vars(utils.errors).values()
    classes = [thing for thing in things if isinstance(thing, type) and issubclass(thing, Exception)]

    assert sorted(drawn) == sorted(cls.__name__ for cls in classes if cls is not UserError)
    assert all(cls.__base__ is UserError for cls in classes if cls is not UserError)


@pytest.mark.parametrize("kind", [UserError, ConfigError, DataError, CheckpointError, DeviceError, OutputError])
def test_a_user_error_is_printed_as_it_is_and_leaves_with_2(kind, capsys):
    left = leave_with(kind("config.json: no such file\nsecond line"))

    printed = capsys.readouterr()
    assert isinstance(left, SystemExit)
    assert left.code == 2
    assert (printed.out, printed.err) == ("", "error: config.json: no such file\nsecond line\n")


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
