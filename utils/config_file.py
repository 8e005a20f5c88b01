"""Reads JSON written by hand, and knows where each value stands in it.

Called by config_layers.py; what a key means does not belong here. `--help` imports this too, so only quick modules.
"""

import bisect
import json
import os
import re
import sys
from typing import Any, NamedTuple

from utils.config_tree import KeyPath, dotted, path_of
from utils.errors import ConfigError
from utils.text import columns_of, printable

Place = tuple[int, int]
MAX_BYTES = 1_000_000
MAX_DEPTH = 32

_LINE_END = re.compile(r"\r\n|\n|\r")
_SPACE = re.compile(r"[ \t\r\n]*+")
_SPACE_AND_COMMENTS = re.compile(r"(?:[ \t\r\n]++|//[^\r\n]*+|/\*.*?\*/)*+", re.DOTALL)
_BARE_WORD = re.compile(r"[^\s,:\[\]{}\"'/]*+")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+"|' + _BARE_WORD.pattern)
_HINTS = {"True": "; JSON has true", "False": "; JSON has false", "None": "; JSON has null"}
_HINTS |= dict.fromkeys("'“”‘’", '; JSON has "') | {"#": "; a comment begins with //"}


class ConfigDocument(NamedTuple):
    """What was read, and the place (line, column) of each part of it; both count from 1, in characters.

    `positions` has each value by its path of keys and indices, `()` being the whole; `key_positions` has
    the opening quote of each key.
    """

    data: dict
    source: str
    lines: list[str]
    positions: dict[KeyPath, Place]
    key_positions: dict[KeyPath, Place]

    def place(self, path: KeyPath) -> Place:
        """Where to point: at the key, else at the list's item, else at the nearest thing around it."""
        while path not in self.positions:
            path = path[:-1]
        return self.key_positions.get(path, self.positions[path])

    def problem(self, path: KeyPath, message: str) -> str:
        """The lines that say what is wrong with one entry: place, path, message, and the entry underlined."""
        line, column = self.place(path)
        length = len(_start(_TOKEN, self.lines[line - 1], column - 1))
        return self.pointed((line, column), message, path=path, length=length)

    def pointed(self, place: Place, message: str, *, path: KeyPath = (), length: int = 1) -> str:
        """Place, path, message; and below them the line, with `length` characters of it underlined."""
        line, column = place
        where = f"{self.source}:{line}:{column}: {dotted(path)}{': ' if path else ''}{message}"
        text = self.lines[line - 1]
        if len(text) > 200:  # a whole file on one line, perhaps
            return where
        # Escape sequences must not reach the terminal, and a pasted no-break space must be seen.
        shown = "\t".join(map(printable, text.split("\t")))
        cells = [columns_of(char) for char in shown]
        indent = "".join("\t" if shown[i] == "\t" else " " * cells[i] for i in range(column - 1))
        marker = "^" * max(1, sum(cells[column - 1 : column - 1 + length]))
        return f"{where}\n{line:>6} | {shown}\n       | {indent}{marker}"


class _NotJson(ConfigError):
    """Tells JSON with a mistake from a word of the command line that may be a plain string."""


def _start(pattern: re.Pattern[str], text: str, at: int) -> str:
    match = pattern.match(text, at)
    return match[0] if match else ""


class _Reader:
    """One walk over a text. Methods take the offset where something starts and say where it ends.

    The json module reads strings and numbers; it keeps no positions, and deep nesting is a RecursionError.
    """

    def __init__(self, text: str, source: str, gap: re.Pattern[str]) -> None:
        self.text = text
        self.gap = gap
        self.line_starts = [0, *(match.end() for match in _LINE_END.finditer(text))]
        self.document = ConfigDocument({}, source, _LINE_END.split(text), {}, {})

    def place(self, offset: int) -> Place:
        line = bisect.bisect_right(self.line_starts, offset)
        return line, offset - self.line_starts[line - 1] + 1

    def message(self, offset: int, message: str, path: KeyPath = ()) -> str:
        # What is missing at the end of the text is shown behind its last character, not on an empty line.
        place = self.place(min(offset, len(self.text.rstrip(" \t\r\n"))))
        return self.document.pointed(place, message, path=path)

    def not_json(self, offset: int, reason: str) -> _NotJson:
        return _NotJson(self.message(offset, f"not valid JSON: {reason}"))

    def read(self, start: int, path: KeyPath) -> Any:
        value, end = self._value(self._skip(start), path)
        rest = self._skip(end)
        if rest < len(self.text):
            raise self.not_json(rest, f"expecting the end, got {self._found(rest)}")
        return value

    def _skip(self, at: int) -> int:
        at += len(_start(self.gap, self.text, at))
        if self.gap is _SPACE_AND_COMMENTS and self.text.startswith("/*", at):
            raise self.not_json(at, "this comment is not closed by */")
        return at

    def _found(self, at: int) -> str:
        found = _start(_BARE_WORD, self.text, at)[:40] or self.text[at : at + 1]
        return f"{found!r}{_HINTS.get(found) or _HINTS.get(found[:1], '')}" if found else "the end of the text"

    def _value(self, at: int, path: KeyPath) -> tuple[Any, int]:
        self.document.positions[path] = self.place(at)
        first = self.text[at : at + 1]
        if first == '"':
            return self._string(at)
        if first not in ("{", "["):
            return self._bare(at, path)
        if len(path) >= MAX_DEPTH:
            raise ConfigError(self.message(at, f"nested deeper than {MAX_DEPTH} levels"))
        return self._container(at, path)

    def _container(self, opening: int, path: KeyPath) -> tuple[dict | list, int]:
        is_dict = self.text[opening] == "{"
        closing = "}" if is_dict else "]"
        found: dict = {}
        at = self._skip(opening + 1)
        while not self.text.startswith(closing, at):
            key, at = self._key(at, path) if is_dict else (len(found), at)
            found[key], end = self._value(at, (*path, key))
            at = self._skip(end)
            mark = self.text[at : at + 1]
            if mark == ",":
                at = self._skip(at + 1)
            elif mark != closing:  # said where it is missing, not on the next line
                opened = f"{closing!r} for the {self.text[opening]!r} on line {self.place(opening)[0]}"
                wanted = opened if mark in ("]", "}", "") else "',' delimiter"
                raise self.not_json(end, f"expecting {wanted}")
        return found if is_dict else list(found.values()), at + 1

    def _key(self, at: int, path: KeyPath) -> tuple[str, int]:
        if not self.text.startswith('"', at):
            raise self.not_json(at, f"expecting a key in double quotes, got {self._found(at)}")
        key, end = self._string(at)
        here = self.place(at)
        first = self.document.key_positions.setdefault((*path, key), here)
        if first != here:
            lines = f"line {first[0]} and again on line {here[0]}"
            raise ConfigError(self.message(at, f"this key is on {lines}", (*path, key)))
        colon = self._skip(end)
        if not self.text.startswith(":", colon):
            raise self.not_json(end, "expecting ':' delimiter")
        return key, self._skip(colon + 1)

    def _bare(self, at: int, path: KeyPath) -> tuple[Any, int]:
        word = _start(_BARE_WORD, self.text, at)
        try:
            value = json.loads(word)
        except ValueError:  # a JSONDecodeError, or over 4,300 digits
            raise self.not_json(at, f"expecting a value, got {self._found(at)}") from None
        if value is not None and not abs(value) <= sys.float_info.max:
            raise ConfigError(self.message(at, f"{word[:40]} is not a finite number", path))
        return value, at + len(word)

    def _string(self, at: int) -> tuple[str, int]:
        try:
            value, end = json.JSONDecoder().raw_decode(self.text, at)
            value.encode()
        except json.JSONDecodeError as error:
            if "escape" in error.msg:
                raise self.not_json(error.pos, r"unknown escape; a backslash is written \\") from None
            raise self.not_json(at, "this string is not closed on its line, or holds a tab") from None
        except UnicodeEncodeError:
            raise self.not_json(at, r"half of a \uXXXX pair in this string") from None
        return value, end


def read_json(path: str | os.PathLike[str]) -> ConfigDocument:
    """Reads a UTF-8 file: JSON, also with `//` and `/* */` comments and trailing commas.

    Raises:
        ConfigError: it cannot be read, is over `MAX_BYTES`, or is refused by `parse_json_text`.
    """
    source = os.fspath(path)
    try:
        with open(source, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(f"{source}: no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = "is a directory" if os.path.isdir(source) else getattr(error, "strerror", error)
        raise ConfigError(f"{source}: {reason}") from None
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{source}: larger than {MAX_BYTES // 1_000_000} MB, so it is no config file")
    try:
        return parse_json_text(content.decode("utf-8"), source)
    except UnicodeDecodeError as error:
        byte, line = content[error.start], content.count(b"\n", 0, error.start) + 1
        where = f"byte 0x{byte:02x} at offset {error.start}, on line {line}"
        raise ConfigError(f"{source}: not UTF-8: {where}; save the file as UTF-8") from None


def parse_json_text(text: str, source: str = "command line") -> ConfigDocument:
    """Reads the text of a config, whose top level is an object.

    Raises:
        ConfigError: not JSON, a key twice, a number that is not finite, more than `MAX_DEPTH` levels.
    """
    reader = _Reader(text.removeprefix("\ufeff"), source, _SPACE_AND_COMMENTS)
    data = reader.read(0, ())
    if not isinstance(data, dict):
        raise ConfigError(reader.document.problem((), "the config must be an object, { ... }"))
    return reader.document._replace(data=data)


def parse_value(word: str, start: int = 0, path: KeyPath = ()) -> Any:
    """The value of a command-line override: JSON if it is JSON, else the word itself, from `start` on.

    Raises:
        ConfigError: it was meant as JSON, by its first character or as NaN or Infinity, and is refused.
    """
    if re.search(r"[\ud800-\udfff]", word):  # bytes of the shell that Python could not decode
        raise ConfigError(f"command line: {word!a}: not UTF-8")
    try:
        return _Reader(word, "command line", _SPACE).read(start, path)  # no comments: `1//2` is a string
    except _NotJson:
        if word[start:].lstrip()[:1] in ("{", "[", '"'):
            raise
        return word[start:]


def parse_override(word: str) -> tuple[KeyPath, Any]:
    """Takes `metrics.0=accuracy` apart into `("metrics", 0)` and `"accuracy"`.

    Raises:
        ConfigError: it has no `=`, an empty or a too long key, or a value that `parse_value` refuses.
    """
    name, equals, _ = word.partition("=")
    path = path_of(name)
    if not equals or "" in path or len(path) > MAX_DEPTH:
        raise ConfigError(f"command line: {word[:99]}: expecting key=value, as in optimizer.args.lr=0.01")
    return path, parse_value(word, len(name) + 1, path)
