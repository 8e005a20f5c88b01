"""Trains a classifier as a config describes: `python train.py -c config.json`, or continues: `-r last.pth`."""

from collections.abc import Sequence
from pathlib import Path

from utils.command_line import ROOT, Command, CustomArgs, Parser
from utils.errors import ConfigError, OutputError, exit_on_user_error
from utils.stop import StopRequest

SHORT_FLAGS = [
    CustomArgs(["--lr", "--learning_rate"], float, "optimizer.args.lr"),
    CustomArgs(["--bs", "--batch_size"], int, "data_loader.args.batch_size"),
]


def read_words(words: Sequence[str] | None = None) -> Command:
    """The command line, and the config files that it names."""
    parser = Parser(prog="train.py", description=__doc__)
    parser.add_argument("--weights", metavar="FILE", type=Path, help="start a new run from the weights in a file")
    parser.add_argument(
        "--allow-data-change",
        action="store_true",
        help="continue although the images are other ones; the result is then not that of either data set",
    )
    parser.add_argument("--check", action="store_true", help="try everything out, a few steps too, and keep nothing")
    parser.add_argument("--clear-cache", action="store_true", help="remove saved/cache first; alone, do only that")
    return parser.read(SHORT_FLAGS, words)


COMMAND, STOP = None, StopRequest("importing")
if __name__ == "__main__":
    STOP.__enter__()
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
from base.base_model import count_trainable, is_made_for_images
from base.base_trainer import BaseTrainer, Learner, RunContext, TrainerOptions
from base.continuation import (
    has_finished,
    numerics_changes,
    precision_before,
    require_continuable,
    require_same_data,
)
from base.scores import checked_monitor, score_names
from base.workers import training_explained
from logger.logger import IN_FILE_ONLY, close_log, open_log
from logger.recorder import Recorder
from logger.run_dir import RunDir
from logger.run_record import recorded
from logger.summary import aligned, data_in_words, first_lines, last_lines, save_run_files, shown, versions
from model.check import check_batch_of_one, check_judges, check_mixed_targets, check_model, choose_layout
from model.pretrained import load_weights
from parse_config import ConfigParser
from trainer.augment import augmentation_of
from trainer.groups import parameter_groups
from trainer.pixels import PixelsToInput, initial_images
from trainer.trainer import Trainer
from trainer.trial import try_run
from utils.cache_folder import clear
from utils.config_tree import get_by_path
from utils.device import choose_devices, describe, make_deterministic, numerics
from utils.hardware import Precision, choose_precision, use_fast_kernels
from utils.optimizers import fused_if_possible
from utils.seed import KEYS_VERSION, seed_everything, seed_for
from utils.weights_file import load_weights_file


@dataclass
class Built:
    """What a run is made of, ready to start; nothing is written yet."""

    loaders: tuple[BaseDataLoader, BaseDataLoader | None]
    learner: Learner
    devices: list[torch.device]
    layout: torch.memory_format
    precision: Precision
    facts: dict[str, str]
    notes: list[str]
    remarks: list[str]
    data_changes: list[str]


def main(
    words: Sequence[str] | None = None, command: Command | None = None, stop: StopRequest | None = None
) -> BaseTrainer | None:
    """Checks, builds and trains; what a user can have done wrong shows before a folder is made."""
    command = command or read_words(words)
    if command.args.clear_cache and clear(command):
        return None
    with stop or StopRequest() as stop:
        stop.phase = "building"
        config = ConfigParser.from_args(command)
        with config.locating():
            if has_finished(config):
                return None
            built = build(config)
            if command.args.check:
                check(config, built)
                return None
            run = open_run(config)
            about = {"overrides": [one.text for one in command.overrides], "seed": config["seed"]}
            about |= {"continued_from": config.resume and str(config.resume), "device": built.facts["device"]}
            try:
                with run.locked():
                    config.require_unchanged_file()  # before this process counts as one of the run
                    with recorded(run, command.words, about, ROOT) as entry:
                        return train(config, built, run, stop, entry)
            finally:
                close_log()


def build(config: ConfigParser) -> Built:
    """Everything that training needs, tried on the first images."""
    options, seed = config.trainer_options, config["seed"]
    require_continuable(config)
    if config["deterministic"]:
        make_deterministic()
    devices, notes = choose_devices(config["device"], config["n_gpu"], by_command_line=config.args.device is not None)

    seed_everything(seed)
    train_loader: BaseDataLoader = config.init_obj("data_loader", seed=seed, training=True)
    valid_loader = train_loader.split_validation()
    changes = require_same_data(config, train_loader)
    model, gflops, facts, remarks = build_model(config, train_loader)
    if config.checkpoint is None and config["weights_file"] is None and is_made_for_images(model):
        model.initialize_from(initial_images(train_loader))
    layout = choose_layout(model, train_loader.first_image(), options.channels_last)
    precision = choose_precision(
        options.precision,
        devices[0],
        batch_gflops=gflops * train_loader.images_per_batch,
        before=precision_before(config),
    )
    use_fast_kernels(devices[0], asked=options.precision, deterministic=config["deterministic"])
    # Before the optimizer is built: some keep a state that lies where the parameters were then.
    model.to(device=devices[0], memory_format=layout)  # type: ignore[call-overload]
    learner, metric_notes = build_learner(config, model, len(train_loader.classes), valid_loader is not None)
    rehearse(learner, train_loader, devices[0])
    checked_monitor(options, score_names(learner.train_metrics.names, has_validation=valid_loader is not None))
    facts |= {"device": describe(devices[0]), "precision": str(precision)}
    facts |= {"data": data_in_words(train_loader, valid_loader)}
    notes = [*notes, *getattr(train_loader, "notes", [])]
    remarks = [*metric_notes, *remarks]
    return Built((train_loader, valid_loader), learner, devices, layout, precision, facts, notes, remarks, changes)


def open_trainer(
    config: ConfigParser, built: Built, run: RunDir, options: TrainerOptions, stop: StopRequest | None = None
) -> BaseTrainer:
    """The trainer, where the run begins or goes on."""
    rows = config.checkpoint["history"] if config.checkpoint is not None else []
    recorder = Recorder(run, tensorboard=options.tensorboard, rows=rows)
    context = RunContext(
        recorder,
        built.devices,
        config["seed"],
        built.layout,
        built.precision.name,
        stop or StopRequest(),
        passport(config, run, built),
    )
    trainer: BaseTrainer = config.init_obj(
        "trainer", learner=built.learner, loaders=built.loaders, options=options, context=context
    )
    if config.checkpoint is not None:
        changed = [path for path, _, _ in config.changes] + config.offered_changes()
        trainer.resume(config.checkpoint, changed, has_new_data=bool(built.data_changes))
    return trainer


def train(config: ConfigParser, built: Built, run: RunDir, stop: StopRequest, entry: dict[str, Any]) -> BaseTrainer:
    """Trains, and says on the screen, in info.log and in the entry of run.json what happens."""
    options, train_loader = config.trainer_options, built.loaders[0]
    log = open_log(run.log, options.verbosity)
    for line in config.passed_over:
        log.warning(f"warning: {line}")
    trainer = open_trainer(config, built, run, options, stop)
    save_run_files(run, config.resolved, train_loader.classes)
    log.info(first_lines(run, built.facts, config.resolved, len(train_loader), trainer.epochs_done))
    for note in built.notes:
        log.debug(f"note: {note}")
    for remark in built.remarks:
        log.warning(f"warning: {remark}")
    for path, old, new in config.changes:
        log.info(f"changed: {path}: {old!r} -> {new!r}")
    for line in [*built.data_changes, *numerics_changes(config, built.devices[0], built.precision.name)]:
        log.warning(f"warning: {line}")
    try:
        with training_explained(train_loader.images_per_batch):
            trainer.train()
    except Exception:
        log.log(IN_FILE_ONLY, "the run failed", exc_info=True)
        raise
    finally:
        entry["first_step_after_s"] = trainer.first_step_after_s and round(trainer.first_step_after_s, 3)
        for loader in built.loaders:
            if loader is not None:
                loader.close()
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
                trainer = open_trainer(config, built, run, one_step)
                if not isinstance(trainer, Trainer):
                    raise ConfigError("--check needs a Trainer, or a class derived from it", "trainer.type")
                costs = try_run(trainer, options)
            finally:
                close_log()
    except OSError as error:
        raise OutputError(f"{shown(there)}: cannot write ({error.strerror}) (trainer.save_dir)") from None
    images_NCHW, targets = train_loader.first_batch(size=train_loader.images_per_batch)
    shape = "x".join(map(str, images_NCHW.shape))
    rows = {name: built.facts[name] for name in ("device", "precision", "data", "model")}
    rows |= {"batch": f"{shape} {str(images_NCHW.dtype).removeprefix('torch.')}, targets {tuple(targets.shape)}"}
    remarks = [f"warning: {remark}" for remark in built.remarks]
    sys.stdout.write("\n".join([aligned(rows | costs), *remarks, "this config trains; nothing was kept"]) + "\n")


def build_model(
    config: ConfigParser, train_loader: BaseDataLoader
) -> tuple[nn.Module, float, dict[str, str], list[str]]:
    """The network, fitted to the data, perhaps with weights to start from; its GFLOPs an image; what to say of it."""
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
    return model, gflops, facts, remarks


def build_learner(
    config: ConfigParser, model: nn.Module, num_classes: int, has_validation: bool
) -> tuple[Learner, list[str]]:
    """What training changes or asks, and notes for the log."""
    groups = get_by_path(config.config, ("optimizer", "groups"), None) or ()
    plan, params = config.plans["optimizer"], [p for p in model.parameters() if p.requires_grad]
    written = {**plan.args, **{key: value for group in groups for key, value in group.items()}}
    fused = fused_if_possible(plan.target, written, params)
    optimizer = config.init_obj("optimizer", params=parameter_groups(model, groups), **fused)
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
    batch = train_loader.first_batch(size=3 if num_classes == 2 else 2)
    for part in (learner.criterion, learner.valid_metrics):
        part.to(device)
    augmentation = augmentation_of(train_loader, PixelsToInput(train_loader.mean, train_loader.std, device))
    planned = augmentation.plan(batch)
    blank = torch.zeros(planned.inputs().shape, device=device)
    check_judges(learner.model, blank, batch[1].to(device), learner.criterion, learner.valid_metrics)
    if augmentation.mixes:
        check_mixed_targets(learner.criterion, planned.targets)
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


def passport(config: ConfigParser, run: RunDir, built: Built) -> dict[str, Any]:
    """What every checkpoint carries besides the state, so that the one file is enough to test and to predict."""
    train_loader = built.loaders[0]
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
        "data": train_loader.fingerprint(),
        "numerics": numerics(built.devices[0], built.precision.name),
        "keys_version": KEYS_VERSION,
        "run": {"name": run.name, "run_id": run.run_id},
        "written_by": versions(),
    }


if __name__ == "__main__":
    with exit_on_user_error():
        main(command=COMMAND, stop=STOP)
