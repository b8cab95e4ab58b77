"""Synthetic heads with aneurysms, written in the layout of the competition."""
