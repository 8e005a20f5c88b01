"""What a checkpoint says of images and scores is looked at before it is used."""

import pytest

from utils.errors import CheckpointError
from utils.network_input import network_input, temperature_of


def test_what_training_writes_is_taken() -> None:
    entry = {"shape_CHW": [3, 8, 9], "mean": [0.1, 0.2, 0.3], "std": [0.5], "held_back": None}

    found = network_input({"input": entry})

    assert (found.shape_CHW, found.mean, found.std) == ((3, 8, 9), [0.1, 0.2, 0.3], [0.5])
    assert network_input({"input": {"shape_CHW": [1, 8, 9]}}).mean is None


@pytest.mark.parametrize(
    ("entry", "match"),
    [
        (None, "size of its images"),
        ({}, "size of its images"),
        ({"shape_CHW": [3, 8]}, "shape_CHW"),
        ({"shape_CHW": [3, 8, -1]}, "shape_CHW"),
        ({"shape_CHW": [3, 8, 8.0]}, "shape_CHW"),
        ({"shape_CHW": [3, 10**9, 10**9]}, "shape_CHW"),
        ({"shape_CHW": "388"}, "shape_CHW"),
        ({"shape_CHW": [3, 8, 8], "mean": [0.1, 0.2]}, "input.mean"),
        ({"shape_CHW": [3, 8, 8], "mean": [float("nan")]}, "input.mean"),
        ({"shape_CHW": [3, 8, 8], "std": [0.0]}, "input.std"),
        ({"shape_CHW": [3, 8, 8], "std": "abc"}, "input.std"),
        ({"shape_CHW": [3, 8, 8], "std": [True]}, "input.std"),
    ],
)
def test_nonsense_is_one_line(entry, match: str) -> None:
    with pytest.raises(CheckpointError, match=match) as error:
        network_input({"input": entry})

    assert "\n" not in str(error.value)


def test_the_temperature_is_one_unless_it_was_found() -> None:
    assert temperature_of({}) == 1.0
    assert temperature_of({"temperature": 1.7}) == 1.7


@pytest.mark.parametrize("value", [0, -1.0, float("inf"), "2", None, True])
def test_a_temperature_that_is_none_is_refused(value) -> None:
    with pytest.raises(CheckpointError, match="temperature"):
        temperature_of({"temperature": value})
