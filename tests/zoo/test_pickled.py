"""Pickles read as data: numpy's float arrays come out, everything else is refused."""

from __future__ import annotations

import builtins
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from torrefy.errors import WeightsError
from torrefy.zoo.convert import read_hwio_pickle
from torrefy.zoo.pickled import read_pickled_arrays

WEIGHTS = {
    "conv1": [np.arange(54, dtype="f4").reshape(3, 3, 3, 2), np.array([1, 2], dtype="f4")],
    "fire2/squeeze1x1": (np.ones((1, 1, 2, 5), dtype="f8"), np.zeros(5, dtype="f8")),
}


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def told(data: bytes) -> str:
    with pytest.raises(WeightsError) as error:
        read_pickled_arrays(data, "w.pkl")
    return str(error.value)


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_arrays_in_dicts_lists_and_tuples_come_out_as_they_went_in(protocol: int) -> None:
    read = read_pickled_arrays(pickle.dumps(WEIGHTS, protocol), "w.pkl")
    assert list(read) == list(WEIGHTS)
    for name, blobs in WEIGHTS.items():
        assert type(read[name]) is type(blobs)
        for ours, theirs in zip(read[name], blobs, strict=True):
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)


def test_byte_order_and_fortran_order_are_kept() -> None:
    held = [np.asfortranarray(np.arange(6, dtype=">f4").reshape(2, 3)), np.float16([[1.5]])]
    for ours, theirs in zip(read_pickled_arrays(pickle.dumps(held, 2), "w.pkl"), held, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_what_is_held_twice_comes_out_twice() -> None:
    array = np.float32([1, 2])
    first, second = read_pickled_arrays(pickle.dumps([array, array], 4), "w.pkl")
    assert first is second


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize(
    "thing",
    [
        Calls(os.system, "touch /tmp/never"),
        Calls(builtins.eval, "1"),
        Calls(getattr, "", "join"),
        Calls(pickle.loads, b""),
        Calls(np.load, "/etc/passwd"),
        np.random.default_rng(1),
        Path("x"),
        np.float32(1),
        np.array([{}], dtype=object),
        {1, 2},
    ],
)
def test_anything_else_is_refused_however_deep(protocol: int, thing: Any) -> None:
    for hidden in (thing, [thing], {"a": (np.ones(1, "f4"), thing)}, Calls(list, [thing])):
        message = told(pickle.dumps(hidden, protocol))
        assert message.startswith("w.pkl: the pickle ")
        assert message.endswith("; it is refused")


def test_a_refused_name_is_told_with_its_place() -> None:
    system, call = os.system.__module__, Calls(os.system, "true")
    assert told(pickle.dumps(call, 2)) == (
        f"w.pkl: the pickle names {system}.system at byte 2; it is refused"
    )
    assert told(pickle.dumps(Calls(builtins.eval, "1"), 4)) == (
        "w.pkl: the pickle names builtins.eval at byte 29; it is refused"
    )


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (b"cnumpy\nndarray\n(I1000000000\ntR.", "holds the opcode INT at byte 16"),
        (b"cnumpy\nndarray\nK\x05\x85R.", "makes a call that is no array's (ndarray)"),
        (b"cnumpy\ndtype\nX\x02\0\0\0O8K\0K\1\x87R.", "holds an array of the type 'O8'"),
        (b"cnumpy\ndtype\n}b.", "gives a Name a state of its own"),
        (b"cnumpy\nndarray\n)\x81.", "holds the opcode NEWOBJ at byte 16"),
        (b"(cnumpy\nndarray\no.", "holds the opcode OBJ at byte 16"),
        (b"(ios\nsystem\n.", "holds the opcode INST at byte 1"),
        (b"Pid\n.", "holds the opcode PERSID at byte 0"),
        (b"\x82\x01.", "holds the opcode EXT1 at byte 0"),
        (b"X\x01\0\0\0a)R.", "makes a call that is no array's (str)"),
        (b"c_codecs\nencode\nX\x01\0\0\0aX\x04\0\0\0utf8\x86R.",
         "makes a call that is no array's (encode)"),
        (b"\x80\x05N.", "is of protocol 5, not up to 4"),
        (b"})K\1s.", "has a tuple as a key"),
        (b"cnumpy\nndarray\n.", "holds an array without its values"),
        (b"]q\0h\0a.", "nests deeper than 16 levels"),
        (b"\x85" * 3 + b".", None),
    ],
)  # fmt: skip
def test_tricks_are_refused(program: bytes, message: str | None) -> None:
    found = told(program)
    if message:
        assert found == f"w.pkl: the pickle {message}; it is refused"
    else:
        assert found.startswith("w.pkl: this is no whole pickle: ")


@pytest.mark.parametrize(
    "change",
    [
        lambda s: (s[0], (10**9,), *s[2:]),
        lambda s: (s[0], (-1, -3), *s[2:]),
        lambda s: (s[0], (10**30, 0), *s[2:]),
        lambda s: (s[0], (1,) * 9 + s[1], *s[2:]),
        lambda s: (*s[:4], s[4] + b"\0"),
        lambda s: (*s[:4], [1, 2, 3]),
        lambda s: (s[0], ("3",), *s[2:]),
    ],
)
def test_an_array_whose_bytes_do_not_fit_its_shape_is_refused(change: Any) -> None:
    function, arguments, state = np.arange(3, dtype="f4").__reduce__()

    class Forged:
        def __reduce__(self) -> Any:
            return function, arguments, change(state)

    assert told(pickle.dumps(Forged(), 4)).startswith(
        "w.pkl: the pickle holds an array whose bytes"
    )


def test_lists_of_the_same_lists_take_no_memory() -> None:
    held: Any = [np.float32([1])]
    for _ in range(12):
        held = [held] * 100
    assert len(read_pickled_arrays(pickle.dumps(held, 4), "w.pkl")) == 100


def test_every_way_to_cut_a_pickle_off_is_refused() -> None:
    data = pickle.dumps({"conv1": [np.ones((1, 1, 1, 1), "f4"), np.ones(1, "f4")]}, 3)
    for length in range(len(data)):
        told(data[:length])


@pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")
@given(st.binary(max_size=200))
def test_random_bytes_raise_nothing_else(data: bytes) -> None:
    for program in (data, b"\x80\x02" + data + b"."):
        try:
            read_pickled_arrays(program, "w.pkl")
        except WeightsError:
            pass


@pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")
@given(st.data())
def test_mutated_pickles_raise_nothing_else(data: st.DataObject) -> None:
    program = bytearray(pickle.dumps(WEIGHTS, 3))
    for _ in range(data.draw(st.integers(1, 5))):
        program[data.draw(st.integers(0, len(program) - 1))] = data.draw(st.integers(0, 255))
    try:
        read_pickled_arrays(bytes(program), "w.pkl")
    except WeightsError:
        pass


def test_kernels_become_output_input_height_width(tmp_path: Path) -> None:
    path = tmp_path / "w.pkl"
    path.write_bytes(pickle.dumps(WEIGHTS, 3))
    conv1, squeeze = read_hwio_pickle(path).layers
    assert (conv1.name, conv1.type, squeeze.name) == ("conv1", "Convolution", "fire2/squeeze1x1")
    assert [blob.shape for blob in conv1.blobs] == [(2, 3, 3, 3), (2,)]
    assert conv1.blobs[0][1, 2, 0, 1] == WEIGHTS["conv1"][0][0, 1, 2, 1]


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ([1], "{path}: expected a dict of layers, found a list"),
        ({"a": [np.ones((1, 1, 1, 2), "f4")]},
         'layer "a": {path}: expected a kernel of 4 dimensions and a bias of 1'),
        ({"a": [np.ones((1, 1, 1, 2), "f4"), np.ones(3, "f4")]},
         'layer "a": {path}: the kernel has 2 outputs, the bias 3'),
    ],
)  # fmt: skip
def test_a_pickle_of_something_else_is_told(tmp_path: Path, held: Any, message: str) -> None:
    path = tmp_path / "w.pkl"
    path.write_bytes(pickle.dumps(held, 3))
    with pytest.raises(WeightsError) as error:
        read_hwio_pickle(path)
    assert str(error.value) == message.format(path=path)
