"""What a user can do wrong, as exceptions, and the one place where they become lines on the screen.

    UserError               the root: whatever is raised below it, the user can mend
    ├── ConfigError         the config file or a word of the command line
    ├── DataError           a folder, an image, a table
    ├── CheckpointError     a .pth file that cannot be used for what was asked
    ├── DeviceError         a device that is not there
    ├── OutputError         a place that cannot be written
    ├── ExportError         a network that cannot be put into a file of the kind that was asked for
    └── TrainingError       a run that broke in the middle, with its last checkpoint whole
        └── LoaderError     because no batches came any more

The entry scripts wrap their work in `exit_on_user_error`. Mistakes in code are not caught: they keep their
traceback.
"""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from utils.stop import EXIT_STOPPED, RunStopped

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130

# A place to point at begins a line of its own.
_PLACE = re.compile(r"^(error|command line|\S[^\n]*?:\d+:\d+):", re.MULTILINE)
# A name out of a stranger's config or checkpoint must not move the cursor or colour the screen.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class UserError(Exception):
    """Holds a message of one to a few plain lines: where, what was found, what would do."""

    exit_code = EXIT_BAD_INPUT


class ConfigError(UserError):
    """The config file or the command line.

    Args:
        message: what is wrong, and what would do.
        path: of the entry, dotted, such as "optimizer.args.lr". Whoever holds the config adds file and line.
        also: of an entry that it contradicts.
    """

    def __init__(self, message: str, path: str = "", also: str = ""):
        super().__init__(f"{path}: {message}" if path else message)
        self.message, self.path, self.also = message, path, also


class DataError(UserError):
    """A folder, an image or a table."""


class CheckpointError(UserError):
    """A checkpoint that is missing, damaged, or of another model."""


class DeviceError(UserError):
    """A device that was asked for by name and is not there."""


class OutputError(UserError):
    """A place that cannot be written."""


class ExportError(UserError):
    """A network that cannot be put into a file of the kind that was asked for, or that would answer otherwise there."""


class TrainingError(UserError):
    """A run that broke in the middle, such as by a loss that is no number; its last checkpoint is whole."""

    exit_code = EXIT_FAILED


class LoaderError(TrainingError):
    """No batches come any more: a worker was killed, hangs, or met an error in somebody's code."""


@contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Prints a `UserError` to standard error and leaves: with code 2, or 1 where a run broke in the middle.

    A stopped run leaves with 75, Ctrl-C with 130.
    """
    try:
        yield
    except UserError as error:
        message = _CONTROL.sub("\ufffd", str(error))
        if not _PLACE.match(message):
            message = f"error: {message}"
        sys.stderr.write((coloured(message) if _has_colour() else message) + "\n")
        raise SystemExit(error.exit_code) from None
    except RunStopped:  # has said so itself
        raise SystemExit(EXIT_STOPPED) from None
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted\n")
        raise SystemExit(EXIT_INTERRUPTED) from None


def coloured(message: str) -> str:
    """The lines of a message with places in bold and markers in red, for a terminal."""
    message = _PLACE.sub("\033[1m\\g<0>\033[0m", message)
    return re.sub(r"^( +\| [ \t]*)(\^+)$", "\\1\033[31m\\2\033[0m", message, flags=re.MULTILINE)


def _has_colour() -> bool:
    """See https://no-color.org."""
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def some(names: list[str], limit: int = 5) -> str:
    """The first few names and a count of the rest, for messages.

    >>> some(["a", "b", "c"], limit=2)
    'a, b and 1 more'
    """
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
