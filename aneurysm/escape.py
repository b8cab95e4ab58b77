"""Texts that come with the files (UIDs, names, reasons), made harmless for a terminal and for a spreadsheet."""

from __future__ import annotations

FORMULA = ("=", "+", "-", "@")  # what a spreadsheet takes for a formula begins so


def escape_control_characters(text: str) -> str:
    """The text with what a terminal would obey or cannot show spelt out: ESC becomes \\x1b, a line's end \\n."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def cell(text: str) -> str:
    """The text as a table's cell: printable, and with an apostrophe before what a spreadsheet would calculate."""
    shown = escape_control_characters(text)
    return f"'{shown}" if shown.startswith(FORMULA) else shown
