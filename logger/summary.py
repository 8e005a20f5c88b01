"""The first and the last lines of a run, and the small files that say what it was."""

import math
import platform
import shlex
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from logger.run_dir import RunDir
from utils.config_tree import to_json
from utils.errors import some
from utils.monitor import Monitor


def versions() -> dict[str, str]:
    """Of what the numbers of a run can depend on."""
    return {"python": platform.python_version(), "torch": str(torch.__version__), "torchvision": version("torchvision")}


def aligned(rows: Mapping[str, str]) -> str:
    """One line a row, the texts below each other."""
    width = max(len(name) for name in rows)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in rows.items())


def data_in_words(train: Any, valid: Any) -> str:
    """Where the images come from, their classes, and how many there are of each part."""
    counts = [f"{len(train.indices):,} training"]
    counts.append(f"{len(valid.indices):,} validation" if valid is not None else "no validation")
    if getattr(train, "num_test_samples", 0):
        counts.append(f"{train.num_test_samples:,} test")
    source = shown(Path(getattr(train, "source", type(train).__name__)))
    return f"{source}: {', '.join(counts)} images of {len(train.classes)} classes ({some(train.classes, 10)})"


def save_run_files(run: RunDir, config: Mapping[str, Any], classes: list[str]) -> None:
    """Writes config.json, with everything that was filled in, and class_index.json."""
    (run.models / "config.json").write_text(to_json(config), encoding="utf-8")
    class_index = {str(index): name for index, name in enumerate(classes)}
    (run.models / "class_index.json").write_text(to_json(class_index), encoding="utf-8")


def first_lines(
    run: RunDir, facts: Mapping[str, str], config: Mapping[str, Any], num_batches: int, epochs_done: int
) -> str:
    """What will happen, on what, and where it goes.

    Args:
        run: its folders.
        facts: "device", "precision", "data", "model", and perhaps "weights", in words.
        config: resolved.
        num_batches: of one pass over the training images.
        epochs_done: of a continued run.
    """
    trainer = config["trainer"]
    batches = trainer.get("len_epoch") or num_batches
    learns_by = ", ".join(_type_of(config[name]) for name in ("optimizer", "lr_scheduler") if config[name])
    rows = {
        "run": f"{run.name}/{run.run_id}, seed {config['seed']}"
        + (f", continued after {epochs_done} epochs" if epochs_done else ""),
        "device": facts["device"],
        "precision": facts["precision"],
        "versions": ", ".join(f"{name} {number}" for name, number in versions().items()),
        "data": facts["data"],
        "model": facts["model"],
        **({"weights": facts["weights"]} if "weights" in facts else {}),
        "training": f"{trainer['epochs']} epochs of {batches:,} batches, {learns_by}",
        "files": f"{shown(run.models)}, {shown(run.log)}",
        "continue": f"python train.py -r {shlex.quote(shown(run.models / 'last.pth'))}",
    }
    return aligned(rows)


def _type_of(section: str | Mapping[str, Any]) -> str:
    """Of a section in either form, a bare name or {"type": name}."""
    return section if isinstance(section, str) else section["type"]


def last_lines(
    run: RunDir, monitor: Monitor, row: Mapping[str, float], first: Mapping[str, float], judged_again: str = ""
) -> str:
    """How it ended, what to look at, and what to type next.

    Args:
        run: its folders.
        monitor: at the end.
        row: of results.csv, that of the best epoch, or of the last where nothing is watched.
        first: the first row of results.csv.
        judged_again: what came of evaluating the best checkpoint from its file; empty where that was not done.
    """
    scores = _named(row)
    named = {name: value for name, value in scores.items() if name.startswith("val_") or name == monitor.name}
    best = "best.pth" if monitor.best_epoch is not None else "last.pth"
    rows = {"last epoch": f"{int(row['epoch'])}: {_in_words(named or scores)}"}
    about = judged_again
    if monitor.best is not None and monitor.best_epoch == row["epoch"]:
        others = {name: value for name, value in named.items() if name not in (monitor.name, f"train_{monitor.name}")}
        rows = {"verdict": _verdict(monitor, first)}
        about = "; ".join(part for part in (_in_words(others), judged_again) if part)
    rows |= {best: about} if about else {}
    rows |= {
        "results": f"{shown(run.log / 'results.csv')}, results.png and report.html beside it",
        "curves": f"tensorboard --logdir {shown(run.save_dir / 'log')}",
        "test it": f"python test.py -r {shlex.quote(shown(run.models / best))}",
    }
    return aligned(rows)


def _verdict(monitor: Monitor, first: Mapping[str, float]) -> str:
    """The best score, and how far it is from that of the first epoch."""
    line = f"best {monitor.name} {monitor.best:.4f} at epoch {monitor.best_epoch}"
    scores = _named(first)
    began = scores.get(str(monitor.name), scores.get(f"train_{monitor.name}"))
    if began is None or not math.isfinite(began) or first["epoch"] == monitor.best_epoch:
        return line
    return f"{line}; improved {began:.4f} → {monitor.best:.4f}"


def _named(row: Mapping[str, float]) -> dict[str, float]:
    return {f"val_{name}" if part == "val" else f"train_{name}": value for part, name, value in _scores(row)}


def _in_words(scores: Mapping[str, float]) -> str:
    return " ".join(f"{name} {value:.4f}" for name, value in scores.items())


def _scores(row: Mapping[str, float]) -> list[tuple[str, str, float]]:
    return [(*column.split("/", 1), value) for column, value in row.items() if "/" in column]  # type: ignore[misc]


def shown(path: Path) -> str:
    """The path as one would type it: relative to the current folder where it lies below it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
