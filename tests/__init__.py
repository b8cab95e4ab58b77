"""Tests: synthetic data, no network; expected values by hand or from an independent library."""
