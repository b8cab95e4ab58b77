"""Figures and reports, for people who would rather look than read."""
