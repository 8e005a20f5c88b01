"""Groups of parameters with settings of their own, such as biases without weight decay."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from utils.errors import ConfigError


def parameter_groups(model: nn.Module, groups: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The trainable parameters as an optimizer takes them: those of no group first, then each group with its settings.

    Args:
        model: whose names of parameters are matched.
        groups: of `optimizer.groups`: "match" is a pattern or a list of them, such as "*.bias"; the rest are settings.
            A parameter belongs to the first group that matches it.

    Raises:
        ConfigError: a group to which no parameter belongs.
    """
    patterns = [[one["match"]] if isinstance(one["match"], str) else list(one["match"]) for one in groups]
    members: list[list[nn.Parameter]] = [[] for _ in groups]
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            of = (index for index, some in enumerate(patterns) if any(fnmatchcase(name, one) for one in some))
            index = next(of, None)
            (others if index is None else members[index]).append(parameter)
    for index, found in enumerate(members):
        if not found:
            names = ", ".join([name for name, p in model.named_parameters() if p.requires_grad][:5])
            raise ConfigError(
                f"no trainable parameter is left for {' or '.join(patterns[index])}; the first ones are {names}",
                f"optimizer.groups.{index}.match",
            )
    settings = [{key: value for key, value in one.items() if key != "match"} for one in groups]
    grouped = [{"params": found, **own} for found, own in zip(members, settings, strict=True)]
    return [{"params": others}, *grouped] if others else grouped
