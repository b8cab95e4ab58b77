"""All styles by their names in make_phantoms.py --style."""

from aneurysm.phantom.held_out import HELD_OUT
from aneurysm.phantom.style import USUAL
from aneurysm.phantom.varied import VARIED

STYLES = {"usual": USUAL, "varied": VARIED, "held_out": HELD_OUT}
