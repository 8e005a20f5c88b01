"""Plain dicts and lists out of JSON: reading, changing, merging and comparing them by path.

Every file of the config uses this; what a key means, and where it was written, does not belong here. `--help` imports
this too, so only quick modules: `dataclasses` would double the time.
"""

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from utils.errors import ConfigError

KeyPath = tuple[str | int, ...]
ABSENT: Any = type("Absent", (), {"__repr__": lambda absent: "(absent)"})()

_LIST_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")
_BESIDE_A_NAME = {"args", "interval", "groups"}  # of a section in its short form
_PLAIN_KEY = re.compile(r'[^\s."\x00-\x1f\x7f-\x9f]+')


def dotted(path: KeyPath) -> str:
    """The path with dots between; a key that could be misread is in quotes."""
    keys = map(str, path)
    return ".".join(key if _PLAIN_KEY.fullmatch(key) else json.dumps(key, ensure_ascii=False) for key in keys)


def path_of(name: str) -> KeyPath:
    """A dotted path taken apart: an index of a list becomes an int. Keys with dots in them cannot be named."""
    # '007' stays a string: as an int it would no longer be the key that was written.
    return tuple(int(part) if _LIST_INDEX.fullmatch(part) else part for part in name.split("."))


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
        if isinstance(present, str) and depth < len(path) - 1 and path[depth + 1] in _BESIDE_A_NAME:
            present = {"type": present}  # "loss": "cross_entropy" is short for that
        inside = thaw(value) if depth == len(path) - 1 else {} if present is None else present
        if isinstance(here, dict):
            here[str(key)] = inside
        elif isinstance(here, list) and isinstance(key, int) and 0 <= key <= len(here):
            here[key : key + 1] = [inside]
        else:
            found = f"{dotted(path[:depth])} is {json.dumps(here, ensure_ascii=False)[:60]}"
            raise ConfigError(f"{found} and has no {key!r}", dotted(path))
        here = inside
    return changed


def merge(base: Mapping, changes: Mapping) -> dict:
    """A new config: dicts merge, all else is replaced, and so is a section whose "type" changes.

    A bare name that is given "args" becomes an object with that type.
    """
    merged = thaw({**base, **changes})
    for key in base.keys() & changes.keys():
        old, new = base[key], changes[key]
        if isinstance(old, str) and isinstance(new, Mapping) and "type" not in new and _BESIDE_A_NAME & new.keys():
            old = {"type": old}
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
    """The end of a message about an unknown name: " Did you mean 'lr'?", up to three names, or "".

    Where none is spelt nearly so, those count that begin with it: "cosine".
    """
    by_folded = {candidate.casefold(): candidate for candidate in candidates}
    folded = word.casefold()
    longer = [name for name in by_folded if len(word) > 2 and name.startswith(folded)]
    near = [f"'{by_folded[name]}'" for name in difflib.get_close_matches(folded, by_folded) or longer[:3]]
    return f" Did you mean {' or '.join(near)}?" if near else ""
