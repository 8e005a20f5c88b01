"""Whether weights fit a network: names without wrappers' prefixes, shapes, and a report of what does not fit.

Called where weights of others are loaded: model/pretrained.py, and tools/convert.py.
"""

from collections.abc import Mapping
from typing import Any

import torch

from utils.errors import CheckpointError, some

_NAMES_SHOWN = 3
_SHAPES_SHOWN = 2  # each is four times as long as a name
_MAX_NAME = 100  # characters; a stranger's file may have longer ones than any screen


def plain_names(state_dict: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The same weights by the names that the network has for them.

    The prefixes that DataParallel, DistributedDataParallel and torch.compile put before names are taken off; a module
    that is really called "module" keeps its own.

    Args:
        state_dict: names to tensors.
        own: of the network.
    """
    return {_without_prefixes(key, own): value for key, value in state_dict.items()}


def missing_counters(own: Mapping[str, Any], given: Mapping[str, Any]) -> set[str]:
    """Counters of batches that the weights do not have, as in files from before torch 0.4.1; torch lets them miss."""
    return {key for key in own if key.endswith(".num_batches_tracked") and key not in given}


def require_fit(
    name: str, own: Mapping[str, Any], given: Mapping[str, Any], *, excused: set[str] | frozenset[str] = frozenset()
) -> None:
    """Refuses weights that do not fit, with counts and the first few names of each kind.

    Args:
        name: of the network's class.
        own: the network's names and tensors.
        given: those of the file.
        excused: names that need not fit. Counters of batches may be missing in any case.

    Raises:
        CheckpointError: something is missing, too much, or of another shape.
    """
    excused = excused | missing_counters(own, given)
    missing = [key for key in own if key not in given and key not in excused]
    unexpected = [key for key in given if key not in own and key not in excused]
    in_both = [key for key in own if key in given and key not in excused]
    other = [key for key in in_both if shape_of(own[key]) != shape_of(given[key])]
    shapes = [f"{key[:_MAX_NAME]} is {shape_of(given[key])}, this model has {shape_of(own[key])}" for key in other]
    kinds = (("missing", missing, _NAMES_SHOWN), ("unexpected", unexpected, _NAMES_SHOWN))
    parts = [_counted(what, [key[:_MAX_NAME] for key in keys], limit) for what, keys, limit in kinds if keys]
    parts += [_counted("of another shape", shapes, _SHAPES_SHOWN)] if shapes else []
    if parts:
        raise CheckpointError(f"the weights do not fit {name}: {', '.join(parts)}")


def shape_of(value: Any) -> str:
    """A tensor's shape as "5x512"; for anything else its type."""
    if not isinstance(value, torch.Tensor):
        return f"a {type(value).__name__}"
    return "x".join(str(length) for length in value.shape) or "one number"


def _counted(what: str, names: list[str], limit: int) -> str:
    """As in "12 missing (features.0.weight, features.0.bias and 10 more)"."""
    return f"{len(names)} {what} ({some(names, limit)})"


def _without_prefixes(key: str, own: Mapping[str, Any]) -> str:
    """The name without wrappers' prefixes, in any order."""
    while key not in own:
        for prefix in ("module.", "_orig_mod."):
            if key.startswith(prefix):
                key = key.removeprefix(prefix)
                break
        else:
            break
    return key
