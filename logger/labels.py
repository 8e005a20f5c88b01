"""Class names as pictures show them: on one line, not too long, in letters that can be drawn."""

from collections.abc import Sequence

import torch

from logger.glyphs import drawable
from utils.text import printable, shortened

TITLE_COLUMNS = 14  # above an image
MISSING = "#N is class N, counted from 0: no font here has all letters of its name"


def label_of(classes: Sequence[str], index: int, max_columns: int) -> str:
    """The name of a class, or "#3" and what is left of it where no font here has all of its letters.

    Args:
        classes: names.
        index: in them; of another the number is the name.
        max_columns: what is longer loses its middle.
    """
    if not 0 <= index < len(classes):
        return str(index)
    name = _on_one_line(classes[index])
    text = drawable(name)
    if text == name:
        return shortened(name, max_columns)
    return f"#{index} {shortened(text, max_columns)}" if any(map(str.isalnum, text)) else f"#{index}"


def remark_on(classes: Sequence[str]) -> str:
    """What "#3" means, where a label of these classes may begin so; otherwise nothing."""
    return MISSING if any(drawable(name) != name for name in map(_on_one_line, classes)) else ""


def class_titles(targets: torch.Tensor, classes: Sequence[str]) -> list[str]:
    """What an image is: its class, or the two largest shares of classes where images are mixed.

    Args:
        targets: class indices (N,), or the shares of the classes (N, K).
        classes: names.
    """
    if not targets.is_floating_point():
        return [label_of(classes, index, TITLE_COLUMNS) for index in targets.tolist()]
    titles = []
    for shares in targets.cpu():
        two = shares.argsort(descending=True, stable=True)[:2].tolist()
        parts = [(float(shares[index]), label_of(classes, index, TITLE_COLUMNS)) for index in two]
        mixed = [f"{share:.2f} {label}" for share, label in parts if share >= 0.005]
        titles.append("\n".join(mixed) if len(mixed) > 1 else parts[0][1])
    return titles


def answer_titles(predicted: Sequence[int], true: Sequence[int], classes: Sequence[str]) -> list[str]:
    """What each image was taken for, and in a second line what it is where that is something else."""
    titles = []
    for answer, truth in zip(predicted, true, strict=True):
        said, own = (label_of(classes, index, TITLE_COLUMNS) for index in (answer, truth))
        titles.append(said if answer == truth else f"{said}\nis {own}")
    return titles


def _on_one_line(name: str) -> str:
    return printable(" ".join(name.split()))
