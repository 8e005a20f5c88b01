"""Holds the config of a checkpoint against the one that a run is continued or tested with."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from utils.config_file import MAX_BYTES, MAX_DEPTH
from utils.config_layers import MAX_VALUES
from utils.config_tree import ABSENT, KeyPath, dotted, get_by_path, thaw
from utils.errors import CheckpointError

# Sections that are one object each, written as an object or as a bare name.
SINGLE_SECTIONS = ("arch", "data_loader", "optimizer", "loss", "lr_scheduler")


def require_plain(checkpoint: Mapping[str, Any], source: Path) -> None:
    """Refuses a config that no file could hold, which may even hold itself: a checkpoint can be a stranger's.

    Raises:
        CheckpointError: saying which part.
    """
    waiting: list[tuple[KeyPath, Any]] = [((), checkpoint["config"])]
    num_values = num_characters = 0
    while waiting:
        path, value = waiting.pop()
        num_values, num_characters = num_values + 1, num_characters + (len(value) if isinstance(value, str) else 0)
        if len(path) > MAX_DEPTH or num_values > MAX_VALUES or num_characters > MAX_BYTES:
            raise CheckpointError(f"{source}: its config is larger or nested deeper than any config file")
        if type(value) is dict and all(type(key) is str for key in value):
            waiting += [((*path, key), item) for key, item in value.items()]
            num_characters += sum(map(len, value))
        elif type(value) in (list, tuple):
            waiting += [((*path, index), item) for index, item in enumerate(value)]
        elif not (value is None or type(value) in (str, bool) or (type(value) in (int, float) and _is_finite(value))):
            raise CheckpointError(f"{source}: its config is no JSON: {dotted(path)} is {value!r:.60}")
    for path in checkpoint["offered"]:
        keys = tuple(str(path).split("."))
        has_type = isinstance(get_by_path(checkpoint["config"], (*keys[:1], "type")), str)
        if keys[1:-1] != ("args",) or not has_type or get_by_path(checkpoint["config"], keys, ABSENT) is ABSENT:
            raise CheckpointError(f"{source}: damaged, {path!r:.60} was filled in and is not in its config")


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an int with more than 308 digits
        return False


def comparable(
    before: dict[str, Any], now: dict[str, Any], offered: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Copies of two configs in which what means the same reads the same.

    A section that is a bare name becomes an object with that type, and what the program had filled in before and will
    fill in again is in both.
    """
    pair = (thaw(before), thaw(now))
    for config in pair:
        for name in SINGLE_SECTIONS:
            spec = {"type": config[name]} if isinstance(config.get(name), str) else config.get(name)
            config[name] = {"args": {}, **spec} if isinstance(spec, dict) else spec
    for path in offered:
        section, _, name = path.split(".")
        old, new = pair[0][section], pair[1][section]
        if new is not None and old["type"] == new["type"]:
            new["args"].setdefault(name, old["args"][name])
    return pair


def without(config: dict[str, Any], paths: Sequence[str]) -> dict[str, Any]:
    """A copy without what the program had filled in, so that it is filled in anew."""
    config = thaw(config)
    for path in paths:
        *keys, last = path.split(".")
        get_by_path(config, tuple(keys), {}).pop(last, None)
    return config
