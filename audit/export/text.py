"""Text of strangers, made fit for one line of a file, a terminal and a spreadsheet. Pure.

Formats that people open show escapes in place of every character that does not print: newlines,
NUL, terminal escapes, marks that reverse the direction of text. JSON Lines needs none of this: it
is the entry itself, byte for byte.
"""

import json
from typing import Final

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What begins a formula in a spreadsheet, full-width forms included (OWASP: CSV injection)."""


def visible(text: str) -> str:
    """Return `text` as one line: what does not print is written as JSON escapes it."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def clipped(text: str, longest: int) -> str:
    """Return at most `longest` characters of `text`; the last one says that more was cut off."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def harmless(text: str) -> str:
    """Return `text` as a spreadsheet's cell: visible, and never a formula."""
    shown = visible(text)
    return "'" + shown if text.startswith(_FORMULA) else shown
