"""The command line that all entry scripts share: -c, -r, -d, short flags for keys, and KEY=VALUE words."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from utils.config_file import KeyPath, parse_override, suggest
from utils.errors import ConfigError


class CustomArgs(NamedTuple):
    """A short flag for a key: `CustomArgs(["--lr"], float, "optimizer.args.lr")`."""

    flags: list[str]
    type: type
    target: str


class Parser(argparse.ArgumentParser):
    """Says what is wrong as a `ConfigError`, like everything else, and takes no abbreviations."""

    def __init__(self, **settings: Any):
        super().__init__(allow_abbrev=False, **settings)
        self.add_argument("-r", "--resume", metavar="FILE", type=Path, help="checkpoint to continue from, or to test")
        self.add_argument("-c", "--config", metavar="FILE", type=Path, help="config file")
        self.add_argument("-d", "--device", metavar="DEVICE", help="auto, cpu, 0, 0,1 or cuda:1")
        self.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="any key, such as trainer.epochs=3")

    def error(self, message: str) -> NoReturn:
        """Raises instead of printing the usage."""
        if message.startswith("unrecognized arguments: "):
            word = message.removeprefix("unrecognized arguments: ").split()[0]
            flags = [flag for action in self._actions for flag in action.option_strings]
            message = f"{word}: no such option.{suggest(word, flags)}"
        raise ConfigError(f"command line: {message}")


def parse_words(
    parser: argparse.ArgumentParser, options: Sequence[CustomArgs], words: Sequence[str] | None, root: Path
) -> tuple[argparse.Namespace, list[tuple[KeyPath, Any]]]:
    """The parsed options, and all overrides in the order in which they apply: words, short flags, -d, --weights.

    A path given here (a key that ends in _dir or _file) is relative to the current folder, as everywhere in a shell;
    one in a config file is relative to `root`, the project's folder.
    """
    for option in options:
        help_text = f"the same as {option.target}=VALUE"
        parser.add_argument(*option.flags, type=option.type, dest=option.target, help=help_text)
    args = parser.parse_intermixed_args(words)
    overrides = [parse_override(word) for word in args.overrides]
    named = [(option.target, getattr(args, option.target)) for option in options]
    for target, value in named:
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"command line: {target}: {value} is not a finite number")
    named += [("device", args.device), ("weights_file", getattr(args, "weights", None))]
    overrides += [(tuple(target.split(".")), value) for target, value in named if value is not None]
    return args, [(path, _from_current_folder(path, value, root)) for path, value in overrides]


def _from_current_folder(path: KeyPath, value: Any, root: Path) -> Any:
    if isinstance(value, dict):
        return {key: _from_current_folder((*path, key), item, root) for key, item in value.items()}
    is_path = isinstance(value, str | Path) and str(path[-1]).endswith(("_dir", "_file"))
    if not is_path or Path.cwd() == root:
        return str(value) if isinstance(value, Path) else value
    return str(Path.cwd() / Path(value).expanduser())
