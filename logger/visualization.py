"""Pictures of a run: TensorBoard events and results.png. The libraries are slow to import and are where they are used.

TensorBoard gets two sub-runs, train/ and valid/, with equal tags, so that their curves lie over each other.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


class EventWriter(Protocol):
    """What the recorder needs of a writer; `NoEvents` is the one that writes nothing."""

    def scalars(self, part: str, values: dict[str, float], epoch: int) -> None: ...
    def picture(self, part: str, tag: str, picture_HW3: np.ndarray, epoch: int) -> None: ...
    def hyperparameters(self, settings: dict[str, Any], scores: dict[str, float]) -> None: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...


class NoEvents:
    """Takes everything and writes nothing."""

    def scalars(self, part: str, values: dict[str, float], epoch: int) -> None:
        """Nothing."""

    def picture(self, part: str, tag: str, picture_HW3: np.ndarray, epoch: int) -> None:
        """Nothing."""

    def hyperparameters(self, settings: dict[str, Any], scores: dict[str, float]) -> None:
        """Nothing."""

    def flush(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class TensorboardWriter:
    """Writes events below `log_dir`.

    Args:
        log_dir: of the run.
        epochs_done: events of later epochs, left by a run that is now continued from before them, are hidden.
    """

    def __init__(self, log_dir: Path, epochs_done: int = 0):
        from torch.utils.tensorboard import SummaryWriter  # 0.5 to 1 s, and some runs want no TensorBoard

        purge_step = epochs_done + 1  # also in the first epoch, which a process may have ended before it was saved
        self.log_dir = log_dir
        self.writers = {part: SummaryWriter(str(log_dir / part), purge_step=purge_step) for part in ("train", "valid")}
        self.make_writer = SummaryWriter

    def scalars(self, part: str, values: dict[str, float], epoch: int) -> None:
        """One value a tag; the part is "train" or "valid"."""
        for tag, value in values.items():
            self.writers[part].add_scalar(tag, value, epoch)

    def picture(self, part: str, tag: str, picture_HW3: np.ndarray, epoch: int) -> None:
        """A finished picture, uint8; the part is "train" or "valid"."""
        self.writers[part].add_image(tag, picture_HW3, epoch, dataformats="HWC")

    def hyperparameters(self, settings: dict[str, Any], scores: dict[str, float]) -> None:
        """Settings and final scores for the page that compares runs."""
        plain = _flat(settings)
        with self.make_writer(str(self.log_dir)) as writer:
            writer.add_hparams(plain, {f"hparam/{name}": value for name, value in scores.items()}, run_name=".")

    def flush(self) -> None:
        """Puts what was written on the disk."""
        for writer in self.writers.values():
            writer.flush()

    def close(self) -> None:
        """Flushes and closes."""
        for writer in self.writers.values():
            writer.close()


def _flat(settings: Any, path: str = "") -> dict[str, bool | int | float | str]:
    """Nested settings as "optimizer.args.lr": 0.1; lists as text."""
    if isinstance(settings, dict):
        return {key: value for name, inner in settings.items() for key, value in _flat(inner, f"{path}.{name}").items()}
    value = settings if isinstance(settings, bool | int | float | str) else str(settings)
    return {path.removeprefix("."): value}


def draw_results(frame: pd.DataFrame, path: Path, best_epoch: int | None) -> None:
    """Draws loss, metrics and learning rate over the epochs, training and validation in one panel each.

    Args:
        frame: the rows of results.csv.
        path: of the PNG.
        best_epoch: is marked, where there is one.
    """
    from matplotlib.figure import Figure  # 0.5 s; the object-oriented way keeps no global state
    from matplotlib.ticker import MaxNLocator

    names = [column.removeprefix("train/") for column in frame.columns if column.startswith("train/")]
    panels = [*names, "lr"]
    width, height = 4.2 * len(panels), 3.4
    figure = Figure(figsize=(width, height))
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    # Margins in inches; to have them found ("constrained" layout) takes as long as the drawing itself.
    figure.subplots_adjust(0.6 / width, 0.5 / height, 1 - 0.15 / width, 1 - 0.35 / height, wspace=0.22)
    for axis, name in zip(axes, panels, strict=True):
        columns = (
            [("lr", "lr", "o-")] if name == "lr" else [(f"train/{name}", "train", "o-"), (f"val/{name}", "val", "s-")]
        )
        for column, label, style in columns:
            if column in frame.columns:
                axis.plot(frame["epoch"], frame[column], style, label=label, markersize=3, linewidth=1.4)
        if best_epoch is not None:
            axis.axvline(best_epoch, color="0.6", linestyle=":", linewidth=1, label="best" if name != "lr" else None)
        axis.set_title("learning rate" if name == "lr" else name)
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.25)
        if name != "lr":
            axis.legend()
    figure.savefig(path, dpi=110)
