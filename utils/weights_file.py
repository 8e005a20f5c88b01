"""Weights to start a run from, out of a file of anybody's: a checkpoint of ours, a state dict, or safetensors."""

import json
from pathlib import Path
from typing import Any

import torch

from utils.checkpoint import DIGEST, load_plain, require_undamaged
from utils.errors import CheckpointError
from utils.safetensors_file import is_safetensors, load_safetensors, safetensors_metadata

# Where programs put the state dict in a file that holds more; a bare one is the file itself.
_KEYS = ("state_dict", "model_state_dict", "model")


def load_weights_file(path: Path) -> tuple[dict[str, torch.Tensor], list[str] | None]:
    """The weights in a file, to start another run from, and the class names where the file tells them.

    Raises:
        CheckpointError: the file cannot be read, or holds no named tensors.
    """
    if is_safetensors(path):
        state, classes = load_safetensors(path), _classes_in(safetensors_metadata(path))
    else:
        content = load_plain(path)
        is_ours = isinstance(content, dict) and "format" in content
        if is_ours and DIGEST in content:
            require_undamaged(path, content)
        classes = content.get("classes") if is_ours else None
        classes = _names_or_none(classes)
        state = content.get("model") if is_ours else _state_dict_in(content)
    if not is_state_dict(state):
        raise CheckpointError(f"{path}: holds no state dict (a dict of names and tensors)")
    return state, classes


def is_state_dict(value: Any) -> bool:
    """Whether it is names and tensors, and some."""
    is_dict = isinstance(value, dict) and len(value) > 0
    return is_dict and all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in value.items())


def _classes_in(metadata: dict[str, str]) -> list[str] | None:
    """The class names that export.py writes into a file of safetensors."""
    try:
        return _names_or_none(json.loads(metadata.get("classes", "null")))
    except (ValueError, RecursionError):  # somebody else's entry of that name
        return None


def _names_or_none(value: Any) -> list[str] | None:
    return value if isinstance(value, list) and all(isinstance(name, str) for name in value) else None


def _state_dict_in(content: Any) -> Any:
    for key in _KEYS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            return content[key]
    return content
