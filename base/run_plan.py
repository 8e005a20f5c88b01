"""From a whole config to plans of all its sections: top level, trainer, and how the sections hold together.

Called by parse_config.py, which knows the rooms' menus. What one section is checked for is in utils/config_check.py.
"""

import functools
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Lt

from base.scores import checked_monitor, score_names
from base.training_parts import TrainerOptions
from logger.run_dir import is_folder_name
from utils.config_check import Checker, Section
from utils.config_layers import Problem
from utils.config_plan import Plan
from utils.config_signature import REQUIRED, checked_arguments, checked_value, parameters_of
from utils.config_tree import get_by_path, path_of, suggest
from utils.device import cuda_indices
from utils.errors import ConfigError, DeviceError

TOP_LEVEL: dict[str, tuple[Any, Any]] = {
    "$schema": (str | None, None),
    "name": (str, REQUIRED),
    "seed": (Annotated[int, Ge(-(2**63)), Lt(2**63)], 123),
    "device": (str, "auto"),
    "n_gpu": (Annotated[int, Ge(0)], 1),
    "deterministic": (bool, False),
    "arch": (None, REQUIRED),
    "weights_file": (Path | None, None),
    "data_loader": (None, REQUIRED),
    "optimizer": (None, REQUIRED),
    "loss": (None, REQUIRED),
    "metrics": (list, REQUIRED),
    "lr_scheduler": (None, None),
    "trainer": (dict, REQUIRED),
}

_SET_ONE_RATE = ("OneCycleLR", "CyclicLR")


class Planner:
    """Makes the plans of all sections.

    Args:
        config: plain data, in which missing keys of the top level are filled in.
        checker: of sections; knows where each value was written.
        sections: the menus of all rooms, by key of the config.
    """

    def __init__(self, config: dict[str, Any], checker: Checker, sections: Mapping[str, Section]):
        self.config, self.checker, self.layers, self.sections = config, checker, checker.config, sections
        self.plans: dict[str, Plan] = {}
        self.metric_plans: list[tuple[str, Plan]] = []
        self.options: TrainerOptions | None = None

    def plan(self) -> tuple[dict[str, Plan], list[tuple[str, Plan]], TrainerOptions]:
        """The plans.

        Raises:
            ConfigError: all problems at once.
        """
        self._top_level()
        for name, section in self.sections.items():
            spec = self.config.get(name)
            if name not in ("metrics", "trainer") and spec is not None:
                plan = self.checker.plan(spec, (name,), section)
                self.plans |= {name: plan} if plan is not None else {}
        self._metrics()
        self._trainer()
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._try_out()
        self._hold_sections_together()
        if self.layers.problems or self.layers.reference_problems or self.options is None:
            raise self.layers.error(self.layers.problems)
        return self.plans, self.metric_plans, self.options

    def _add(self, path: str, message: str, also: str = "") -> None:
        self.layers.add(path_of(path) if path else (), message, path_of(also) if also else None)

    def _top_level(self) -> None:
        known, meant = [key for key in TOP_LEVEL if key != "$schema"], ""
        for key in self.config:
            if key not in TOP_LEVEL:
                self.checker.unknown_key((key,), known)
                meant += suggest(key, known)
        for key, (annotation, default) in TOP_LEVEL.items():
            if key in self.config and self.config[key] is None and default is REQUIRED:
                self._add(key, "must not be null")
            elif key in self.config:
                self.layers.problems += checked_value(self.config[key], annotation, (key,))[1]
            elif default is REQUIRED:
                if f"'{key}'" not in meant:  # missing and only misspelt is one problem, not two
                    self._add("", f"'{key}' is missing")
            elif key != "$schema":
                self.config[key] = default
        name = self.config.get("name")
        if isinstance(name, str) and not is_folder_name(name):
            self._add("name", f"{name!r} must be a folder's name, without / and \\")
        device = self.config.get("device")
        if isinstance(device, str) and device != "auto":
            try:
                cuda_indices(device)
            except DeviceError as error:
                self._add("device", str(error))

    def _metrics(self) -> None:
        specs, taken = self.config.get("metrics"), {"loss"}
        for index, spec in enumerate(specs if isinstance(specs, list) else []):
            plan = self.checker.plan(spec, ("metrics", index), self.sections["metrics"])
            if plan is None:
                continue
            name = spec.get("name", plan.type_name) if isinstance(spec, Mapping) else plan.type_name
            if not isinstance(name, str) or not name.isidentifier():
                self._add(f"metrics.{index}.name", f"must be a word of letters, digits and _, got {name!r:.80}")
                continue
            if name in taken:
                self._add(f"metrics.{index}", f"a score named '{name}' is there already; give a \"name\"")
            taken.add(name)
            self.metric_plans.append((name, plan))

    def _trainer(self) -> None:
        spec = self.config.get("trainer")
        if not isinstance(spec, dict):
            return
        of_type = {key: spec[key] for key in ("type", "args") if key in spec}
        plan = self.checker.plan({"type": "Trainer", **of_type}, ("trainer",), self.sections["trainer"])
        self.plans |= {"trainer": plan} if plan is not None else {}
        values = {key: value for key, value in spec.items() if key not in ("type", "args")}
        options, problems = checked_arguments(TrainerOptions, values, ("trainer",), name="trainer")
        for problem in problems:
            self.layers.add(*problem)
        save_dir = self.checker.root / os.path.expanduser(options.get("save_dir", TrainerOptions.save_dir))
        self.options = TrainerOptions(**{"epochs": 1, **options, "save_dir": save_dir})

    def _try_out(self) -> None:
        """Lets the constructors judge the values, on stand-ins for what only the data or the model will tell."""
        epochs = self.options.epochs if self.options is not None else 1
        known = [self.plans[name].args.get("num_classes") for name in ("arch", "data_loader") if name in self.plans]
        num_classes = next((number for number in known if isinstance(number, int) and number > 0), 100)
        optimizer = self._tried("optimizer", params=stand_in_parameters()) or stand_in_optimizer()
        lr = optimizer.param_groups[0]["lr"]
        if "lr_scheduler" in self.plans:
            plan = self.plans["lr_scheduler"]
            first_step = functools.partial(_stepped, plan.target)  # some find out only there
            offered = {"epochs": epochs, "steps_per_epoch": 100, "max_lr": lr}
            self._problems_of(plan, make=first_step, optimizer=optimizer, offered=offered)
        self._tried("loss")
        if "arch" in self.plans:
            plan = self.plans["arch"]
            offered = {"num_classes": num_classes, "in_channels": 3, "image_size": [224, 224]}
            self._problems_of(plan, make=plan.on_meta, **offered)
        for _, plan in self.metric_plans:
            top_k = plan.args.get("top_k")
            enough = max(num_classes, top_k) if isinstance(top_k, int) else num_classes
            self._problems_of(plan, make=plan.on_meta, num_classes=enough)
        for value in self.plans["data_loader"].args.values() if "data_loader" in self.plans else []:
            for plan in value if isinstance(value, list) else [value]:
                if isinstance(plan, Plan):
                    self._problems_of(plan)

    def _tried(self, name: str, **supplied: Any) -> Any:
        return self._problems_of(self.plans[name], **supplied) if name in self.plans else None

    def _problems_of(self, plan: Plan, **supplied: Any) -> Any:
        with self.checker.noting(plan.path):
            built, problems = plan.try_out(**supplied)
        self.layers.problems += problems
        return built

    def _optimizer_groups(self) -> None:
        """Settings of groups of parameters are held against the optimizer's own; the model has their members."""
        groups, plan = get_by_path(self.config, ("optimizer", "groups"), None), self.plans.get("optimizer")
        if groups is None or plan is None:
            return
        _, problems = checked_value(groups, list[dict[str, Any]], ("optimizer", "groups"))
        schedule = self.plans["lr_scheduler"].type_name if "lr_scheduler" in self.plans else ""
        for index, group in enumerate(groups if not problems else []):
            path = ("optimizer", "groups", index)
            settings = {key: value for key, value in group.items() if key != "match"}
            if "match" not in group:
                problems.append(Problem(path, "needs 'match', a pattern of names of parameters such as \"*.bias\""))
            else:
                problems += checked_value(group["match"], str | list[str], (*path, "match"))[1]
            supplied, given = frozenset(parameters_of(plan.target)), frozenset({"params"})
            problems += checked_arguments(plan.target, settings, path, supplied=supplied, given=given)[1]
            if "lr" in settings and schedule in _SET_ONE_RATE:
                problems.append(Problem((*path, "lr"), f"{schedule} gives all groups one rate; take another"))
        self.layers.problems += problems

    def _hold_sections_together(self) -> None:
        """What no signature can see: sections that contradict each other."""
        self._optimizer_groups()
        class_weights = get_by_path(self.config, ("loss", "class_weights"), None)
        self.layers.problems += checked_value(class_weights, Literal["auto"] | None, ("loss", "class_weights"))[1]
        metrics = self.config.get("metrics")
        if self.options is not None and isinstance(metrics, list) and len(metrics) == len(self.metric_plans):
            names = [name for name, _ in self.metric_plans]
            try:
                checked_monitor(self.options, score_names(names, has_validation=True))
            except ConfigError as error:
                self._add(error.path, error.message, error.also)
        if self.options is not None and self.options.ema is not None and self.options.lookahead is not None:
            message = "averages the weights, and so does trainer.lookahead; keep one of the two"
            self._add("trainer.ema", message, "trainer.lookahead")
        schedule, optimizer = self.plans.get("lr_scheduler"), self.plans.get("optimizer")
        interval = get_by_path(self.config, ("lr_scheduler", "interval"), "epoch")
        if interval not in ("epoch", "step"):
            self._add("lr_scheduler.interval", f"'epoch' or 'step', got {interval!r:.80}")
        elif schedule is not None and schedule.type_name == "ReduceLROnPlateau" and interval == "step":
            self._add("lr_scheduler.interval", 'ReduceLROnPlateau watches a score of an epoch; use "epoch"')
        if schedule is not None and schedule.type_name == "ReduceLROnPlateau" and self.options is not None:
            mode, monitor = schedule.args.get("mode"), self.options.monitor
            if {mode, monitor.split(" ")[0]} == {"min", "max"}:
                message = f"{mode}, yet it watches what the monitor does, which is '{monitor}'; leave mode out"
                self._add("lr_scheduler.args.mode", message, "trainer.monitor")
        if schedule is not None and optimizer is not None and schedule.type_name == "OneCycleLR":
            lr = learning_rate(optimizer)
            if schedule.args.get("max_lr", lr) != lr:
                message = f"{schedule.args['max_lr']}, yet the optimizer's lr is {lr}, which OneCycleLR would not use"
                self._add("lr_scheduler.args.max_lr", f"{message}; leave max_lr out", "optimizer.args.lr")
        loader, arch = self.plans.get("data_loader"), self.plans.get("arch")
        if loader is not None and arch is not None:
            for in_arch, in_data in (("num_classes", "num_classes"), ("in_channels", "channels")):
                asked, there = arch.args.get(in_arch), loader.args.get(in_data)
                if None not in (asked, there) and asked != there:
                    message = f"{asked}, yet the data has {there}; leave it out and it is taken from the data"
                    self._add(f"arch.args.{in_arch}", message, f"data_loader.args.{in_data}")
            shuffle, sampler = loader.args.get("shuffle"), loader.args.get("sampler")
            if isinstance(sampler, Plan) and shuffle is (sampler.type_name == "SequentialSampler"):
                message = f"{str(shuffle).lower()}, yet {sampler.type_name} decides the order; leave shuffle out"
                self._add("data_loader.args.shuffle", message, "data_loader.args.sampler")
        if self.config.get("weights_file") is not None and arch is not None and arch.args.get("weights") is not None:
            message = "replaces the weights that arch fetches; keep one of the two"
            self._add("weights_file", message, "arch.args.weights")


def learning_rate(optimizer: Plan) -> float:
    """By the config or by the optimizer's own default."""
    return optimizer.args.get("lr", parameters_of(optimizer.target)["lr"].default)


def _stepped(make: Callable[..., Any], **arguments: Any) -> Any:
    """A scheduler after its first step."""
    scheduler = make(**arguments)
    scheduler.step(*([1.0] if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau) else []))
    return scheduler


def stand_in_parameters() -> list[torch.nn.Parameter]:
    """Something that an optimizer can be built on before there is a model; two-dimensional, which Muon asks for."""
    return [torch.nn.Parameter(torch.zeros(2, 2))]


def stand_in_optimizer() -> torch.optim.Optimizer:
    """Something that a scheduler can be built on: with the betas that a cycle of momentum asks for."""
    return torch.optim.Adam(stand_in_parameters(), lr=0.1)
