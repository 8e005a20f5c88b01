"""Text of strangers (names of classes and files) and numbers, as the page shows them.

The template escapes all that it is given; here is what escaping does not do: what cannot be seen, what cannot be
encoded, and what is too long.
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

LONGEST = 2000  # characters of any one text on the page
# Control characters, marks that reverse the text behind them, and halves of pairs, which have no UTF-8.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
_FIRST_ESCAPED_BYTE, _LAST_ESCAPED_BYTE = 0xDC80, 0xDCFF  # how Python holds bytes of file names that are not UTF-8


def written_out(text: str) -> str:
    """The text with what cannot be seen or encoded written out.

    >>> written_out("a\\nb")
    'a\\\\nb'
    """
    return _UNSEEN.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    if _FIRST_ESCAPED_BYTE <= code <= _LAST_ESCAPED_BYTE:
        return f"\\x{code - 0xDC00:02x}"
    return found[0].encode("unicode_escape").decode()


def limited(text: str, limit: int) -> str:
    """The text, or its beginning and end with "…" between them; `limit` characters at most."""
    if len(text) <= limit:
        return text
    end = (limit - 1) // 2
    return f"{text[: limit - 1 - end]}…{text[len(text) - end :]}"


def shown(value: Any) -> Any:
    """What the template does with each value before it escapes it."""
    return written_out(limited(value, LONGEST)) if isinstance(value, str) and not isinstance(value, Markup) else value


def number(value: Any, digits: int = 4) -> str:
    """A score with four digits behind the point; "–" where there is none."""
    return f"{value:.{digits}f}" if value is not None and math.isfinite(value) else "–"


def plain(value: Any) -> str:
    """One value of a table of facts."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return ", ".join(plain(one) for one in value) or "–"
    return str(value)


def flat(rows: Mapping[str, Any], above: str = "") -> dict[str, str]:
    """Nested facts as rows: {"hardware": {"cpu": "x"}} is {"hardware cpu": "x"}."""
    texts: dict[str, str] = {}
    for name, value in rows.items():
        path = f"{above} {name}".strip()
        texts |= flat(value, path) if isinstance(value, Mapping) else {path: plain(value)}
    return texts


def json_block(value: Any) -> Markup:
    """JSON for the inside of a script element: pure ASCII, in which nothing can end the element."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
