"""results.csv: one row an epoch, one history a run, however often it was continued."""

import os
from pathlib import Path

import pandas as pd

from utils.errors import OutputError


class History:
    """The rows so far, in memory and on disk.

    Args:
        path: of results.csv.
        epochs_done: rows of later epochs are cut off: they will be trained again.
    """

    def __init__(self, path: Path, epochs_done: int = 0):
        self.path = path
        self.frame = pd.DataFrame()
        if path.exists():
            try:
                self.frame = pd.read_csv(path)
                self.frame = self.frame[self.frame["epoch"] <= epochs_done].reset_index(drop=True)
            except (ValueError, KeyError) as error:
                raise OutputError(f"{path}: not a results.csv that can be continued; move it away") from error

    def append(self, row: dict[str, float]) -> None:
        """Adds an epoch's row, and writes the file anew beside the old one before taking its place."""
        self.frame = pd.concat([self.frame, pd.DataFrame([row])], ignore_index=True)
        aside = self.path.with_name(f".{self.path.name}.tmp")
        self.frame.to_csv(aside, index=False)
        os.replace(aside, self.path)

    def last_row(self, epoch: int | None = None) -> dict[str, float]:
        """The row of an epoch, or the last one."""
        rows = self.frame if epoch is None else self.frame[self.frame["epoch"] == epoch]
        return rows.iloc[-1].dropna().to_dict()
