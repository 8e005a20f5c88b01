"""The command line that all entry scripts share: -c, -r, -d, short flags for keys, and KEY=VALUE words.

The scripts read it before they import torch, so that `--help` and a missing comma are answered at once.
"""

import argparse
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from utils.config_file import ConfigDocument, parse_override
from utils.config_layers import read_layers
from utils.config_tree import KeyPath, path_of, suggest
from utils.errors import ConfigError

AUTO = "auto"  # in the place of a checkpoint: the newest one of the run
ROOT = Path(__file__).resolve().parent.parent  # the project's folder


class CustomArgs(NamedTuple):
    """A short flag for a key: `CustomArgs(["--lr"], float, "optimizer.args.lr")`."""

    flags: list[str]
    type: type
    target: str


class Override(NamedTuple):
    """One key set by the command line, and the text that set it."""

    path: KeyPath
    value: Any
    text: str


class Command(NamedTuple):
    """What was typed: the words, the options, the config file with its bases (those first), the keys that were set."""

    words: list[str]
    args: argparse.Namespace
    documents: list[ConfigDocument]
    overrides: list[Override]


class Parser(argparse.ArgumentParser):
    """Says what is wrong as a `ConfigError`, like everything else, and takes no abbreviations.

    Args:
        takes_paths: words are paths, of which one may be called a=b.jpg; keys are set by `--set KEY=VALUE`.
        settings: of the base class.
    """

    def __init__(self, *, takes_paths: bool = False, **settings: Any):
        super().__init__(allow_abbrev=False, **settings)
        self.asks_for = "give -c CONFIG to start a run, or -r CHECKPOINT to continue or test one"
        self.add_argument("-r", "--resume", metavar="FILE", help="checkpoint to continue from, or to test")
        self.add_argument("-c", "--config", metavar="FILE", type=Path, help="config file")
        self.add_argument("-d", "--device", metavar="DEVICE", help="auto, cpu, 0, 0,1 or cuda:1")
        self.add_argument(
            "--allow", metavar="PACKAGE", action="append", default=[], help="a package whose classes a config may name"
        )
        self.add_argument("--print-config", action="store_true", help="print the checked config as JSON, and stop")
        self.add_argument("--print-origins", action="store_true", help="the same, with where each value was written")
        self.add_argument("--schema", action="store_true", help="print the JSON Schema of configs, and stop")
        if takes_paths:
            self.asks_for = "give the trained checkpoint with -r, such as -r saved/models/best.pth"
            self.set_defaults(overrides=[])
            about = "any key, such as trainer.precision=fp32"
            self.add_argument("--set", metavar="KEY=VALUE", dest="overrides", action="append", help=about)
        else:
            self.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="any key, such as trainer.epochs=3")

    def error(self, message: str) -> NoReturn:
        """Raises instead of printing the usage."""
        if message.startswith("unrecognized arguments: "):
            word = message.removeprefix("unrecognized arguments: ").split()[0]
            flags = [flag for action in self._actions for flag in action.option_strings]
            near = suggest(word, flags) or (" A key is set without dashes: trainer.epochs=3" if "--" in word else "")
            message = f"{word}: no such option.{near}"
        raise ConfigError(f"command line: {message}")

    def read(self, options: Sequence[CustomArgs] = (), words: Sequence[str] | None = None) -> Command:
        """Reads the command line and the config files that it names. Imports nothing slow.

        Overrides come in the order in which they apply: words, short flags, -d, --weights. A path given here (a key
        that ends in _dir or _file) is relative to the current folder, as everywhere in a shell; one in a config file
        is relative to the project's folder.

        Args:
            options: short flags for keys.
            words: instead of `sys.argv`.

        Raises:
            ConfigError: an option or a word cannot be read, or a file.
        """
        for option in options:
            help_text = f"the same as {option.target}=VALUE"
            metavar = option.type.__name__.upper()
            self.add_argument(*option.flags, type=option.type, dest=option.target, metavar=metavar, help=help_text)
        args = self.parse_intermixed_args(words)
        args.is_auto = args.resume == AUTO
        args.resume = Path(args.resume) if args.resume is not None and not args.is_auto else None
        needs_no_run = args.schema or getattr(args, "clear_cache", False)
        if args.config is None and args.resume is None and not args.is_auto and not needs_no_run:
            raise ConfigError(f"command line: {self.asks_for}")
        overrides = [Override(*parse_override(word), word) for word in args.overrides]
        for flag, target, value in self._given(args, options):
            if isinstance(value, float) and not math.isfinite(value):
                raise ConfigError(f"command line: {flag} {value}: not a finite number")
            overrides.append(Override(path_of(target), value, f"{flag} {value}"))
        overrides = [one._replace(value=_from_current_folder(one.path, one.value)) for one in overrides]
        typed = list(sys.argv[1:] if words is None else words)
        return Command(typed, args, read_layers(args.config) if args.config is not None else [], overrides)

    def _given(self, args: argparse.Namespace, options: Sequence[CustomArgs]) -> list[tuple[str, str, Any]]:
        """Flag, key and value of the flags that set a key."""
        named = [(option.flags[0], option.target, getattr(args, option.target)) for option in options]
        named += [("-d", "device", args.device), ("--weights", "weights_file", getattr(args, "weights", None))]
        return [(flag, target, value) for flag, target, value in named if value is not None]


def _from_current_folder(path: KeyPath, value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _from_current_folder((*path, key), item) for key, item in value.items()}
    is_path = isinstance(value, str | Path) and str(path[-1]).endswith(("_dir", "_file"))
    if not is_path or Path.cwd() == ROOT:
        return str(value) if isinstance(value, Path) else value
    return str(Path.cwd() / os.path.expanduser(value))  # Path's own raises for an unknown user
