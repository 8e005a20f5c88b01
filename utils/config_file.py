"""Reads JSON written by hand, knows where each value stands in it, and changes plain dicts and lists.

For `parse_config.py` and the config's checker; what a key means does not belong here. `--help` imports this
too, so only quick modules: `dataclasses` would double the time.
"""

import bisect
import difflib
import json
import os
import re
import sys
import unicodedata
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from utils.errors import ConfigError

KeyPath = tuple[str | int, ...]
Place = tuple[int, int]
MAX_BYTES = 1_000_000
MAX_DEPTH = 32
ABSENT: Any = type("Absent", (), {"__repr__": lambda absent: "(absent)"})()

_LINE_END = re.compile(r"\r\n|\n|\r")
_SPACE = re.compile(r"[ \t\r\n]*+")
_SPACE_AND_COMMENTS = re.compile(r"(?:[ \t\r\n]++|//[^\r\n]*+|/\*.*?\*/)*+", re.DOTALL)
_BARE_WORD = re.compile(r"[^\s,:\[\]{}\"'/]*+")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+"|' + _BARE_WORD.pattern)
_LIST_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")
_PLAIN_KEY = re.compile(r'[^\s."\x00-\x1f\x7f-\x9f]+')
_HINTS = {"True": "; JSON has true", "False": "; JSON has false", "None": "; JSON has null"}


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
        shown = "".join(char if char.isprintable() or char == "\t" else "\ufffd" for char in text)
        cells = [1 + (unicodedata.east_asian_width(char) in ("W", "F")) for char in shown]
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
        return f"{found!r}{_HINTS.get(found, '')}" if found else "the end of the text"

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
    # '007' stays a string: as an int it would no longer be the key that was written.
    path = tuple(int(part) if _LIST_INDEX.fullmatch(part) else part for part in name.split("."))
    if not equals or "" in path or len(path) > MAX_DEPTH:
        raise ConfigError(f"command line: {word[:99]}: expecting key=value, as in optimizer.args.lr=0.01")
    return path, parse_value(word, len(name) + 1, path)


def dotted(path: KeyPath) -> str:
    """The path with dots between; a key that could be misread is in quotes."""
    keys = map(str, path)
    return ".".join(key if _PLAIN_KEY.fullmatch(key) else json.dumps(key, ensure_ascii=False) for key in keys)


def get_by_path(config: Any, path: KeyPath, default: Any = None) -> Any:
    """The value at a path, `default` where there is none. An int names a list's item or a dict's key."""
    for key in path:
        if isinstance(config, Mapping) and str(key) in config:
            config = config[str(key)]
        elif isinstance(config, list | tuple) and isinstance(key, int) and 0 <= key < len(config):
            config = config[key]
        else:
            return default
    return config


def set_by_path(config: Mapping, path: KeyPath, value: Any) -> dict:
    """A new config with one value set; an index equal to the list's length appends.

    Missing dicts on the way are made, also in place of null: the checker tells which keys may exist.

    Raises:
        ConfigError: the path leads out of a list, or into a string, a number or a boolean.
    """
    changed = here = thaw(config)
    for depth, key in enumerate(path):
        present = get_by_path(here, (key,))
        inside = thaw(value) if depth == len(path) - 1 else {} if present is None else present
        if isinstance(here, dict):
            here[str(key)] = inside
        elif isinstance(here, list) and isinstance(key, int) and 0 <= key <= len(here):
            here[key : key + 1] = [inside]
        else:
            found = f"{dotted(path[:depth])} is {json.dumps(here, ensure_ascii=False)[:60]}"
            raise ConfigError(f"command line: {dotted(path)}: {found} and has no {key!r}")
        here = inside
    return changed


def merge(base: Mapping, changes: Mapping) -> dict:
    """A new config: dicts merge, all else is replaced, and so is a section whose "type" changes."""
    merged = thaw({**base, **changes})
    for key in base.keys() & changes.keys():
        old, new = base[key], changes[key]
        are_dicts = isinstance(old, Mapping) and isinstance(new, Mapping)
        if are_dicts and old.get("type", new.get("type")) == new.get("type", old.get("type")):
            merged[key] = merge(old, new)
    return merged


def freeze(value: Any) -> Any:
    """A read-only copy: dicts become mapping proxies, lists tuples."""
    if isinstance(value, Mapping):
        return MappingProxyType({key: freeze(item) for key, item in value.items()})
    return tuple(map(freeze, value)) if isinstance(value, list | tuple) else value


def thaw(value: Any) -> Any:
    """A copy of plain dicts and lists, of something frozen or not."""
    if isinstance(value, Mapping):
        return {key: thaw(item) for key, item in value.items()}
    return list(map(thaw, value)) if isinstance(value, list | tuple) else value


def differences(old: Any, new: Any, path: KeyPath = ()) -> list[tuple[str, Any, Any]]:
    """Dotted path, old and new of each value that differs, by path; `ABSENT` where a side has none.

    Lists of equal length are compared item by item, others as a whole. 1 is 1.0, and neither is true.
    """
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        pairs = [(key, old.get(key, ABSENT), new.get(key, ABSENT)) for key in sorted({*old, *new})]
    elif isinstance(old, list | tuple) and isinstance(new, list | tuple) and len(old) == len(new):
        pairs = list(zip(range(len(old)), old, new, strict=True))
    else:
        is_same = old == new and isinstance(old, bool) == isinstance(new, bool)
        return [] if is_same else [(dotted(path), old, new)]
    return [found for key, before, after in pairs for found in differences(before, after, (*path, key))]


def to_json(config: Mapping) -> str:
    """Strict JSON, with a newline at the end; takes frozen configs too."""
    return json.dumps(thaw(config), indent=4, ensure_ascii=False, allow_nan=False) + "\n"


def suggest(word: str, candidates: Iterable[str]) -> str:
    """The end of a message about an unknown name: " Did you mean 'lr'?", up to three names, or ""."""
    by_folded = {candidate.casefold(): candidate for candidate in candidates}
    near = [f"'{by_folded[name]}'" for name in difflib.get_close_matches(word.casefold(), by_folded)]
    return f" Did you mean {' or '.join(near)}?" if near else ""
