"""results.csv: one row an epoch, one history a run, however often it was continued."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from utils.errors import OutputError


class History:
    """The rows so far, in memory and on disk.

    Args:
        path: of results.csv.
        rows: of the epochs that are done, out of the checkpoint that is continued; what the file has is replaced.

    Raises:
        OutputError: the file cannot be written.
    """

    def __init__(self, path: Path, rows: Sequence[Mapping[str, float]] = ()):
        import pandas as pd  # here, because a config with a mistake need not wait for it

        self.path = path
        self.frame: Any = pd.DataFrame(list(rows))
        if rows:
            self._write()
        else:
            path.unlink(missing_ok=True)

    def append(self, row: dict[str, float]) -> None:
        """Adds an epoch's row, and writes the file anew beside the old one before taking its place.

        Raises:
            OutputError: it cannot be written.
        """
        import pandas as pd

        self.frame = pd.concat([self.frame, pd.DataFrame([row])], ignore_index=True)
        self._write()

    def _write(self) -> None:
        """Not forced to the disk: a checkpoint, which is, holds all rows."""
        aside = self.path.with_name(f".{self.path.name}.tmp")
        try:
            self.frame.to_csv(aside, index=False)
            os.replace(aside, self.path)
        except OSError as error:
            raise OutputError(f"{self.path}: cannot write ({error.strerror})") from error

    def rows(self, without: Sequence[str] = ()) -> list[dict[str, float]]:
        """Plain data, for a checkpoint.

        Args:
            without: columns to leave out.
        """
        return self.frame.drop(columns=list(without), errors="ignore").to_dict("records")

    def last_row(self, epoch: int | None = None) -> dict[str, float]:
        """The row of an epoch, or the last one where it has none: a copied checkpoint leaves its rows behind."""
        rows = self.frame[self.frame["epoch"] == epoch]
        return (rows if len(rows) else self.frame).iloc[-1].dropna().to_dict()
