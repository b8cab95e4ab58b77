"""Escapes text from input files (UIDs, names, reasons), so that a terminal and a spreadsheet show it safely."""

from __future__ import annotations

FORMULA = ("=", "+", "-", "@")  # a spreadsheet reads text that begins with one of these as a formula


def escape_control_characters(text: str) -> str:
    """The text with every non-printable character escaped: ESC becomes \\x1b, a line break \\n."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def cell(text: str) -> str:
    """The text for a table cell: escaped, and with an apostrophe in front if a spreadsheet would read a formula."""
    shown = escape_control_characters(text)
    return f"'{shown}" if shown.startswith(FORMULA) else shown
