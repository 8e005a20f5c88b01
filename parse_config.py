"""ConfigParser: config.json and the command line in, checked settings and ready objects out.

This is the only place where the rooms meet. The menu of each room says in which modules a section's `type` is looked
up and what it must be. Everything is checked before anything is built, and no folder is made here.
"""

import argparse
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

import data_loader.menu
import model.menu
import trainer.menu
from base.checkpoints import Checkpoints
from base.loader_options import HARMLESS_OPTIONS
from base.run_plan import TOP_LEVEL, Planner, learning_rate, stand_in_optimizer
from base.training_parts import TrainerOptions
from logger.run_dir import RunDir
from logger.summary import shown
from model.build import build_criterion, build_metrics, build_model
from model.loss import Criterion
from model.metric import MetricSet
from trainer.schedule import NoSchedule, Schedule, remarks_on
from utils.checkpoint import load_checkpoint
from utils.command_line import ROOT, Command
from utils.config_check import Checker
from utils.config_layers import LayeredConfig, Origin, Problem, with_origins
from utils.config_resume import comparable, require_plain, without
from utils.config_schema import json_schema, schema_text
from utils.config_table import check_allowed
from utils.config_tree import differences, freeze, get_by_path, path_of, thaw, to_json
from utils.errors import CheckpointError, ConfigError, DataError

SECTIONS = {**data_loader.menu.SECTIONS, **model.menu.SECTIONS, **trainer.menu.SECTIONS}
NESTED = {**data_loader.menu.NESTED, **trainer.menu.NESTED}
FIXED_ON_RESUME = ("name", "arch", "weights_file", "trainer.save_dir", "optimizer.type", "optimizer.groups")
# Another of these would move images from the validation part into the training part.
FIXED_WHILE_TRAINING = ("seed", "data_loader.args.validation_split")
# What `-r auto` lets differ: how long, how often and where, but not what is learned.
FREE_ON_RESUME = (
    "trainer.epochs",
    "trainer.save_",
    "trainer.keep_checkpoints",
    "trainer.verbosity",
    "trainer.tensorboard",
    "trainer.max_minutes",
    "trainer.early_stop",
    "device",
    "n_gpu",
    *(f"data_loader.args.{name}" for name in HARMLESS_OPTIONS),
)
Changes = list[tuple[str, Any, Any]]


class ConfigParser:
    """One experiment's settings, checked and read-only, and the objects they describe.

    Args:
        config: plain data, or layers of it that know where each value was written.
        checkpoint: that the config came with, where a run is continued or tested.
        args: the parsed command line.

    Raises:
        ConfigError: everything that is wrong, at once.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | LayeredConfig,
        *,
        checkpoint: Mapping[str, Any] | None = None,
        args: argparse.Namespace | None = None,
    ):
        self.checkpoint = checkpoint
        self.args = args or argparse.Namespace(resume=None, is_auto=False, device=None, allow=[])
        self.resume: Path | None = self.args.resume
        self.passed_over: list[str] = []  # with `-r auto`: what is to be said of the choice
        self.file_stat: os.stat_result | None = None
        self.changes: Changes = []
        self.offered_paths: list[str] = []
        self.layers = config if isinstance(config, LayeredConfig) else LayeredConfig(config)
        self.resolved: dict[str, Any] = thaw(self.layers.data)
        self.resolved.pop("$schema", None)  # is relative to the file that it stood in
        self.checker = Checker(self.layers, NESTED, ROOT, self.args.allow)
        planner = Planner(self.resolved, self.checker, SECTIONS)
        self.plans, self.metric_plans, self.trainer_options = planner.plan()
        self.config = freeze(self.resolved)

    @classmethod
    def from_args(cls, command: Command, *, training: bool = True) -> "ConfigParser":
        """Puts the config together: the checkpoint's, then the file's and its bases', then the command line's.

        Leaves the process where the command only asks to print something.

        Args:
            command: what was typed.
            training: what the data had filled into a checkpoint's config (see `offer`) will be filled in anew.
        """
        args = command.args
        if args.schema:
            sys.stdout.write(schema_text(schema()))
            raise SystemExit(0)
        check_allowed(args.allow)
        layers, before, offered = LayeredConfig(), {}, []
        passed_over: list[str] = []
        if args.is_auto:
            args.resume, passed_over = newest_checkpoint(command)
        stat = args.resume.stat() if args.resume is not None and args.resume.is_file() else None
        checkpoint = load_checkpoint(args.resume) if args.resume is not None else None
        if checkpoint is not None:
            require_plain(checkpoint, args.resume)
            before, offered = thaw(checkpoint["config"]), checkpoint["offered"]
            layers.lay(without(before, offered) if training else before, Origin(f"the config in {args.resume}"))
        lay_command(layers, command)
        try:
            config = cls(layers, checkpoint=checkpoint, args=args)
        except ConfigError:
            _print(layers, layers.data, args)
            raise
        if _print(layers, config.resolved, args):
            raise SystemExit(0)
        if checkpoint is not None:
            config.changes = differences(*comparable(before, config.resolved, offered))
        config.passed_over, config.file_stat = passed_over, stat
        return config

    def __getitem__(self, name: str) -> Any:
        return self.config[name]

    @contextmanager
    def locating(self) -> Iterator[None]:
        """Adds file and line to what is found wrong with the config, or its data, while objects are built and tried."""
        try:
            yield
        except ConfigError as error:
            if not error.path:
                raise
            also = path_of(error.also) if error.also else None
            raise self.layers.error([Problem(path_of(error.path), error.message, also)]) from error.__cause__

    def require_same_model(self, *, training: bool) -> None:
        """Refuses what a checkpoint cannot follow.

        Raises:
            CheckpointError: the architecture, the name or the folders are not those of the checkpoint.
        """
        # Another type first: that its arguments differ too says nothing more.
        for path, old, new in sorted(self.changes, key=lambda change: not change[0].endswith(".type")):
            if path.startswith(FIXED_ON_RESUME + (FIXED_WHILE_TRAINING if training else ())):
                raise CheckpointError(
                    f"{path}: the checkpoint {self.resume} has {old!s:.60}, now it is {new!s:.60} "
                    f"({self.layers.where(path_of(path))}); that cannot change. A new run can start from its weights: "
                    f"python train.py -c CONFIG --weights {self.resume}"
                )

    def require_same_experiment(self) -> None:
        """Refuses to continue a run that `-r auto` found with anything that changes what it learns.

        Raises:
            CheckpointError: saying what would do instead.
        """
        for path, old, new in self.changes if self.args.is_auto else []:
            if not path.startswith(FREE_ON_RESUME):
                raise CheckpointError(
                    f"{path}: the newest run has {old!s:.60} ({self.resume}), now it is {new!s:.60} "
                    f"({self.layers.where(path_of(path))}); '-r auto' goes on with the same experiment only. "
                    f"With the change it is continued by -r {self.resume}; without -r a new run begins"
                )

    def require_unchanged_file(self) -> None:
        """Refuses a checkpoint that another process has replaced since it was read; to be asked when none can any more.

        Raises:
            CheckpointError: it has.
        """
        if self.resume is None or self.file_stat is None:
            return
        try:
            now = self.resume.stat()
        except OSError as error:
            raise CheckpointError(f"{self.resume}: was taken away meanwhile ({error.strerror})") from None
        if (now.st_ino, now.st_mtime_ns, now.st_size) != tuple(
            getattr(self.file_stat, name) for name in ("st_ino", "st_mtime_ns", "st_size")
        ):
            raise CheckpointError(f"{self.resume}: was replaced by another process meanwhile; give the command again")

    @property
    def interval(self) -> Literal["epoch", "step"]:
        """When the scheduler is stepped."""
        return get_by_path(self.config, ("lr_scheduler", "interval"), "epoch")

    @property
    def learning_rate(self) -> float:
        """Of the optimizer, by the config or by its own default."""
        return learning_rate(self.plans["optimizer"])

    def offer(self, **values: Any) -> None:
        """Tells what only the data knows, such as `num_classes`, or what another section says already.

        It is used where a constructor takes it and the config is silent, and then written into `resolved`, so that
        the saved config says it.

        Raises:
            ConfigError: the config says otherwise of the data.
        """
        plateau = "lr_scheduler" in self.plans and self.plans["lr_scheduler"].type_name == "ReduceLROnPlateau"
        if plateau and self.trainer_options.monitor.startswith("max "):
            values["mode"] = (
                "max"  # it watches what the monitor watches; other schedulers mean something else by `mode`
            )
        for name, what in (("num_classes", "classes"), ("in_channels", "channels")):
            asked = self.plans["arch"].args.get(name)
            if name in values and asked not in (None, values[name]):
                message = f"{asked}, yet the data has {values[name]} {what}; leave it out and it is taken from the data"
                raise ConfigError(message, f"arch.args.{name}", "data_loader")
        for section, plan in self.plans.items():
            for name in sorted(SECTIONS[section].offered & values.keys()):
                if plan.takes(name) and name not in plan.args:
                    spec = self.resolved[section]
                    spec = {"type": spec} if isinstance(spec, str) else spec
                    self.resolved[section] = {**spec, "args": {**(spec.get("args") or {}), name: values[name]}}
                    plan.args[name] = values[name]
                    self.offered_paths.append(f"{section}.args.{name}")

    def remarks_on_schedule(self, num_steps: int) -> list[str]:
        """What is odd about the schedule for a run of this length, with file and line; it may be meant.

        Args:
            num_steps: how often the scheduler will be stepped in the whole run.

        Raises:
            ConfigError: a OneCycleLR would end before the run does, or long after.
        """
        plan = self.plans.get("lr_scheduler")
        if plan is None:
            return []
        total = plan.args.get("total_steps") or plan.args.get("epochs", 0) * plan.args.get("steps_per_epoch", 0)
        if plan.type_name == "OneCycleLR" and total != num_steps:
            raise ConfigError(
                f"OneCycleLR is made for {total} steps, and this run has {num_steps}; leave epochs, steps_per_epoch "
                f"and total_steps out, and they are filled in",
                "lr_scheduler.args",
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the order of steps, which here no optimizer takes
            remarks = remarks_on(plan.build(optimizer=stand_in_optimizer()), num_steps, self.interval)
        return [self.layers.text(Problem((*plan.path, *path), message)) for path, message in remarks]

    def offered_changes(self) -> list[str]:
        """Paths of what was filled in otherwise than in the checkpoint, such as the steps of a longer schedule."""
        before = self.checkpoint["config"] if self.checkpoint is not None else self.resolved
        paths = [(path, tuple(path.split("."))) for path in self.offered_paths]
        return [path for path, keys in paths if get_by_path(before, keys) != get_by_path(self.resolved, keys)]

    def init_obj(self, section: str, **given: Any) -> Any:
        """Builds what a section describes; of `given` it receives what its constructor takes.

        What one's own class raises keeps its traceback, with a line on where the config names it.
        """
        with self.checker.noting((section,)):
            try:
                return self.plans[section].build(**given)
            except DataError as error:
                raise DataError(f"{error}\n  (the {section} at {self.layers.where((section,))})") from error.__cause__

    def init_ftn(self, section: str, **given: Any) -> Any:
        """The same for a section that may name a function: the function with its arguments set, or the object."""
        return self.init_obj(section, **given)

    def init_model(self, *, pretrained: bool = True) -> nn.Module:
        """The network; without `pretrained` the config's `weights` are not fetched, because others will be loaded."""
        with self.checker.noting(("arch",)):
            return build_model(self.plans["arch"], pretrained=pretrained)

    def init_criterion(self) -> Criterion:
        """The loss, as training and evaluation use it."""
        with self.checker.noting(("loss",)):
            return build_criterion(self.plans["loss"])

    def init_metrics(self, num_classes: int) -> tuple[MetricSet, list[str]]:
        """The metrics, and lines on each that asks for more classes than there are and was cut to those."""
        with self.checker.noting(("metrics",)):
            return build_metrics(self.metric_plans, num_classes)

    def init_schedule(self, optimizer: torch.optim.Optimizer, *, has_validation: bool) -> Schedule | NoSchedule:
        """The schedule of the learning rate; ReduceLROnPlateau watches what the monitor does, or else the loss."""
        if self["lr_scheduler"] is None:
            return NoSchedule()
        monitor = self.trainer_options.monitor.split()
        watched = monitor[1] if len(monitor) == 2 else "val_loss" if has_validation else "train_loss"
        return Schedule(self.init_obj("lr_scheduler", optimizer=optimizer), self.interval, watched)


def lay_command(layers: LayeredConfig, command: Command) -> None:
    """Lays the files and words of a command over what is there."""
    for document in command.documents:
        layers.lay(document.data, document)
    for override in command.overrides:
        layers.set(*override)
    layers.resolve()


def newest_checkpoint(command: Command) -> tuple[Path | None, list[str]]:
    """The checkpoint that `-r auto` means: the newest whole one of the newest run, and what is to be said of it.

    With a config file that is the newest run of its `name` below its `save_dir`; without, the newest of all runs, or
    of those below the `trainer.save_dir=` and of the `name=` on the command line.
    None where no run has a checkpoint yet: a new one begins.

    Raises:
        CheckpointError: none of the run's checkpoints is whole, or there is no run and no config to begin one.
    """
    layers = LayeredConfig()
    lay_command(layers, command)
    typed = {one.path: one.value for one in command.overrides}
    save_dir = ROOT / os.path.expanduser(str(typed.get(("trainer", "save_dir"), TrainerOptions.save_dir)))
    name = typed.get(("name",))
    if command.documents:
        asked = ConfigParser(layers, args=command.args)
        save_dir, name = asked.trainer_options.save_dir, asked["name"]
    run = RunDir.newest(save_dir, name)
    what = f"no run{'' if name is None else f' of {name!r}'} below {save_dir} has a checkpoint"
    if run is not None:
        path, _, damaged = Checkpoints(run.models).newest_valid()
        return Path(shown(path)), [f"{line}; passed over" for line in damaged]
    if not command.documents:
        raise CheckpointError(f"-r auto: {what}, and without -c no new one can begin")
    return None, [f"-r auto: {what} yet; a new one begins"]


def schema() -> dict[str, Any]:
    """The JSON Schema of configs, for editors."""
    return json_schema(TOP_LEVEL, SECTIONS, NESTED, TrainerOptions)


def _print(layers: LayeredConfig, config: dict[str, Any], args: argparse.Namespace) -> bool:
    """Prints the config if the command line asks for it; says whether it did."""
    if args.print_origins:
        sys.stdout.write(with_origins(layers, config) + "\n")
    elif args.print_config:
        sys.stdout.write(to_json(config))
    return args.print_config or args.print_origins
