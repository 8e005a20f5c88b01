"""How evenly the classes of the training part are filled, and the weights of a loss that make up for it.

`config` is a ConfigParser, which this room does not import: its `plans` and the config itself. Called by train.py.
"""

import math
from typing import Any

import torch

from base.base_data_loader import BaseDataLoader
from utils.config_tree import get_by_path
from utils.errors import ConfigError

MAX_RATIO = 5  # of the largest class to the smallest one, above which it is said
_KEY, _ARGUMENT = "loss.class_weights", "loss.args.weight"


def balanced_weights(targets_N: torch.Tensor, classes: list[str]) -> list[float]:
    """N / (K * N_k) for each of the K classes: each class weighs the same in all, and an image 1 on average.

    Source: G. King and L. Zeng, "Logistic Regression in Rare Events Data", 2001, as scikit-learn's
    `class_weight="balanced"` has it.

    Args:
        targets_N: class indices of the training part.
        classes: their names.

    Raises:
        ConfigError: a class has no image.
    """
    counts = torch.bincount(targets_N, minlength=len(classes)).tolist()
    if 0 in counts:
        message = f'"auto" needs images of every class, and the training part has none of {classes[counts.index(0)]}'
        raise ConfigError(message, _KEY, "data_loader")
    return [len(targets_N) / (len(classes) * count) for count in counts]


def weigh_classes(config: Any, loader: BaseDataLoader) -> tuple[dict[str, list[float]], list[str]]:
    """What `"class_weights": "auto"` fills in, and what is to be said of the classes' balance.

    Args:
        config: with plans of `loss` and `data_loader`.
        loader: of the training part; gets a note with the weights, for the log.

    Returns:
        {"weight": one a class}, or nothing where the config does not ask for it; warnings.

    Raises:
        ConfigError: the loss takes no weights, the loader does not tell its classes, a class has no image, or the
            weights that the config has are others.
    """
    plan = config.plans["loss"]
    is_balanced = "BalancedSampler" in _samplers(config.plans["data_loader"].args.get("sampler"))
    targets_N = None if loader.targets is None else loader.targets[loader.indices]
    if get_by_path(config.config, ("loss", "class_weights")) is None:
        is_silent = is_balanced or plan.args.get("weight") is not None or targets_N is None
        return {}, [] if is_silent or targets_N is None else _remarks(targets_N, loader.classes)
    if not plan.takes("weight"):
        raise ConfigError(f"{plan.type_name} takes no `weight`; cross_entropy and CrossEntropyLoss do", _KEY)
    if targets_N is None:
        raise ConfigError("needs a data set with `targets`", _KEY, "data_loader")
    weights = balanced_weights(targets_N, loader.classes)
    _require_same(plan.args.get("weight"), weights)
    loader.notes.append(
        f"class weights: {', '.join(f'{name} {w:.4g}' for name, w in zip(loader.classes, weights, strict=True))}"
    )
    twice = f"{_KEY} and the balanced sampler each even the classes out; with both, rare ones count for too much"
    return {"weight": weights}, [twice] if is_balanced else []


def _samplers(plan: Any) -> list[str]:
    """Names of a sampler and of those inside it."""
    return [] if plan is None else [plan.type_name, *_samplers(plan.args.get("sampler"))]


def _require_same(written: Any, weights: list[float]) -> None:
    """Refuses numbers of other images, such as those in the saved config of another run."""
    if written is None:
        return
    numbers = torch.as_tensor(written).tolist()
    alike = len(numbers) == len(weights) and all(math.isclose(*pair, rel_tol=1e-5) for pair in zip(numbers, weights))  # noqa: B905
    if not alike:
        message = "are not those of these training images; leave them out and they are computed"
        raise ConfigError(message, _ARGUMENT, _KEY)


def _remarks(targets_N: torch.Tensor, classes: list[str]) -> list[str]:
    counts = torch.bincount(targets_N, minlength=len(classes)).tolist()
    most, least = max(counts), min(count for count in counts if count)
    if most <= MAX_RATIO * least:
        return []
    names = [classes[counts.index(count)] for count in (most, least)]
    return [
        f"classes are uneven: {most:,} training images of {names[0]}, {least:,} of {names[1]}; "
        f'"class_weights": "auto" in loss, or "sampler": "balanced", makes up for it'
    ]
