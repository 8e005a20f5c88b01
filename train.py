"""Trains a classifier as a config describes: `python train.py -c config.json`, or continues: `-r last.pth`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from base.base_data_loader import BaseDataLoader
from base.base_model import count_trainable
from base.base_trainer import BaseTrainer, Learner, RunContext, checked_monitor
from logger.logger import close_log, open_log
from logger.recorder import Recorder
from logger.run_dir import RunDir
from logger.summary import data_in_words, first_lines, last_lines, save_run_files, versions
from model.check import check_batch_of_one, check_judges, check_model, choose_layout
from model.pretrained import load_weights
from parse_config import ROOT, ConfigParser
from trainer.trainer import score_names
from utils.checkpoint import load_weights_file
from utils.command_line import CustomArgs, Parser
from utils.device import choose_devices, describe
from utils.errors import CheckpointError, exit_on_user_error, some
from utils.seed import seed_everything, seed_for

SHORT_FLAGS = [
    CustomArgs(["--lr", "--learning_rate"], float, "optimizer.args.lr"),
    CustomArgs(["--bs", "--batch_size"], int, "data_loader.args.batch_size"),
]


def main(words: Sequence[str] | None = None) -> BaseTrainer:
    """Checks, builds and trains; what a user can have done wrong shows before a folder is made."""
    parser = Parser(prog="train.py", description=__doc__)
    parser.add_argument("--weights", metavar="FILE", type=Path, help="start a new run from the weights in a file")
    config = ConfigParser.from_args(parser, SHORT_FLAGS, words)
    options, seed = config.trainer_options, config["seed"]
    require_continuable(config)
    devices, notes = choose_devices(config["device"], config["n_gpu"], by_command_line=config.device_by_command_line)

    seed_everything(seed)
    train_loader: BaseDataLoader = config.init_obj("data_loader", seed=seed, training=True)
    valid_loader = train_loader.split_validation()
    require_same_data(config, train_loader)
    model, facts = build_model(config, train_loader)
    layout = choose_layout(model, train_loader.first_image())
    # Before the optimizer is built: some keep a state that lies where the parameters were then.
    model.to(device=devices[0], memory_format=layout)  # type: ignore[call-overload]
    learner, metric_notes = build_learner(config, model, len(train_loader.classes), valid_loader is not None)
    rehearse(learner, train_loader, devices[0])
    checked_monitor(options, score_names(learner.train_metrics.names, has_validation=valid_loader is not None))

    run = open_run(config)
    try:
        log = open_log(run.log, options.verbosity)
        recorder = Recorder(run, tensorboard=options.tensorboard, epochs_done=epochs_done(config))
        context = RunContext(recorder, devices, seed, layout, passport(config, run, train_loader))
        loaders = (train_loader, valid_loader)
        trainer: BaseTrainer = config.init_obj(
            "trainer", learner=learner, loaders=loaders, options=options, context=context
        )
        if config.checkpoint is not None:
            changed = [path for path, _, _ in config.changes] + config.offered_changes()
            trainer.resume(config.checkpoint, changed)
        save_run_files(run, config.resolved, train_loader.classes)
        facts |= {"device": describe(devices[0]), "data": data_in_words(*loaders)}
        log.info(first_lines(run, facts, config.resolved, len(train_loader), trainer.epochs_done))
        for note in [*notes, *getattr(train_loader, "notes", []), *metric_notes]:
            log.debug(f"note: {note}")
        for path, old, new in config.changes:
            log.info(f"changed: {path}: {old!r} -> {new!r}")
        trainer.train()
        log.info(last_lines(run, trainer.monitor, recorder.history.last_row(trainer.monitor.best_epoch)))
        for warning in trainer.closing_warnings():
            log.warning(f"warning: {warning}")
        return trainer
    finally:
        close_log()


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
    config.require_same_model(training=True)
    if config["weights_file"] is not None and config.args.weights is not None:
        raise CheckpointError("command line: -r continues a run, --weights starts a new one; give one of them")
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


def build_model(config: ConfigParser, train_loader: BaseDataLoader) -> tuple[nn.Module, dict[str, str]]:
    """The network, fitted to the data and perhaps with weights to start from, and what to say of it."""
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
    config.require_schedule_of_this_length(epochs * steps)
    torch.manual_seed(seed_for(config["seed"], "model"))
    model = config.init_model(pretrained=config.checkpoint is None)
    gflops = check_model(model, image_CHW, num_classes)
    size = "x".join(str(side) for side in image_CHW.shape)
    facts = {
        "model": f"{type(model).__name__}, {count_trainable(model):,} trainable parameters, "
        f"{gflops:.3g} GFLOPs an image of {size}"
    }
    if config["weights_file"] is not None and config.checkpoint is None:
        path = ROOT / Path(config["weights_file"]).expanduser()
        weights, classes = load_weights_file(path)
        lines = load_weights(model, weights, refit_head=classes is not None and classes != train_loader.classes)
        facts["weights"] = f"{path}: {'; '.join(lines)}"
    return model, facts


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
        main()
