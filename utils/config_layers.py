"""A config put together from layers (base files, the file, the command line) that knows where each value came from.

Called by parse_config.py. Which keys there may be is decided in config_check.py. `--help` imports this, so no torch.
"""

import itertools
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from utils.config_file import MAX_DEPTH, ConfigDocument, read_json
from utils.config_tree import ABSENT, KeyPath, dotted, get_by_path, merge, path_of, set_by_path, suggest, thaw
from utils.errors import ConfigError

MAX_FILES = 50
MAX_MESSAGE = 4000  # characters of one problem: a key can be longer than any screen
MAX_VALUES = 100_000
MAX_TEXT = 100_000
MAX_PROBLEMS = 100
MAX_HINTS = 20  # each is searched for among all names, or that many of them:
MAX_NAMES = 1000
_REFERENCE = re.compile(r"\$\{([^{}]*)\}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


class Word(NamedTuple):
    """What was typed on the command line, such as "--lr 0.1", and the path that it sets."""

    text: str
    path: KeyPath

    def problem(self, path: KeyPath, message: str) -> str:
        """One line; the path is said where the word does not say it already."""
        inside = "" if path == self.path[: len(path)] or self.text.startswith("-") else f"{dotted(path)}: "
        return f"command line: {self.text[:99]}: {inside}{message}"


class Origin(NamedTuple):
    """A source without lines, such as a checkpoint."""

    name: str

    def problem(self, path: KeyPath, message: str) -> str:
        """One line."""
        where = [self.name] if self.name else []
        return ": ".join([*where, *([dotted(path)] if path else []), message])


class Problem(NamedTuple):
    """Something that is wrong with the entry at a path, and perhaps what it contradicts."""

    path: KeyPath
    message: str
    also: KeyPath | None = None


class LayeredConfig:
    """Plain data in `data`, and where each part of it was written."""

    def __init__(self, data: Mapping | None = None):
        self.data: dict[str, Any] = thaw(data or {})
        self.sources: dict[KeyPath, ConfigDocument | Word | Origin] = {}
        self.order: list[ConfigDocument | Word | Origin] = []
        self.problems: list[Problem] = []
        self.reference_problems: list[Problem] = []
        self.broken: set[KeyPath] = set()  # values with such a problem: any other would only be a consequence

    def lay(self, data: Mapping, source: ConfigDocument | Origin) -> None:
        """Merges `data` over what is there, see `merge`."""
        before, self.data = self.data, merge(self.data, data)
        self._came_from(source, (), data, before)

    def set(self, path: KeyPath, value: Any, text: str) -> None:
        """Sets one value by a word of the command line; what cannot be set is kept as a problem."""
        before, path = self.data, _as_written(self.data, path)
        word = Word(text, path)
        try:
            self.data = set_by_path(before, path, value)
        except ConfigError as error:
            self.problems.append(Problem(path, error.message))
            self.sources[path] = word
            self.order.append(word)
            return
        new = next(length for length in range(1, len(path) + 1) if self._is_new(before, path[:length], path))
        written = set_by_path({}, path[new:], value) if path[new:] else value
        self._came_from(word, path[:new], written, before)

    def _is_new(self, before: dict, start: KeyPath, path: KeyPath) -> bool:
        return start == path or not isinstance(get_by_path(before, start), dict | list)

    def _came_from(self, source: ConfigDocument | Word | Origin, path: KeyPath, value: Any, before: dict) -> None:
        written = dict(walk(value, path))
        # A bare name that is given arguments is a type from now on, and stands where it stood.
        types = {
            (*below, "type"): self.source(below)
            for below, item in written.items()
            if isinstance(item, Mapping) and "type" not in item and isinstance(get_by_path(before, below), str)
        }
        self.order.append(source)
        self.sources |= dict.fromkeys(written, source) | types
        refused = {problem.path for problem in self.problems}
        self.sources = {
            below: s
            for below, s in self.sources.items()
            if below in refused or get_by_path(self.data, below, ABSENT) is not ABSENT
        }

    def source(self, path: KeyPath) -> ConfigDocument | Word | Origin:
        """Who wrote the value at a path, or the nearest thing around it."""
        while path and path not in self.sources:
            path = path[:-1]
        return self.sources.get(path) or (self.order[-1] if self.order else Origin(""))

    def where(self, path: KeyPath) -> str:
        """ "config.json:12:5", or the word of the command line."""
        source = self.source(path)
        if isinstance(source, ConfigDocument):
            return ":".join(map(str, (source.source, *source.place(path))))
        return f"the command line: {source.text[:99]}" if isinstance(source, Word) else source.name or "the config"

    def text(self, problem: Problem) -> str:
        """The lines that say what is wrong: place, path, message, and the line itself with a marker."""
        lines = self.source(problem.path).problem(problem.path, problem.message)
        if problem.also is None or get_by_path(self.data, problem.also, ABSENT) is ABSENT:
            return lines
        return f"{lines}\n{self.source(problem.also).problem(problem.also, 'see here')}"

    def add(self, path: KeyPath, message: str, also: KeyPath | None = None) -> None:
        """Keeps a problem.

        Raises:
            ConfigError: there are more of them than anybody would read, and each takes time to explain.
        """
        self.problems.append(Problem(path, message, also))
        if len(self.problems) > MAX_PROBLEMS:
            raise self.error(self.problems)

    def error(self, problems: list[Problem]) -> ConfigError:
        """All problems, in the order of the files and of their lines; the words of the command line come last."""
        told = [*self.reference_problems, *(problem for problem in problems if not self._is_broken(problem.path))]
        texts = (self.text(problem) for problem in sorted(told, key=self._rank))
        unique = list(dict.fromkeys(text if len(text) <= MAX_MESSAGE else f"{text[:MAX_MESSAGE]}..." for text in texts))
        number = "1 problem" if len(unique) == 1 else f"{len(unique)} problems"
        number = f"more than {MAX_PROBLEMS} problems" if len(problems) > MAX_PROBLEMS else number
        return ConfigError("\n".join([*unique, f"{number} in the config; nothing was started."]))

    def _is_broken(self, path: KeyPath) -> bool:
        return any(path[:length] in self.broken for length in range(1, len(path) + 1))

    def _rank(self, problem: Problem) -> tuple[bool, int, tuple[int, int]]:
        source = self.source(problem.path)
        # A file is laid after its bases, and shown before them.
        rank = next((index for index, other in enumerate(self.order) if other is source), 0)
        is_word = isinstance(source, Word)
        place = source.place(problem.path) if isinstance(source, ConfigDocument) else (0, 0)
        return is_word, rank if is_word else -rank, place

    def resolve(self) -> None:
        """Replaces each `${path.to.a.value}` by that value; what cannot be replaced is kept as a problem.

        Raises:
            ConfigError: the result would be far larger than any config.
        """
        references = _References(self.data)
        self.data = references.resolved(self.data, (), ())
        self.reference_problems, self.broken = references.problems, references.broken


class _References:
    """One pass over a config; values are looked up in it as it was before."""

    def __init__(self, data: dict[str, Any]):
        self.data = data
        self.problems: list[Problem] = []
        self.broken: set[KeyPath] = set()
        self.num_values = self.num_characters = self.depth = 0

    def _add(self, path: KeyPath, message: str, asking: tuple[KeyPath, ...] = ()) -> None:
        self.problems.append(Problem(path, message))
        self.broken |= {path, *asking}

    def resolved(self, value: Any, path: KeyPath, asking: tuple[KeyPath, ...]) -> Any:
        """A copy of the value at `path`; `asking` are the paths whose references led here."""
        self.num_values += 1
        if self.num_values > MAX_VALUES:
            who = "the references ${...} would make" if asking else "the config has"
            raise ConfigError(f"{who} more than {MAX_VALUES:,} values")
        if isinstance(value, dict | list):
            return self._container(value, path, asking)
        if not isinstance(value, str) or "${" not in value:
            return value
        whole = _REFERENCE.fullmatch(value)
        if whole:
            return self._target(whole[1], path, asking)
        if "${" in _REFERENCE.sub(" ", value):
            self._add(path, f"{value!r:.80} has a '${{' without its '}}'", asking)
        return _REFERENCE.sub(lambda match: self._as_text(match[1], path, asking), value)

    def _container(self, value: dict | list, path: KeyPath, asking: tuple[KeyPath, ...]) -> dict | list:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ConfigError(f"the references ${{...}} would nest the config deeper than {MAX_DEPTH} levels")
        items = value.items() if isinstance(value, dict) else enumerate(value)
        found = {key: self.resolved(item, (*path, key), asking) for key, item in items}
        self.depth -= 1
        if asking:
            self._count([*found, *found.values()])
        return found if isinstance(value, dict) else list(found.values())

    def _count(self, values: list[Any]) -> None:
        self.num_characters += sum(len(value) for value in values if isinstance(value, str))
        if self.num_characters > MAX_TEXT:
            raise ConfigError(f"the references ${{...}} would make more than {MAX_TEXT:,} characters of text")

    def _as_text(self, name: str, path: KeyPath, asking: tuple[KeyPath, ...]) -> str:
        value = self._target(name, path, asking)
        if isinstance(value, dict | list):
            self._add(path, f"${{{name}}} is a whole section and cannot be part of a text", asking)
        return value if isinstance(value, str) else json.dumps(value)

    def _target(self, name: str, path: KeyPath, asking: tuple[KeyPath, ...]) -> Any:
        wanted, asking = _as_written(self.data, path_of(name)), (*asking, path)
        found = get_by_path(self.data, wanted, ABSENT)
        if found is ABSENT and wanted[-1] == "type":  # of a section in its short form
            found = get_by_path(self.data, wanted[:-1])
            found = found if isinstance(found, str) else ABSENT
        loop = next((asking[i:] for i, place in enumerate(asking) if place[: len(wanted)] == wanted), ())
        if found is ABSENT:
            names = (dotted(below) for below, _ in itertools.islice(walk(self.data), 1, MAX_NAMES))
            hint = suggest(name, names) if len(self.problems) < MAX_HINTS else ""
            self._add(path, f"there is no '{name[:80]}' in the config.{hint}", asking)
        elif loop:
            chain = " -> ".join([*(dotted(place) for place in loop[:5]), name[:80]])
            self._add(path, f"refers to itself: {chain}", asking)
        elif len(asking) > MAX_DEPTH:
            self._add(path, f"the last of more than {MAX_DEPTH} references in a row", asking)
        else:
            value = self.resolved(found, wanted, asking)
            self._count([value])
            return value
        return f"${{{name}}}"


def _as_written(data: Any, path: KeyPath) -> KeyPath:
    """The path with indices only where there are lists: `names.0` may name a dict's key as well."""
    above = (get_by_path(data, path[:depth]) for depth in range(len(path)))
    return tuple(str(key) if isinstance(around, Mapping) else key for key, around in zip(path, above, strict=True))


def walk(value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """The value and everything inside it, with paths."""
    yield path, value
    if isinstance(value, Mapping | list):
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from walk(item, (*path, key))


def read_layers(file: Path) -> list[ConfigDocument]:
    """The file and what its `_base_` names, in the order in which they are laid: bases first.

    Raises:
        ConfigError: a file cannot be read, or is its own base.
    """
    documents: list[ConfigDocument] = []
    _read_with_bases(file, (), documents)
    return documents


def _read_with_bases(file: Path, including: tuple[Path, ...], documents: list[ConfigDocument]) -> None:
    document = read_json(file)
    including = (*including, Path(os.path.realpath(file)))
    bases = document.data.get("_base_", [])
    for index, base in enumerate(bases if isinstance(bases, list) else [bases]):
        place: KeyPath = ("_base_", index) if isinstance(bases, list) else ("_base_",)
        if not isinstance(base, str) or not base or "\0" in base:
            raise ConfigError(
                document.problem(place, f"expected the path of a config file, got {json.dumps(base)[:80]}")
            )
        # Not Path's own, which raise other errors for an unknown user, a loop of links or a name that is too long.
        below = file.parent / os.path.expanduser(base)
        if Path(os.path.realpath(below)) in including:
            raise ConfigError(document.problem(place, f"{base} is its own base"))
        if not os.path.isfile(below):
            raise ConfigError(document.problem(place, f"{below}: no such file (it is relative to {file})"))
        if len(documents) + len(including) >= MAX_FILES:
            raise ConfigError(document.problem(place, f"more than {MAX_FILES} files"))
        _read_with_bases(below, including, documents)
    documents.append(document._replace(data={key: value for key, value in document.data.items() if key != "_base_"}))


def with_origins(config: LayeredConfig, data: Any, path: KeyPath = (), indent: str = "") -> str:
    """JSON with a comment behind each value that says where it was written.

    Args:
        config: knows the origins; what is not in it was filled in.
        data: to print, such as the checked config.
        path: of `data`.
        indent: before each of its lines.
    """
    if not isinstance(data, dict | list) or not data:
        return json.dumps(data, ensure_ascii=False)
    lines: list[str] = []
    for key, item in data.items() if isinstance(data, dict) else enumerate(data):
        below, name = (*path, key), f"{json.dumps(key, ensure_ascii=False)}: " if isinstance(data, dict) else ""
        comma = "," if len(lines) < len(data) - 1 else ""
        text = with_origins(config, item, below, indent + "    ") + comma
        if not isinstance(item, dict | list) or not item:
            known = get_by_path(config.data, below, ABSENT) is not ABSENT
            text += "  // " + (_CONTROL.sub(" ", config.where(below)) if known else "filled in")
        lines.append(f"{indent}    {name}{text}")
    brackets = "{}" if isinstance(data, dict) else "[]"
    return "\n".join([brackets[0], *lines, indent + brackets[1]])
