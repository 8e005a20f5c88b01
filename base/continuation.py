"""Whether a run can go on from a checkpoint: what must be as it was, what may differ, and what is then said.

`config` is a ConfigParser, which this room does not import: its `checkpoint`, `resume`, `args` and `trainer_options`.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from base.base_data_loader import BaseDataLoader
from base.checkpoints import Checkpoints
from base.loader_options import HARMLESS_OPTIONS
from logger.run_dir import RunDir
from logger.status import Status
from utils.device import numerics
from utils.errors import CheckpointError, some
from utils.seed import KEYS_VERSION
from utils.split import changes_of_data

_OLDER = {"precision": "fp32", "tf32": False}  # where a checkpoint was written before there was a choice


def epochs_done(config: Any) -> int:
    """Of the run that is continued; 0 for a new one."""
    return config.checkpoint["epochs_done"] if config.checkpoint is not None else 0


def why_finished(config: Any) -> str:
    """Says of a run that has nothing left to do how to go on with it all the same; empty where it has."""
    if config.checkpoint is None:
        return ""
    options, done, monitor = config.trainer_options, epochs_done(config), config.checkpoint["monitor"]
    if done >= options.epochs:
        return (
            f"{config.resume}: finished, {done} of {options.epochs} epochs are done. "
            f"To go on, ask for more: python train.py -r {config.resume} trainer.epochs={done + options.epochs}"
        )
    direction = "max" if monitor["higher_is_better"] else "min"
    same_monitor = options.monitor.split() == [direction, monitor["name"]]
    if same_monitor and options.early_stop and monitor["bad_epochs"] >= options.early_stop:
        return (
            f"{config.resume}: stopped early after {monitor['bad_epochs']} epochs without improvement. To go on, be "
            f"more patient: python train.py -r {config.resume} trainer.early_stop={2 * options.early_stop}"
        )
    return ""


def has_finished(config: Any) -> bool:
    """Whether `-r auto` found a run that is done already: no error, because scripts repeat that command.

    Raises:
        CheckpointError: a run that is done was named.
    """
    message = why_finished(config)
    if message:
        mend(config)
    if message and config.args.is_auto:
        sys.stdout.write(message + "\n")
    elif message:
        raise CheckpointError(message)
    return bool(message)


def mend(config: Any) -> None:
    """Does what a process that was killed in its very last save of a run had left to do."""
    if config.checkpoint is None or config.resume is None:
        return
    run = RunDir.of_checkpoint(config.resume, config.trainer_options.save_dir, **config.checkpoint["run"])
    options, status = config.trainer_options, Status(run.models / "STATUS.json")
    checkpoints = Checkpoints(run.models, period=options.save_period, keep=options.keep_checkpoints)
    if (status.facts.get("state") == "finished" and checkpoints.best.exists()) or not checkpoints.is_last(
        config.checkpoint
    ):
        return
    with run.locked():
        checkpoints.go_on_from(config.checkpoint, config.checkpoint["monitor"]["best_epoch"])
        run.publish("last.pth")
        run.publish("best.pth")
        status.say("finished", reason="finished", to_continue=None)


def require_continuable(config: Any) -> None:
    """Refuses to continue with a model that the checkpoint does not hold, or by other rules of chance.

    Raises:
        CheckpointError: saying what would do instead.
    """
    if config.checkpoint is None:
        return
    if config.args.weights is not None:
        raise CheckpointError("command line: -r continues a run, --weights starts a new one; give one of them")
    config.require_same_model(training=True)
    config.require_same_experiment()
    if config.checkpoint["keys_version"] != KEYS_VERSION:
        raise CheckpointError(
            f"{config.resume}: its chance is drawn by version {config.checkpoint['keys_version']} of the keys, this "
            f"program has version {KEYS_VERSION}, so that it would not go on where it was"
        )


def data_changes(config: Any, train_loader: BaseDataLoader) -> list[str]:
    """In words, how the training images differ from those of the checkpoint, and what that gives up."""
    if config.checkpoint is None:
        return []
    before, held_back = config.checkpoint["data"], config.checkpoint["input"].get("held_back")
    lines = changes_of_data(before, train_loader.fingerprint())
    if not lines and held_back == train_loader.held_back():
        return []
    what = f"the images are not those of the checkpoint any more ({some(lines) or 'another part is held back'})"
    if held_back is not None:
        what += "; some that are now held back for validation may have been trained on"
    return [what]


def require_same_data(config: Any, train_loader: BaseDataLoader) -> list[str]:
    """Refuses to continue on other classes than the checkpoint's, or (unless it is allowed) on other images.

    Returns:
        What `data_changes` says, where that is allowed.

    Raises:
        CheckpointError: saying what differs.
    """
    if config.checkpoint is None:
        return []
    trained, classes = config.checkpoint["classes"], train_loader.classes
    new_run = f"  A new run can start from its weights: python train.py -c CONFIG --weights {config.resume}"
    if trained == classes:
        changes = data_changes(config, train_loader)
        if changes and not config.args.allow_data_change:
            raise CheckpointError(
                f"{config.resume}: {changes[0]}.\n  --allow-data-change goes on with them; an epoch that was begun "
                f"begins anew, and the result is that of no one data set.\n{new_run}"
            )
        return changes
    missing = [name for name in trained if name not in classes] or ["none"]
    new = [name for name in classes if name not in trained] or ["none"]
    raise CheckpointError(
        f"{config.resume}: was trained on {len(trained)} classes, the data has {len(classes)} "
        f"(missing: {some(missing)}; new: {some(new)}).\n{new_run}"
    )


def precision_before(config: Any) -> str | None:
    """Of the checkpoint that the config came with, whose precision may be older than the choice of one."""
    return config.checkpoint["numerics"].get("precision", "fp32") if config.checkpoint is not None else None


def numerics_changes(config: Any, device: torch.device, precision: str = "fp32") -> list[str]:
    """A line where a continued run computes on something else, or in something else, than before."""
    now = numerics(device, precision)
    before = now if config.checkpoint is None else {**_OLDER, **config.checkpoint["numerics"]}
    differ = [f"{name} was {before.get(name)}, is {now[name]}" for name in now if before.get(name) != now[name]]
    return [f"{'; '.join(differ)}: the last bits may differ from those of a run that was not stopped"] if differ else []


@contextmanager
def fitting(name: str) -> Iterator[None]:
    """Says of a part of a checkpoint that it does not fit, in place of what its owner raises."""
    try:
        yield
    except (LookupError, ValueError, RuntimeError, TypeError, AttributeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
        raise CheckpointError(f"the checkpoint's {name} does not fit this config: {reason}") from None


def require_same_batches(changed: list[str], epochs_done: int) -> None:
    """Within an epoch the position is a number of batches, and sums of scores are kept: neither may change meaning."""
    harmless = tuple(f"data_loader.args.{name}" for name in HARMLESS_OPTIONS)
    meant = ("data_loader", "metrics", "loss", "trainer.len_epoch", "trainer.accumulate_steps", "trainer.type")
    wrong = [path for path in changed if path.startswith(meant) and not path.startswith(harmless)]
    if wrong:
        raise CheckpointError(
            f"{wrong[0]}: cannot change within an epoch, and this checkpoint was saved in epoch {epochs_done + 1}; "
            f"continue from a checkpoint-epoch<N>.pth, or finish the epoch first"
        )
