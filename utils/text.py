"""How wide a text is on a terminal, where Korean, Chinese and Japanese letters take two columns, and how it is cut."""

import unicodedata


def columns_of(text: str) -> int:
    """How many columns a terminal needs.

    >>> columns_of("고양이"), columns_of("cat")
    (6, 3)
    """
    return sum(0 if unicodedata.combining(sign) else 1 + (unicodedata.east_asian_width(sign) in "WF") for sign in text)


def shortened(text: str, max_columns: int) -> str:
    """The text, its middle left out where it is wider than so many columns (2 or more).

    >>> shortened("a long name of a class", 9)
    'a lo…lass'
    """
    if columns_of(text) <= max_columns:
        return text
    head, tail, room = "", "", max_columns - 1
    for first, last in zip(text, reversed(text), strict=True):
        if columns_of(first) > room:
            break
        head, room = head + first, room - columns_of(first)
        if columns_of(last) > room:
            break
        tail, room = last + tail, room - columns_of(last)
    return f"{head}…{tail}"


def printable(text: str) -> str:
    """The text without what could move a cursor, colour a screen, break a line or turn the direction of writing."""
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in text)
