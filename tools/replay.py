"""Does one step of a run again and looks into it: `python -m tools.replay -r saved/models/last.pth --step 132`.

The step is the one of the run, with the same images, augmentations, dropout and weights, because all of them follow
from the seed and the number of the step. It is reached from the newest checkpoint of the run that lies before it, in
folders that are thrown away.
"""

import contextlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from utils.command_line import Command, Parser
from utils.errors import CheckpointError, ConfigError, exit_on_user_error


def read_words(words: Sequence[str] | None = None) -> Command:
    """The command line."""
    parser = Parser(prog="tools.replay", description=__doc__)
    parser.add_argument("--step", type=int, metavar="N", help="the step, counted from 1 over the whole run")
    return parser.read((), words)


COMMAND = None
if __name__ == "__main__":
    with exit_on_user_error():
        COMMAND = read_words()  # here, because torch takes seconds to import, and --help need not wait for it

import dataclasses
import logging

import torch
from torch import nn

import train
from base.checkpoints import Checkpoints, position_of
from logger.run_dir import RunDir
from logger.summary import aligned
from parse_config import ConfigParser
from trainer.trainer import Batch, Trainer
from utils.checkpoint import load_checkpoint
from utils.errors import TrainingError


class _Reached(Exception):
    """The step is done, and nothing more is to be trained."""


def main(words: Sequence[str] | None = None, command: Command | None = None) -> dict[str, str]:
    """Prints what the step saw and did, and gives it by name."""
    command = command or read_words(words)
    step = command.args.step
    if command.args.resume is None or step is None or step < 1:
        raise ConfigError("command line: give a checkpoint with -r and a step with --step N, from 1 on")
    command.args.resume = checkpoint_before(command.args.resume, step)
    command.args.allow_data_change, command.args.weights = False, None
    config = ConfigParser.from_args(command)
    found: dict[str, str] = {}
    logging.getLogger("run").addHandler(logging.NullHandler())  # it was said when the run itself did these steps
    with config.locating(), tempfile.TemporaryDirectory(prefix="replay-") as folder:
        built = train.build(config)
        run = RunDir.create(Path(folder), config["name"])
        unlimited = dataclasses.replace(config.trainer_options, max_minutes=None, tensorboard=False)
        trainer = train.open_trainer(config, built, run, unlimited)
        if not isinstance(trainer, Trainer):
            raise ConfigError("only a Trainer, or a class derived from it, can be replayed", "trainer.type")
        require_within(trainer, step, config.resume)
        look_at(trainer, step, found)
        trainer.is_last_saved = True  # nothing is to be kept, not even if it is not finite
        try:
            trainer.train()
        except _Reached:
            pass
        except TrainingError as error:  # a step before it
            raise TrainingError(f"the run does not come as far as step {step}: {error}") from None
    if not found:
        raise CheckpointError(f"{config.resume}: the run ends at step {trainer.steps_done}, before step {step}")
    sys.stdout.write(aligned({"from": f"{config.resume}", **found}) + "\n")
    return found


def checkpoint_before(asked: Path, step: int) -> Path:
    """The newest checkpoint of the same run in which the step is not yet done, the one that was asked for if possible.

    Others are passed over where they are damaged.

    Raises:
        CheckpointError: there is none.
    """
    if load_checkpoint(asked)["steps_done"] < step:
        return asked
    checkpoints = Checkpoints(asked.resolve().parent)
    paths = [path for path in (checkpoints.best, *checkpoints.numbered().values()) if path.exists()]
    before = []
    for path in paths:
        with contextlib.suppress(CheckpointError):
            state = load_checkpoint(path)
            if state["steps_done"] < step:
                before.append((position_of(state), path))
    if not before:
        raise CheckpointError(f"{asked}: step {step} is done already, and no older checkpoint of the run is kept")
    return max(before, key=lambda pair: pair[0])[1]


def require_within(trainer: Trainer, step: int, resume: Path | None) -> None:
    """Says at once where a run is too short for a step, instead of training up to its end.

    Raises:
        CheckpointError: its last step comes before.
    """
    epochs = trainer.options.epochs - trainer.epochs_done
    done = trainer.batches_to_skip // trainer.options.accumulate_steps  # of the epoch that goes on
    last = trainer.steps_done + epochs * trainer.steps_per_epoch - done
    if step > last:
        raise CheckpointError(f"{resume}: the run ends at step {last}, before step {step}")


def look_at(trainer: Trainer, step: int, found: dict[str, str]) -> None:
    """Makes the trainer look into one of its steps, before the optimizer takes it, and end there.

    Args:
        trainer: changed in place.
        step: counted from 1.
        found: what was seen is put here.
    """
    whole_step = trainer._step

    def observed(group: list[Batch], *sums: object) -> None:
        if trainer.steps_done + 1 < step:
            whole_step(group, *sums)  # type: ignore[arg-type]
            return
        facts = trainer._facts(len(group))
        found.update({"step": f"{step} (epoch {facts['epoch']}), learning rate {float(facts['lr']):.17g}"})
        found.update(_forward_and_back(trainer, group))
        found["images"] = "\n" + "\n".join(f"  {name}" for name in trainer._names_of_step(facts))
        raise _Reached

    trainer._step = observed  # type: ignore[method-assign, assignment]


def _forward_and_back(trainer: Trainer, group: list[Batch]) -> dict[str, str]:
    """Losses and gradient of a step with all their digits, and the first layer whose output is not finite."""
    strange: list[str] = []

    def note(name: str) -> object:
        def hook(module: nn.Module, inputs: object, output: object) -> None:
            if isinstance(output, torch.Tensor) and not torch.isfinite(output).all():
                strange.append(f"{name} ({type(module).__name__})")

        return hook

    model = trainer.learner.model
    hooks = [module.register_forward_hook(note(name)) for name, module in model.named_modules() if name]
    parts, norm = trainer._gradient(group, max_norm=None)
    for hook in hooks:
        hook.remove()
    bad = [name for name, p in model.named_parameters() if p.grad is not None and not torch.isfinite(p.grad).all()]
    inputs = [trainer.augmentation.plan(batch).inputs() for batch in group]
    pixels = [(float(images.min()), float(images.max())) for images in inputs]
    return {
        "inputs": ", ".join(f"{low:.4g} to {high:.4g}" for low, high in pixels),
        "loss": ", ".join(f"{float(part.loss):.17g}" for part in parts),
        "gradient": f"norm {float(norm):.17g}" + (f", not finite in {', '.join(bad[:5])}" if bad else ""),
        "layers": f"first that is not finite: {strange[0]}" if strange else "all outputs are finite",
    }


if __name__ == "__main__":
    with exit_on_user_error():
        main(command=COMMAND)
