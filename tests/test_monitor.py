"""The best epoch and the end of patience, against numpy and by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.errors import ConfigError
from utils.monitor import Monitor

repeatable = settings(derandomize=True, deadline=None, database=None, max_examples=100)
# Few different values, so that ties are common.
scores = st.sampled_from([0.0, -0.0, 0.25, 0.5, 1.0, -3.0, math.nan, math.inf, -math.inf]) | st.floats(-10, 10)


def watching(setting="min val_loss", patience=None, min_delta=0.0):
    return Monitor.from_setting(setting, patience, min_delta)


def fed(monitor, values):
    """Which of the values were the best so far, as epochs 1, 2, ..."""
    return [monitor.update(value, epoch) for epoch, value in enumerate(values, start=1)]


@pytest.mark.parametrize(
    ("setting", "name", "higher_is_better"),
    [("min val_loss", "val_loss", False), ("max val_accuracy", "val_accuracy", True), ("  max   loss ", "loss", True)],
)
def test_a_setting_says_what_is_watched_and_which_way(setting, name, higher_is_better):
    monitor = watching(setting, patience=3, min_delta=0.5)

    assert (monitor.name, monitor.higher_is_better) == (name, higher_is_better)
    assert (monitor.patience, monitor.min_delta) == (3, 0.5)
    assert (monitor.best, monitor.best_epoch, monitor.bad_epochs) == (None, None, 0)


@pytest.mark.parametrize(
    "setting", ["", "min", "val_loss", "lowest val_loss", "Min val_loss", "min val loss", "OFF", "off off", "min, loss"]
)
def test_another_form_is_refused_with_the_three_that_would_do(setting):
    with pytest.raises(ConfigError) as caught:
        watching(setting)

    assert caught.value.path == "trainer.monitor"
    assert caught.value.message == f"'{setting}' is not 'min NAME', 'max NAME' or 'off'"


def test_of_a_long_setting_the_beginning_is_said():
    with pytest.raises(ConfigError) as caught:
        watching("x" * 10_000)

    assert caught.value.message == f"'{'x' * 80}' is not 'min NAME', 'max NAME' or 'off'"


def test_off_watches_nothing_and_never_stops():
    monitor = watching("off")

    assert monitor.name is None
    assert not monitor.exhausted


def test_patience_without_a_monitor_is_refused():
    with pytest.raises(ConfigError) as caught:
        watching("off", patience=5)

    assert str(caught.value) == "trainer.early_stop: needs a monitor, and trainer.monitor is 'off'"
    assert (caught.value.path, caught.value.also) == ("trainer.early_stop", "trainer.monitor")


@repeatable
@given(st.lists(scores, max_size=12))
def test_without_min_delta_the_best_is_numpys_first_minimum_of_the_finite_values(values):
    monitor = watching("min loss")

    fed(monitor, values)

    finite = np.where(np.isfinite(values), values, np.inf)
    if np.isfinite(finite).any():
        first = int(np.argmin(finite))
        assert monitor.best == finite[first]
        assert monitor.best_epoch == first + 1
        assert monitor.bad_epochs == len(values) - first - 1
    else:
        assert (monitor.best, monitor.best_epoch, monitor.bad_epochs) == (None, None, len(values))


@repeatable
@given(st.lists(scores, max_size=12), st.sampled_from([0.0, 0.25, 1.0]))
def test_max_of_a_score_is_min_of_its_negative(values, min_delta):
    highest, lowest = watching("max a", min_delta=min_delta), watching("min a", min_delta=min_delta)

    assert fed(highest, values) == fed(lowest, [-value for value in values])
    assert highest.best_epoch == lowest.best_epoch


def test_a_tie_is_no_improvement():
    assert fed(watching("max a"), [0.5, 0.5, 0.5]) == [True, False, False]
    assert fed(watching("min a"), [0.0, -0.0]) == [True, False]


@pytest.mark.parametrize("setting", ["min a", "max a"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_no_finite_number_is_never_the_best(setting, bad):
    monitor = watching(setting)

    improved = fed(monitor, [bad, 1.0, bad])

    assert improved == [False, True, False]
    assert (monitor.best, monitor.best_epoch, monitor.bad_epochs) == (1.0, 2, 1)


def test_an_improvement_must_be_larger_than_min_delta():
    # 0.5 and 0.25 are exact in binary, so "exactly min_delta" is exact.
    improved = fed(watching("min a", min_delta=0.25), [1.0, 0.75, 0.5, 0.26, 0.25, 0.24])

    assert improved == [True, False, True, False, False, True]


def test_small_steps_add_up_to_an_improvement_over_the_last_best():
    improved = fed(watching("max a", min_delta=1.0), [0.0, 0.6, 1.2, 1.8, 2.4])

    assert improved == [True, False, True, False, True]


@pytest.mark.parametrize("patience", [1, 2, 5])
def test_patience_runs_out_after_exactly_so_many_epochs_without_improvement(patience):
    monitor = watching("min a", patience)
    exhausted_after = []

    for epoch, value in enumerate([3.0, 2.0] + [2.0] * 6, start=1):
        monitor.update(value, epoch)
        if monitor.exhausted:
            exhausted_after.append(epoch)

    assert exhausted_after[0] == 2 + patience


def test_an_improvement_restores_all_patience():
    monitor = watching("min a", patience=2)

    fed(monitor, [3.0, 3.0, 2.0, 2.0])

    assert monitor.bad_epochs == 1
    assert not monitor.exhausted


def test_a_score_that_is_never_finite_uses_up_patience():
    monitor = watching("min a", patience=3)

    fed(monitor, [math.nan] * 3)

    assert monitor.exhausted
    assert monitor.best is None


def test_no_patience_never_runs_out():
    monitor = watching("min a", patience=None)

    fed(monitor, [1.0] * 1000)

    assert not monitor.exhausted


@repeatable
@given(st.lists(scores, max_size=6), st.lists(scores, max_size=6))
def test_a_state_carries_on_as_if_there_had_been_no_break(before, after):
    whole, first, second = (watching("max a", patience=2, min_delta=0.25) for _ in range(3))
    fed(whole, before + after)

    fed(first, before)
    second.load_state_dict(first.state_dict())
    for epoch, value in enumerate(after, start=len(before) + 1):
        second.update(value, epoch)

    assert second == whole


@pytest.mark.parametrize("setting", ["max a", "min b", "off"])
def test_the_best_of_another_score_or_direction_is_left_alone(setting):
    old, new = watching("min a"), watching(setting)
    fed(old, [3.0, 2.0, 5.0])

    new.load_state_dict(old.state_dict())

    assert (new.best, new.best_epoch, new.bad_epochs) == (None, None, 0)
    assert new == watching(setting)


def test_settings_come_from_the_config_and_not_from_the_state():
    old, new = watching("min a", patience=2, min_delta=0.5), watching("min a", patience=7, min_delta=0.1)
    fed(old, [3.0, 2.9])

    new.load_state_dict(old.state_dict())

    assert (new.patience, new.min_delta) == (7, 0.1)
    assert (new.best, new.best_epoch, new.bad_epochs) == (3.0, 1, 1)
