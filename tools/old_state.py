"""Puts the state of an old checkpoint into what train.py has built: network, optimizer, schedule, counters, best score.

Called by tools/convert.py. The first two are tried before a folder is made.
"""

from typing import Any

import torch
from torch import nn

from base.base_trainer import BaseTrainer
from base.training_parts import Learner
from model.fit import plain_names, require_fit, shape_of
from tools.old_checkpoint import OldCheckpoint
from utils.errors import CheckpointError

# Parts of optimizers' states that are of their parameter's shape.
_LIKE_PARAMETERS = ("momentum_buffer", "exp_avg", "exp_avg_sq", "max_exp_avg_sq", "square_avg", "sum", "acc_delta")
_BY_SCHEDULERS = {"params", "initial_lr"}


def load_model(model: nn.Module, old: OldCheckpoint) -> None:
    """Puts the weights in; all of them must fit, the head too.

    Raises:
        CheckpointError: a report of what does not.
    """
    own = model.state_dict()
    weights = plain_names(old.weights, own)
    try:
        require_fit(type(model).__name__, own, weights)
    except CheckpointError as error:
        raise CheckpointError(f"{old.path}: {error}") from None
    own.update(weights)
    model.load_state_dict(own)


def load_optimizer(learner: Learner, old: OldCheckpoint, type_name: str) -> float | None:
    """Puts the moments in; the settings (learning rate, momentum, ...) stay those of the config.

    Args:
        learner: changed.
        old: what is taken from.
        type_name: the optimizer's, by the config.

    Returns:
        The file's learning rate, of the first group; None where the file has none.

    Raises:
        CheckpointError: the state is one of another optimizer, or of other parameters.
    """
    if old.optimizer is None:
        return None
    optimizer, before = learner.optimizer, (old.config or {}).get("optimizer")
    old_type = before.get("type") if isinstance(before, dict) else before
    instead = "--weights-only gives a new run its weights"
    if isinstance(old_type, str) and old_type != type_name:
        raise CheckpointError(f"{old.path}: holds the state of {old_type:.60}, the config has {type_name}; {instead}")
    fresh = [dict(group) for group in optimizer.param_groups]
    try:
        stray = {key for group in old.optimizer["param_groups"] for key in group} - fresh[0].keys() - _BY_SCHEDULERS
        if stray:
            raise ValueError(f"{type_name} has no '{min(stray):.60}'")
        optimizer.load_state_dict(old.optimizer)
        for parameter, state in optimizer.state.items():
            for name in state.keys() & set(_LIKE_PARAMETERS):
                if isinstance(state[name], torch.Tensor) and state[name].shape != parameter.shape:
                    raise ValueError(f"a {name} is {shape_of(state[name])}, its parameter {shape_of(parameter)}")
        lr = old.optimizer["param_groups"][0].get("lr")
    except (LookupError, ValueError, RuntimeError, TypeError, AttributeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        text = f"the optimizer's state does not fit {type_name}: {reason:.150}"
        raise CheckpointError(f"{old.path}: {text}; {instead}") from None
    for group, settings in zip(optimizer.param_groups, fresh, strict=True):
        group.update({key: value for key, value in settings.items() if key != "params"})
    return float(lr) if type(lr) in (int, float) else None


def put_in(trainer: BaseTrainer, old: OldCheckpoint, steps_per_epoch: int, file_lr: float | None) -> list[str]:
    """Sets counters and best score, and replays the schedule to where it would be.

    Args:
        trainer: of the new run, whose network and optimizer are loaded.
        old: what is taken from.
        steps_per_epoch: of the optimizer.
        file_lr: the file's learning rate.

    Returns:
        Lines on what could not be taken over as it was.
    """
    lines, schedule, groups = [], trainer.learner.schedule, trainer.learner.optimizer.param_groups
    trainer.epochs_done, trainer.steps_done = old.epoch, old.epoch * steps_per_epoch
    trainer.epochs_saved = old.epoch
    if getattr(schedule, "by_score", False) and file_lr is not None:
        for group in groups:  # it goes down from wherever it is, and cannot be replayed without the scores
            group["lr"] = file_lr
        lines.append("the schedule goes by a score and begins anew, at the file's learning rate")
    schedule.replay(old.epoch, trainer.steps_done)
    lr = float(groups[0]["lr"])
    if file_lr is not None and abs(lr - file_lr) > 1e-6 * abs(file_lr):
        lines.append(f"learning rate: {lr:.6g} by the config after {old.epoch} epochs; the file had {file_lr:.6g}")
    monitor = trainer.monitor
    wanted, why = _old_monitor(old), "the file has none"
    if wanted is not None and wanted != (monitor.name, monitor.higher_is_better):
        why = "the config watches another score"
    elif old.monitor_best is not None and monitor.name is not None:
        monitor.best, monitor.best_epoch, monitor.bad_epochs = old.monitor_best, old.epoch, 0
        return lines
    return [*lines, f"best score: {why}; the next epoch will be the best"] if monitor.name is not None else lines


def _old_monitor(old: OldCheckpoint) -> tuple[Any, bool] | None:
    """(name, higher is better) by the file's config, None where it does not tell."""
    section = (old.config or {}).get("trainer")
    if not isinstance(section, dict):
        return None
    words = f"{section.get('monitor_mode', '')} {section.get('monitor')}".split()
    return (words[1], words[0] == "max") if len(words) == 2 else None
