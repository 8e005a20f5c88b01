"""What test.py leaves on the disk: metrics.json, tables of classes, images and confusion, and pictures."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from logger.figures import calibration_figure, confusion_figure
from logger.judgement import Judgement, Scores
from logger.pictures import MAX_IMAGES, draw_answers, save
from logger.predictions import write_predictions
from utils.config_tree import to_json

NAMES = (
    "metrics.json",
    "per_class.csv",
    "predictions.csv",
    "confusion_matrix.csv",
    "confusion_matrix.png",
    "confusion_matrix_normalized.png",
    "calibration.png",
    "val_batch0_pred.png",
)


def write_score_files(
    folder: Path,
    judgement: Judgement,
    scores: Scores,
    facts: Mapping[str, Any],
    *,
    all_probabilities: bool = False,
) -> None:
    """Writes all of `NAMES`.

    Args:
        folder: is there.
        judgement: of the images.
        scores: of the judgement.
        facts: the first entries of metrics.json, and further scores; where one of those is called as one of `scores`,
            it stands in its place, and the interval is left out if it is not the same number.
        all_probabilities: a column a class in predictions.csv.
    """
    (folder / "metrics.json").write_text(to_json(metrics_of(scores, facts)), encoding="utf-8")
    scores.per_class.to_csv(folder / "per_class.csv", index=False)
    write_predictions(folder / "predictions.csv", judgement, all_probabilities=all_probabilities)
    confusion = pd.DataFrame(scores.confusion_KK, index=judgement.classes, columns=judgement.classes)
    confusion.to_csv(folder / "confusion_matrix.csv", index_label="true \\ predicted")
    error = next(one.value for one in scores.overall if one.name == "calibration_error")
    figures = {
        "confusion_matrix": confusion_figure(scores.confusion_KK, judgement.classes),
        "confusion_matrix_normalized": confusion_figure(scores.confusion_KK, judgement.classes, normalized=True),
        "calibration": calibration_figure(scores.calibration, error),
    }
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png")
    save(_some_answers(judgement), folder / "val_batch0_pred.png")


def metrics_of(scores: Scores, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The content of metrics.json: flat numbers, null where one is not defined, and "intervals" by name."""
    own = {one.name: one.value for one in scores.overall}
    own |= {"chance": scores.chance, "largest_class": scores.largest_class}
    flat = {**facts, **{name: value for name, value in own.items() if name not in facts}}
    intervals = {
        one.name: {"low": _finite(one.low), "high": _finite(one.high), "how": one.interval}
        for one in scores.overall
        if one.interval and math.isclose(flat[one.name], one.value, rel_tol=0, abs_tol=1e-6)
    }
    return {name: _finite(value) for name, value in flat.items()} | {"intervals": intervals}


def _finite(value: Any) -> Any:
    """null where a number is none."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _some_answers(judgement: Judgement) -> np.ndarray:
    """Spread evenly over the images: the first ones would all be of one class where they lie in folders."""
    positions = np.unique(np.linspace(0, len(judgement) - 1, min(MAX_IMAGES, len(judgement))).round().astype(int))
    images = [judgement.image_of(int(position)) for position in positions]
    predicted, true = judgement.predicted_N[positions].tolist(), judgement.true_N[positions].tolist()
    return draw_answers(images, predicted, true, judgement.classes)
