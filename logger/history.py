"""results.csv: one row an epoch, one history a run, however often it was continued."""

import os
from pathlib import Path
from typing import Any

from utils.errors import OutputError


class History:
    """The rows so far, in memory and on disk.

    Args:
        path: of results.csv.
        epochs_done: rows of later epochs are cut off: they will be trained again.
    """

    def __init__(self, path: Path, epochs_done: int = 0):
        import pandas as pd  # here, because a config with a mistake need not wait for it

        self.path = path
        self.frame: Any = pd.DataFrame()
        if path.exists():
            try:
                # Through text, because pandas 2 reads every third number with another last digit.
                rows = pd.read_csv(path, dtype=str).astype(float)
                self.frame = rows[rows["epoch"] <= epochs_done].reset_index(drop=True).astype({"epoch": int})
            except (ValueError, KeyError) as error:
                raise OutputError(f"{path}: not a results.csv that can be continued; move it away") from error

    def append(self, row: dict[str, float]) -> None:
        """Adds an epoch's row, and writes the file anew beside the old one before taking its place.

        Raises:
            OutputError: it cannot be written.
        """
        import pandas as pd

        self.frame = pd.concat([self.frame, pd.DataFrame([row])], ignore_index=True)
        aside = self.path.with_name(f".{self.path.name}.tmp")
        try:
            self.frame.to_csv(aside, index=False)
            os.replace(aside, self.path)
        except OSError as error:
            raise OutputError(f"{self.path}: cannot write ({error.strerror})") from error

    def last_row(self, epoch: int | None = None) -> dict[str, float]:
        """The row of an epoch, or the last one where it has none: a copied checkpoint leaves its rows behind."""
        rows = self.frame[self.frame["epoch"] == epoch]
        return (rows if len(rows) else self.frame).iloc[-1].dropna().to_dict()
