"""The screen of a test: a few short tables, aligned also where class names are Korean, Chinese or Japanese."""

import shutil
from collections.abc import Mapping, Sequence

import numpy as np

from logger.judgement import Judgement, Score, Scores
from utils.errors import some
from utils.text import columns_of, printable, shortened

MAX_CLASSES, NUM_CONFUSED, NUM_MISTAKES, NUM_NEVER = 20, 8, 5, 10
_GAP = 2
_NAME_COLUMNS, _SHORT_NAME_COLUMNS = 26, 16  # of a class name, at most


def screen(judgement: Judgement, scores: Scores, others: Mapping[str, float]) -> str:
    """Everything that the screen says of a test, as lines that fit the terminal, or 80 columns where there is none.

    Args:
        judgement: of the images.
        scores: of the judgement.
        others: further scores by name, such as the loss and the config's metrics.
    """
    width = max(60, shutil.get_terminal_size().columns)
    parts = [_overall(scores, others), _against_chance(judgement, scores), _per_class(scores)]
    parts += [_confused(judgement, scores), _mistakes(judgement, width), _never_predicted(judgement, scores, width)]
    return "\n\n".join(part for part in parts if part)


def table(rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> str:
    """Rows of cells, the first row being the heads, each column as wide as its widest cell.

    Args:
        rows: all of one length.
        left: the columns whose texts begin at the same place; numbers end at the same place.
    """
    widths = [max(map(columns_of, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = []
        for place, (cell, width) in enumerate(zip(row, widths, strict=True)):
            space = " " * (width - columns_of(cell))
            cells.append(cell + space if place in left else space + cell)
        lines.append((" " * _GAP).join(cells).rstrip())
    return "\n".join(lines)


def _overall(scores: Scores, others: Mapping[str, float]) -> str:
    rows = [("score", "value", "95 % interval", "")]
    rows += [(one.name, _number(one.value), _interval(one), one.interval) for one in scores.overall]
    same = {one.name: _number(one.value) for one in scores.overall}
    rows += [(name, _number(value), "", "") for name, value in others.items() if same.get(name) != _number(value)]
    return table(rows, left=(0, 2, 3))


def _interval(score: Score) -> str:
    if score.low is None or score.high is None:
        return ""
    return f"{_number(score.low)} to {_number(score.high)}"


def _against_chance(judgement: Judgement, scores: Scores) -> str:
    """What the accuracy must be held against."""
    true_K = scores.confusion_KK.sum(1)
    largest = _name(judgement.classes[int(true_K.argmax())])
    accuracy = next(one for one in scores.overall if one.name == "accuracy")
    rows = [
        ("accuracy", "of"),
        (_number(accuracy.value), "this network"),
        (_number(scores.largest_class), f"always saying {largest}, the largest class"),
        (_number(scores.chance), f"guessing among {len(judgement.classes)} classes"),
    ]
    return table(rows, left=(1,))


def _per_class(scores: Scores) -> str:
    """All classes, or where they are many, the worst by F1 of those that have images."""
    frame, title = scores.per_class, ""
    if len(frame) > MAX_CLASSES:
        there = frame[frame["support"] > 0].sort_values(
            ["f1", "recall", "support"], ascending=[True, True, False], kind="stable"
        )
        frame = there.head(MAX_CLASSES)
        title = f"the {len(frame)} classes with the lowest F1, of {len(scores.per_class)} (all are in per_class.csv)\n"
    rows: list[tuple[str, ...]] = [("class", "images", "predicted", "precision", "recall", "F1", "AUROC")]
    for row in frame.itertuples(index=False):
        numbers = [_number(value) for value in (row.precision, row.recall, row.f1, row.auroc)]
        rows.append((_name(str(row[0])), f"{row.support:,}", f"{row.predicted:,}", *numbers))
    return title + table(rows)


def _confused(judgement: Judgement, scores: Scores) -> str:
    if not scores.confused:
        return ""
    true_K = scores.confusion_KK.sum(1)
    rows = [("images", "of the class", "true", "predicted")]
    for true, predicted, count in scores.confused[:NUM_CONFUSED]:
        names = _name(judgement.classes[true]), _name(judgement.classes[predicted])
        rows.append((f"{count:,}", f"{100 * count / true_K[true]:.1f} %", *names))
    return "most confused\n" + table(rows, left=(2, 3))


def _mistakes(judgement: Judgement, width: int) -> str:
    """The wrong ones with the highest confidence; paths lose their middle where the line is too short."""
    positions = judgement.most_confident_mistakes(NUM_MISTAKES).tolist()
    if not positions:
        return ""
    rows: list[tuple[str, ...]] = [("confidence", "true", "predicted")]
    for position in positions:
        true, predicted = (judgement.classes[which[position]] for which in (judgement.true_N, judgement.predicted_N))
        confidence = _number(float(judgement.confidence_N[position]))
        rows.append((confidence, _name(true, _SHORT_NAME_COLUMNS), _name(predicted, _SHORT_NAME_COLUMNS)))
    room = width - max(map(columns_of, table(rows, left=(1, 2)).splitlines())) - _GAP
    paths = [shortened(printable(judgement.name_of(position)), room) for position in positions]
    rows = [(*row, path) for row, path in zip(rows, ["image", *paths], strict=True)]
    return "most confident mistakes\n" + table(rows, left=(1, 2, 3))


def _never_predicted(judgement: Judgement, scores: Scores, width: int) -> str:
    """One line, or nothing where every class that is there was predicted."""
    names = [_name(judgement.classes[index]) for index in scores.never_predicted]
    if not names:
        return ""
    return shortened(f"never predicted, {len(names)} of the classes: {some(names, NUM_NEVER)}", 3 * width)


def _name(name: str, max_columns: int = _NAME_COLUMNS) -> str:
    return shortened(printable(name), max_columns)


def _number(value: float) -> str:
    """Four digits after the point; a dash for what is not defined."""
    return "-" if np.isnan(value) else f"{value:.4f}"
