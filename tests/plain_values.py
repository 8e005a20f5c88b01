"""Random plain data as a config may hold it, for the tests of what reads and changes such data."""

import json

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from utils.errors import ConfigError

# Few examples each, so that the file takes seconds; too_slow would make a loaded machine a failed test.
repeatable = settings(
    derandomize=True, deadline=None, database=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow]
)

names = st.sampled_from(["type", "args", "lr", "이름", "a.b", "0", "1"]) | st.text(max_size=5)
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=9,
)
configs = st.dictionaries(names, values, max_size=5)


def exactly(value):
    """JSON text, for which 1, 1.0 and true differ."""
    return json.dumps(value, sort_keys=True)


def all_paths(value, path=()):
    yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from all_paths(item, (*path, key))
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from all_paths(item, (*path, index))


def message_of(function, *args):
    with pytest.raises(ConfigError) as caught:
        function(*args)
    return str(caught.value)
