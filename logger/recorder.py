"""Everything that an epoch leaves behind, behind one door: a row, events, and the picture of the curves."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from logger.figures import draw_confusion
from logger.history import History
from logger.pictures import MAX_IMAGES, draw_answers, draw_batch, save
from logger.run_dir import RunDir
from logger.visualization import EventWriter, NoEvents, TensorboardWriter, draw_results


@dataclass(frozen=True)
class EpochRecord:
    """The figures of one epoch.

    Args:
        epoch: counted from 1.
        time_s: training and validation together.
        lr: of the first parameter group while the epoch was trained.
        images_per_s: of training.
        train, val: scores by name; `val` is empty without validation.
    """

    epoch: int
    time_s: float
    lr: float
    images_per_s: float
    train: dict[str, float]
    val: dict[str, float]


class Judged(Protocol):
    """What pictures show of a validation; an Evaluation of trainer/evaluate.py."""

    @property
    def true_N(self) -> torch.Tensor: ...
    @property
    def predicted_N(self) -> torch.Tensor: ...
    @property
    def confusion_KK(self) -> torch.Tensor: ...
    @property
    def first_NCHW(self) -> torch.Tensor: ...


class Recorder:
    """Writes results.csv, pictures and TensorBoard events of a run.

    Args:
        run: the run's folders.
        tensorboard: whether to write events.
        rows: of the epochs that a continued run has done; what is on record after them is cut back.
    """

    def __init__(self, run: RunDir, *, tensorboard: bool, rows: Sequence[Mapping[str, float]] = ()):
        self.run = run
        self.history = History(run.log / "results.csv", rows)
        epochs_done = int(rows[-1]["epoch"]) if rows else 0
        self.best_epoch: int | None = None
        self.next_drawing_s = 0.0
        self.is_drawn = True
        self.judged: tuple[int, Judged, Sequence[str]] | None = None  # the newest that is not drawn yet
        self.has_events = tensorboard
        self.events: EventWriter = TensorboardWriter(run.log, epochs_done) if tensorboard else NoEvents()

    def write(self, record: EpochRecord, best_epoch: int | None) -> None:
        """Adds an epoch."""
        row = {"epoch": record.epoch, "time_s": round(record.time_s, 3), "lr": record.lr}
        row |= {f"train/{name}": value for name, value in record.train.items()}
        row |= {f"val/{name}": value for name, value in record.val.items()}
        self.history.append(row)
        speed = {"lr": record.lr, "images_per_s": record.images_per_s}
        self.events.scalars("train", record.train | speed, record.epoch)
        self.events.scalars("valid", record.val, record.epoch)
        self.events.flush()
        self.best_epoch, self.is_drawn = best_epoch, False
        if time.monotonic() >= self.next_drawing_s:
            self._draw()

    def _draw(self) -> None:
        """Draws what is new; where epochs are short not after each, so that drawing takes a twentieth of the time."""
        started_s = time.monotonic()
        draw_results(self.history.frame, self.run.log / "results.png", self.best_epoch)
        if self.judged is not None:
            epoch, judged, classes = self.judged
            self.events.picture("valid", "confusion_matrix", _confusion(judged, classes, f"epoch {epoch}"), epoch)
            self.events.picture("valid", "predictions", _answers(judged, classes), epoch)
            self.judged = None
        self.next_drawing_s = time.monotonic() + 20 * (time.monotonic() - started_s)
        self.is_drawn = True

    def train_batch(self, images_NCHW: torch.Tensor, targets: torch.Tensor, classes: Sequence[str]) -> None:
        """Shows the first images of training in train_batch0.png, as the network gets them.

        Args:
            images_NCHW: uint8, or floats.
            targets: class indices (N,), or shares of the classes (N, K).
            classes: names.
        """
        shown = draw_batch(images_NCHW[:MAX_IMAGES], targets[:MAX_IMAGES], classes)
        save(shown, self.run.log / "train_batch0.png")
        self.events.picture("train", "images", shown, 0)

    def validation(self, epoch: int, judged: Judged, classes: Sequence[str]) -> None:
        """Takes in a validation, whose pictures are drawn with the curves; nothing is drawn without TensorBoard."""
        self.judged = (epoch, judged, classes) if self.has_events else None

    def last_validation(self, judged: Judged, classes: Sequence[str]) -> None:
        """Shows the first validation images and what the best checkpoint takes them for, in val_batch0_pred.png."""
        save(_answers(judged, classes), self.run.log / "val_batch0_pred.png")

    def finish(self, settings: dict[str, Any], scores: dict[str, float]) -> None:
        """Records what was set and what came of it."""
        self.events.hyperparameters(settings, {name: value for name, value in scores.items() if "/" in name})

    def close(self) -> None:
        """Draws what is not drawn yet and closes the events; also after an interrupt."""
        if not self.is_drawn:
            self._draw()
        self.events.close()


def _answers(judged: Judged, classes: Sequence[str]) -> np.ndarray:
    """The first images with what they were taken for; wrong answers in red."""
    count = len(judged.first_NCHW)
    predicted, true = judged.predicted_N[:count].tolist(), judged.true_N[:count].tolist()
    return draw_answers(judged.first_NCHW, predicted, true, classes)


def _confusion(judged: Judged, classes: Sequence[str], title: str) -> np.ndarray:
    accuracy = float((judged.true_N == judged.predicted_N).double().mean())
    return draw_confusion(judged.confusion_KK.numpy(), classes, f"{title}, accuracy {accuracy:.4g}")
