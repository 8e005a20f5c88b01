"""Turns a checkpoint of pytorch-template into one of this project: `python -m tools.convert old/model_best.pth`.

Nothing that the file brings is run. The network, the data and the optimizer are built as train.py builds them, from the
file's own config or from one given with -c; then the state is put in, and a new run written that can be continued.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from utils.command_line import Command, Parser
from utils.errors import ConfigError, OutputError, exit_on_user_error


def read_words(words: Sequence[str] | None = None) -> Command:
    """The command line, and the config files that it names; the old file is `args.old_file`.

    Raises:
        ConfigError: an option or a word cannot be read, or means nothing here.
    """
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("resume", metavar="FILE", type=Path, help="checkpoint of pytorch-template")
    parser = Parser(prog="python -m tools.convert", description=__doc__, parents=[first])
    help_text = "write only the weights, into a .pth file for --weights; needs neither data nor the network's code"
    parser.add_argument("--weights-only", metavar="OUT", type=Path, help=help_text)
    for action in parser._actions:
        if "--resume" in action.option_strings or action.dest in ("schema", "print_origins"):
            action.help = argparse.SUPPRESS
    command = parser.read((), words)
    resumes = any(word.startswith(("-r", "--resume")) for word in command.words)
    if resumes or command.args.schema or command.args.print_origins:
        raise ConfigError("command line: the file goes without -r, and --schema and --print-origins are of train.py")
    if command.args.weights_only is not None and (command.documents or command.overrides):
        raise ConfigError("command line: --weights-only reads no config; leave -c and KEY=VALUE out")
    command.args.old_file, command.args.resume = Path(command.args.resume), None
    return command


COMMAND = None
if __name__ == "__main__":
    with exit_on_user_error():
        COMMAND = read_words()  # here, because torch takes seconds to import, and --help need not wait for it

import dataclasses
import shlex
import sys

import torch

import train
from base.base_trainer import BaseTrainer
from logger.run_dir import RunDir
from logger.summary import save_run_files, shown
from parse_config import ConfigParser, lay_command
from tools.old_checkpoint import OldCheckpoint, read_old_checkpoint, unwrapped
from tools.old_config import converted
from tools.old_state import load_model, load_optimizer, put_in
from utils.checkpoint import save_checkpoint
from utils.config_layers import LayeredConfig, Origin
from utils.config_table import check_allowed
from utils.config_tree import to_json
from utils.durable_file import link, replace_file


def main(words: Sequence[str] | None = None, command: Command | None = None) -> Path | None:
    """Converts, and says what was taken over; gives the file that was written, if any."""
    command = command or read_words(words)
    old = read_old_checkpoint(command.args.old_file)
    if command.args.weights_only is not None:
        return write_weights(old, command.args.weights_only)
    config, lines = config_of(old, command)
    if command.args.print_config:
        sys.stdout.write(to_json(config.resolved))
        return None
    with config.locating():
        built = train.build(config)
        load_model(built.learner.model, old)
        file_lr = load_optimizer(built.learner, old, config.plans["optimizer"].type_name)
        run = train.open_run(config)
        trainer, remarks = write_run(config, built, run, old, file_lr)
    sys.stdout.write(report(old, trainer, lines, remarks, command.args.allow))
    return run.models / "last.pth"


def config_of(old: OldCheckpoint, command: Command) -> tuple[ConfigParser, list[str]]:
    """The config, checked, and a line on each setting that was dropped or renamed.

    Raises:
        ConfigError: there is none, or something in it does not exist here.
    """
    check_allowed(command.args.allow)
    layers = LayeredConfig()
    lines: list[str] = []
    if not command.documents:
        if old.config is None:
            raise ConfigError(f"{old.path}: holds no config; give one of this project with -c")
        config, lines = converted(old.config)
        layers.lay(config, Origin(f"the config in {old.path}"))
    lay_command(layers, command)
    try:
        return ConfigParser(layers, args=command.args), lines
    except ConfigError as error:
        if command.documents:
            raise
        hint = "Classes of one's own must be brought along, or a config given with -c: see docs/old-checkpoints.md"
        raise ConfigError(f"{error}\n{hint}") from None


def write_run(
    config: ConfigParser, built: train.Built, run: RunDir, old: OldCheckpoint, file_lr: float | None
) -> tuple[BaseTrainer, list[str]]:
    """Writes a run that stands where the old one stood; gives its trainer, and lines on what is not as it was.

    Raises:
        OutputError: it cannot be written; no folders are left.
    """
    options, (train_loader, _) = config.trainer_options, built.loaders
    quiet = dataclasses.replace(options, tensorboard=False)  # events begin when it is continued
    trainer = train.open_trainer(config, built, run, quiet)
    steps_per_epoch = -(-(options.len_epoch or len(train_loader)) // options.accumulate_steps)
    remarks = put_in(trainer, old, steps_per_epoch, file_lr)
    last = run.models / "last.pth"
    try:
        save_checkpoint(last, trainer.state_dict())
    except OutputError:
        run.remove_if_empty()
        raise
    if trainer.monitor.best_epoch is not None:
        link(last, run.models / "best.pth")
    save_run_files(run, config.resolved, train_loader.classes)
    for name in ("last.pth", "best.pth"):
        run.publish(name)
    trainer.recorder.close()
    if train_loader.held_back() is not None:
        remarks.append("the images held back for validation are chosen anew: the old run trained on most of them, so")
        remarks.append("  validation scores are too good from here on; trust the test images only")
    return trainer, remarks


def report(old: OldCheckpoint, trainer: BaseTrainer, changes: list[str], remarks: list[str], allowed: list[str]) -> str:
    """What was taken over and what was not, and the commands that go on from there."""
    monitor, epochs = trainer.monitor, trainer.options.epochs
    taken = [f"the weights ({len(old.weights)} tensors)", f"{old.epoch} of {epochs} epochs"]
    if old.optimizer is not None:
        taken.insert(1, f"the state of {type(trainer.learner.optimizer).__name__}")
    lost = ["random state; curves (results.csv begins with the next epoch); the schedule is replayed, not read"]
    if monitor.best_epoch is not None:
        taken.append(f"the best {monitor.name}, {monitor.best:.6g}")
        lost.append(f"which epoch was the best: now epoch {old.epoch} counts as it, and best.pth holds its weights")
    if old.optimizer is None:
        lost.append("the state of the optimizer, which the file does not have")
    last = trainer.models_dir / "last.pth"
    best = last if monitor.best_epoch is None else trainer.models_dir / "best.pth"
    packages = [word for package in allowed for word in ("--allow", package)]
    more = [f"trainer.epochs={2 * old.epoch}"] if old.epoch >= epochs else []
    rows = {
        "written": [f"{shown(trainer.models_dir)}: {', '.join(dict.fromkeys([last.name, best.name]))}, config.json"],
        "config": changes,
        "taken over": [", ".join(taken)],
        "not": lost,
        "note": remarks,
        "continue": [shlex.join(["python", "train.py", "-r", shown(last), *more, *packages])],
        "test it": [shlex.join(["python", "test.py", "-r", shown(best), *packages])],
    }
    lines = [(name if not at else "", text) for name, texts in rows.items() for at, text in enumerate(texts)]
    return "".join(f"{name:<12}{text}\n" for name, text in lines)


def write_weights(old: OldCheckpoint, out: Path) -> Path:
    """Only the weights, as names and tensors.

    Raises:
        OutputError: there is a file of that name, or it cannot be written.
    """
    if out.suffix != ".pth" or out.exists():
        raise OutputError(f"{out}: {'is there already' if out.exists() else 'not a .pth file'}; give another name")
    weights = unwrapped(old.weights)
    replace_file(out, lambda file: torch.save(weights, file), "the weights")
    words = f"python train.py -c CONFIG --weights {shlex.quote(shown(out))}"
    sys.stdout.write(
        f"{len(weights)} tensors of {old.path} are in {shown(out)}. To start a run from them:\n  {words}\n"
    )
    return out


if __name__ == "__main__":
    with exit_on_user_error():
        main(command=COMMAND)
