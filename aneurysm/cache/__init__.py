"""Preprocesses series, stores them in the cache, and cuts windows from them for training and prediction."""
