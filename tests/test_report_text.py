"""What is done to strangers' text before the template escapes it, and how numbers are written."""

import json
import os

import pytest
from markupsafe import Markup

from logger.report.text import LONGEST, flat, json_block, limited, number, plain, shown, written_out


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("한국어 é 👩‍👩‍👧", "한국어 é 👩‍👩‍👧"),
        ("two\nlines\tand\0nul", "two\\nlines\\tand\\x00nul"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        (os.fsdecode(b"caf\xe9.png"), "caf\\xe9.png"),
        ("\ud800", "\\ud800"),
    ],
)
def test_what_cannot_be_seen_or_encoded_is_written_out(text: str, expected: str) -> None:
    assert written_out(text) == expected
    assert written_out(text).encode()


def test_a_long_text_keeps_both_ends() -> None:
    text = "a" * 50 + "b" * 50

    assert limited(text, 100) == text
    assert limited(text, 11) == "aaaaa…bbbbb"
    assert len(limited(text, 10)) == 10


def test_only_text_is_changed_on_its_way_into_the_page() -> None:
    assert shown("a\n" * LONGEST) != "a\n" * LONGEST
    assert len(shown("a" * 2 * LONGEST)) == LONGEST
    assert shown(Markup("<b>\n" * LONGEST)) == "<b>\n" * LONGEST
    assert shown(3) == 3


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.5, "0.5000"), (float("nan"), "–"), (float("inf"), "–"), (None, "–")],
)
def test_a_score_has_four_digits_or_a_dash(value: float | None, expected: str) -> None:
    assert number(value) == expected


def test_nested_facts_become_rows() -> None:
    facts = {"versions": {"torch": "2.15"}, "cores": 12345, "fused": True, "gpus": [], "s": 0.1234567, "none": None}

    assert flat(facts) == {
        "versions torch": "2.15",
        "cores": "12,345",
        "fused": "yes",
        "gpus": "–",
        "s": "0.123457",
        "none": "–",
    }
    assert plain(["a", 1]) == "a, 1"


def test_nothing_in_a_json_block_can_end_the_script() -> None:
    value = {"</script><!--": ["<script>", "&amp;", "\u2028", "한", "\udcff"]}

    text = json_block(value)

    assert not set("<>&") & set(text)
    assert text.isascii()
    assert json.loads(text) == value


def test_a_json_block_refuses_what_json_cannot_say() -> None:
    with pytest.raises(ValueError, match="Out of range"):
        json_block([float("nan")])
