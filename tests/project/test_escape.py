"""Texts from files as a terminal and a spreadsheet get them, by hand."""

import pytest

from aneurysm.escape import cell, escape_control_characters


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("1.2.840.113619", "1.2.840.113619"),
        ("Müller 頭 a\\b", "Müller 頭 a\\b"),
        ("\x1b[2J\x07", r"\x1b[2J\x07"),
        ("a\r\nb\tc", r"a\r\nb\tc"),
        ("\u202egpj.exe", r"\u202egpj.exe"),  # would be shown from right to left
        ("M\udcfcller", r"M\udcfcller"),  # a file name that is no UTF-8 cannot be written to a terminal at all
    ],
)
def test_what_a_terminal_would_obey_or_cannot_show_is_spelt_out(text, shown):
    assert escape_control_characters(text) == shown


@pytest.mark.parametrize("start", ["=", "+", "-", "@"])
def test_a_cell_that_would_be_a_formula_begins_with_an_apostrophe(start):
    assert cell(f'{start}HYPERLINK("http://x")') == f'\'{start}HYPERLINK("http://x")'


@pytest.mark.parametrize("text", ["", "1.2.840", "'quoted'", "a=b", "n/a: no file"])
def test_other_cells_stay_as_they_are(text):
    assert cell(text) == text


def test_what_lies_before_a_formula_is_spelt_out_in_its_cell():
    assert cell("\t=1+1") == r"\t=1+1" and cell("\r=1+1\x1b") == r"\r=1+1\x1b"
