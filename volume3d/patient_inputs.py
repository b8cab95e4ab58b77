"""Age, sex and weight as numbers that a network can take: around 0, of order 1, and marked where nobody knows them."""

from __future__ import annotations

import math

PATIENT_KEYS = ("age", "age_known", "sex", "sex_known", "weight", "weight_known")
SCALES = {"age": (55.0, 20.0), "weight": (75.0, 20.0)}  # years, kilograms: 0 and 1 of the numbers
SEXES = {"F": 1.0, "M": -1.0}


def patient_inputs(age: float | None, sex: str | None, weight: float | None) -> dict[str, float]:
    """PATIENT_KEYS of a patient: age in years, F or M, kilograms; *_known is 1, or 0 where the number is a mere 0."""
    numbers = {"age": _scaled("age", age), "sex": SEXES.get(sex or ""), "weight": _scaled("weight", weight)}
    known = {f"{name}_known": float(number is not None) for name, number in numbers.items()}
    return {name: number or 0.0 for name, number in numbers.items()} | known


def _scaled(name: str, value: float | None) -> float | None:
    middle, spread = SCALES[name]
    return None if value is None or math.isnan(value) else (value - middle) / spread
