"""The confusion matrix for the page: coloured cells where the classes are few, and the images behind every cell."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from logger.judgement import Judgement
from logger.report.text import limited, written_out

MAX_TABLE_CLASSES = 40  # more are drawn as points, and read in the list of pairs
LEVELS = 10  # of colour
NAMES_OF_WRONG, NAMES_OF_RIGHT = 24, 8  # a cell
MAX_NAME = 120  # characters
MAX_NAMES_BYTES = 2_000_000  # of all cells


@dataclass(frozen=True)
class Cell:
    """One cell of the table: `level` 0 to 10 of colour, `share` of the row in words."""

    count: int
    level: int
    share: str


@dataclass(frozen=True)
class Behind:
    """The images behind a cell that is not empty, the most telling first: mistakes that it was surest of, and right
    answers that it was least sure of."""

    true: int
    predicted: int
    positions: np.ndarray

    @property
    def is_right(self) -> bool:
        """Whether it lies on the diagonal."""
        return self.true == self.predicted


def table_of(confusion_KK: np.ndarray) -> list[list[Cell]]:
    """Rows of cells; the colour grows with the root of the share of the row, so that few mistakes are seen too."""
    rows = []
    for counts_K in confusion_KK:
        total = int(counts_K.sum())
        shares = [int(count) / total if total else 0.0 for count in counts_K]
        rows.append(
            [
                Cell(int(count), min(LEVELS, int(np.ceil(LEVELS * share**0.5))), f"{100 * share:.3g}")
                for count, share in zip(counts_K, shares, strict=True)
            ]
        )
    return rows


def cells_behind(judgement: Judgement) -> list[Behind]:
    """Every cell that is not empty: mistakes first, the most frequent first, then the diagonal."""
    if not len(judgement):
        return []
    num_classes = len(judgement.classes)
    true_N, predicted_N = judgement.true_N, judgement.predicted_N
    code_N = true_N * num_classes + predicted_N
    telling_N = np.where(true_N == predicted_N, judgement.confidence_N, -judgement.confidence_N)
    order_N = np.lexsort((telling_N, code_N))  # stable: of equal ones the first image comes first
    starts = np.flatnonzero(np.diff(code_N[order_N], prepend=-1))
    cells = [Behind(*divmod(int(code_N[group[0]]), num_classes), group) for group in np.split(order_N, starts[1:])]
    return sorted(cells, key=lambda cell: (cell.is_right, -len(cell.positions), cell.true, cell.predicted))


def worst(judgement: Judgement, count: int) -> list[int]:
    """Positions of the mistakes that the network was surest of, the worst first.

    Where it made none, those of the right answers that it was least sure of.
    """
    mistakes = judgement.most_confident_mistakes(count)
    return [int(at) for at in mistakes] or np.argsort(judgement.confidence_N, kind="stable")[:count].tolist()


def in_turns(cells: list[Behind], each: int) -> Iterator[int]:
    """Positions in the order in which they deserve a picture: the first of every cell, then the second ..."""
    for turn in range(each):
        yield from (int(cell.positions[turn]) for cell in cells if turn < len(cell.positions))


def named(judgement: Judgement, cells: list[Behind]) -> tuple[str, list[list[object]]]:
    """The folder that all names begin with, and for each cell [true, predicted, count, [[position, name, confidence]]].

    Names go on until MAX_NAMES_BYTES are used; the count still tells how many images there are.
    """
    listed = [cell.positions[: NAMES_OF_RIGHT if cell.is_right else NAMES_OF_WRONG].tolist() for cell in cells]
    names, num_bytes = {}, 0
    for position in (position for positions in listed for position in positions):
        name = written_out(judgement.name_of(position))
        num_bytes += min(len(json.dumps(name)), 6 * MAX_NAME) + 24
        if num_bytes > MAX_NAMES_BYTES:
            break
        names[position] = name
    folder = common_folder(list(names.values()))
    rows: list[list[object]] = []
    for cell, positions in zip(cells, listed, strict=True):
        images = [
            [at, limited(names[at][len(folder) :], MAX_NAME), round(float(judgement.confidence_N[at]), 4)]
            for at in positions
            if at in names
        ]
        rows.append([cell.true, cell.predicted, len(cell.positions), images])
    return folder, rows


def common_folder(names: list[str]) -> str:
    """What all names begin with, up to its last slash."""
    if not names:
        return ""
    first, last = min(names), max(names)
    length = next(
        (at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last))
    )
    return first[: first.rfind("/", 0, length) + 1]
