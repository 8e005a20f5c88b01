"""Plain dicts and lists: what is set is found, what is merged is kept, and no source is changed by it."""

import copy
import json
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.plain_values import all_paths, configs, exactly, repeatable, values
from utils.config_file import parse_json_text
from utils.config_tree import (
    ABSENT,
    differences,
    dotted,
    freeze,
    get_by_path,
    merge,
    path_of,
    set_by_path,
    suggest,
    thaw,
    to_json,
)
from utils.errors import ConfigError


@repeatable
@given(configs, values, st.data())
def test_value_that_was_set_is_found_and_nothing_else_changed(config, value, data):
    path = data.draw(st.sampled_from([path for path in all_paths(config) if path] or [("new",)]))
    before = copy.deepcopy(config)

    changed = set_by_path(config, path, value)

    assert exactly(config) == exactly(before)
    assert exactly(get_by_path(changed, path)) == exactly(value)
    assert exactly(set_by_path(freeze(config), path, value)) == exactly(changed)
    if get_by_path(config, path, ABSENT) is not ABSENT:
        assert exactly(set_by_path(changed, path, get_by_path(config, path))) == exactly(before)


def test_missing_dicts_are_made_also_in_place_of_null():
    changed = set_by_path({"lr_scheduler": None}, ("lr_scheduler", "args", "gamma"), 0.1)
    changed = set_by_path(changed, ("new", "key"), 1)

    assert changed == {"lr_scheduler": {"args": {"gamma": 0.1}}, "new": {"key": 1}}


def test_index_replaces_an_item_or_appends_one():
    config = {"metrics": ["a", "b"], "names": {"0": "cat"}}

    assert set_by_path(config, ("metrics", 1), "c")["metrics"] == ["a", "c"]
    assert set_by_path(config, ("metrics", 2), "c")["metrics"] == ["a", "b", "c"]
    assert set_by_path(config, ("metrics", 2, "type"), "c")["metrics"] == ["a", "b", {"type": "c"}]
    assert set_by_path(config, ("names", 0), "dog")["names"] == {"0": "dog"}
    assert get_by_path(config, ("names", 0)) == "cat"


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (("metrics", 3), """metrics is ["a", "정확도"] and has no 3"""),
        (("metrics", "first"), """metrics is ["a", "정확도"] and has no 'first'"""),
        (("metrics", -1), """metrics is ["a", "정확도"] and has no -1"""),
        (("trainer", "epochs", "max"), "trainer.epochs is 3 and has no 'max'"),
        (("metrics", 0, "type"), """metrics.0 is "a" and has no 'type'"""),
        (("metrics", 0, "arg"), """metrics.0 is "a" and has no 'arg'"""),
        (("trainer", "epochs", "args"), "trainer.epochs is 3 and has no 'args'"),
    ],
)
def test_path_that_leads_nowhere_is_refused_with_what_is_there(path, found):
    config = {"metrics": ["a", "정확도"], "trainer": {"epochs": 3}}

    with pytest.raises(ConfigError) as caught:
        set_by_path(config, path, 1)

    assert (caught.value.message, caught.value.path) == (found, dotted(path))
    assert str(caught.value) == f"{dotted(path)}: {found}"
    assert get_by_path(config, path, "nothing") == "nothing"


@pytest.mark.parametrize(
    ("path", "section", "expected"),
    [
        (("loss", "args", "k"), "loss", {"type": "focal", "args": {"k": 1}}),
        (("loss", "args"), "loss", {"type": "focal", "args": 1}),
        (("loss", "interval"), "loss", {"type": "focal", "interval": 1}),
        (("metrics", 0, "args", "k"), "metrics", [{"type": "top_k", "args": {"k": 1}}]),
    ],
)
def test_bare_name_that_an_argument_is_set_of_becomes_the_type(path, section, expected):
    config = {"loss": "focal", "metrics": ["top_k"]}

    assert set_by_path(config, path, 1)[section] == expected
    assert config == {"loss": "focal", "metrics": ["top_k"]}


def test_dicts_merge_and_all_else_is_replaced():
    base = {"a": {"x": 1, "y": [1, 2]}, "b": 1, "c": {"z": 1}, "d": None}

    merged = merge(base, {"a": {"y": [3]}, "b": {"new": 1}, "c": None, "d": {}})

    assert merged == {"a": {"x": 1, "y": [3]}, "b": {"new": 1}, "c": None, "d": {}}


def test_section_whose_type_changes_is_replaced_whole():
    base = {"optimizer": {"type": "SGD", "args": {"momentum": 0.9}}, "arch": {"args": {"depth": 3}}}

    other = merge(base, {"optimizer": {"type": "Adam"}})
    same = merge(base, {"optimizer": {"type": "SGD", "args": {"lr": 1}}})
    first = merge(base, {"arch": {"type": "Vgg"}})

    assert other["optimizer"] == {"type": "Adam"}
    assert same["optimizer"] == {"type": "SGD", "args": {"momentum": 0.9, "lr": 1}}
    assert first["arch"] == {"args": {"depth": 3}, "type": "Vgg"}


@pytest.mark.parametrize("changes", [{"args": {"k": 1}}, {"interval": "step"}, {"interval": "step", "args": {}}])
def test_bare_name_that_is_merged_with_arguments_becomes_the_type(changes):
    merged = merge({"loss": "focal", "other": "focal"}, {"loss": changes})

    assert merged == {"loss": {"type": "focal", **changes}, "other": "focal"}


@pytest.mark.parametrize("changes", [{}, {"k": 1}, {"type": "ce", "args": {"k": 1}}, {"type": "focal"}, "ce", ["args"]])
def test_bare_name_gives_way_to_all_that_is_no_argument_of_it(changes):
    assert merge({"loss": "focal"}, {"loss": changes}) == {"loss": changes}


@repeatable
@given(configs, configs)
def test_merge_changes_neither_side_and_a_second_time_changes_nothing(base, changes):
    before = exactly(base), exactly(changes)

    merged = merge(base, changes)

    assert (exactly(base), exactly(changes)) == before
    assert exactly(merge(merged, changes)) == exactly(merged)
    assert exactly(merge(base, {})) == exactly(base)
    assert exactly(merge({}, changes)) == exactly(changes)
    assert exactly(merge(freeze(base), freeze(changes))) == exactly(merged)
    for path in all_paths(changes):
        if not isinstance(get_by_path(changes, path), dict):
            assert exactly(get_by_path(merged, path)) == exactly(get_by_path(changes, path))


def test_merged_config_shares_nothing_with_its_sources():
    base, changes = {"a": {"x": [1]}}, {"b": {"y": [1]}}
    merged = merge(base, changes)

    merged["a"]["x"].append(2)
    merged["b"]["y"].append(2)

    assert base == {"a": {"x": [1]}}
    assert changes == {"b": {"y": [1]}}


@repeatable
@given(configs)
def test_thaw_brings_back_what_was_frozen(config):
    assert exactly(thaw(freeze(config))) == exactly(config)


def test_frozen_config_cannot_be_changed_at_any_depth():
    source = {"a": [{"b": 1}]}
    frozen = freeze(source)

    source["a"][0]["b"] = 2

    assert isinstance(frozen, MappingProxyType)
    assert isinstance(frozen["a"], tuple)
    assert frozen["a"][0]["b"] == 1
    with pytest.raises(TypeError):
        frozen["a"][0]["b"] = 3


def test_differences_are_listed_by_path():
    old = {"lr": 0.1, "metrics": ["a", "b"], "gone": 1, "sizes": [1], "same": {"x": [1]}}
    new = {"lr": 0.2, "metrics": ["a", "c"], "new": None, "sizes": [1, 2], "same": {"x": [1.0]}}

    found = differences(old, new)

    assert found == [
        ("gone", 1, ABSENT),
        ("lr", 0.1, 0.2),
        ("metrics.1", "b", "c"),
        ("new", ABSENT, None),
        ("sizes", [1], [1, 2]),
    ]
    assert repr(ABSENT) == "(absent)"


def test_true_differs_from_one_and_null_from_absent():
    assert differences({"a": 1, "b": None}, {"a": True}) == [("a", 1, True), ("b", None, ABSENT)]


def test_items_of_a_long_list_are_in_the_order_of_their_indices():
    found = differences({"a": [0] * 12}, {"a": [1] * 12})

    assert [path for path, _, _ in found] == [f"a.{index}" for index in range(12)]


@repeatable
@given(configs, configs)
def test_no_differences_means_equal(old, new):
    assert differences(old, freeze(old)) == []
    assert (differences(old, new) == []) == (exactly(as_floats(old)) == exactly(as_floats(new)))


def as_floats(value):
    """Whole numbers as they compare with floats."""
    if isinstance(value, dict):
        return {key: as_floats(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_floats(item) for item in value]
    is_whole = isinstance(value, float) and value.is_integer()
    return int(value) if is_whole else value


def test_path_is_written_with_dots_and_unclear_keys_in_quotes():
    assert dotted(("transforms", 0, "args")) == "transforms.0.args"
    assert dotted(("a.b", "이름", "", "고양이 귀", "\n")) == '"a.b".이름.""."고양이 귀"."\\n"'


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("optimizer.args.lr", ("optimizer", "args", "lr")),
        ("metrics.0", ("metrics", 0)),
        ("metrics.12.args", ("metrics", 12, "args")),
        ("a.007", ("a", "007")),
        ("a.-1", ("a", "-1")),
        ("a.²", ("a", "²")),
        ("a.9999999999", ("a", "9999999999")),
        ("a..b", ("a", "", "b")),
    ],
)
def test_name_is_taken_apart_at_its_dots_and_an_index_is_a_number(name, path):
    assert exactly(path_of(name)) == exactly(path)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("weigth_decay", " Did you mean 'weight_decay'?"),
        ("WEIGHT_DECAI", " Did you mean 'weight_decay'?"),
        ("sgd", " Did you mean 'SGD'?"),
        ("beta", " Did you mean 'betas'?"),
        ("zzz", ""),
        ("", ""),
    ],
)
def test_nearest_names_are_suggested(word, expected):
    assert suggest(word, ["lr", "betas", "weight_decay", "SGD", "momentum"]) == expected


def test_at_most_three_names_are_suggested_the_nearest_first():
    names = ["resnet18", "resnet34", "resnet50", "resnet101"]

    assert suggest("resnet33", names).startswith(" Did you mean 'resnet34' or '")
    assert suggest("resnet33", names).count(" or ") == 2


@repeatable
@given(configs)
def test_what_is_written_is_read_back_equal(config):
    text = to_json(config)

    assert exactly(json.loads(text)) == exactly(config)
    assert exactly(parse_json_text(text).data) == exactly(config)
    assert to_json(freeze(config)) == text


def test_written_json_is_strict_and_keeps_korean():
    assert to_json({"이름": [1]}) == '{\n    "이름": [\n        1\n    ]\n}\n'
    with pytest.raises(ValueError, match="JSON compliant"):
        to_json({"lr": float("nan")})
