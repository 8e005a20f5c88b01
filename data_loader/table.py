"""Reads a table of images: a CSV file with a column of paths, one of labels, and perhaps one that names the part."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from data_loader.folder import VALIDATION_NAMES, FileRules, bad_images, compare_classes, without_bad_images
from data_loader.parts import Parts
from data_loader.paths import PathList
from utils.errors import DataError, some

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Columns:
    """The names of a table's columns; a table without the `split` column is one training part."""

    path: str = "path"
    label: str = "label"
    split: str = "split"


def read_table(csv_file: Path, image_dir: Path, columns: Columns, rules: FileRules, *, training: bool) -> Parts:
    """Reads the parts that a table names.

    Args:
        csv_file: with a header line.
        image_dir: paths in the table are relative to it.
        columns: what the columns are called.
        rules: see `FileRules`.
        training: all parts are wanted; otherwise only the one that a test would use.

    Raises:
        DataError: no such file or column, a row without a label, an unknown part, images that are missing or bad.
    """
    table = _read_csv(csv_file, columns)
    rows = table.groupby(_part_of_rows(csv_file, table, columns), sort=False)
    frames = dict(iter(rows))
    order = ("train", "validation", "test") if training else ("test", "validation", "train")
    wanted = [name for name in order if name in frames]
    parts = Parts(name=str(csv_file))
    for name in wanted if training else wanted[:1]:
        frame = frames[name]
        labels = frame[columns.label].tolist()
        found = sorted(set(labels))
        classes = rules.classes or (parts.train.classes if parts.train else found)
        where = parts.folders[name] = f"{csv_file} ({name})"
        compare_classes(where, found, classes, exact=training and name != "train", notes=parts.notes)
        paths = PathList.of(str(image_dir / path) for path in frame[columns.path])
        index_of = {label: index for index, label in enumerate(classes)}
        targets = torch.tensor([index_of[label] for label in labels])
        setattr(parts, name, without_bad_images(paths, targets, classes, rules, parts.notes, bad_images(paths)))
    return parts


def _read_csv(csv_file: Path, columns: Columns) -> "pd.DataFrame":
    """The table as text, with the columns that must be there; a label such as "NA" or "007" stays what it is."""
    import pandas as pd  # here, because only this loader needs it

    if csv_file.exists() and not csv_file.is_file():  # to read a pipe would wait for ever
        raise DataError(f"{csv_file}: is no file (csv_file)")
    try:
        # Blank lines are dropped below, so that a row's number tells its line.
        table = pd.read_csv(csv_file, dtype=str, keep_default_na=False, encoding="utf-8-sig", skip_blank_lines=False)
    except FileNotFoundError:
        raise DataError(f"{csv_file}: no such file (csv_file)") from None
    except (OSError, ValueError, pd.errors.ParserError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(f"{csv_file}: not a readable CSV file ({reason})") from None
    if not isinstance(table.index, pd.RangeIndex):  # pandas takes a nameless first column for row labels
        raise DataError(f"{csv_file}: its rows have more values than the first line has names ({len(table.columns)})")
    table = table[(table != "").any(axis=1)]
    for column in (columns.path, columns.label):
        if column not in table.columns:
            hint = " (columns are separated by commas)" if len(table.columns) == 1 else ""
            raise DataError(f"{csv_file}: no column '{column}'; it has {some(list(table.columns), 10)}{hint}")
        empty = table.index[table[column].str.strip() == ""]
        if len(empty):
            raise DataError(f"{csv_file}:{empty[0] + 2}: '{column}' is empty ({len(empty)} such rows)")
    if table.empty:
        raise DataError(f"{csv_file}: no rows")
    return table


def _part_of_rows(csv_file: Path, table: "pd.DataFrame", columns: Columns) -> "pd.Series":
    """The part that each row belongs to: train, validation or test."""
    if columns.split not in table.columns:
        alike = [name for name in table.columns if name.casefold() == columns.split.casefold()]
        if alike or columns.split != Columns().split:
            hint = f"; did you mean '{alike[0]}'" if alike else f"; it has {some(list(table.columns), 10)}"
            raise DataError(f"{csv_file}: no column '{columns.split}'{hint}")
        return table[columns.path].map(lambda path: "train")
    known = {"train": "train", "test": "test", **dict.fromkeys(VALIDATION_NAMES, "validation")}
    parts = table[columns.split].str.strip().str.lower().map(known)
    unknown = table.index[parts.isna()]
    if len(unknown):
        value = table[columns.split][unknown[0]]
        raise DataError(f"{csv_file}:{unknown[0] + 2}: '{value}' is not a part; use train, val or test")
    return parts
