"""What a network said of pictures, written line by line as it comes: CSV, a JSON list, or one JSON object a line.

Numbers are written in full, as in test.py's predictions.csv. A file name that is not UTF-8 is written with its odd
bytes as `\\udcXX`, which is what JSON calls them and what Python reads back as the same name.
"""

import csv
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import IO, Any, Literal, NamedTuple

import torch

Format = Literal["csv", "json", "jsonl"]
FORMATS: tuple[Format, ...] = ("csv", "json", "jsonl")


class Said(NamedTuple):
    """Of one picture: its path and the best classes with their probabilities; or why there is nothing to say.

    Args:
        path: as it was named.
        classes: names, the most probable first; none where there is a problem.
        confidences: their probabilities.
        probabilities: of every class, where they are asked for.
        error: why the picture could not be read.
    """

    path: str
    classes: Sequence[str] = ()
    confidences: Sequence[float] = ()
    probabilities: Sequence[float] = ()
    error: str = ""


class Ranked(NamedTuple):
    """Of a batch: the best classes, their probabilities, and the probabilities of all classes, as lists."""

    best_Nk: list[list[int]]
    confidences_Nk: list[list[float]]
    probabilities_NK: list[list[float]]


def ranked(logits_NK: torch.Tensor, num_best: int, temperature: float = 1.0) -> Ranked:
    """Probabilities in double precision, computed as test.py does; of equal classes the first comes first.

    Args:
        logits_NK: raw scores or log-probabilities.
        num_best: k, at most K.
        temperature: by which scores are divided, see docs/decisions/0030.
    """
    if logits_NK.device.type == "mps":  # knows no double precision
        logits_NK = logits_NK.cpu()
    scores_NK = logits_NK.double()
    log_probabilities_NK = (scores_NK if temperature == 1 else scores_NK / temperature).log_softmax(1)
    order_Nk = log_probabilities_NK.sort(dim=1, descending=True, stable=True).indices[:, :num_best]
    probabilities_NK = log_probabilities_NK.exp()
    confidences_Nk = probabilities_NK.gather(1, order_Nk)
    # As test.py computes it: the last bit of an exponential can depend on how many are computed at once.
    confidences_Nk[:, 0] = log_probabilities_NK.max(1).values.exp()
    return Ranked(order_Nk.tolist(), confidences_Nk.tolist(), probabilities_NK.tolist())


class Rows(ABC):
    """Writes rows to a binary file as they come; with `close` the file is whole.

    Args:
        file: is flushed after each batch, and not closed.
        classes: names of all.
        num_best: classes that each picture has.
        with_all: whether it has all probabilities too.
    """

    def __init__(self, file: IO[bytes], classes: list[str], num_best: int, *, with_all: bool):
        self.file, self.classes, self.num_best, self.with_all = file, classes, num_best, with_all
        self.begin()

    @abstractmethod
    def begin(self) -> None:
        """What stands before the first row."""

    @abstractmethod
    def text(self, said: Sequence[Said]) -> str:
        """The rows of a batch, whole lines."""

    def add(self, said: Sequence[Said]) -> None:
        """Writes the rows of a batch."""
        self.put(self.text(said))

    def put(self, text: str) -> None:
        """Writes text at once, so that an interrupted file ends with a whole line."""
        # The odd bytes of a name are lone surrogates, which have no UTF-8; JSON's own way to say them is this very one.
        self.file.write(text.encode("utf-8", "backslashreplace"))
        self.file.flush()

    def close(self) -> None:  # noqa: B027  most need nothing
        """What stands behind the last row."""


class CsvRows(Rows):
    """path, predicted, confidence, predicted_2, confidence_2, ..., a column for each class if asked for, error."""

    def begin(self) -> None:
        """The header."""
        header = ["path", "predicted", "confidence"]
        for rank in range(2, self.num_best + 1):
            header += [f"predicted_{rank}", f"confidence_{rank}"]
        header += [f"probability of {name}" for name in self.classes] if self.with_all else []
        self.num_columns = len(header)
        self.put(_csv([[*header, "error"]]))

    def text(self, said: Sequence[Said]) -> str:
        """A line an image; a picture that could not be read has empty cells and the reason in the last one."""
        rows = []
        for one in said:
            row: list[Any] = [one.path]
            for name, confidence in zip(one.classes, one.confidences, strict=True):
                row += [name, confidence]
            row += one.probabilities
            rows.append([*row, *[""] * (self.num_columns - len(row)), one.error])
        return _csv(rows)


class JsonLines(Rows):
    """One object a line: {"path", "predicted", "confidence", "top", "probabilities"} or {"path", "error"}."""

    def begin(self) -> None:
        """Nothing."""

    def objects(self, said: Sequence[Said]) -> list[str]:
        """Each picture as JSON."""
        return [json.dumps(self._about(one), ensure_ascii=False) for one in said]

    def text(self, said: Sequence[Said]) -> str:
        """A line an object."""
        return "".join(f"{text}\n" for text in self.objects(said))

    def _about(self, one: Said) -> dict[str, Any]:
        if one.error:
            return {"path": one.path, "error": one.error}
        about: dict[str, Any] = {"path": one.path, "predicted": one.classes[0], "confidence": one.confidences[0]}
        if self.num_best > 1:
            pairs = zip(one.classes, one.confidences, strict=True)
            about["top"] = [{"class": name, "confidence": confidence} for name, confidence in pairs]
        if self.with_all:
            about["probabilities"] = dict(zip(self.classes, one.probabilities, strict=True))
        return about


class JsonList(JsonLines):
    """The same objects in one list."""

    def begin(self) -> None:
        """The bracket."""
        self.is_empty = True
        self.put("[")

    def text(self, said: Sequence[Said]) -> str:
        """Objects behind those that are there."""
        parts = []
        for text in self.objects(said):
            parts.append(f"{'' if self.is_empty else ','}\n{text}")
            self.is_empty = False
        return "".join(parts)

    def close(self) -> None:
        """The other bracket, also where the work was interrupted."""
        self.put("\n]\n")


KINDS: dict[Format, type[Rows]] = {"csv": CsvRows, "json": JsonList, "jsonl": JsonLines}


def _csv(rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
