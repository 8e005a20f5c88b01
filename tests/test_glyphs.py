"""glyphs.py: names in any script are drawn without a warning, in a font of this machine where one has the letters."""

import dataclasses
from pathlib import Path

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager

from logger import glyphs
from logger.glyphs import BASE, drawable, families, family_of, font_file

NOBODY_HAS = "\U0001e900"  # a letter of the Adlam script, which DejaVu Sans lacks


@pytest.fixture(autouse=True)
def _forget():
    caches = (glyphs.family_of, glyphs._families_here, glyphs._letters_of)
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()


@pytest.fixture
def font(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A font of this machine, of the name that is given, that has one letter."""
    pen = TTGlyphPen(None)
    for corner in ((100, 0), (100, 700), (600, 700), (600, 0)):
        pen.lineTo(corner) if pen.points else pen.moveTo(corner)
    pen.closePath()
    box = pen.glyph()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "letter"])
    builder.setupCharacterMap({ord(NOBODY_HAS): "letter"})
    builder.setupGlyf({".notdef": box, "letter": box})
    builder.setupHorizontalMetrics({".notdef": (700, 100), "letter": (700, 100)})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "One Letter Sans", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(tmp_path / "one.ttf")
    monkeypatch.setattr(fontManager, "ttflist", list(fontManager.ttflist))
    fontManager.addfont(tmp_path / "one.ttf")
    return "One Letter Sans"


def draw(text: str) -> None:
    figure = Figure()
    figure.text(0.5, 0.5, text, fontfamily=families(text), parse_math=False)
    figure.draw_without_rendering()


def test_a_letter_that_no_font_has_becomes_a_question_mark_and_nothing_is_said():
    assert drawable(f"cat {NOBODY_HAS}") == "cat ?"
    assert families("cat ?") == [BASE]
    draw(drawable(f"{NOBODY_HAS}{NOBODY_HAS} cat"))


def test_the_warning_that_is_spared_is_there_otherwise():
    with pytest.warns(UserWarning, match="missing from font"):
        draw(NOBODY_HAS)


def test_a_font_of_this_machine_is_used_where_it_has_the_letter(font: str):
    text = drawable(f"cat {NOBODY_HAS}")

    assert text == f"cat {NOBODY_HAS}"
    assert families(text) == [BASE, font]
    draw(text)


def test_what_draws_with_one_font_gets_the_one_with_most_letters(font: str, tmp_path: Path):
    assert font_file(NOBODY_HAS * 2 + "a") == str(tmp_path / "one.ttf")
    assert Path(font_file(NOBODY_HAS + "cat")).name == "DejaVuSans.ttf"


def test_fonts_that_usually_have_korean_letters_are_asked_first(font: str, monkeypatch: pytest.MonkeyPatch):
    entry = next(entry for entry in fontManager.ttflist if entry.name == font)
    fontManager.ttflist.append(dataclasses.replace(entry, name="Zz Gothic"))
    monkeypatch.setattr(glyphs, "_USUAL", ("Not Here", "Zz Gothic"))

    here = glyphs._families_here()

    assert here[:2] == [BASE, "Zz Gothic"]
    assert here.count("Zz Gothic") == here.count(font) == 1


def test_what_matplotlib_brings_for_formulas_and_boxes_is_no_font_for_names():
    assert all(not name.startswith(("Last Resort", "STIX", "cm")) for name in glyphs._families_here())
    assert family_of("a") == BASE


@pytest.mark.parametrize("letter", ["\n", "\x00", "\u200b"])
def test_what_cannot_be_seen_becomes_a_question_mark(letter: str):
    assert drawable(f"a{letter}b") == "a?b"
