"""Everything that an epoch leaves behind, behind one door: a row, events, and the picture of the curves."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from logger.history import History
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


class Recorder:
    """Writes results.csv, results.png and TensorBoard events of a run.

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
        """Draws the curves; where epochs are short not after each, so that drawing takes a twentieth of the time."""
        started_s = time.monotonic()
        draw_results(self.history.frame, self.run.log / "results.png", self.best_epoch)
        self.next_drawing_s = time.monotonic() + 20 * (time.monotonic() - started_s)
        self.is_drawn = True

    def images(self, part: str, images_NCHW: torch.Tensor) -> None:
        """Shows a first batch; the part is "train" or "valid"."""
        self.events.images(part, images_NCHW, 0)

    def finish(self, settings: dict[str, Any], scores: dict[str, float]) -> None:
        """Records what was set and what came of it."""
        self.events.hyperparameters(settings, {name: value for name, value in scores.items() if "/" in name})

    def close(self) -> None:
        """Draws what is not drawn yet and closes the events; also after an interrupt."""
        if not self.is_drawn:
            self._draw()
        self.events.close()
