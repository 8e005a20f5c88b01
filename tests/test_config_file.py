"""The file reader must read what json reads, refuse what it should, and point at the right place."""

import functools
import json
import operator
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.plain_values import all_paths, configs, exactly, message_of, repeatable, values
from utils.config_file import MAX_BYTES, parse_json_text, parse_override, parse_value, read_json
from utils.errors import ConfigError

ROOT = Path(__file__).parents[1]
EXAMPLE = """\
{
    // a comment with "quotes" and a comma,
    "name": "Mnist",   /* on
    two lines */ "arch": {"type": "Mlp"},
    "metrics": [
        "accuracy",
        {"type": "top_k", "args": {"k": 5,},},
    ],
}
"""

gaps = st.sampled_from(
    ["", "", " ", "\t", "\n", "\r\n", "\r", '// a, "b" [}\n', '/* , ]}" // 주석 */', "//\r\n", "/***/", "/*\n*/"]
)


def with_noise(value, draw):
    """The value as JSON with random comments, line ends and trailing commas around its tokens."""
    if not isinstance(value, dict | list):
        return draw(gaps) + json.dumps(value, ensure_ascii=draw(st.booleans())) + draw(gaps)
    parts = [with_noise(item, draw) for item in (value.values() if isinstance(value, dict) else value)]
    if isinstance(value, dict):
        parts = [f"{draw(gaps)}{json.dumps(key)}{draw(gaps)}:{part}" for key, part in zip(value, parts, strict=True)]
    end = "," + draw(gaps) if parts and draw(st.booleans()) else ""
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return draw(gaps) + opening + draw(gaps) + ",".join(parts) + end + closing + draw(gaps)


def offset_of(text, place):
    """Where a (line, column) is in a text: counted by hand, line end by line end."""
    line, column = place
    starts = [0]
    for i, char in enumerate(text):
        if char == "\n" or (char == "\r" and text[i + 1 : i + 2] != "\n"):
            starts.append(i + 1)
    return starts[line - 1] + column - 1


def json_or_none(text):
    """What the json module reads as an object in a strict reading, else None."""

    def refuse(name):
        raise ValueError(name)

    def once(pairs):
        if len(dict(pairs)) != len(pairs):
            raise ValueError("twice")
        return dict(pairs)

    try:
        value = json.loads(text, parse_constant=refuse, object_pairs_hook=once)
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()  # 1e999, half pairs
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


# What is read


def test_comments_and_trailing_commas_are_read():
    document = parse_json_text(EXAMPLE, "config.json")

    assert document.data == {
        "name": "Mnist",
        "arch": {"type": "Mlp"},
        "metrics": ["accuracy", {"type": "top_k", "args": {"k": 5}}],
    }


def test_positions_are_right_behind_comments():
    document = parse_json_text(EXAMPLE, "config.json")

    assert document.positions[()] == (1, 1)
    assert document.key_positions[("name",)] == (3, 5)
    assert document.positions[("name",)] == (3, 13)
    assert document.key_positions[("arch",)] == (4, 18)
    assert document.positions[("arch", "type")] == (4, 35)
    assert document.positions[("metrics",)] == (5, 16)
    assert document.positions[("metrics", 0)] == (6, 9)
    assert document.positions[("metrics", 1, "args", "k")] == (7, 41)
    assert ("metrics", 0) not in document.key_positions


def test_comment_marks_inside_strings_stay():
    text = r'{"url": "http://a/*b*/", "quote": "\"//", "end": "\\"} // gone'

    document = parse_json_text(text)

    assert document.data == {"url": "http://a/*b*/", "quote": '"//', "end": "\\"}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_positions_are_the_same_for_all_line_ends(end):
    expected = parse_json_text(EXAMPLE, "config.json")

    document = parse_json_text(EXAMPLE.replace("\n", end), "config.json")

    assert document == expected


def test_byte_order_mark_counts_as_nothing(tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(b"\xef\xbb\xbf" + EXAMPLE.encode())

    document = read_json(path)

    assert document.source == str(path)
    assert document._replace(source="config.json") == parse_json_text(EXAMPLE, "config.json")


def test_columns_count_characters_in_korean_text(tmp_path):
    path = tmp_path / "설정.json"
    path.write_text('{"이름": "고양이", "b": 1}', encoding="utf-8")

    document = read_json(path)

    assert document.data == {"이름": "고양이", "b": 1}
    assert document.key_positions[("b",)] == (1, 15)


@repeatable
@given(st.data())
def test_any_config_with_noise_is_read_back_equal_and_every_value_is_found_where_it_stands(data):
    config = data.draw(configs)
    text = with_noise(config, data.draw)

    document = parse_json_text(text)

    assert exactly(document.data) == exactly(config)
    assert set(document.positions) == set(all_paths(config))
    for path, place in document.positions.items():
        there = text[offset_of(text, place) :]
        value = functools.reduce(operator.getitem, path, config)
        if isinstance(value, dict | list):
            assert there[0] == ("{" if isinstance(value, dict) else "[")
        else:
            assert exactly(json.JSONDecoder().raw_decode(there)[0]) == exactly(value)
    for path, place in document.key_positions.items():
        assert json.JSONDecoder().raw_decode(text[offset_of(text, place) :])[0] == path[-1]


# What is refused, and how

NESTED_33 = '{"a": ' * 33 + "1" + "}" * 33
BROKEN = {
    "missing comma": (
        '{\n    "lr": 0.001\n    "beta": 1\n}',
        "2:16: not valid JSON: expecting ',' delimiter",
        '     2 |     "lr": 0.001\n       |                ^',
    ),
    "missing comma before a comment": (
        '{\n"a": [1, 2 // two\n3]}',
        "2:11: not valid JSON: expecting ',' delimiter",
        '     2 | "a": [1, 2 // two\n       |           ^',
    ),
    "missing comma after a tab": (
        '{\n\t"a":\t1\n\t"b": 2}',
        "2:8: not valid JSON: expecting ',' delimiter",
        '     2 | \t"a":\t1\n       | \t    \t ^',
    ),
    "missing comma in wide text": (
        '{"이름": "고양이" "b": 1}',
        "1:13: not valid JSON: expecting ',' delimiter",
        '     1 | {"이름": "고양이" "b": 1}\n       |                  ^',
    ),
    "missing colon": (
        '{"a" 1}',
        "1:5: not valid JSON: expecting ':' delimiter",
        '     1 | {"a" 1}\n       |     ^',
    ),
    "nothing after the colon": (
        '{"a": }',
        "1:7: not valid JSON: expecting a value, got '}'",
        '     1 | {"a": }\n       |       ^',
    ),
    "a lonely comma": (
        '{"a": [,]}',
        "1:8: not valid JSON: expecting a value, got ','",
        '     1 | {"a": [,]}\n       |        ^',
    ),
    "two commas": (
        '{"a": [1,,]}',
        "1:10: not valid JSON: expecting a value, got ','",
        '     1 | {"a": [1,,]}\n       |          ^',
    ),
    "a key without quotes": (
        "{a: 1}",
        "1:2: not valid JSON: expecting a key in double quotes, got 'a'",
        "     1 | {a: 1}\n       |  ^",
    ),
    "single quotes": (
        "{'a': 1}",
        '1:2: not valid JSON: expecting a key in double quotes, got "\'"; JSON has "',
        "     1 | {'a': 1}\n       |  ^",
    ),
    "a Python word": (
        '{"a": True}',
        "1:7: not valid JSON: expecting a value, got 'True'; JSON has true",
        '     1 | {"a": True}\n       |       ^',
    ),
    "a number of another language": (
        '{"a": 010}',
        "1:7: not valid JSON: expecting a value, got '010'",
        '     1 | {"a": 010}\n       |       ^',
    ),
    "an object that is not closed": (
        '{"a": {\n    "b": 1\n',
        "2:11: not valid JSON: expecting '}' for the '{' on line 1",
        '     2 |     "b": 1\n       |           ^',
    ),
    "an object that ends behind a comma": (
        '{"a": 1,\n\n',
        "1:9: not valid JSON: expecting a key in double quotes, got the end of the text",
        '     1 | {"a": 1,\n       |         ^',
    ),
    "the wrong bracket": (
        '{"a": [1, 2}',
        "1:12: not valid JSON: expecting ']' for the '[' on line 1",
        '     1 | {"a": [1, 2}\n       |            ^',
    ),
    "a string that is not closed": (
        '{"a": "b\n}',
        "1:7: not valid JSON: this string is not closed on its line, or holds a tab",
        '     1 | {"a": "b\n       |       ^',
    ),
    "an unknown escape": (
        '{"a": "C:\\data"}',
        "1:10: not valid JSON: unknown escape; a backslash is written \\\\",
        '     1 | {"a": "C:\\data"}\n       |          ^',
    ),
    "half a character": (
        '{"a": "\\ud83d"}',
        "1:7: not valid JSON: half of a \\uXXXX pair in this string",
        '     1 | {"a": "\\ud83d"}\n       |       ^',
    ),
    "a comment that is not closed": (
        '{"a": 1} /* b',
        "1:10: not valid JSON: this comment is not closed by */",
        '     1 | {"a": 1} /* b\n       |          ^',
    ),
    "a second object": (
        '{"a": 1}\n{}',
        "2:1: not valid JSON: expecting the end, got '{'",
        "     2 | {}\n       | ^",
    ),
    "an invisible space": (
        '{"a":\u00a01}',
        "1:6: not valid JSON: expecting a value, got '\\xa0'",
        '     1 | {"a":\ufffd1}\n       |      ^',
    ),
    "empty": (
        "",
        "1:1: not valid JSON: expecting a value, got the end of the text",
        "     1 | \n       | ^",
    ),
    "a key twice": (
        '{"optimizer": {"args": {\n  "lr": 1,\n\n  "lr": 1}}}',
        "4:3: optimizer.args.lr: this key is on line 2 and again on line 4",
        '     4 |   "lr": 1}}}\n       |   ^',
    ),
    "the same key in two spellings": (
        '{"a": 1, "\\u0061": 1}',
        "1:10: a: this key is on line 1 and again on line 1",
        '     1 | {"a": 1, "\\u0061": 1}\n       |          ^',
    ),
    "NaN": (
        '{"optimizer": {"lr": NaN}}',
        "1:22: optimizer.lr: NaN is not a finite number",
        '     1 | {"optimizer": {"lr": NaN}}\n       |                      ^',
    ),
    "minus infinity in a list": (
        '{"a": [0, -Infinity]}',
        "1:11: a.1: -Infinity is not a finite number",
        '     1 | {"a": [0, -Infinity]}\n       |           ^',
    ),
    "a float that overflows": (
        '{"a": 1e999}',
        "1:7: a: 1e999 is not a finite number",
        '     1 | {"a": 1e999}\n       |       ^',
    ),
    "a list at the top": (
        "// so\n [1]",
        "2:2: the config must be an object, { ... }",
        "     2 |  [1]\n       |  ^",
    ),
    "too deep": (
        NESTED_33,
        "1:193: nested deeper than 32 levels",
    ),
    "an integer that no float can hold": (
        '{"a": ' + "9" * 400 + "}",
        f"1:7: a: {'9' * 40} is not a finite number",
    ),
    "an integer that int() refuses": (
        '{"a": ' + "9" * 5000 + "}",
        f"1:7: not valid JSON: expecting a value, got '{'9' * 40}'",
    ),
    "a terminal's escape sequence": (
        '{"a": \x1b[31m}',
        "1:7: not valid JSON: expecting a value, got '\\x1b'",
        '     1 | {"a": \ufffd[31m}\n       |       ^',
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_text_is_refused_with_its_place_and_its_line(case):
    text, *expected = BROKEN[case]

    message = message_of(parse_json_text, text, "config.json")

    assert message == "config.json:" + "\n".join(expected)


def test_thirty_two_levels_are_read():
    text = '{"a": ' * 32 + "1" + "}" * 32

    assert parse_json_text(text).data == json.loads(text)


def test_file_that_is_missing_is_named(tmp_path):
    path = tmp_path / "cfg.json"

    assert message_of(read_json, path) == f"{path}: no such file"


def test_directory_is_refused(tmp_path):
    assert message_of(read_json, tmp_path) == f"{tmp_path}: is a directory"


def test_name_that_cannot_exist_is_refused():
    assert message_of(read_json, "a\0b") == "a\0b: embedded null byte"


def test_large_file_is_refused_at_its_first_byte_too_many(tmp_path):
    path = tmp_path / "cfg.json"
    path.write_bytes(b"{}" + b" " * (MAX_BYTES - 2))
    assert read_json(path).data == {}

    path.write_bytes(b"{}" + b" " * (MAX_BYTES - 1))

    assert message_of(read_json, path) == f"{path}: larger than 1 MB, so it is no config file"


def test_text_of_another_encoding_is_refused_with_byte_offset_and_line(tmp_path):
    path = tmp_path / "cfg.json"
    path.write_bytes('{\n"name": "고양이"\n}'.encode("cp949"))

    message = message_of(read_json, path)

    assert message == f"{path}: not UTF-8: byte 0xb0 at offset 11, on line 2; save the file as UTF-8"


def test_problem_of_an_entry_underlines_its_key():
    text = '{\n    "optimizer": {\n        "args": {\n            "weigth_decay": 0\n        }\n    }\n}'
    document = parse_json_text(text, "config.json")

    problem = document.problem(("optimizer", "args", "weigth_decay"), "Adam has no 'weigth_decay'.")

    assert problem == (
        "config.json:4:13: optimizer.args.weigth_decay: Adam has no 'weigth_decay'.\n"
        '     4 |             "weigth_decay": 0\n'
        "       |             ^^^^^^^^^^^^^^"
    )


def test_problem_of_a_list_item_underlines_the_item():
    document = parse_json_text('{"metrics": ["a", "정확도"]}', "c.json")

    assert document.problem(("metrics", 1), "unknown") == (
        'c.json:1:19: metrics.1: unknown\n     1 | {"metrics": ["a", "정확도"]}\n       |                   ^^^^^^^^'
    )


def test_problem_of_an_absent_key_points_at_what_should_hold_it():
    document = parse_json_text('{"a": 1,\n "trainer": {}}', "c.json")

    assert document.place(("trainer", "epochs")) == (2, 2)
    assert document.place(("nothing",)) == (1, 1)


@settings(repeatable, max_examples=300)
@given(st.text(alphabet='{}[]",:/*\\ \n\t0123456789eE+-.abtrufalsn가\ufeff\ud800', max_size=40))
def test_any_text_is_read_as_json_reads_it_or_refused(text):
    expected = json_or_none(text)

    try:
        data = parse_json_text(text).data
    except ConfigError:
        data = None

    is_extended = "/" in text or "\ufeff" in text or re.search(r",\s*[}\]]", text)
    assert exactly(data) == exactly(expected) or (expected is None and is_extended)


@repeatable
@given(configs, st.integers(min_value=0), st.sampled_from(['"', ",", "}", "]", "{", "[", ":", "\\", "\n", "x", ""]))
def test_json_with_one_wrong_character_is_read_as_json_reads_it_or_refused(config, where, char):
    text = json.dumps(config, ensure_ascii=False)
    at = where % len(text)
    text = text[:at] + char + text[at + 1 :]
    expected = json_or_none(text)

    try:
        data = parse_json_text(text).data
    except ConfigError as error:
        data = None
        line, column = map(int, re.match(r"command line:(\d+):(\d+): ", str(error)).groups())
        assert 0 <= offset_of(text, (line, column)) <= len(text)

    has_trailing_comma = re.search(r",\s*[}\]]", text)
    assert exactly(data) == exactly(expected) or (expected is None and has_trailing_comma)


@pytest.mark.parametrize(
    "text",
    [
        "[" * MAX_BYTES,
        '{"a":' * (MAX_BYTES // 5),
        '{"a": "' + "\\" * (MAX_BYTES - 8),
        '{"a": "' + "x" * MAX_BYTES,
        '{"a" ' + "/*" * (MAX_BYTES // 2),
        '{"a" ' + "/**/" * (MAX_BYTES // 4),
        "//" + "/\n//" * (MAX_BYTES // 4),
        '{"a": ' + "9" * MAX_BYTES,
        '{"a": ' + "\n" * MAX_BYTES,
        '{"a": [' + "[]," * (MAX_BYTES // 20),
        '"' * MAX_BYTES,
    ],
    ids=lambda text: text[:9].replace("\n", "-"),
)
def test_hostile_text_is_refused_in_bounded_time(text):
    start = time.process_time()

    message = message_of(parse_json_text, text)

    assert time.process_time() - start < 5  # each takes under 0.5 s; quadratic time would be minutes
    assert len(message) < 300


# The command line


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("0.01", 0.01),
        ("1e-3", 0.001),
        ("3", 3),
        (" 3 ", 3),
        ("true", True),
        ("null", None),
        ("[0.9, 0.99]", [0.9, 0.99]),
        ('{"type": "SGD"}', {"type": "SGD"}),
        ('"3"', "3"),
        ("", ""),
        ("adam", "adam"),
        ("data/x", "data/x"),
        ("1//2", "1//2"),
        ("a /* b */", "a /* b */"),
        ("None", "None"),
        ("True", "True"),
        ("2024-01-01", "2024-01-01"),
        ("1_000", "1_000"),
        ("-", "-"),
        ("고양이", "고양이"),
    ],
)
def test_word_is_json_or_else_a_plain_string(word, value):
    assert exactly(parse_value(word)) == exactly(value)


@settings(repeatable, max_examples=300)
@given(st.text(max_size=20))
def test_any_word_that_json_reads_is_that_value(word):
    try:
        expected = json.loads(word)
        json.dumps(expected, allow_nan=False)
    except ValueError:
        expected = word

    try:
        assert exactly(parse_value(word)) == exactly(expected)
    except ConfigError:
        assert word.lstrip()[0] in '{["' or word.strip() in ("NaN", "Infinity", "-Infinity")


@repeatable
@given(values)
def test_any_value_goes_through_a_word(value):
    assert exactly(parse_value(json.dumps(value))) == exactly(value)


@pytest.mark.parametrize(
    ("word", "path", "value"),
    [
        ("optimizer.args.lr=0.01", ("optimizer", "args", "lr"), 0.01),
        ("metrics.0=accuracy", ("metrics", 0), "accuracy"),
        ("lr_scheduler=null", ("lr_scheduler",), None),
        ("name=a=b", ("name",), "a=b"),
        ("name=", ("name",), ""),
        ("a.007=1", ("a", "007"), 1),
        ("a.-1=1", ("a", "-1"), 1),
        ("a.²=1", ("a", "²"), 1),
    ],
)
def test_override_is_a_path_and_a_value(word, path, value):
    assert parse_override(word) == (path, value)


@pytest.mark.parametrize("word", ["epochs", "", "=3", ".lr=3", "args.=3", "args..lr=3", "a." * 32 + "a=1"])
def test_word_that_is_no_override_is_refused(word):
    expected = f"command line: {word}: expecting key=value, as in optimizer.args.lr=0.01"

    assert message_of(parse_override, word) == expected


def test_word_that_was_meant_as_json_is_refused_with_its_place():
    assert message_of(parse_override, "optimizer.args.betas=[0.9 0.99]") == (
        "command line:1:26: not valid JSON: expecting ',' delimiter\n"
        "     1 | optimizer.args.betas=[0.9 0.99]\n"
        "       |                          ^"
    )


@pytest.mark.parametrize("word", ["NaN", "-Infinity", "1e999"])
def test_number_that_is_not_finite_is_refused_on_the_command_line_too(word):
    message = message_of(parse_override, f"optimizer.args.lr={word}")

    assert message.splitlines()[0] == f"command line:1:19: optimizer.args.lr: {word} is not a finite number"


def test_word_with_bytes_that_are_no_text_is_refused():
    word = b"name=\xb0".decode("utf-8", "surrogateescape")

    assert message_of(parse_override, word) == "command line: 'name=\\udcb0': not UTF-8"


def test_levels_of_key_and_value_count_together():
    deepest = "[" * 22 + "]" * 22
    key = ".".join("abcdefghij")
    assert parse_override(f"{key}={deepest}")[1] == json.loads(deepest)

    message = message_of(parse_override, f"{key}=[{deepest}]")

    assert "nested deeper than 32 levels" in message


def test_import_loads_no_slow_module():
    code = "import sys, utils.config_file; print({'torch', 'numpy', 'pydantic', 'inspect'} & set(sys.modules))"

    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert result.stdout == "set()\n"
