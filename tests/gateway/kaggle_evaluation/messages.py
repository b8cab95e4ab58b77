"""What goes over the wire: the path of a series, and the answer: the kind of frame, a line break, and Parquet."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pandas as pd

METHOD = "/kaggle_evaluation.Inference/Predict"


def kind_of(answer: Any) -> str:
    """polars.DataFrame, pandas.DataFrame, or whatever else it is."""
    return f"{type(answer).__module__.split('.')[0]}.{type(answer).__name__}"


def packed(answer: Any) -> bytes:
    kind, data = kind_of(answer), BytesIO()
    if kind == "polars.DataFrame":
        answer.write_parquet(data)
    elif kind == "pandas.DataFrame":
        answer.to_parquet(data)
    return kind.encode() + b"\n" + data.getvalue()


def unpacked(message: bytes) -> tuple[str, pd.DataFrame | None]:
    """The kind of frame, and its content; None where it is no frame."""
    kind, data = message.split(b"\n", 1)
    return kind.decode(), pd.read_parquet(BytesIO(data)) if data else None
