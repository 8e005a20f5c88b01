"""`test.py --calibrate`: one number, the temperature, that makes probabilities mean what they say.

It is fitted on the validation part, never on test images, and divides the network's scores before they become
probabilities. No predicted class changes.

Source: Guo et al., "On Calibration of Modern Neural Networks" (2017), arXiv 1706.04599, section 4.2.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from base.base_data_loader import BaseDataLoader
from logger.calibration import Calibration
from logger.judgement import Judgement
from logger.predictions import Predictions
from parse_config import ConfigParser
from utils.checkpoint import save_checkpoint
from utils.errors import DataError
from wiring.judged import judgement_of
from wiring.trained import Trained

LOWEST, HIGHEST = 0.02, 50.0
SUFFIX = "-calibrated"
_BLOCK = 4096  # images whose scores are looked at together


@dataclass(frozen=True)
class Fitted:
    """What came of it: the calibrated network, its file, how many images it was fitted on, and their error."""

    trained: Trained
    file: Path
    num_images: int
    error_before: float
    error_after: float
    names: frozenset[str]


def open_validation_part(config: ConfigParser) -> BaseDataLoader:
    """The images that the training held back, seen as evaluation sees them.

    Raises:
        DataError: there are none, or they cannot be told from the images that were trained on.
    """
    plan, checkpoint = config.plans["data_loader"], config.checkpoint or {"classes": [], "input": {}}
    before = dict(plan.args)
    if plan.takes("cache"):
        plan.args["cache"] = "off"  # each image is read once
    training = config.init_obj("data_loader", seed=config["seed"])
    plan.args.clear()
    plan.args.update(before)
    loader = training.split_validation()
    if loader is None:
        raise DataError(
            f"{plan.type_name}: --calibrate fits on validation images, and this data has none "
            f"(data_loader.args.validation_split is 0, and there is no folder of them)"
        )
    if training.held_back() != checkpoint["input"].get("held_back"):
        raise DataError(
            f"{plan.type_name}: the images are not those of the training any more, so --calibrate cannot tell the part "
            f"that was held back from the part that was trained on"
        )
    if loader.classes != checkpoint["classes"]:
        raise DataError(f"{plan.type_name}: classes {loader.classes} are not the checkpoint's {checkpoint['classes']}")
    return loader


def calibrate(trained: Trained, file: Path, loader: BaseDataLoader, show: Callable[[Predictions], None]) -> Fitted:
    """Fits the temperature and writes a copy of the checkpoint that has it, beside the file.

    Args:
        trained: from the file.
        file: the checkpoint.
        loader: of the validation part.
        show: evaluates the network on the loader, and shows all scores to what it is given.

    Raises:
        DataError: no temperature is the best one.
        OutputError: the copy cannot be written.
    """
    predictions = Predictions(loader.classes)
    show(predictions)
    before = judgement_of(predictions, loader, trained.temperature)
    warmth = fit_temperature(*predictions.scores())
    after = judgement_of(predictions, loader, warmth)
    file = file.resolve()
    copy = file.with_name(f"{file.stem.removesuffix(SUFFIX)}{SUFFIX}{file.suffix}")
    checkpoint = {**trained.checkpoint, "temperature": warmth}
    save_checkpoint(copy, checkpoint)
    names = frozenset(before.name_of(position) for position in range(len(before)))
    return Fitted(replace(trained, checkpoint=checkpoint), copy, len(before), error_of(before), error_of(after), names)


def error_of(judgement: Judgement) -> float:
    """Expected calibration error."""
    return Calibration(judgement.confidence_N, judgement.predicted_N == judgement.true_N).error()


def fit_temperature(logits_NK: torch.Tensor, targets_N: torch.Tensor) -> float:
    """The temperature with the smallest mean cross-entropy of softmax(logits / temperature).

    That is convex in the inverse of the temperature, so the place where its slope is 0 is found by Newton's method,
    within bounds that each step makes narrower.

    Args:
        logits_NK: finite but for minus infinity, which rules a class out.
        targets_N: class indices.

    Raises:
        DataError: it would be below 0.02 or above 50, as where every image is classified rightly.
    """
    low, high, inverse = 1 / HIGHEST, 1 / LOWEST, 1.0
    if _slope(logits_NK, targets_N, high)[0] < 0 or _slope(logits_NK, targets_N, low)[0] > 0:
        right = int((logits_NK.argmax(1) == targets_N).sum())
        raise DataError(
            f"--calibrate: no temperature between {LOWEST} and {HIGHEST:g} fits best ({right} of {len(targets_N)} "
            f"validation images are right); more or other validation images would have to tell"
        )
    for _ in range(100):
        slope, bend = _slope(logits_NK, targets_N, inverse)
        low, high = (inverse, high) if slope < 0 else (low, inverse)
        step = inverse - slope / bend if bend > 0 else low
        before, inverse = inverse, step if low < step < high else (low * high) ** 0.5
        if abs(inverse - before) < 1e-10 * before:
            break
    return 1 / inverse


def _slope(logits_NK: torch.Tensor, targets_N: torch.Tensor, inverse: float) -> tuple[float, float]:
    """Of the mean cross-entropy by the inverse of the temperature: the first and the second derivative."""
    slope = bend = 0.0
    for logits, targets in zip(logits_NK.split(_BLOCK), targets_N.split(_BLOCK), strict=True):
        shifted_NK = logits.double() - logits.double().amax(1, keepdim=True)
        probability_NK = (inverse * shifted_NK).softmax(1)
        finite_NK = shifted_NK.clamp(min=-1e100)  # minus infinity times a probability of 0 is 0
        mean_N = (probability_NK * finite_NK).sum(1)
        slope += float((mean_N - finite_NK.gather(1, targets[:, None])[:, 0]).sum())
        bend += float((probability_NK * (finite_NK - mean_N[:, None]).square()).sum())
    return slope / len(targets_N), bend / len(targets_N)
