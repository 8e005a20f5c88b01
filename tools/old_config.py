"""From a config of pytorch-template, of any of its versions, to one of ours, with a line on all that is changed.

Called by tools/convert.py. Whether types and arguments exist is found out where every config is checked.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from base.run_plan import TOP_LEVEL
from base.training_parts import TrainerOptions

_TRAINER_KEYS = {field.name for field in dataclasses.fields(TrainerOptions)} | {"type", "args"}
_RENAMED_TRAINER_KEYS = {"save_freq": "save_period", "tensorboardX": "tensorboard"}
# The names of the first versions. The score keeps its name, so that the monitor may go on naming it.
_RENAMED_METRICS = {"my_metric": "accuracy", "my_metric2": "top_k_acc"}


def converted(old: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The config, and lines such as "trainer.tensorboardX: is called tensorboard here"."""
    lines: list[str] = []
    config = {key: value for key, value in old.items() if key in TOP_LEVEL}
    lines += [f"{key}: dropped, there is no such setting here" for key in old if key not in TOP_LEVEL]
    config.pop("$schema", None)  # is relative to the file that it stood in
    if isinstance(config.get("trainer"), Mapping):
        config["trainer"] = _trainer(config["trainer"], lines)
    if isinstance(config.get("metrics"), list):
        config["metrics"] = [_metric(name, lines) for name in config["metrics"]]
    return config, lines


def _trainer(old: Mapping[str, Any], lines: list[str]) -> dict[str, Any]:
    trainer: dict[str, Any] = {}
    for key, value in old.items():
        name = _RENAMED_TRAINER_KEYS.get(key, key)
        if key == "monitor_mode":
            continue
        if name not in _TRAINER_KEYS:
            lines.append(f"trainer.{key}: dropped, there is no such setting here")
        elif name != key and name in old:
            lines.append(f"trainer.{key}: dropped, {name} is there too")
        else:
            lines += [f"trainer.{key}: is called {name} here"] if name != key else []
            trainer[name] = value
    if isinstance(old.get("monitor_mode"), str):
        trainer["monitor"] = "off" if old["monitor_mode"] == "off" else f"{old['monitor_mode']} {old.get('monitor')}"
        lines.append(f'trainer.monitor_mode: is part of monitor here, which is "{trainer["monitor"]}"')
    patience = trainer.get("early_stop")
    if isinstance(patience, int | float) and patience < 0:
        lines.append(f"trainer.early_stop: {patience} never stopped a run, which is null here")
        trainer["early_stop"] = None
    if trainer.get("monitor") == "off" and trainer.get("early_stop"):
        lines.append("trainer.early_stop: dropped, it did nothing without a monitor")
        del trainer["early_stop"]
    return trainer


def _metric(name: Any, lines: list[str]) -> Any:
    new = _RENAMED_METRICS.get(name, name) if isinstance(name, str) else name
    if new == name:
        return name
    lines.append(f"metrics: {name} is {new} here, under its old name")
    return {"type": new, "name": name}
