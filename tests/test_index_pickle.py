"""Pickles of others: what a dict of slice indices needs is read, all else is refused by name and never run."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from aneurysm.folds.index_pickle import read_index_pickle

# {"s1": np.array([7, 3]), "s2": [np.int64(5)]} as numpy 1.26.4 writes it in protocols 4 and 5.
NUMPY_1 = (
    b"\x80\x04\x95\xc7\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x02s1\x94\x8c\x15numpy.core.multiarray\x94\x8c\x0c"
    b"_reconstruct\x94\x93\x94\x8c\x05numpy\x94\x8c\x07ndarray\x94\x93\x94K\x00\x85\x94C\x01b\x94\x87\x94R\x94(K\x01K"
    b"\x02\x85\x94h\x05\x8c\x05dtype\x94\x93\x94\x8c\x02i8\x94\x89\x88\x87\x94R\x94(K\x03\x8c\x01<\x94NNNJ\xff\xff\xff"
    b"\xffJ\xff\xff\xff\xffK\x00t\x94b\x89C\x10\x07\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00\x94t"
    b"\x94b\x8c\x02s2\x94]\x94h\x02\x8c\x06scalar\x94\x93\x94h\x11C\x08\x05\x00\x00\x00\x00\x00\x00\x00\x94\x86\x94R"
    b"\x94au.",
    b"\x80\x05\x95\xc8\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x02s1\x94\x8c\x12numpy.core.numeric\x94\x8c\x0b"
    b"_frombuffer\x94\x93\x94(\x96\x10\x00\x00\x00\x00\x00\x00\x00\x07\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x00"
    b"\x00\x00\x00\x94\x8c\x05numpy\x94\x8c\x05dtype\x94\x93\x94\x8c\x02i8\x94\x89\x88\x87\x94R\x94(K\x03\x8c\x01<\x94"
    b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t\x94bK\x02\x85\x94\x8c\x01C\x94t\x94R\x94\x8c\x02s2\x94]\x94\x8c\x15"
    b"numpy.core.multiarray\x94\x8c\x06scalar\x94\x93\x94h\x0bC\x08\x05\x00\x00\x00\x00\x00\x00\x00\x94\x86\x94R\x94au.",
)


class Calls:
    """Pickles as a call of `function` with `args`, and `state` given to what it returns."""

    def __init__(self, function, args: tuple, state=None):
        self.reduced = (function, args) if state is None else (function, args, state)

    def __reduce__(self):
        return self.reduced


class Outer:
    class Inner:
        pass


def read(tmp_path: Path, value, protocol: int = 4) -> dict:
    return read_bytes(tmp_path, pickle.dumps(value, protocol))


def read_bytes(tmp_path: Path, content: bytes) -> dict:
    path = tmp_path / "f_dict_hard.pkl"
    path.write_bytes(content)
    return read_index_pickle(path)


@pytest.mark.parametrize("protocol", range(6))
def test_lists_arrays_and_numpy_numbers_are_read_from_every_protocol(tmp_path, protocol):
    value = {
        "list": [7, 3, 300, 70000],
        "empty list": [],
        "array": np.array([7, 3, -1]),
        "empty array": np.array([], int),
        "every second": np.arange(9)[::2],
        "big-endian": np.array([7, 300], ">i4"),
        "unsigned": np.array([200], np.uint8),
        "numpy numbers": [np.int64(5), np.int32(-6), np.uint16(40000), 8],
    }
    assert read(tmp_path, value, protocol) == {
        "list": [7, 3, 300, 70000],
        "empty list": [],
        "array": [7, 3, -1],
        "empty array": [],
        "every second": [0, 2, 4, 6, 8],
        "big-endian": [7, 300],
        "unsigned": [200],
        "numpy numbers": [5, -6, 40000, 8],
    }


@pytest.mark.parametrize("content", NUMPY_1)
def test_a_pickle_of_numpy_1_is_read(tmp_path, content):
    assert read_bytes(tmp_path, content) == {"s1": [7, 3], "s2": [5]}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    ("function", "argument", "name"),
    [
        (os.system, "touch {}", "posix.system"),
        (eval, "open('{}', 'w')", r"(__builtin__|builtins).eval"),
        (np.save, "{}", "numpy.save"),
        (np.load, "{}", "numpy.load"),
        (np.fromfile, "{}", "fromfile"),
    ],
)
def test_a_function_that_a_pickle_calls_is_refused_by_name_and_not_run(tmp_path, protocol, function, argument, name):
    made = tmp_path / "made.npy"
    args = (argument.format(made), [1]) if function is np.save else (argument.format(made),)
    with pytest.raises(ValueError, match=rf"f_dict_hard.pkl: .*found .*{name}, which is refused"):
        read(tmp_path, {"s1": Calls(function, args)}, protocol)
    assert not made.exists()


def test_a_nested_class_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match="found tests.test_index_pickle.Outer.Inner, which is refused"):
        read(tmp_path, {"s1": Outer.Inner()})


def test_bytes_are_never_taken_for_pointers_to_objects(tmp_path):
    type_ = Calls(np.dtype, ("O8", False, True), (3, "|", None, None, None, -1, -1, 0))  # says: I hold no objects
    array = Calls(np._core.multiarray._reconstruct, (np.ndarray, (0,), b"b"), (1, (1,), type_, False, b"A" * 8))
    with pytest.raises(ValueError, match="found numpy values of type 'O8'"):
        read(tmp_path, {"s1": array})


@pytest.mark.parametrize("protocol", range(6))
def test_an_array_of_objects_is_refused(tmp_path, protocol):
    with pytest.raises(ValueError, match="found numpy values of type 'O8'"):
        read(tmp_path, {"s1": np.array([1, None])}, protocol)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(("array", "code"), [(np.array([1.0]), "f8"), (np.array([True]), "b1"), (np.array("a"), "U1")])
def test_an_array_of_anything_but_whole_numbers_is_refused(tmp_path, protocol, array, code):
    with pytest.raises(ValueError, match=f"found numpy values of type '{code}'"):
        read(tmp_path, {"s1": array}, protocol)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ([1, 2], "found a list"),
        ({3: [1]}, "found a key of type int"),
        ({"s1": 4}, "found int for s1"),
        ({"s1": [1, 2.0, None]}, "found NoneType, float, int for s1"),
        ({"s1": [True]}, "found bool for s1"),
        ({"s1": [[1]]}, "found list for s1"),
        ({"s1": np.zeros((2, 2), int)}, r"found an array of shape \(2, 2\) with 4 numbers"),
    ],
)
def test_content_of_another_kind_is_refused(tmp_path, value, found):
    with pytest.raises(ValueError, match=found):
        read(tmp_path, value)


def test_an_array_may_not_claim_more_numbers_than_it_has(tmp_path):
    state = (1, (10**12,), np.dtype("i8"), False, b"\0" * 8)
    array = Calls(np._core.multiarray._reconstruct, (np.ndarray, (0,), b"b"), state)
    with pytest.raises(ValueError, match="found an array of shape .1000000000000,. with 1 numbers"):
        read(tmp_path, {"s1": array})


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"c_codecs\nencode\n(Va\nVpunycode\ntR.", "bytes encoded as 'punycode'"),
        (b"c__builtin__\nbytes\n(I1000000000000\ntR.", "takes 0 positional arguments"),
        (
            b"cnumpy\ndtype\nN}Vnumbers\nI1\ns\x86b.",
            "a state given to a function",
        ),  # would set attributes of the stand-in
        (b"\x80\x02(dPpersistent\n.", "persistent"),
        (b"\x80\x02\x82\x07.", "unregistered extension code 7"),
    ],
)
def test_the_names_that_are_admitted_cannot_be_put_to_other_uses(tmp_path, content, found):
    with pytest.raises(ValueError, match=found):
        read_bytes(tmp_path, content)


@pytest.mark.parametrize("protocol", range(6))
def test_a_file_cut_short_anywhere_is_refused(tmp_path, protocol):
    content = pickle.dumps({"s1": [7, 3], "s2": np.array([5])}, protocol)
    for end in range(len(content)):
        with pytest.raises(ValueError, match="f_dict_hard.pkl: expected a pickled dict"):
            read_bytes(tmp_path, content[:end])
