"""All styles by the names that make_phantoms.py --style knows them by."""

from aneurysm.data.phantom.held_out import HELD_OUT
from aneurysm.data.phantom.style import USUAL
from aneurysm.data.phantom.varied import VARIED

STYLES = {"usual": USUAL, "varied": VARIED, "held_out": HELD_OUT}
