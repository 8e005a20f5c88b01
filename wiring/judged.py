"""From the scores that an evaluation showed to what is said of them: a judgement, and the page that reports it."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from base.base_data_loader import BaseDataLoader
from base.base_model import count_trainable
from base.base_trainer import BaseTrainer
from base.sample_pixels import pixels_of
from logger.judgement import Judgement, Scores
from logger.predictions import Predictions
from logger.report import matrix
from logger.report.page import WORST, Report, write_report
from logger.run_dir import RunDir
from logger.run_record import hardware
from logger.scores import score
from logger.summary import shown
from utils.errors import some
from wiring.explained import Explainer

PAGE = "report.html"


def judgement_of(predictions: Predictions, loader: BaseDataLoader, temperature: float = 1.0) -> Judgement:
    """What was said of the images of a loader that could be read.

    Args:
        predictions: of one pass over the loader.
        loader: of evaluation.
        temperature: by which scores are divided before they become probabilities.
    """
    positions = loader.positions_read
    return predictions.judgement(
        lambda number: loader.sample_name(positions[number]),
        lambda number: pixels_of(loader, positions[number]),
        temperature=temperature,
    )


def overlays_of(judgement: Judgement, loader: BaseDataLoader, explainer: Explainer) -> dict[int, bytes]:
    """Where the network looked in the worst mistakes of a judgement: PNG bytes by position."""
    rows = {loader.positions_read[int(row)]: int(row) for row in matrix.worst(judgement, WORST)}
    classes = {position: int(judgement.predicted_N[row]) for position, row in rows.items()}
    return {rows[position]: png for position, png in explainer.heat_of(loader, classes)}


def write_page(
    folder: Path,
    checkpoint: Mapping[str, Any],
    facts: Mapping[str, str],
    judged: tuple[Judgement, Scores] | None,
    **more: Any,
) -> None:
    """Writes report.html.

    Args:
        folder: is there.
        checkpoint: of the network that is reported on.
        facts: what was trained on what, in words.
        judged: what was said of images and its scores, where some were judged.
        more: further fields of `Report`.

    Raises:
        OutputError: the place cannot be written.
    """
    judgement, scores = judged or (None, None)
    run = checkpoint["run"]
    report = Report(
        title=f"{run['name']}/{run['run_id']}",
        facts=facts,
        judgement=judgement,
        scores=scores,
        history=checkpoint["history"],
        best_epoch=checkpoint["monitor"]["best_epoch"],
        config=checkpoint["config"],
        environment={"trained with": checkpoint["written_by"], "reported on": hardware()},
        **more,
    )
    write_report(folder / PAGE, report)


def facts_of_training(checkpoint: Mapping[str, Any], model: nn.Module) -> dict[str, str]:
    """What was trained, on what, and for how long, in words."""
    config, classes = checkpoint["config"], checkpoint["classes"]
    images, held_back = sum(count for count, _ in checkpoint["data"].values()), checkpoint["input"].get("held_back")
    apart = f", {held_back['num_held_back']:,} of them held back" if held_back else ""
    trained_for = f"{checkpoint['epochs_done']} epochs, {checkpoint['steps_done']:,} steps, seed {config['seed']}"
    return {
        "model": f"{type(model).__name__}, {count_trainable(model):,} trainable parameters",
        "trained on": f"{images:,} images{apart}, of {len(classes)} classes ({some(classes, 10)})",
        "trained for": trained_for,
    }


def report_on_run(trainer: BaseTrainer, run: RunDir, facts: Mapping[str, str], warnings: Sequence[str]) -> None:
    """Writes the page of a run that is done: what its best checkpoint says of the validation images, where it has some.

    Raises:
        OutputError: the place cannot be written.
    """
    checkpoint = {**trainer.context.passport, "history": trainer.recorder.history.rows()}
    checkpoint |= {"monitor": trainer.monitor.state_dict()}
    checkpoint |= {"epochs_done": trainer.epochs_done, "steps_done": trainer.steps_done}
    said, loader = getattr(trainer, "said_at_last", None), getattr(trainer, "valid_loader", None)
    judged = None
    if said is not None and loader is not None:
        judgement = judgement_of(said, loader)
        judged = judgement, score(judgement, trainer.context.seed)
        facts = {**facts, "images": f"{len(judgement):,} validation images"}
    best = "best.pth" if trainer.monitor.best_epoch is not None else "last.pth"
    commands = ["train.py -c", "config.json"], ["test.py -r", best]
    write_page(
        run.log,
        checkpoint,
        {**facts_of_training(checkpoint, trainer.learner.model), **facts},
        judged,
        warnings=warnings,
        commands=[f"python {script} {shlex.quote(shown(run.models / name))}" for script, name in commands],
        speed=speed_of(checkpoint["history"]),
    )


def speed_of(history: Sequence[Mapping[str, float]], **more: str) -> dict[str, str]:
    """How long training took, from the rows of results.csv, and what else is known."""
    seconds = sum(row.get("time_s", 0.0) for row in history)
    return {"training": f"{len(history)} epochs in {seconds:,.0f} s, validation included", **more} if history else more
