"""Holds the config of a checkpoint against the one that a run is continued or tested with."""

from collections.abc import Sequence
from typing import Any

from utils.config_file import get_by_path, thaw

# Sections that are one object each, written as an object or as a bare name.
SINGLE_SECTIONS = ("arch", "data_loader", "optimizer", "loss", "lr_scheduler")


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
