"""Folds, localizers, training spots, and tables of out-of-fold predictions."""
