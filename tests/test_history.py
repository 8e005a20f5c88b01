"""history.py: results.csv as other programs read it, appended, cut back and continued."""

import csv
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logger.history import History
from utils.errors import OutputError


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.reader(file))


def filled(path, num_epochs, first=1):
    history = History(path)
    for epoch in range(first, first + num_epochs):
        history.append({"epoch": epoch, "lr": 0.1 / epoch, "train/loss": 1 / 3 / epoch})
    return history


def test_file_has_one_header_and_a_row_an_epoch_after_each_append(tmp_path):
    path = tmp_path / "results.csv"
    history = History(path)

    for epoch in (1, 2, 3):
        history.append({"epoch": epoch, "lr": 0.5, "val/loss": 2.0 / epoch})

        assert rows_of(path)[0] == ["epoch", "lr", "val/loss"]
        assert [row[0] for row in rows_of(path)[1:]] == [str(number) for number in range(1, epoch + 1)]
    assert [float(row[2]) for row in rows_of(path)[1:]] == [2.0, 1.0, 2 / 3]
    assert [file.name for file in tmp_path.iterdir()] == ["results.csv"]


@pytest.mark.parametrize("kept", [0, 2, 5])
def test_continued_history_has_the_rows_that_it_is_given_and_grows_from_there(tmp_path, kept):
    rows = filled(tmp_path / "results.csv", 5).rows()
    before = rows_of(tmp_path / "results.csv")

    history = History(tmp_path / "results.csv", rows[:kept])
    history.append({"epoch": kept + 1, "lr": 7.0, "train/loss": 0.5})

    assert rows_of(tmp_path / "results.csv") == [*before[: kept + 1], [str(kept + 1), "7.0", "0.5"]]


def test_rows_are_plain_data_and_can_leave_columns_out(tmp_path):
    rows = filled(tmp_path / "results.csv", 2).rows(without=("lr", "absent"))

    assert rows == [{"epoch": 1, "train/loss": 1 / 3}, {"epoch": 2, "train/loss": 1 / 6}]
    assert [type(value) for value in rows[0].values()] == [int, float]


numbers = st.one_of(
    st.floats(width=64, allow_subnormal=True), st.floats(0, 1), st.floats(width=32), st.integers(-5, 5).map(float)
)


@given(values=st.lists(numbers, min_size=1, max_size=8))
@settings(max_examples=60, derandomize=True, deadline=None)
def test_continuing_changes_no_digit_of_what_is_there(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("history") / "results.csv"
    history = History(path)
    for epoch, value in enumerate(values, start=1):
        history.append({"epoch": epoch, "train/loss": value})
    before = path.read_text()

    again = History(path, history.rows())
    read = again.frame["train/loss"].tolist()
    again.append({"epoch": len(values) + 1, "train/loss": 0.25})

    assert np.array_equal(read, values, equal_nan=True)
    assert path.read_text() == before + f"{len(values) + 1},0.25\n"


def test_new_score_gets_a_column_that_is_empty_before(tmp_path):
    filled(tmp_path / "results.csv", 2).append({"epoch": 3, "lr": 1.0, "train/loss": 1.0, "val/loss": 4.0})

    assert [row[-1] for row in rows_of(tmp_path / "results.csv")] == ["val/loss", "", "", "4.0"]


def test_row_of_an_epoch_or_the_last_one_holds_only_what_was_measured(tmp_path):
    history = filled(tmp_path / "results.csv", 2)
    history.append({"epoch": 3, "lr": 1.0, "train/loss": math.nan, "val/loss": 4.0})

    assert history.last_row() == {"epoch": 3, "lr": 1.0, "val/loss": 4.0}
    assert history.last_row(2) == {"epoch": 2, "lr": 0.05, "train/loss": 1 / 6}


def test_row_of_an_epoch_that_is_not_on_record_is_the_last_one(tmp_path):
    # A checkpoint that was copied elsewhere brings its best epoch and not the rows of the time before.
    history = filled(tmp_path / "results.csv", 2, first=4)

    assert history.last_row(3)["epoch"] == 5


@pytest.mark.parametrize("text", ["", "step,loss\n1,2\n", "epoch,loss\n1,bad\n", "\n\n"])
def test_file_that_somebody_damaged_is_written_anew(tmp_path, text):
    path = tmp_path / "results.csv"
    rows = filled(path, 3).rows()
    before = path.read_text()
    path.write_text(text)

    History(path, rows)

    assert path.read_text() == before


def test_place_that_cannot_be_written_is_an_output_error_and_the_old_file_stays(tmp_path):
    history = filled(tmp_path / "results.csv", 1)
    before = (tmp_path / "results.csv").read_text()
    (tmp_path / ".results.csv.tmp").mkdir()

    with pytest.raises(OutputError, match=r"results\.csv: cannot write \(.+\)"):
        history.append({"epoch": 2, "lr": 0.1, "train/loss": 1.0})

    assert (tmp_path / "results.csv").read_text() == before
