"""Reads a pickled dict of whole-number lists, as others' f_dict_hard.pkl is, and runs nothing that stands in it.

A pickle names functions for the reader to call. Admitting numpy's own would not do: a pickled dtype may claim that
bytes of the file are pointers to objects, and numpy follows them. So each of the few names that such a dict needs is
answered with a stand-in that knows signed and unsigned whole numbers only; no numpy object is built by the pickle.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def read_index_pickle(path: Path) -> dict[str, list[int]]:
    """Text -> list of whole numbers, from a pickled dict of lists or numpy arrays; protocols 0 to 5.

    Raises ValueError naming the file and what was found there: any other function or class (by its module and name),
    anything but whole numbers, or a file that is cut short.
    """
    with open(path, "rb") as file:
        try:
            found = _Unpickler(file).load()
            if not isinstance(found, dict):
                raise ValueError(f"found a {type(found).__name__}")
            return {_text(key): _whole_numbers(key, value) for key, value in found.items()}
        except Exception as error:  # a damaged pickle raises nearly any of Python's errors
            raise ValueError(f"{path}: expected a pickled dict of text -> whole numbers; {error}") from error


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise ValueError(f"found {module}.{name}, which is refused")
        return _STAND_INS[module, name]


class _Call:
    """A function that a pickle may call, and cannot set attributes of (which it can of a plain one)."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable):
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setstate__(self, state: Any) -> None:
        raise ValueError("found a state given to a function")


class _WholeNumberType:
    """Stands in for numpy.dtype: i1 to i8 and u1 to u8, in either byte order."""

    def __init__(self, code: str, *_: bool):
        if not re.fullmatch("[iu][1248]", code):
            raise ValueError(f"found numpy values of type {code!r}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        if state[1] not in ("<", ">", "|", "=") or state[2:5] != (None, None, None):
            raise ValueError(f"found a numpy type of state {state}")
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands in for numpy.ndarray: one row of whole numbers."""

    def __init__(self, *_: Any):
        self.numbers: list[int] = []

    def __setstate__(self, state: tuple) -> None:
        _, shape, numbers_type, _, raw = state
        self._fill(raw, numbers_type, shape)

    @classmethod
    def from_buffer(cls, raw: bytes | bytearray, numbers_type: _WholeNumberType, shape: tuple, *_: Any) -> _Array:
        array = cls()
        array._fill(raw, numbers_type, shape)
        return array

    def _fill(self, raw: bytes | bytearray, numbers_type: _WholeNumberType, shape: tuple) -> None:
        values = np.frombuffer(raw, numbers_type.dtype)
        if shape != values.shape:
            raise ValueError(f"found an array of shape {shape} with {len(values)} numbers")
        self.numbers = values.tolist()


def _scalar(numbers_type: _WholeNumberType, raw: bytes) -> int:
    return np.frombuffer(raw, numbers_type.dtype).item()


def _latin1(text: str, codec: str) -> bytes:
    """Bytes, which protocols 0 to 2 write as text. Other codecs are slow on purpose-made text, or import modules."""
    if codec != "latin1":
        raise ValueError(f"found bytes encoded as {codec!r}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """The bytes of an empty array in protocols 0 to 2; with a number, bytes() would take that much memory."""
    return b""


_NUMPY = ("numpy.core", "numpy._core")  # numpy 1 and 2
_STAND_INS: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): None,  # only ever named to _reconstruct
    ("numpy", "dtype"): _Call(_WholeNumberType),
    **{(f"{core}.multiarray", "_reconstruct"): _Call(_Array) for core in _NUMPY},
    **{(f"{core}.multiarray", "scalar"): _Call(_scalar) for core in _NUMPY},
    **{(f"{core}.numeric", "_frombuffer"): _Call(_Array.from_buffer) for core in _NUMPY},
    ("_codecs", "encode"): _Call(_latin1),
    ("__builtin__", "bytes"): _Call(_no_bytes),
}


def _text(key: Any) -> str:
    if not isinstance(key, str):
        raise ValueError(f"found a key of type {type(key).__name__}")
    return key


def _whole_numbers(key: str, value: Any) -> list[int]:
    numbers = value.numbers if isinstance(value, _Array) else value
    kinds = {type(number).__name__ for number in numbers} if isinstance(numbers, list) else {type(numbers).__name__}
    if isinstance(numbers, list) and kinds <= {"int"}:
        return numbers
    raise ValueError(f"found {', '.join(sorted(kinds))} for {key}")
