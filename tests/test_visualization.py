"""visualization.py: what TensorBoard reads back, and that results.png shows curves."""

import math

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from logger.visualization import NoEvents, TensorboardWriter, draw_results


def events(folder):
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    return accumulator.Reload()


def points(folder, tag):
    return [(event.step, event.value) for event in events(folder).Scalars(tag)]


def write_epochs(log_dir, epochs, value, epochs_done=0):
    writer = TensorboardWriter(log_dir, epochs_done)
    for epoch in epochs:
        writer.scalars("train", {"loss": value + epoch, "lr": 0.5}, epoch)
        writer.scalars("valid", {"loss": value - epoch}, epoch)
    writer.close()


def test_training_and_validation_are_two_sub_runs_with_equal_tags(tmp_path):
    write_epochs(tmp_path, [1, 2], 10.0)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["train", "valid"]
    assert points(tmp_path / "train", "loss") == [(1, 11.0), (2, 12.0)]
    assert points(tmp_path / "valid", "loss") == [(1, 9.0), (2, 8.0)]
    assert events(tmp_path / "train").Tags()["scalars"] == ["loss", "lr"]
    assert events(tmp_path / "valid").Tags()["scalars"] == ["loss"]


def test_flushed_events_can_be_read_while_the_run_goes_on(tmp_path):
    writer = TensorboardWriter(tmp_path)
    writer.scalars("train", {"loss": 3.0}, 1)
    writer.flush()

    assert points(tmp_path / "train", "loss") == [(1, 3.0)]
    writer.close()


def make_older(log_dir):
    """Event files are read in the order of the second in their name, and these tests take less than one."""
    for path in log_dir.glob("*/events.out.tfevents.*"):
        *start, second, rest = path.name.split(".", 4)
        path.rename(path.with_name(".".join([*start, f"{int(second) - 60:010}", rest])))


@pytest.mark.parametrize("epochs_done", [1, 2, 3])
def test_continued_run_has_each_step_once_and_the_later_values(tmp_path, epochs_done):
    write_epochs(tmp_path, [1, 2, 3], 10.0)
    make_older(tmp_path)

    write_epochs(tmp_path, range(epochs_done + 1, 6), 20.0, epochs_done)

    expected = [(epoch, (10.0 if epoch <= epochs_done else 20.0) + epoch) for epoch in range(1, 6)]
    assert points(tmp_path / "train", "loss") == expected


def test_a_picture_comes_back_as_it_was(tmp_path):
    picture_HW3 = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    writer = TensorboardWriter(tmp_path)
    writer.picture("valid", "confusion_matrix", picture_HW3, 3)
    writer.close()

    (event,) = events(tmp_path / "valid").Images("confusion_matrix")

    assert (event.step, event.width, event.height) == (3, 4, 5)
    (tmp_path / "picture.png").write_bytes(event.encoded_image_string)
    with Image.open(tmp_path / "picture.png") as image:
        assert np.array_equal(np.asarray(image), picture_HW3)


def test_hyperparameters_come_flat_with_the_scores_into_the_run_itself(tmp_path):
    settings = {"name": "x", "optimizer": {"type": "SGD", "args": {"lr": 0.1}}, "metrics": ["accuracy"], "on": None}
    writer = TensorboardWriter(tmp_path)
    writer.hyperparameters(settings, {"val/accuracy": 0.75})
    writer.close()

    found = events(tmp_path)

    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["train", "valid"]
    assert [event.value for event in found.Scalars("hparam/val/accuracy")] == [0.75]
    content = found.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    session = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert session["optimizer.args.lr"].number_value == 0.1
    assert session["optimizer.type"].string_value == "SGD"
    assert session["metrics"].string_value == "['accuracy']"
    assert session["on"].string_value == "None"


def test_closing_may_be_done_twice(tmp_path):
    writer = TensorboardWriter(tmp_path)

    writer.close()
    writer.close()


def test_no_events_takes_all_that_the_writer_takes_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    nothing = NoEvents()

    nothing.scalars("train", {"loss": 1.0}, 1)
    nothing.picture("train", "images", np.zeros((1, 1, 3), np.uint8), 0)
    nothing.hyperparameters({"a": 1}, {"val/loss": 1.0})
    nothing.flush()
    nothing.close()

    assert list(tmp_path.iterdir()) == []
    methods = {name for name in vars(TensorboardWriter) if not name.startswith("_")}
    assert methods == {name for name in vars(NoEvents) if not name.startswith("_")}


def drawn(frame, path, best_epoch=None):
    draw_results(frame, path, best_epoch)
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def frame_of(num_epochs, **columns):
    return pd.DataFrame({"epoch": range(1, num_epochs + 1), "lr": [0.1] * num_epochs, **columns})


def test_picture_has_a_panel_a_score_and_one_for_the_learning_rate(tmp_path):
    curve = [1.0, 0.5, 0.25]
    loss = frame_of(3, **{"train/loss": curve, "val/loss": curve})
    both = frame_of(3, **{"train/loss": curve, "val/loss": curve, "train/accuracy": curve, "val/accuracy": curve})

    two, three = drawn(loss, tmp_path / "two.png"), drawn(both, tmp_path / "three.png")

    height = round(3.4 * 110)
    assert two.shape == (height, round(2 * 4.2 * 110), 3)
    assert three.shape == (height, round(3 * 4.2 * 110), 3)


def coloured_columns(picture_HWC):
    """Which columns of pixels hold something that is neither white, grey nor black."""
    spread_HW = picture_HWC.max(2).astype(int) - picture_HWC.min(2)
    return (spread_HW > 60).any(0)


def test_every_panel_shows_a_curve(tmp_path):
    picture = drawn(frame_of(4, **{"train/loss": [4.0, 3, 2, 1], "val/loss": [4.0, 3, 3, 3]}), tmp_path / "a.png")

    halves = np.array_split(coloured_columns(picture), 2)

    assert all(half.sum() > 0.6 * len(half) for half in halves)


def test_curve_goes_down_where_the_loss_does(tmp_path):
    picture = drawn(frame_of(3, **{"train/loss": [3.0, 2.0, 1.0]}), tmp_path / "a.png")
    left = picture[60:, : picture.shape[1] // 2].astype(int)  # below the title, in the first panel
    is_blue_HW = left[:, :, 2] - left[:, :, 0] > 60

    rows = [is_blue_HW[:, column].nonzero()[0] for column in range(is_blue_HW.shape[1])]
    middles = [np.median(found) for found in rows if len(found)]

    assert middles[-1] - middles[0] > 100  # rows of pixels count downwards


def test_best_epoch_is_marked(tmp_path):
    frame = frame_of(3, **{"train/loss": [3.0, 1.0, 2.0]})

    assert not np.array_equal(drawn(frame, tmp_path / "a.png"), drawn(frame, tmp_path / "a.png", best_epoch=2))


@pytest.mark.parametrize(
    "columns",
    [
        {"train/loss": [1.0]},
        {"train/loss": [math.nan], "val/loss": [math.nan]},
        {"train/loss": [math.inf], "val/loss": [1.0]},
        {"train/loss": [1.0], "train/acc_$x": [0.5]},
        {},
    ],
)
def test_first_epoch_missing_scores_and_a_run_that_diverged_are_drawn_too(tmp_path, columns):
    picture = drawn(frame_of(1, **columns), tmp_path / "a.png", best_epoch=1)

    assert len(np.unique(picture)) > 10


def test_drawing_leaves_no_state_in_pyplot(tmp_path):
    drawn(frame_of(1, **{"train/loss": [1.0]}), tmp_path / "a.png")

    from matplotlib import pyplot

    assert pyplot.get_fignums() == []
