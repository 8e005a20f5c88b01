"""Text that can be drawn: class names in any script, in a font that has it, without a word from matplotlib."""

import functools
import unicodedata

BASE = "DejaVu Sans"  # comes with matplotlib
_NO_LETTERS = ("Last Resort", "STIX", "cm", "DejaVu Math")  # formulas, and boxes in place of letters


def shortened(text: str, width: int) -> str:
    """At most so many columns, of which letters as wide as those of Chinese and Korean take two."""
    columns = [2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text]
    if sum(columns) <= width:
        return text
    kept, used = "", 1
    for letter, columns_of_it in zip(text, columns, strict=True):
        used += columns_of_it
        if used > width:
            break
        kept += letter
    return kept + "…"


def drawable(text: str) -> str:
    """The text with a question mark for each letter that no font here has."""
    return "".join(letter if family_of(letter) is not None else "?" for letter in text)


def families(text: str) -> list[str]:
    """The fonts that a drawable text needs, for matplotlib's `fontfamily`, which takes the first that has a letter."""
    return list(dict.fromkeys([BASE, *(family_of(letter) or BASE for letter in text)]))


@functools.cache
def family_of(letter: str) -> str | None:
    """A font that has a letter: matplotlib's own where possible, else one of this machine's; None where none has it."""
    if not letter.isprintable():
        return None
    return next((family for family in _families_here() if ord(letter) in _letters_of(family)), None)


@functools.cache
def _families_here() -> list[str]:
    """Those with upright letters of usual weight, the most usual first: the others of its kind lie beside them."""
    from matplotlib.font_manager import fontManager

    usual = {entry.name for entry in fontManager.ttflist if entry.style == "normal" and entry.weight in (400, "normal")}
    others = sorted(name for name in usual if not name.startswith((*_NO_LETTERS, BASE)))
    return [BASE, *sorted(others, key=lambda name: "Sans" not in name)]


@functools.cache
def _letters_of(family: str) -> frozenset[int]:
    """The code points that the file has which matplotlib will take for a family; none where it cannot draw them."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    try:
        font = get_font(findfont(FontProperties(family=family), fallback_to_default=False))
        return frozenset(font.get_charmap()) if font.scalable else frozenset()
    except (OSError, RuntimeError, ValueError):  # a font of bitmaps only, or a damaged one
        return frozenset()
