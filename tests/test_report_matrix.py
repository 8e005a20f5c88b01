"""Cells, their colours, and the images behind them."""

from collections import Counter

import numpy as np
import pytest

from logger.report import matrix
from logger.report.matrix import cells_behind, common_folder, in_turns, named, table_of, worst
from tests.judged import judgement_of, scores_of

NAMES = ["a", "b", "c", "d"]


def test_every_image_stands_behind_its_cell() -> None:
    judgement = judgement_of(NAMES, 300, sure=1.0)

    cells = cells_behind(judgement)

    counted = Counter(zip(judgement.true_N.tolist(), judgement.predicted_N.tolist(), strict=True))
    assert {(cell.true, cell.predicted): len(cell.positions) for cell in cells} == counted
    for cell in cells:
        assert (judgement.true_N[cell.positions] == cell.true).all()
        assert (judgement.predicted_N[cell.positions] == cell.predicted).all()
        confidences = judgement.confidence_N[cell.positions]
        assert (np.diff(confidences) >= 0).all() if cell.is_right else (np.diff(confidences) <= 0).all()
    assert [cell.is_right for cell in cells] == sorted(cell.is_right for cell in cells)
    wrong = [len(cell.positions) for cell in cells if not cell.is_right]
    assert wrong == sorted(wrong, reverse=True)


def test_the_worst_mistakes_are_those_it_was_surest_of() -> None:
    judgement = judgement_of(NAMES, 300, sure=1.0)
    plain = sorted(
        (at for at in range(300) if judgement.true_N[at] != judgement.predicted_N[at]),
        key=lambda at: -judgement.confidence_N[at],
    )

    assert worst(judgement, 10) == plain[:10]
    assert worst(judgement, 1000) == plain


def test_without_mistakes_the_least_sure_answers_are_shown() -> None:
    judgement = judgement_of(NAMES, 50, sure=30.0)

    assert worst(judgement, 3) == sorted(range(50), key=lambda at: judgement.confidence_N[at])[:3]


def test_cells_get_pictures_in_turns() -> None:
    cells = cells_behind(judgement_of(NAMES, 100, sure=1.0))

    chosen = list(in_turns(cells, 2))

    firsts = [int(cell.positions[0]) for cell in cells]
    assert chosen[: len(cells)] == firsts
    assert len(chosen) == len(set(chosen)) == sum(min(2, len(cell.positions)) for cell in cells)


def test_colours_grow_with_the_share_of_the_row() -> None:
    rows = table_of(np.array([[99, 1, 0], [0, 0, 0], [25, 0, 75]]))

    assert [[cell.level for cell in row] for row in rows] == [[10, 1, 0], [0, 0, 0], [5, 0, 9]]
    assert [cell.share for cell in rows[2]] == ["25", "0", "75"]


def test_names_are_listed_without_their_common_folder_and_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    judgement = judgement_of(NAMES, 300, sure=1.0, name_of=lambda at: f"/data/x/{at % 2}/\n{at}.png")
    cells = cells_behind(judgement)

    folder, rows = named(judgement, cells)

    assert folder == "/data/x/"
    true, predicted, count, images = rows[0]
    assert (true, predicted, count) == (cells[0].true, cells[0].predicted, len(cells[0].positions))
    assert [image[0] for image in images] == cells[0].positions[: matrix.NAMES_OF_WRONG].tolist()  # type: ignore[attr-defined]
    assert images[0][1] == f"{images[0][0] % 2}/\\n{images[0][0]}.png"  # type: ignore[index]

    monkeypatch.setattr(matrix, "MAX_NAMES_BYTES", 500)
    _, few = named(judgement, cells)
    assert 0 < sum(len(row[3]) for row in few) < 20  # type: ignore[arg-type]
    assert [row[2] for row in few] == [row[2] for row in rows]


def test_counts_agree_with_the_confusion_matrix() -> None:
    judgement = judgement_of([str(index) for index in range(60)], 2000, sure=2.0)
    confusion = np.zeros((60, 60), dtype=np.int64)

    for cell in cells_behind(judgement):
        confusion[cell.true, cell.predicted] = len(cell.positions)

    assert (confusion == scores_of(judgement).confusion_KK).all()


@pytest.mark.parametrize(
    ("names", "folder"),
    [
        ([], ""),
        (["a/b/1.png"], "a/b/"),
        (["a/b/1.png", "a/b/2.png"], "a/b/"),
        (["a/bc/1.png", "a/bd/1.png"], "a/"),
        (["x", "y"], ""),
        (["a/b", "a/b/c"], "a/"),
    ],
)
def test_the_common_folder_ends_in_a_slash(names: list[str], folder: str) -> None:
    assert common_folder(names) == folder
