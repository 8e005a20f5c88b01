"""ConfigParser: config.json and the command line in, checked settings and ready objects out.

This is the only place where the rooms meet. The menu of each room says in which modules a section's `type` is looked
up and what it must be. Everything is checked before anything is built, and no folder is made here.
"""

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

import data_loader.menu
import model.menu
import trainer.menu
from base.base_trainer import TrainerOptions
from logger.run_dir import is_folder_name
from model.build import build_criterion, build_metrics, build_model
from model.loss import Criterion
from model.metric import MetricSet
from trainer.schedule import NoSchedule, Schedule
from utils.checkpoint import load_checkpoint
from utils.command_line import CustomArgs, parse_words
from utils.config_check import Plan, Section, plan_section
from utils.config_file import differences, freeze, get_by_path, merge, read_json, set_by_path, suggest, thaw
from utils.config_resume import comparable, without
from utils.config_signature import REQUIRED, checked_arguments, checked_value, parameters_of
from utils.config_table import Table
from utils.errors import CheckpointError, ConfigError

ROOT = Path(__file__).resolve().parent

_SCHEDULER = Table("a learning-rate scheduler", ("torch.optim.lr_scheduler",), "torch.optim.lr_scheduler:LRScheduler")
SECTIONS = {
    **data_loader.menu.SECTIONS,
    **model.menu.SECTIONS,
    **trainer.menu.SECTIONS,
    "optimizer": Section(
        Table(
            "an optimizer",
            ("torch.optim",),
            "torch.optim:Optimizer",
            refused={
                "LBFGS": "it runs the model several times a step, which this training loop does not",
                "SparseAdam": "it takes sparse gradients, and images give dense ones",
            },
        ),
        given=frozenset({"params"}),
    ),
    "lr_scheduler": Section(
        _SCHEDULER,
        given=frozenset({"optimizer"}),
        offered=frozenset({"epochs", "steps_per_epoch", "max_lr", "mode"}),
        keys=frozenset({"interval"}),
    ),
}
NESTED = {
    **data_loader.menu.NESTED,
    "schedulers": Section(_SCHEDULER, given=frozenset({"optimizer"})),
}
TOP_LEVEL: dict[str, tuple[Any, Any]] = {
    "$schema": (str | None, None),
    "name": (str, REQUIRED),
    "seed": (int, 123),
    "device": (str, "auto"),
    "n_gpu": (int, 1),
    "arch": (None, REQUIRED),
    "weights_file": (Path | None, None),
    "data_loader": (None, REQUIRED),
    "optimizer": (None, REQUIRED),
    "loss": (None, REQUIRED),
    "metrics": (list, REQUIRED),
    "lr_scheduler": (None, None),
    "trainer": (dict, REQUIRED),
}
FIXED_ON_RESUME = ("name", "arch", "weights_file", "trainer.save_dir", "optimizer.type")
# Another of these would move images from the validation part into the training part.
FIXED_WHILE_TRAINING = ("seed", "data_loader.args.validation_split")


class ConfigParser:
    """One experiment's settings, checked and read-only, and the objects they describe.

    Args:
        config: plain data.
        checkpoint: that the config came with, where a run is continued or tested.
        resume: the checkpoint's file.
        device_by_command_line: then a missing device is an error.

    Raises:
        ConfigError: everything that is wrong, at once.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        *,
        checkpoint: Mapping[str, Any] | None = None,
        resume: Path | None = None,
        device_by_command_line: bool = False,
    ):
        self.checkpoint = checkpoint
        self.resume = resume
        self.device_by_command_line = device_by_command_line
        self.changes: list[tuple[str, Any, Any]] = []
        self.args = argparse.Namespace()
        self.offered_paths: list[str] = []
        self.plans: dict[str, Plan] = {}
        self.metric_plans: list[tuple[str, Plan]] = []
        filled = thaw(config)
        problems = _check_top_level(filled)
        problems += self._plan(filled)
        if problems:
            number = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
            raise ConfigError("\n".join([*problems, f"{number} in the config; nothing was started."]))
        self.resolved: dict[str, Any] = filled
        self.config = freeze(filled)

    @classmethod
    def from_args(
        cls,
        parser: argparse.ArgumentParser,
        options: Sequence[CustomArgs] = (),
        words: Sequence[str] | None = None,
        *,
        training: bool = True,
    ) -> "ConfigParser":
        """Reads the command line: the checkpoint's config, then -c, then KEY=VALUE words, then short flags and -d.

        Args:
            parser: a `Parser`, perhaps with more options of the script's own.
            options: short flags for keys.
            words: instead of `sys.argv`.
            training: what the data had filled into a checkpoint's config (see `offer`) will be filled in anew.
        """
        args, overrides = parse_words(parser, options, words, ROOT)
        if args.config is None and args.resume is None:
            raise ConfigError("command line: give -c CONFIG to start a run, or -r CHECKPOINT to continue or test one")
        checkpoint = load_checkpoint(args.resume) if args.resume is not None else None
        before = thaw(checkpoint["config"]) if checkpoint is not None else {}
        config = without(before, checkpoint["offered"]) if checkpoint is not None and training else before
        if args.config is not None:
            config = merge(config, read_json(args.config).data)
        for path, value in overrides:
            config = set_by_path(config, path, value)
        parsed = cls(config, checkpoint=checkpoint, resume=args.resume, device_by_command_line=args.device is not None)
        parsed.args = args
        if checkpoint is not None:
            parsed.changes = differences(*comparable(before, parsed.resolved, checkpoint["offered"]))
        return parsed

    def __getitem__(self, name: str) -> Any:
        return self.config[name]

    def require_same_model(self, *, training: bool) -> None:
        """Refuses what a checkpoint cannot follow.

        Raises:
            CheckpointError: the architecture, the name or the folders are not those of the checkpoint.
        """
        # Another type first: that its arguments differ too says nothing more.
        for path, old, new in sorted(self.changes, key=lambda change: not change[0].endswith(".type")):
            if path.startswith(FIXED_ON_RESUME + (FIXED_WHILE_TRAINING if training else ())):
                raise CheckpointError(
                    f"{path}: the checkpoint {self.resume} has {old!s:.60}, now it is {new!s:.60}; that cannot "
                    f"change. A new run can start from its weights: python train.py -c CONFIG --weights {self.resume}"
                )

    @property
    def interval(self) -> Literal["epoch", "step"]:
        """When the scheduler is stepped."""
        return get_by_path(self.config, ("lr_scheduler", "interval"), "epoch")

    @property
    def learning_rate(self) -> float:
        """Of the optimizer, by the config or by its own default."""
        plan = self.plans["optimizer"]
        return plan.args.get("lr", parameters_of(plan.target)["lr"].default)

    def offer(self, **values: Any) -> None:
        """Tells what only the data knows, such as `num_classes`, or what another section says already.

        It is used where a constructor takes it and the config is silent, and then written into `resolved`, so that
        the saved config says it.
        """
        plateau = "lr_scheduler" in self.plans and self.plans["lr_scheduler"].type_name == "ReduceLROnPlateau"
        if plateau and self.trainer_options.monitor.startswith("max "):
            values["mode"] = (
                "max"  # it watches what the monitor watches; other schedulers mean something else by `mode`
            )
        for section, plan in self.plans.items():
            for name in sorted(SECTIONS[section].offered & values.keys()):
                if plan.takes(name) and name not in plan.args:
                    spec = self.resolved[section]
                    spec = {"type": spec} if isinstance(spec, str) else spec
                    self.resolved[section] = {**spec, "args": {**(spec.get("args") or {}), name: values[name]}}
                    plan.args[name] = values[name]
                    self.offered_paths.append(f"{section}.args.{name}")

    def require_schedule_of_this_length(self, num_steps: int) -> None:
        """Refuses a OneCycleLR that would end before the run does, or long after.

        Args:
            num_steps: how often the scheduler will be stepped in the whole run.
        """
        plan = self.plans.get("lr_scheduler")
        if plan is None or plan.type_name != "OneCycleLR":
            return
        total = plan.args.get("total_steps") or plan.args["epochs"] * plan.args["steps_per_epoch"]
        if total != num_steps:
            raise ConfigError(
                f"lr_scheduler.args: OneCycleLR is made for {total} steps, and this run has {num_steps}; leave epochs, "
                f"steps_per_epoch and total_steps out, and they are filled in"
            )

    def offered_changes(self) -> list[str]:
        """Paths of what was filled in otherwise than in the checkpoint, such as the steps of a longer schedule."""
        before = self.checkpoint["config"] if self.checkpoint is not None else self.resolved
        paths = [(path, tuple(path.split("."))) for path in self.offered_paths]
        return [path for path, keys in paths if get_by_path(before, keys) != get_by_path(self.resolved, keys)]

    def init_obj(self, section: str, **given: Any) -> Any:
        """Builds what a section describes; of `given` it receives what its constructor takes."""
        return self.plans[section].build(**given)

    def init_ftn(self, section: str, **given: Any) -> Any:
        """The same for a section that may name a function: the function with its arguments set, or the object."""
        return self.init_obj(section, **given)

    def init_model(self, *, pretrained: bool = True) -> nn.Module:
        """The network; without `pretrained` the config's `weights` are not fetched, because others will be loaded."""
        return build_model(self.plans["arch"], pretrained=pretrained)

    def init_criterion(self) -> Criterion:
        """The loss, as training and evaluation use it."""
        return build_criterion(self.plans["loss"])

    def init_metrics(self, num_classes: int) -> tuple[MetricSet, list[str]]:
        """The metrics, and lines on each that asks for more classes than there are and was cut to those."""
        return build_metrics(self.metric_plans, num_classes)

    def init_schedule(self, optimizer: torch.optim.Optimizer, *, has_validation: bool) -> Schedule | NoSchedule:
        """The schedule of the learning rate; ReduceLROnPlateau watches what the monitor does, or else the loss."""
        if self["lr_scheduler"] is None:
            return NoSchedule()
        monitor = self.trainer_options.monitor.split()
        watched = monitor[1] if len(monitor) == 2 else "val_loss" if has_validation else "train_loss"
        return Schedule(self.init_obj("lr_scheduler", optimizer=optimizer), self.interval, watched)

    def _plan(self, config: dict[str, Any]) -> list[str]:
        """Makes the plans of all sections; gives the problems."""
        problems = []
        for name, section in SECTIONS.items():
            spec = config.get(name)
            if name in ("metrics", "trainer") or spec is None:
                continue
            plan, found = plan_section(spec, name, section, NESTED, ROOT)
            problems += found
            if plan is not None:
                self.plans[name] = plan
        interval = get_by_path(config, ("lr_scheduler", "interval"), "epoch")
        if interval not in ("epoch", "step"):
            problems.append(f"lr_scheduler.interval: 'epoch' or 'step', got {interval!r}")
        if "optimizer" in self.plans and "lr_scheduler" in self.plans:
            max_lr = self.plans["lr_scheduler"].args.get("max_lr", self.learning_rate)
            if self.plans["lr_scheduler"].type_name == "OneCycleLR" and max_lr != self.learning_rate:
                problems.append(
                    f"lr_scheduler.args.max_lr: {max_lr}, yet optimizer.args.lr is {self.learning_rate}, which "
                    f"OneCycleLR would not use; leave max_lr out"
                )
        return problems + self._plan_metrics(config) + self._plan_trainer(config)

    def _plan_metrics(self, config: dict[str, Any]) -> list[str]:
        problems: list[str] = []
        specs = config.get("metrics")
        for index, spec in enumerate(specs if isinstance(specs, list) else []):
            plan, found = plan_section(spec, f"metrics.{index}", SECTIONS["metrics"], NESTED, ROOT)
            problems += found
            if plan is not None:
                name = spec.get("name", plan.type_name) if isinstance(spec, Mapping) else plan.type_name
                if not isinstance(name, str) or not name.isidentifier():
                    problems.append(f"metrics.{index}.name: must be a word of letters, digits and _, got {name!r:.80}")
                elif name in ("loss", *[taken for taken, _ in self.metric_plans]):
                    problems.append(f"metrics.{index}: a score named '{name}' is there already; give a \"name\"")
                self.metric_plans.append((name, plan))
        return problems

    def _plan_trainer(self, config: dict[str, Any]) -> list[str]:
        spec = config.get("trainer")
        if not isinstance(spec, dict):
            return []
        object_spec = {"type": spec.get("type", "Trainer"), "args": spec.get("args", {})}
        plan, problems = plan_section(object_spec, "trainer", SECTIONS["trainer"], NESTED, ROOT)
        if plan is not None:
            self.plans["trainer"] = plan
        values = {key: value for key, value in spec.items() if key not in ("type", "args")}
        options, found = checked_arguments(TrainerOptions, values, "trainer", supplied=set(), given=set())
        found = [problem.replace("trainer.args", "trainer").replace("TrainerOptions", "trainer") for problem in found]
        if not found:
            self.trainer_options = TrainerOptions(**options)
            save_dir = ROOT / self.trainer_options.save_dir.expanduser()
            self.trainer_options = dataclasses.replace(self.trainer_options, save_dir=save_dir)
        return problems + found


def _check_top_level(config: dict[str, Any]) -> list[str]:
    """Fills in what may be left out; gives the problems."""
    problems = [f"{key}: unknown key.{suggest(key, TOP_LEVEL)}" for key in config if key not in TOP_LEVEL]
    for key, (annotation, default) in TOP_LEVEL.items():
        if key in config and config[key] is None and default is REQUIRED:
            problems.append(f"{key}: must not be null")
        elif key in config:
            problems += checked_value(config[key], annotation, key)[1]
        elif default is REQUIRED:
            problems.append(f"{key}: missing")
        elif key != "$schema":
            config[key] = default
    name = config.get("name")
    if isinstance(name, str) and not is_folder_name(name):
        problems.append(f"name: {name!r} must be a folder's name, without / and \\")
    if isinstance(config["n_gpu"], int) and config["n_gpu"] < 0:
        problems.append(f"n_gpu: must not be negative, got {config['n_gpu']}")
    if isinstance(config["seed"], int) and not -(2**63) <= config["seed"] < 2**63:
        problems.append(f"seed: must fit into 64 bits, got {config['seed']}")
    return problems
