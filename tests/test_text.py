"""text.py: widths and cuts, also of Korean."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.text import columns_of, printable, shortened


def test_korean_letters_take_two_columns_and_accents_none():
    assert columns_of("고양이 cat") == 10
    assert columns_of("é") == 1


@given(st.text("ab고\u0301漢", max_size=30), st.integers(2, 20))
@settings(max_examples=200, derandomize=True, deadline=None)
def test_a_cut_text_fits_and_keeps_its_ends(text, room):
    cut = shortened(text, room)

    assert columns_of(cut) <= room
    assert (cut == text) == (columns_of(text) <= room)
    if cut != text:
        head, tail = cut.split("…")
        assert text.startswith(head)
        assert text.endswith(tail)
        assert columns_of(cut) >= room - 3  # no more is left out than must be


def test_what_moves_a_cursor_is_not_printed():
    assert printable("a\x1b[31m\nb 고") == "a\ufffd[31m\ufffdb 고"


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("cat", "cat"),
        ("exactly-10", "exactly-10"),
        ("longer-than-10", "longe…n-10"),
        ("고양이고양", "고양이고양"),
        ("고양이고양이", "고양…양이"),
        ("", ""),
    ],
)
def test_names_are_cut_by_columns(text, short):
    assert shortened(text, 10) == short
