"""recorder.py: an epoch becomes a row, events and a picture, and a continued run goes on with all three."""

import csv

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import logger.recorder
from logger.figures import draw_confusion
from logger.recorder import EpochRecord, Recorder
from logger.run_dir import RunDir
from logger.visualization import NoEvents, draw_results
from trainer.evaluate import Evaluation

pytestmark = pytest.mark.draws


def record(epoch, val=None):
    val = {"loss": 0.5 / epoch, "accuracy": 0.25} if val is None else val
    return EpochRecord(epoch, 1.23456, 0.1 / epoch, 321.0, {"loss": 1.0 / epoch, "accuracy": 0.5}, val)


def rows(run):
    with open(run.log / "results.csv", newline="") as file:
        return list(csv.DictReader(file))


CLASSES = ["cat", "dog", "$x_1$"]


def judged(predicted):
    """Of six images of three classes."""
    true_N = torch.tensor([0, 0, 1, 1, 2, 2])
    images = torch.arange(6, dtype=torch.uint8)[:, None, None, None].expand(6, 3, 4, 4) * 40
    return Evaluation({}, true_N, torch.tensor(predicted), 3, images)


@pytest.fixture
def run(tmp_path):
    return RunDir.create(tmp_path, "digits")


def test_row_holds_time_learning_rate_and_the_scores_of_both_parts_by_name(run):
    recorder = Recorder(run, tensorboard=False)

    recorder.write(record(1), best_epoch=1)

    (row,) = rows(run)
    assert list(row) == ["epoch", "time_s", "lr", "train/loss", "train/accuracy", "val/loss", "val/accuracy"]
    assert [float(value) for value in row.values()] == [1, 1.235, 0.1, 1.0, 0.5, 0.5, 0.25]


def test_without_validation_there_are_no_columns_of_it(run):
    Recorder(run, tensorboard=False).write(record(1, val={}), best_epoch=None)

    assert list(rows(run)[0]) == ["epoch", "time_s", "lr", "train/loss", "train/accuracy"]


def test_picture_shows_the_first_epoch_at_once_and_every_epoch_in_the_end(run):
    recorder = Recorder(run, tensorboard=False)
    recorder.write(record(1), best_epoch=1)
    first = (run.log / "results.png").read_bytes()
    for epoch in (2, 3, 4):
        recorder.write(record(epoch), best_epoch=1)
    recorder.close()

    draw_results(recorder.history.frame, run.log / "expected.png", 1)

    assert first != (run.log / "results.png").read_bytes()
    assert (run.log / "results.png").read_bytes() == (run.log / "expected.png").read_bytes()


def test_drawing_takes_at_most_a_twentieth_of_the_time(run, monkeypatch):
    clock, drawn_at = [0.0], []

    def slow_drawing(frame, path, best_epoch):
        drawn_at.append(clock[0])
        clock[0] += 2.0

    monkeypatch.setattr(logger.recorder, "draw_results", slow_drawing)
    monkeypatch.setattr(logger.recorder.time, "monotonic", lambda: clock[0])
    recorder = Recorder(run, tensorboard=False)

    for epoch in range(1, 201):
        clock[0] += 1.0
        recorder.write(record(epoch), best_epoch=1)
    recorder.close()

    assert drawn_at[0] == 1.0
    assert len(drawn_at) * 2.0 <= clock[0] / 20 + 2 * 2.0  # the first and the last come besides
    assert len(drawn_at) > 4


def test_without_tensorboard_there_are_a_table_and_pictures_only_and_validations_are_not_drawn(run, monkeypatch):
    monkeypatch.setattr(logger.recorder, "draw_confusion", None)
    recorder = Recorder(run, tensorboard=False)

    recorder.train_batch(torch.zeros(2, 3, 4, 4), torch.tensor([0, 2]), CLASSES)
    recorder.validation(1, judged([0] * 6), CLASSES)
    recorder.write(record(1), best_epoch=1)
    recorder.finish({"seed": 1}, {"val/loss": 0.5})
    recorder.close()

    assert isinstance(recorder.events, NoEvents)
    assert sorted(path.name for path in run.log.iterdir()) == ["results.csv", "results.png", "train_batch0.png"]


def test_events_hold_scores_learning_rate_and_speed_and_only_scores_for_hyperparameters(run):
    recorder = Recorder(run, tensorboard=True)
    recorder.train_batch(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([0, 2]), CLASSES)
    recorder.write(record(1), best_epoch=1)
    recorder.finish({"seed": 1}, {"epoch": 1.0, "lr": 0.1, "val/loss": 0.5})
    recorder.close()

    train, valid, whole = (EventAccumulator(str(run.log / part)).Reload() for part in ("train", "valid", ""))

    assert set(train.Tags()["scalars"]) == {"loss", "accuracy", "lr", "images_per_s"}
    assert set(valid.Tags()["scalars"]) == {"loss", "accuracy"}
    assert train.Tags()["images"] == ["images"]
    assert train.Scalars("images_per_s")[0].value == 321.0
    assert [tag for tag in whole.Tags()["scalars"] if tag.startswith("hparam/")] == ["hparam/val/loss"]


def test_each_validation_becomes_a_confusion_matrix_and_a_grid_of_answers(run, monkeypatch):
    monkeypatch.setattr(logger.recorder.time, "monotonic", lambda: 0.0)  # drawing takes no time: each is drawn
    drawn = []
    monkeypatch.setattr(logger.recorder, "draw_confusion", lambda *args: drawn.append(args) or draw_confusion(*args))
    recorder = Recorder(run, tensorboard=True)
    for epoch, predicted in ((1, [0] * 6), (2, [0, 1, 1, 1, 2, 0])):
        recorder.validation(epoch, judged(predicted), CLASSES)
        recorder.write(record(epoch), best_epoch=1)
    recorder.close()

    valid = EventAccumulator(str(run.log / "valid"), size_guidance={"images": 0}).Reload()

    assert valid.Tags()["images"] == ["confusion_matrix", "predictions"]
    assert [event.step for event in valid.Images("confusion_matrix")] == [1, 2]
    assert [event.step for event in valid.Images("predictions")] == [1, 2]
    assert drawn[1][0].tolist() == [[1, 1, 0], [0, 2, 0], [1, 0, 1]]
    assert drawn[1][2] == "epoch 2, accuracy 0.6667"


def test_validations_are_drawn_as_rarely_as_the_curves_and_the_last_in_the_end(run, monkeypatch):
    clock, drawn = [0.0], []

    def slow_drawing(confusion_KK, classes, title):
        drawn.append(title)
        clock[0] += 2.0
        return np.zeros((1, 1, 3), np.uint8)

    monkeypatch.setattr(logger.recorder, "draw_confusion", slow_drawing)
    monkeypatch.setattr(logger.recorder, "draw_results", lambda *args: None)
    monkeypatch.setattr(logger.recorder, "draw_answers", lambda *args: np.zeros((1, 1, 3), np.uint8))
    monkeypatch.setattr(logger.recorder.time, "monotonic", lambda: clock[0])
    recorder = Recorder(run, tensorboard=True)

    for epoch in range(1, 201):
        clock[0] += 1.0
        recorder.validation(epoch, judged([0] * 6), CLASSES)
        recorder.write(record(epoch), best_epoch=1)
    recorder.close()

    assert len(drawn) > 4
    assert len(drawn) * 2.0 <= clock[0] / 20 + 2 * 2.0
    assert drawn[-1].startswith("epoch 200,")


def test_continued_recorder_has_one_history_with_what_came_later_cut_off(run):
    first = Recorder(run, tensorboard=False)
    for epoch in (1, 2, 3):
        first.write(record(epoch), best_epoch=1)
    before = (run.log / "results.csv").read_text().splitlines()

    again = Recorder(run, tensorboard=False, rows=first.history.rows()[:2])
    again.write(record(3, val={"loss": 9.0, "accuracy": 1.0}), best_epoch=1)

    after = (run.log / "results.csv").read_text().splitlines()
    assert after[:3] == before[:3]
    assert len(after) == 4
    assert float(rows(run)[2]["val/loss"]) == 9.0


def test_new_recorder_of_a_run_begins_its_history_anew(run):
    Recorder(run, tensorboard=False).write(record(1), best_epoch=1)

    Recorder(run, tensorboard=False).write(record(1), best_epoch=1)

    assert [row["epoch"] for row in rows(run)] == ["1"]
