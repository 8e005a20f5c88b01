"""Which font of this machine has a letter, so that text in any script is drawn without a word from matplotlib."""

import functools

BASE = "DejaVu Sans"  # comes with matplotlib
# Fonts with Korean, Chinese or Japanese letters, as they are called on Linux, macOS and Windows: asked first, because a
# machine may have hundreds of fonts.
_USUAL = (
    "Noto Sans CJK KR",
    "Noto Sans CJK JP",
    "Noto Sans KR",
    "NanumGothic",
    "NanumBarunGothic",
    "Apple SD Gothic Neo",
    "AppleGothic",
    "Malgun Gothic",
)
_NO_LETTERS = ("Last Resort", "STIX", "cm", "DejaVu Math")  # formulas, and boxes in place of letters


def drawable(text: str) -> str:
    """The text with a question mark for each letter that no font here has."""
    return "".join(letter if family_of(letter) is not None else "?" for letter in text)


def families(text: str) -> list[str]:
    """The fonts that a drawable text needs, for matplotlib's `fontfamily`, which takes the first that has a letter."""
    return list(dict.fromkeys([BASE, *(family_of(letter) or BASE for letter in text)]))


def font_file(text: str) -> str:
    """The file of the font that has the most letters of a text, for what draws with one font alone."""
    from matplotlib.font_manager import FontProperties, findfont

    def num_letters(family: str) -> int:
        return sum(ord(letter) in _letters_of(family) for letter in text)

    return str(findfont(FontProperties(family=max(families(text), key=num_letters))))


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

    here = {entry.name for entry in fontManager.ttflist if entry.style == "normal" and entry.weight in (400, "normal")}
    first = [name for name in _USUAL if name in here]
    others = sorted(name for name in here.difference(first) if not name.startswith((*_NO_LETTERS, BASE)))
    return [BASE, *first, *sorted(others, key=lambda name: "Sans" not in name)]


@functools.cache
def _letters_of(family: str) -> frozenset[int]:
    """The code points that the file has which matplotlib will take for a family; none where it cannot draw them."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    try:
        font = get_font(findfont(FontProperties(family=family), fallback_to_default=False))
        return frozenset(font.get_charmap()) if font.scalable else frozenset()
    except (OSError, RuntimeError, ValueError):  # a font of bitmaps only, or a damaged one
        return frozenset()
