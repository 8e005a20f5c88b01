"""report.html: one file that shows a run and its judgement to a person, without a network. Called by the scripts.

Everything that comes from configs, folders and files is a stranger's text: the template escapes it all, and the page's
own policy lets nothing run but the script that stands in it, and nothing load that is not inside.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from logger.judgement import Judgement, Score, Scores
from logger.report import calibration, curves, matrix, pictures, text
from utils.config_tree import to_json
from utils.durable_file import replace_file
from utils.errors import some

FOLDER = Path(__file__).resolve().parent
WORST = 48  # mistakes with pictures
EACH_CELL = 6  # pictures, as far as the budget goes
MAX_CLASS_NAME = 60  # characters; 200 in titles
MAX_LINES = 4000  # of the config
MAX_ROWS = 60  # of facts and warnings


@dataclass(frozen=True)
class Report:
    """What a report tells; what is empty is left out of the page.

    Args:
        title: such as the run's name.
        facts: name → text: what was trained on what, device, precision, images, checkpoint.
        judgement, scores: of the images that were tested, both or neither.
        history: rows of results.csv.
        best_epoch: is marked in the curves.
        config: resolved.
        environment: versions and hardware, also nested.
        commands: that repeat it.
        warnings: in words.
        speed: name → number or text, also nested.
        overlays: position → PNG of where the network looked; shown beside the mistakes of `matrix.worst`.
    """

    title: str
    facts: Mapping[str, str]
    judgement: Judgement | None = None
    scores: Scores | None = None
    history: Sequence[Mapping[str, Any]] = ()
    best_epoch: int | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    commands: Sequence[str] = ()
    warnings: Sequence[str] = ()
    speed: Mapping[str, Any] = field(default_factory=dict)
    overlays: Mapping[int, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Picture:
    """One of the worst mistakes."""

    position: int
    uri: str
    overlay: str
    true: str
    predicted: str
    confidence: str
    of_true: str
    name: str
    tail: str
    is_wrong: bool


@dataclass(frozen=True)
class Entry:
    """One value of the table of classes; `interval` is (low, high) or None."""

    value: float
    text: str
    interval: tuple[float, float] | None


def write_report(path: Path, report: Report) -> None:
    """Writes the page; the previous one stays whole until this one is.

    Raises:
        OutputError: the place cannot be written.
    """
    content = render(report).encode()
    replace_file(path, lambda file: file.write(content), "the report")


def render(report: Report) -> str:
    """The whole page; the same report always gives the same text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # here: whoever writes no report need not wait

    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=text.shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": text.number, "brief": lambda name, limit=MAX_CLASS_NAME: brief(name, limit)}
    style, script = (_own_file(name) for name in ("style.css", "page.js"))
    return environment.get_template("page.html").render(
        report=report,
        style=Markup(style),
        script=Markup(script),
        policy=policy_of(style, script),
        facts=_capped(text.flat(report.facts)),
        environment=_capped(text.flat(report.environment)),
        speed=_capped(text.flat(report.speed)),
        warnings=_warnings(report),
        config_lines=to_json(report.config).split("\n")[:MAX_LINES] if report.config else [],
        panels=curves.panels_of(report.history, report.best_epoch),
        box=curves,
        **_judged(report.judgement, report.scores, report.overlays),
    )


def policy_of(style: str, script: str) -> str:
    """The Content-Security-Policy that allows these two texts and pictures inside the page, and nothing else."""
    hashes = [base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in (style, script)]
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; "
        "base-uri 'none'; form-action 'none'"
    )


def brief(name: str, limit: int = MAX_CLASS_NAME) -> str:
    """A name of a class as it stands in tables."""
    return text.limited(text.written_out(name), limit)


def _own_file(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def _capped(rows: Mapping[str, str]) -> dict[str, str]:
    shown = dict(list(rows.items())[:MAX_ROWS])
    return shown if len(rows) <= MAX_ROWS else {**shown, "…": f"and {len(rows) - MAX_ROWS} more"}


def _warnings(report: Report) -> list[str]:
    lines = list(report.warnings)
    if report.scores is not None and report.judgement is not None and report.scores.never_predicted:
        names = [brief(report.judgement.classes[index]) for index in report.scores.never_predicted]
        lines.append(f"never predicted, though there are images of it: {some(names, 10)}")
    return lines if len(lines) <= MAX_ROWS else [*lines[:MAX_ROWS], f"and {len(lines) - MAX_ROWS} more"]


def _judged(judgement: Judgement | None, scores: Scores | None, overlays: Mapping[int, bytes]) -> dict[str, Any]:
    """What the template needs of a judgement."""
    if judgement is None or scores is None or not len(judgement):
        return {"classes": []}
    cells = matrix.cells_behind(judgement)
    worst = matrix.worst(judgement, WORST)
    uris = pictures.thumbnails(judgement, worst, matrix.in_turns(cells, EACH_CELL))
    folder, rows = matrix.named(judgement, cells)
    has_table = len(judgement.classes) <= matrix.MAX_TABLE_CLASSES
    data = {
        "classes": [brief(name) for name in judgement.classes],
        "folder": text.limited(folder, 400),
        "cells": rows,
        "pictures": {str(position): uri for position, uri in uris.items() if position not in set(worst)},
    }
    columns, entries = _per_class(scores.per_class)
    return {
        "classes": judgement.classes,
        "num_images": len(judgement),
        "num_wrong": int((judgement.true_N != judgement.predicted_N).sum()),
        "scores": scores,
        "main_scores": [score for score in scores.overall if score.value == score.value][:4],
        "references": [
            Score("of guessing, chance", scores.chance),
            Score("of always answering the largest class", scores.largest_class),
        ],
        "worst": [_picture(judgement, position, uris[position], overlays) for position in worst],
        "matrix_rows": matrix.table_of(scores.confusion_KK) if has_table else None,
        "row_totals": [int(count) for count in scores.confusion_KK.sum(1)],
        "columns": columns,
        "per_class": entries,
        "diagram": calibration.diagram_of(scores.calibration),
        "bins": scores.calibration.to_dict("records"),
        "data": text.json_block(data),
    }


def _picture(judgement: Judgement, position: int, uri: str, overlays: Mapping[int, bytes]) -> Picture:
    name = text.written_out(judgement.name_of(position))
    true, predicted = int(judgement.true_N[position]), int(judgement.predicted_N[position])
    return Picture(
        position,
        Markup(uri),  # base64, and too long to be cut as text is
        Markup(pictures.overlay(overlays[position]) if position in overlays else ""),
        judgement.classes[true],
        judgement.classes[predicted],
        f"{judgement.confidence_N[position]:.3f}",
        f"{judgement.probabilities_NK[position, true]:.3f}",
        text.limited(name, 400),
        text.limited(name.rpartition("/")[2], 40),
        true != predicted,
    )


def _per_class(frame: pd.DataFrame) -> tuple[list[str], list[tuple[str, list[Entry]]]]:
    """Names of the columns, and for each class its name and entries; `x_low` and `x_high` go with `x`."""
    columns = [name for name in frame.columns if name != "class" and not name.endswith(("_low", "_high"))]
    counts = {name for name in columns if pd.api.types.is_integer_dtype(frame[name].dtype)}
    rows = []
    for row in frame.to_dict("records"):
        entries = []
        for column in columns:
            value, low, high = (row.get(f"{column}{end}") for end in ("", "_low", "_high"))
            is_count = column in counts
            value = float("nan") if value is None else value
            has_interval = low is not None and high is not None and low == low and high == high
            entries.append(
                Entry(
                    float(value),
                    f"{int(value):,}" if is_count else text.number(value, 3),
                    (float(low), float(high)) if has_interval else None,
                )
            )
        rows.append((str(row["class"]), entries))
    return columns, rows
