"""Trains a classifier as a config describes: `python train.py -c config.json`, or continues: `-r last.pth`."""

from collections.abc import Sequence
from pathlib import Path

from utils.command_line import ROOT, Command, CustomArgs, Parser
from utils.errors import CheckpointError, ConfigError, OutputError, exit_on_user_error, some

SHORT_FLAGS = [
    CustomArgs(["--lr", "--learning_rate"], float, "optimizer.args.lr"),
    CustomArgs(["--bs", "--batch_size"], int, "data_loader.args.batch_size"),
]


def read_words(words: Sequence[str] | None = None) -> Command:
    """The command line, and the config files that it names."""
    parser = Parser(prog="train.py", description=__doc__)
    parser.add_argument("--weights", metavar="FILE", type=Path, help="start a new run from the weights in a file")
    parser.add_argument("--check", action="store_true", help="try everything out, a few steps too, and keep nothing")
    return parser.read(SHORT_FLAGS, words)


COMMAND = None
if __name__ == "__main__":
    with exit_on_user_error():
        COMMAND = read_words()  # here, because torch takes seconds to import, and --help need not wait for it

import dataclasses
import os
import sys
import tempfile
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from base.base_data_loader import BaseDataLoader
from base.base_model import count_trainable
from base.base_trainer import BaseTrainer, Learner, RunContext, TrainerOptions, checked_monitor, score_names
from logger.logger import close_log, open_log
from logger.recorder import Recorder
from logger.run_dir import RunDir
from logger.run_record import recorded
from logger.summary import aligned, data_in_words, first_lines, last_lines, save_run_files, shown, versions
from model.check import check_batch_of_one, check_judges, check_model, choose_layout
from model.pretrained import load_weights
from parse_config import ConfigParser
from trainer.trial import try_run
from utils.checkpoint import load_weights_file
from utils.device import choose_devices, describe
from utils.seed import seed_everything, seed_for


@dataclass
class Built:
    """What a run is made of, ready to start; nothing is written yet."""

    loaders: tuple[BaseDataLoader, BaseDataLoader | None]
    learner: Learner
    devices: list[torch.device]
    layout: torch.memory_format
    facts: dict[str, str]
    notes: list[str]
    remarks: list[str]


def main(words: Sequence[str] | None = None, command: Command | None = None) -> BaseTrainer | None:
    """Checks, builds and trains; what a user can have done wrong shows before a folder is made."""
    command = command or read_words(words)
    config = ConfigParser.from_args(command)
    with config.locating():
        built = build(config)
        if command.args.check:
            return check(config, built)
        run = open_run(config)
        about = {"overrides": [one.text for one in command.overrides], "seed": config["seed"]}
        about |= {"continued_from": config.resume and str(config.resume), "device": built.facts["device"]}
        try:
            with recorded(run, command.words, about, ROOT):
                return train(config, built, run)
        finally:
            close_log()


def build(config: ConfigParser) -> Built:
    """Everything that training needs, tried on the first images."""
    options, seed = config.trainer_options, config["seed"]
    require_continuable(config)
    devices, notes = choose_devices(config["device"], config["n_gpu"], by_command_line=config.args.device is not None)

    seed_everything(seed)
    train_loader: BaseDataLoader = config.init_obj("data_loader", seed=seed, training=True)
    valid_loader = train_loader.split_validation()
    require_same_data(config, train_loader)
    model, facts, remarks = build_model(config, train_loader)
    layout = choose_layout(model, train_loader.first_image())
    # Before the optimizer is built: some keep a state that lies where the parameters were then.
    model.to(device=devices[0], memory_format=layout)  # type: ignore[call-overload]
    learner, metric_notes = build_learner(config, model, len(train_loader.classes), valid_loader is not None)
    rehearse(learner, train_loader, devices[0])
    checked_monitor(options, score_names(learner.train_metrics.names, has_validation=valid_loader is not None))
    facts |= {"device": describe(devices[0]), "data": data_in_words(train_loader, valid_loader)}
    notes = [*notes, *getattr(train_loader, "notes", [])]
    return Built((train_loader, valid_loader), learner, devices, layout, facts, notes, [*metric_notes, *remarks])


def open_trainer(config: ConfigParser, built: Built, run: RunDir, options: TrainerOptions) -> BaseTrainer:
    """The trainer, where the run begins or goes on."""
    recorder = Recorder(run, tensorboard=options.tensorboard, epochs_done=epochs_done(config))
    context = RunContext(recorder, built.devices, config["seed"], built.layout, passport(config, run, built.loaders[0]))
    trainer: BaseTrainer = config.init_obj(
        "trainer", learner=built.learner, loaders=built.loaders, options=options, context=context
    )
    if config.checkpoint is not None:
        changed = [path for path, _, _ in config.changes] + config.offered_changes()
        trainer.resume(config.checkpoint, changed)
    return trainer


def train(config: ConfigParser, built: Built, run: RunDir) -> BaseTrainer:
    """Trains, and says on the screen and in info.log what happens."""
    options, train_loader = config.trainer_options, built.loaders[0]
    log = open_log(run.log, options.verbosity)
    trainer = open_trainer(config, built, run, options)
    save_run_files(run, config.resolved, train_loader.classes)
    log.info(first_lines(run, built.facts, config.resolved, len(train_loader), trainer.epochs_done))
    for note in built.notes:
        log.debug(f"note: {note}")
    for remark in built.remarks:
        log.warning(f"warning: {remark}")
    for path, old, new in config.changes:
        log.info(f"changed: {path}: {old!r} -> {new!r}")
    trainer.train()
    log.info(last_lines(run, trainer.monitor, trainer.recorder.history.last_row(trainer.monitor.best_epoch)))
    for warning in trainer.closing_warnings():
        log.warning(f"warning: {warning}")
    return trainer


def check(config: ConfigParser, built: Built) -> None:
    """Trains a few steps in folders that are thrown away, and prints what a run will be and cost.

    Raises:
        OutputError: the place for the results cannot be written.
    """
    options, (train_loader, _) = config.trainer_options, built.loaders
    there = next(folder for folder in (options.save_dir, *options.save_dir.parents) if folder.exists())
    try:
        with tempfile.TemporaryDirectory(prefix=".check-", dir=there) as folder:
            run = RunDir.create(Path(folder), config["name"])
            one_step = dataclasses.replace(options, save_dir=Path(folder), len_epoch=options.accumulate_steps)
            try:
                open_log(run.log, 0)
                costs = try_run(open_trainer(config, built, run, one_step), options)
            finally:
                close_log()
    except OSError as error:
        raise OutputError(f"{shown(there)}: cannot write ({error.strerror}) (trainer.save_dir)") from None
    images_NCHW, targets = train_loader.first_batch(size=train_loader.images_per_batch)
    shape = "x".join(map(str, images_NCHW.shape))
    rows = {name: built.facts[name] for name in ("device", "data", "model")}
    rows |= {"batch": f"{shape} {str(images_NCHW.dtype).removeprefix('torch.')}, targets {tuple(targets.shape)}"}
    remarks = [f"warning: {remark}" for remark in built.remarks]
    sys.stdout.write("\n".join([aligned(rows | costs), *remarks, "this config trains; nothing was kept"]) + "\n")


def epochs_done(config: ConfigParser) -> int:
    """Of the run that is continued; 0 for a new one."""
    return config.checkpoint["epochs_done"] if config.checkpoint is not None else 0


def require_continuable(config: ConfigParser) -> None:
    """Refuses to continue a run that is finished, or with a model that the checkpoint does not hold.

    Raises:
        CheckpointError: saying what would do instead.
    """
    if config.checkpoint is None:
        return
    if config.args.weights is not None:
        raise CheckpointError("command line: -r continues a run, --weights starts a new one; give one of them")
    config.require_same_model(training=True)
    options, done, monitor = config.trainer_options, epochs_done(config), config.checkpoint["monitor"]
    if done >= options.epochs:
        raise CheckpointError(
            f"{config.resume}: finished, {done} of {options.epochs} epochs are done. "
            f"To go on, ask for more: python train.py -r {config.resume} trainer.epochs={done + options.epochs}"
        )
    same_monitor = str(monitor["name"]) == options.monitor.split()[-1]
    if same_monitor and options.early_stop and monitor["bad_epochs"] >= options.early_stop:
        raise CheckpointError(
            f"{config.resume}: stopped early after {monitor['bad_epochs']} epochs without improvement. To go on, be "
            f"more patient: python train.py -r {config.resume} trainer.early_stop={2 * options.early_stop}"
        )


def require_same_data(config: ConfigParser, train_loader: BaseDataLoader) -> None:
    """Refuses to continue on other classes than the checkpoint's, or with another validation part.

    Raises:
        CheckpointError: saying what differs.
    """
    if config.checkpoint is None:
        return
    held_back, classes = config.checkpoint["input"].get("held_back"), train_loader.classes
    if config.checkpoint["classes"] == classes and held_back == train_loader.held_back():
        return
    if config.checkpoint["classes"] == classes:
        raise CheckpointError(
            f"{config.resume}: the images are not those of the training any more, so the part that was held back for "
            f"validation cannot be told.\n"
            f"  A new run can start from its weights: python train.py -c CONFIG --weights {config.resume}"
        )
    trained = config.checkpoint["classes"]
    missing = [name for name in trained if name not in classes] or ["none"]
    new = [name for name in classes if name not in trained] or ["none"]
    raise CheckpointError(
        f"{config.resume}: was trained on {len(trained)} classes, the data has {len(classes)} "
        f"(missing: {some(missing)}; new: {some(new)}).\n"
        f"  A new run can start from its weights: python train.py -c CONFIG --weights {config.resume}"
    )


def build_model(config: ConfigParser, train_loader: BaseDataLoader) -> tuple[nn.Module, dict[str, str], list[str]]:
    """The network, fitted to the data, perhaps with weights to start from; what to say of it, and of the schedule."""
    image_CHW, num_classes = train_loader.first_image(), len(train_loader.classes)
    batches, epochs = config.trainer_options.len_epoch or len(train_loader), config.trainer_options.epochs
    steps = -(-batches // config.trainer_options.accumulate_steps) if config.interval == "step" else 1
    config.offer(
        num_classes=num_classes,
        in_channels=image_CHW.shape[0],
        image_size=list(image_CHW.shape[1:]),
        epochs=epochs,
        max_lr=config.learning_rate,
        steps_per_epoch=steps,
    )
    remarks = config.remarks_on_schedule(epochs * steps)
    torch.manual_seed(seed_for(config["seed"], "model"))
    model = config.init_model(pretrained=config.checkpoint is None)
    gflops = check_model(model, image_CHW, num_classes)
    size = "x".join(str(side) for side in image_CHW.shape)
    facts = {
        "model": f"{type(model).__name__}, {count_trainable(model):,} trainable parameters, "
        f"{gflops:.3g} GFLOPs an image of {size}"
    }
    if config["weights_file"] is not None and config.checkpoint is None:
        path = ROOT / os.path.expanduser(config["weights_file"])
        if not path.is_file():
            raise ConfigError(f"{path}: no such file", "weights_file")
        weights, classes = load_weights_file(path)
        lines = load_weights(model, weights, refit_head=classes is not None and classes != train_loader.classes)
        facts["weights"] = f"{path}: {'; '.join(lines)}"
    return model, facts, remarks


def build_learner(
    config: ConfigParser, model: nn.Module, num_classes: int, has_validation: bool
) -> tuple[Learner, list[str]]:
    """What training changes or asks, and notes for the log."""
    optimizer = config.init_obj("optimizer", params=[p for p in model.parameters() if p.requires_grad])
    schedule = config.init_schedule(optimizer, has_validation=has_validation)
    (train_metrics, notes), (valid_metrics, _) = config.init_metrics(num_classes), config.init_metrics(num_classes)
    learner = Learner(model, config.init_criterion(), train_metrics, valid_metrics, optimizer, schedule)
    return learner, notes


def rehearse(learner: Learner, train_loader: BaseDataLoader, device: torch.device) -> None:
    """Shows the first images to transforms, model, loss and metrics before anything is written.

    Raises:
        UserError: one of them cannot work with what it gets.
    """
    num_classes = len(train_loader.classes)
    # Not as many images as classes: a loss that is made for other targets would take one for the other.
    images, targets = train_loader.first_batch(size=3 if num_classes == 2 else 2)
    for part in (learner.criterion, learner.valid_metrics):
        part.to(device)
    blank = torch.zeros(images.shape, device=device)
    check_judges(learner.model, blank, targets.to(device), learner.criterion, learner.valid_metrics)
    if train_loader.last_batch_size == 1:
        check_batch_of_one(learner.model, blank[:1])


def open_run(config: ConfigParser) -> RunDir:
    """New folders for a new run, the old ones for a continued one."""
    save_dir = config.trainer_options.save_dir
    if config.checkpoint is None or config.resume is None:
        return RunDir.create(save_dir, config["name"])
    run = RunDir.of_checkpoint(config.resume, save_dir, **config.checkpoint["run"])
    run.reopen()
    return run


def passport(config: ConfigParser, run: RunDir, train_loader: BaseDataLoader) -> dict[str, Any]:
    """What every checkpoint carries besides the state, so that the one file is enough to test and to predict."""
    return {
        "config": config.resolved,
        "offered": config.offered_paths,
        "classes": train_loader.classes,
        "input": {
            "held_back": train_loader.held_back(),
            "shape_CHW": list(train_loader.first_image().shape),
            "mean": None if train_loader.mean is None else list(train_loader.mean),
            "std": None if train_loader.std is None else list(train_loader.std),
        },
        "run": {"name": run.name, "run_id": run.run_id},
        "written_by": versions(),
    }


if __name__ == "__main__":
    with exit_on_user_error():
        main(command=COMMAND)
