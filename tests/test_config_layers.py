"""Layers of a config: what they make together, who wrote which value, and how problems are told."""

import json
import os
import random
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from utils.config_file import parse_json_text, read_json
from utils.config_layers import (
    MAX_FILES,
    MAX_MESSAGE,
    LayeredConfig,
    Origin,
    Problem,
    Word,
    read_layers,
    walk,
    with_origins,
)
from utils.config_tree import dotted, path_of
from utils.errors import ConfigError

CLOSING = "in the config; nothing was started."


def layered(*texts, words=(), resolve=True):
    """Files a.json, b.json, ... laid in this order, then words such as "trainer.epochs=3"."""
    config = LayeredConfig()
    for name, text in zip("abcdefg", texts, strict=False):
        document = parse_json_text(text if isinstance(text, str) else json.dumps(text), f"{name}.json")
        config.lay(document.data, document)
    for word in words:
        name, _, value = word.partition("=")
        config.set(path_of(name), json.loads(value), word)
    if resolve:
        config.resolve()
    return config


def told(config, *problems):
    """The first lines of all problems, without the lines of the file that are shown below them."""
    found = str(config.error([Problem(path_of(path), message) for path, message in problems])).splitlines()
    return [line for line in found if not line.startswith("  ")]


def message_of(function, *args):
    with pytest.raises(ConfigError) as caught:
        function(*args)
    return str(caught.value)


@pytest.fixture
def write(tmp_path):
    """Writes a config file into a folder of its own, makes the folders on the way, and gives the path."""

    def file(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")
        return path

    return file


# --- who wrote what ----------------------------------------------------------------------------------------------


def test_later_layers_win_and_each_value_knows_its_file():
    config = layered(
        '{"name": "x",\n "trainer": {"epochs": 1, "save_period": 2}}', '{"trainer": {\n  "epochs": 3}, "seed": 7}'
    )

    assert config.data == {"name": "x", "trainer": {"epochs": 3, "save_period": 2}, "seed": 7}
    places = {dotted(path): config.where(path) for path, _ in walk(config.data) if path}
    assert places == {
        "name": "a.json:1:2",
        "trainer": "b.json:1:2",
        "trainer.epochs": "b.json:2:3",
        "trainer.save_period": "a.json:2:27",
        "seed": "b.json:2:17",
    }


def test_what_is_absent_is_looked_for_in_what_should_hold_it():
    config = layered('{"trainer": {}}', '{\n"name": "x"}')

    assert config.where(("trainer", "epochs")) == "a.json:1:2"
    assert config.where(("arch",)) == "b.json:1:1"
    assert LayeredConfig({"a": 1}).where(("a",)) == "the config"


def test_lists_are_replaced_whole_also_in_their_origin():
    config = layered('{"metrics": ["accuracy", "f1"]}', '{"metrics": [\n"f1"]}')

    assert config.data == {"metrics": ["f1"]}
    assert config.where(("metrics", 0)) == "b.json:2:1"
    assert config.where(("metrics", 1)) == "b.json:1:2"


def test_section_of_another_type_is_replaced_whole_also_in_its_origin():
    base = '{"optimizer": {"type": "SGD", "args": {"lr": 1, "momentum": 0.9}}}'

    config = layered(base, '{"optimizer": {"type": "Adam",\n"args": {"lr": 2}}}')

    assert config.data == {"optimizer": {"type": "Adam", "args": {"lr": 2}}}
    assert config.where(("optimizer", "args", "lr")) == "b.json:2:10"
    assert config.where(("optimizer", "args", "momentum")) == "b.json:2:1"


def test_layer_without_lines_is_named():
    config = LayeredConfig()
    config.lay({"seed": 1, "name": "x"}, Origin("the config in last.pth"))
    config.lay({"seed": 2}, parse_json_text('{"seed": 2}', "a.json"))

    assert config.where(("name",)) == "the config in last.pth"
    assert config.where(("seed",)) == "a.json:1:2"
    assert told(config, ("name", "no"), ("seed", "no")) == [
        "a.json:1:2: seed: no",
        "the config in last.pth: name: no",
        f"2 problems {CLOSING}",
    ]


def test_word_wrote_its_value_and_the_dicts_that_it_made():
    config = layered({"lr_scheduler": None, "optimizer": {"args": {"lr": 1}}}, words=[
        "lr_scheduler.args.gamma=0.1", "optimizer.args.lr={\"x\": 2}"
    ])  # fmt: skip

    for path in [("lr_scheduler",), ("lr_scheduler", "args"), ("lr_scheduler", "args", "gamma")]:
        assert config.where(path) == "the command line: lr_scheduler.args.gamma=0.1"
    assert config.where(("optimizer", "args", "lr", "x")) == 'the command line: optimizer.args.lr={"x": 2}'
    assert config.where(("optimizer", "args")) == "a.json:1:38"


def test_bare_name_still_stands_where_it_stood_after_it_was_given_arguments():
    base = '{"loss": "focal", "metrics": ["top_k"]}'

    config = layered(base, '{"loss": {"args": {"x": 1}}}', words=["metrics.0.args.k=3"])

    assert config.data == {
        "loss": {"type": "focal", "args": {"x": 1}},
        "metrics": [{"type": "top_k", "args": {"k": 3}}],
    }
    assert config.where(("loss", "type")) == "a.json:1:2"
    assert config.where(("loss", "args", "x")) == "b.json:1:20"
    assert config.where(("metrics", 0, "type")) == "a.json:1:31"
    assert config.where(("metrics", 0, "args", "k")) == "the command line: metrics.0.args.k=3"


def test_name_that_is_written_anew_with_its_arguments_stands_where_it_is_new():
    config = layered('{"loss": "focal"}', '{"loss": {"type": "focal", "args": {}}}')

    assert config.where(("loss", "type")) == "b.json:1:11"


def test_word_of_a_key_that_looks_like_an_index_wrote_that_key():
    config = layered({"names": {"0": "cat"}}, words=['names.0="dog"'])

    assert config.data == {"names": {"0": "dog"}}
    assert config.where(("names", "0")) == 'the command line: names.0="dog"'


# --- how problems are told ---------------------------------------------------------------------------------------


def test_problems_come_by_file_and_line_the_file_before_its_base_and_words_last():
    config = layered('{"a": 1,\n "b": 1}', '{"c": 1,\n "d": 1}', words=["y=1", "x=1"])
    keys = list("abcdxy")
    random.Random(0).shuffle(keys)

    lines = told(config, *[(key, "no") for key in keys], ("a", "no"))

    assert lines == [
        "b.json:1:2: c: no",
        "b.json:2:2: d: no",
        "a.json:1:2: a: no",
        "a.json:2:2: b: no",
        "command line: y=1: no",
        "command line: x=1: no",
        f"6 problems {CLOSING}",
    ]


def test_one_problem_is_one_with_its_line_and_marker():
    config = layered('{\n  "trainer": {"epochs": 0}}')

    error = config.error([Problem(("trainer", "epochs"), "must be at least 1, got 0")])

    assert str(error) == (
        "a.json:2:15: trainer.epochs: must be at least 1, got 0\n"
        '     2 |   "trainer": {"epochs": 0}}\n'
        "       |               ^^^^^^^^\n"
        f"1 problem {CLOSING}"
    )


@pytest.mark.parametrize(
    ("text", "path", "line"),
    [
        ("trainer.epochs=0", ("trainer", "epochs"), "trainer.epochs=0: no"),
        ("trainer.epochs=0", ("trainer",), "trainer.epochs=0: no"),
        ("trainer.epochs=0", ("trainer", "epochs", "x"), "trainer.epochs=0: trainer.epochs.x: no"),
        ("trainer.epochs=0", ("loss",), "trainer.epochs=0: loss: no"),
        ("--lr 0", ("optimizer", "args", "lr"), "--lr 0: no"),
        ("name=" + "x" * 200, ("name",), "name=" + "x" * 94 + ": no"),
    ],
)
def test_word_says_the_path_where_it_is_not_in_the_word(text, path, line):
    assert Word(text, path_of(text.partition("=")[0])).problem(path, "no") == f"command line: {line}"


def test_contradicted_entry_is_shown_below():
    config = layered('{"a": 1,\n "b": 2}')
    below = '     1 | {"a": 1,\n       |  ^^^\na.json:2:2: b: see here\n     2 |  "b": 2}\n       |  ^^^'

    assert config.text(Problem(("a",), "not with b", ("b",))) == f"a.json:1:2: a: not with b\n{below}"
    assert config.text(Problem(("a",), "not with c", ("c",))).splitlines() == [
        "a.json:1:2: a: not with c",
        '     1 | {"a": 1,',
        "       |  ^^^",
    ]


def test_word_that_cannot_be_set_is_told_as_a_word_also_after_others():
    config = layered({"metrics": ["a"], "epochs": 1}, words=["metrics.9=1", "epochs=3"])

    lines = str(config.error(config.problems)).splitlines()

    assert lines == ['command line: metrics.9=1: metrics is ["a"] and has no 9', f"1 problem {CLOSING}"]
    assert config.data == {"metrics": ["a"], "epochs": 3}


# --- _base_ ------------------------------------------------------------------------------------------------------


def test_bases_lie_below_in_their_order_each_relative_to_its_file(write):
    write("shared/deep.json", {"a": "deep", "b": "deep", "c": "deep", "d": "deep"})
    write("shared/one.json", {"_base_": "deep.json", "b": "one", "c": "one", "d": "one"})
    write("two.json", {"c": "two", "d": "two"})
    main = write("configs/main.json", {"_base_": ["../shared/one.json", "../two.json"], "d": "main"})

    documents = read_layers(main)

    config = LayeredConfig()
    for document in documents:
        config.lay(document.data, document)
    assert config.data == {"a": "deep", "b": "one", "c": "two", "d": "main"}
    assert [os.path.basename(document.source) for document in documents] == [
        "deep.json", "one.json", "two.json", "main.json"
    ]  # fmt: skip


def test_base_may_be_one_absolute_path_and_a_file_may_have_none(write, tmp_path):
    base = write("elsewhere/base.json", {"a": 1})

    documents = read_layers(write("main.json", {"_base_": str(base)}))

    assert [(document.source, document.data) for document in documents] == [
        (str(base), {"a": 1}),
        (str(tmp_path / "main.json"), {}),
    ]
    assert read_layers(base) == [read_json(base)]
    assert [document.data for document in read_layers(write("none.json", {"_base_": []}))] == [{}]


@pytest.mark.parametrize("name", ["none.json", "folder", "~nobody-of-this-name/a.json", "a" * 300, "loop.json"])
def test_base_that_is_no_file_is_refused_where_it_is_named(write, tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop.json").symlink_to("loop.json")
    main = write("main.json", {"_base_": ["main2.json", name]})
    write("main2.json", {})

    lines = message_of(read_layers, main).splitlines()

    place = f"{main}:1:27: _base_.1"
    assert lines[0] == f"{place}: {tmp_path / name}: no such file (it is relative to {main})"


@pytest.mark.parametrize("base", [3, None, {}, "", True, ["other.json", 3], "a\0b"])
def test_base_that_is_no_path_is_refused_where_it_stands(write, base):
    write("other.json", {})
    main = write("main.json", {"_base_": base})
    wrong = base[1] if isinstance(base, list) else base
    place = "1:27: _base_.1" if isinstance(base, list) else "1:2: _base_"

    lines = message_of(read_layers, main).splitlines()

    assert lines[0] == f"{main}:{place}: expected the path of a config file, got {json.dumps(wrong)}"


@pytest.mark.parametrize("length", [1, 2, 3])
def test_file_that_is_its_own_base_is_refused_however_far_round(write, length):
    files = [write(f"{i}.json", {"_base_": f"{(i + 1) % length}.json"}) for i in range(length)]

    lines = message_of(read_layers, files[0]).splitlines()

    assert lines[0] == f"{files[-1]}:1:2: _base_: 0.json is its own base"


def test_mistake_in_a_base_is_told_of_that_file(write, tmp_path):
    (tmp_path / "base.json").write_text('{"a" 1}')

    message = message_of(read_layers, write("main.json", {"_base_": "base.json"}))

    assert message.startswith(f"{tmp_path / 'base.json'}:1:5: not valid JSON: expecting ':' delimiter")


@pytest.mark.parametrize("shape", ["list", "chain"])
def test_as_many_files_as_allowed_are_read_and_one_more_is_refused(write, shape):
    def files(number):
        for i in range(1, number):
            write(f"{i}.json", {"_base_": f"{i + 1}.json"} if shape == "chain" and i < number - 1 else {})
        return write("0.json", {"_base_": "1.json" if shape == "chain" else [f"{i}.json" for i in range(1, number)]})

    assert len(read_layers(files(MAX_FILES))) == MAX_FILES

    assert f"more than {MAX_FILES} files" in message_of(read_layers, files(MAX_FILES + 1))


def test_bases_that_double_at_each_level_are_refused_and_a_thousand_in_a_row_too(write):
    for i in range(1000):
        write(f"{i}.json", {"_base_": [f"{i + 1}.json"] * 2})
        write(f"row{i}.json", {"_base_": f"row{i + 1}.json"})

    assert f"more than {MAX_FILES} files" in message_of(read_layers, write("30.json", {}).with_name("10.json"))
    assert f"more than {MAX_FILES} files" in message_of(read_layers, write("1000.json", {}).with_name("row0.json"))


# --- ${references} -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("${n}", 3),
        ("${x.f}", 0.5),
        ("${t}", True),
        ("${null}", None),
        ("${s}", "고양이"),
        ("${list}", [1, {"a": 3}]),
        ("${list.1.a}", 3),
        ("${x.0}", "zero"),
        ("${again}", 3),
        ("${s.type}", "고양이"),
        ("${s_again.type}", "고양이"),
        ("a ${n}, ${x.f}; ${t}, ${null}: ${s}", "a 3, 0.5; true, null: 고양이"),
        ("${s}${s}", "고양이고양이"),
        (" ${n}", " 3"),
        ("$${s}{s}", "$고양이{s}"),
        ("$n {n} $", "$n {n} $"),
        ({"deep": ["${n}"]}, {"deep": [3]}),
    ],
)
def test_reference_has_the_type_of_its_value_and_is_text_within_text(value, expected):
    values = {
        "n": 3,
        "x": {"f": 0.5, "0": "zero"},
        "t": True,
        "null": None,
        "s": "고양이",
        "s_again": "${s}",
        "again": "${n}",
    }

    config = layered({"value": value, "list": [1, {"a": "${n}"}], **values})

    assert json.dumps(config.data["value"]) == json.dumps(expected)
    assert told(config) == [f"0 problems {CLOSING}"]


def test_containers_are_copied():
    config = layered({"a": {"x": [1]}, "b": "${a}", "c": "${a}"})

    config.data["b"]["x"].append(2)

    assert config.data == {"a": {"x": [1]}, "b": {"x": [1, 2]}, "c": {"x": [1]}}


def test_references_see_all_layers():
    config = layered({"epochs": 1, "period": "${epochs}"}, {"epochs": 2}, words=["epochs=3", 'name="run-${period}"'])

    assert config.data == {"epochs": 3, "period": 3, "name": "run-3"}
    assert config.where(("period",)) == "a.json:1:15"


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ({"epochs": 3, "a": "${epoch}"}, "1:15: a: there is no 'epoch' in the config. Did you mean 'epochs'?"),
        ({"t": {"lr": 3}, "a": "x${t.lrr}"}, "1:18: a: there is no 't.lrr' in the config. Did you mean 't.lr'?"),
        ({"n": 1, "a": "${n.type}"}, "1:10: a: there is no 'n.type' in the config."),
        ({"a": "${}"}, "1:2: a: there is no '' in the config."),
        ({"a": ["${a.1}"]}, "1:8: a.0: there is no 'a.1' in the config. Did you mean 'a.0'?"),
        ({"a": "${n", "n": 1}, "1:2: a: '${n' has a '${' without its '}'"),
        ({"a": "${n} ${n", "n": 1}, "1:2: a: '${n} ${n' has a '${' without its '}'"),
        ({"a": "${x${n}}", "n": 1}, "1:2: a: '${x${n}}' has a '${' without its '}'"),
        ({"a": "b ${n}", "n": {}}, "1:2: a: ${n} is a whole section and cannot be part of a text"),
        ({"a": "b ${n}", "n": [1]}, "1:2: a: ${n} is a whole section and cannot be part of a text"),
    ],
)  # fmt: skip
def test_reference_that_cannot_be_replaced_is_told_where_it_stands(data, line):
    assert told(layered(data)) == [f"a.json:{line}", f"1 problem {CLOSING}"]


def test_reference_in_a_word_is_told_as_the_word():
    assert told(layered({"seed": 1}, words=['name="${sed}"'])) == [
        "command line: name=\"${sed}\": there is no 'sed' in the config. Did you mean 'seed'?",
        f"1 problem {CLOSING}",
    ]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"a": "${a}"}, {"a": "a -> a"}),
        ({"a": "see ${a}"}, {"a": "a -> a"}),
        ({"a": "${b}", "b": "${a}"}, {"a": "b -> a -> b", "b": "a -> b -> a"}),
        (
            {"a": "${b}", "b": "${c}", "c": "${a}"},
            {"a": "b -> c -> a -> b", "b": "c -> a -> b -> c", "c": "a -> b -> c -> a"},
        ),
        ({"a": {"x": "${a}"}}, {"a.x": "a.x -> a"}),
        ({"a": "${a.type}"}, {"a.type": "a.type -> a.type"}),
        ({"a": ["${a.0}"]}, {"a.0": "a.0 -> a.0"}),
        ({"0": "${0}"}, {"0": "0 -> 0"}),
        ({"a": {"x": "${b}"}, "b": {"y": "${a}"}}, {"a.x": "b.y -> a.x -> b", "b.y": "a.x -> b.y -> a"}),
        ({"a": "${a}", "b": "${a}", "c": ["${b}"]}, {"a": "a -> a"}),
    ],
)
def test_circle_is_told_once_at_each_reference_that_closes_it(data, expected):
    lines = told(layered(data))[:-1]

    assert [line.split(": ", 1)[1] for line in lines] == [f"{p}: refers to itself: {c}" for p, c in expected.items()]


def test_circle_of_a_key_that_looks_like_an_index_is_told_at_that_key():
    assert told(layered({"n": {"0": "${n.0}"}})) == [
        "a.json:1:8: n.0: refers to itself: n.0 -> n.0",
        f"1 problem {CLOSING}",
    ]


def test_references_in_a_row_are_followed_so_far():
    row = {f"a{i}": f"${{a{i + 1}}}" for i in range(32)}

    assert layered({**row, "a32": 7}).data == {f"a{i}": 7 for i in range(33)}
    assert told(layered({**row, "a32": "${a33}", "a33": 7})) == [
        "a.json:1:527: a32: the last of more than 32 references in a row",
        f"1 problem {CLOSING}",
    ]


def test_other_problems_of_what_is_no_value_are_not_told():
    config = layered({"a": "${b}", "b": {"x": "${nope}", "y": 0}, "c": 1})

    lines = told(config, ("a.x", "no number"), ("b.x", "no number"), ("b.y", "too small"), ("c", "no"))

    assert lines == [
        "a.json:1:21: b.x: there is no 'nope' in the config.",
        "a.json:1:37: b.y: too small",
        "a.json:1:46: c: no",
        f"3 problems {CLOSING}",
    ]


def nested(value, levels):
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({f"a{i}": [f"${{a{i + 1}}}"] * 10 for i in range(9)} | {"a9": 1}, "make more than 100,000 values"),
        ({f"a{i}": f"${{a{i + 1}}}" * 10 for i in range(9)} | {"a9": "x"}, "make more than 100,000 characters of text"),
        ({"a": "x" * 90_000, "b": "${a}" * 90_000}, "make more than 100,000 characters of text"),
        ({"a": "x" * 90_000, "b": ["${a}"] * 90_000}, "make more than 100,000 characters of text"),
        (
            {f"a{i}": nested(f"${{a{i + 1}}}", 25) for i in range(30)} | {"a30": 1},
            "nest the config deeper than 32 levels",
        ),
    ],
    ids=["values", "doubled text", "text", "list of text", "levels"],
)
def test_references_that_would_blow_the_config_up_are_refused_at_once(data, reason):
    start = time.process_time()

    message = message_of(layered, data)

    assert message == f"the references ${{...}} would {reason}"
    assert time.process_time() - start < 5  # each takes under 0.5 s; unbounded they take minutes, or all memory


def test_levels_are_allowed_as_in_a_file():
    config = layered({"a": "${b}", "b": nested(1, 31)})

    assert config.data["a"] == nested(1, 31)


def test_thousands_of_unknown_names_are_told_in_bounded_time():
    start = time.process_time()

    config = layered({"a": [f"${{b{i}}}" for i in range(5000)]})

    assert len(told(config)) == 5001
    assert time.process_time() - start < 20  # takes 0.4 s; with names searched for each, over a minute


# --- the config with its origins ---------------------------------------------------------------------------------

values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=9,
)


def test_origins_stand_behind_the_values():
    config = layered('{"a": {"b": [1, {}]},\n "c": "x"}', words=["n=null"])

    lines = with_origins(config, {**config.data, "seed": 0}).splitlines()

    assert lines == [
        "{",
        '    "a": {',
        '        "b": [',
        "            1,  // a.json:1:14",
        "            {}  // a.json:1:17",
        "        ]",
        "    },",
        '    "c": "x",  // a.json:2:2',
        '    "n": null,  // the command line: n=null',
        '    "seed": 0  // filled in',
        "}",
    ]


@settings(derandomize=True, deadline=None, database=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.text(max_size=3), values, max_size=4), values, st.text(max_size=5))
def test_config_with_origins_is_read_back_equal(data, filled_in, word):
    config = LayeredConfig()
    config.lay(data, parse_json_text(json.dumps(data), f"{word}.json"))
    config.set(("word",), word, f"word={word}")
    data = {**config.data, "filled in": filled_in}

    text = with_origins(config, data)

    assert parse_json_text(text).data == data


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_word_of_two_lines_stays_a_comment_of_one(end):
    config = LayeredConfig()
    config.set(("a",), f"x{end}y", f"a=x{end}y")

    text = with_origins(config, config.data)

    assert text.splitlines()[1].endswith("// the command line: a=x y")
    assert parse_json_text(text).data == {"a": f"x{end}y"}


def test_a_key_longer_than_any_screen_is_cut_in_the_message():
    config = LayeredConfig()

    message = str(config.error([Problem(("k" * 100_000,), "unknown key.")]))

    assert message == "k" * MAX_MESSAGE + "...\n1 problem in the config; nothing was started."
