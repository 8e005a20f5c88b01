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
import sys
import tempfile
from typing import Any

from base.base_trainer import BaseTrainer, RunContext, TrainerOptions
from base.continuation import has_finished, numerics_changes
from base.workers import training_explained
from data_loader.recorded import recorded_input
from logger.logger import IN_FILE_ONLY, close_log, open_log
from logger.recorder import Recorder
from logger.run_dir import RunDir
from logger.run_record import recorded
from logger.summary import aligned, first_lines, last_lines, save_run_files, shown, versions
from parse_config import ConfigParser
from trainer.trainer import Trainer
from trainer.trial import try_run
from utils.cache_folder import clear
from utils.device import numerics
from utils.seed import KEYS_VERSION
from wiring.building import Built, build
from wiring.judged import report_on_run


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
    history, best_epoch = trainer.recorder.history, trainer.monitor.best_epoch
    rows = history.last_row(best_epoch), history.rows()[0]
    log.info(last_lines(run, trainer.monitor, *rows, trainer.judged_again))
    warnings = trainer.closing_warnings()
    for warning in warnings:
        log.warning(f"warning: {warning}")
    try:
        report_on_run(trainer, run, built.facts, warnings)
    except OutputError as error:  # the run itself is done, and saved
        log.warning(f"warning: {error}")
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
    has_cache = any(" are cached in " in note and " cached in memory" not in note for note in built.notes)
    kept = "nothing was kept but decoded pixels (saved/cache)" if has_cache else "nothing was kept"
    sys.stdout.write("\n".join([aligned(rows | costs), *remarks, f"this config trains; {kept}"]) + "\n")


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
        "input": recorded_input(train_loader),
        "data": train_loader.fingerprint(),
        "numerics": numerics(built.devices[0], built.precision.name),
        "keys_version": KEYS_VERSION,
        "run": {"name": run.name, "run_id": run.run_id},
        "written_by": versions(),
    }


if __name__ == "__main__":
    with exit_on_user_error():
        main(command=COMMAND, stop=STOP)
