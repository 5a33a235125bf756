"""Numpy arrays out of a pickle that is read as data: nothing in it is imported or called."""

from __future__ import annotations

import pickletools
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torrefy.errors import WeightsError

NEWEST_PROTOCOL = 4
"""Protocol 5 stores arrays in another way."""
TYPES = ("f2", "f4", "f8")
MOST_DIMENSIONS = 8
DEEPEST = 16
"""Lists in lists; a list that holds itself ends here too."""

_VALUES = {
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE",
    "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
}  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_NAMES = {
    "numpy.core.multiarray _reconstruct": "array",
    "numpy._core.multiarray _reconstruct": "array",
    "numpy ndarray": "ndarray",
    "numpy dtype": "dtype",
    "_codecs encode": "encode",
}
_MARK = object()


@dataclass(frozen=True)
class _Name:
    """A name of a module; it stands for what numpy would do, but there is nothing to call."""

    means: str


class _Type:
    """A dtype in the making: its code, then its byte order."""

    def __init__(self, code: str) -> None:
        self.code = code
        self.order = "="


class _Array:
    """An array in the making; the pickle fills it later than it refers to it."""

    value: NDArray[Any] | None = None


def read_pickled_arrays(data: bytes, file: str) -> Any:
    """The dicts, lists, tuples, texts, numbers and float arrays that a pickle holds.

    A pickle is a program: loading it can call anything. This reads the opcodes with the
    standard library's `pickletools` and carries out only those that make plain values, and of
    the calls only those by which numpy (up to protocol 4) writes an array: `_reconstruct`,
    `dtype` and, for bytes in protocol 2, `_codecs.encode` from Latin-1; each is done here and
    not called. Arrays are views into `data`, or copies of bytes in it, so memory is bounded
    by the file's size.

    Raises:
        WeightsError: anything else is in the pickle, or it is cut off.
    """
    reader = _Reader()
    try:
        for opcode, argument, position in pickletools.genops(data):
            reader.step(opcode.name, argument, position or 0)
        return _finished(reader.stack.pop(), 0, {})
    except _RefusedError as error:
        raise WeightsError(f"{file}: the pickle {error}; it is refused") from None
    except (ValueError, IndexError, KeyError, TypeError) as error:
        raise WeightsError(f"{file}: this is no whole pickle: {error}") from None


class _RefusedError(Exception):
    """The pickle asks for what is not admitted."""


class _Reader:
    """The machine that a pickle is a program for, less everything that could do harm."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any, position: int) -> None:
        """Carry out one opcode."""
        stack = self.stack
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name in _TUPLES:
            count = _TUPLES[name]
            stack.append(tuple(self.pop() for _ in range(count))[::-1])
        elif name == "TUPLE":
            stack.append(tuple(self.pop_to_mark()))
        elif name == "APPEND":
            value = self.pop()
            self.top(list).append(value)
        elif name == "APPENDS":
            values = self.pop_to_mark()
            self.top(list).extend(values)
        elif name in ("SETITEM", "SETITEMS"):
            values = self.pop_to_mark() if name == "SETITEMS" else [self.pop(), self.pop()][::-1]
            self.set_items(values)
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            if name == "STACK_GLOBAL":
                function, module = self.pop(), self.pop()
                argument = f"{module} {function}"
            if argument not in _NAMES:
                raise _RefusedError(f"names {argument.replace(' ', '.')} at byte {position}")
            stack.append(_Name(_NAMES[argument]))
        elif name == "REDUCE":
            arguments, callee = self.pop(), self.pop()
            stack.append(_made(callee, arguments))
        elif name == "BUILD":
            state = self.pop()
            _fill(stack[-1], state)
        elif name == "PROTO":
            if argument > NEWEST_PROTOCOL:
                raise _RefusedError(f"is of protocol {argument}, not up to {NEWEST_PROTOCOL}")
        elif name not in ("FRAME", "STOP"):
            raise _RefusedError(f"holds the opcode {name} at byte {position}")

    def pop(self) -> Any:
        """The topmost value, which must be one."""
        value = self.stack.pop()
        if value is _MARK:
            raise IndexError("a mark where a value is due")
        return value

    def pop_to_mark(self) -> list[Any]:
        """The values above the topmost mark."""
        values = []
        while (value := self.stack.pop()) is not _MARK:
            values.append(value)
        return values[::-1]

    def top(self, kind: type) -> Any:
        """The topmost value, left where it is."""
        if not isinstance(self.stack[-1], kind):
            raise TypeError(f"no {kind.__name__} to put values into")
        return self.stack[-1]

    def set_items(self, values: list[Any]) -> None:
        """Keys and values in turn, into the dict on top."""
        target = self.top(dict)
        for key, value in zip(values[::2], values[1::2], strict=True):
            if not isinstance(key, str | int):
                raise _RefusedError(f"has a {type(key).__name__} as a key")
            target[key] = value


def _made(callee: Any, arguments: Any) -> Any:
    """What a call that numpy's pickles hold would make."""
    means = callee.means if isinstance(callee, _Name) else ""
    match means, arguments:
        case "array", (_Name(means="ndarray"), (0,), b"b"):
            return _Array()
        case "dtype", (str() as code, bool() | int(), bool() | int()):
            if code not in TYPES:
                raise _RefusedError(f"holds an array of the type {code!r}")
            return _Type(code)
        case "encode", (str() as text, "latin1"):
            return text.encode("latin-1")
    raise _RefusedError(f"makes a call that is no array's ({means or type(callee).__name__})")


def _fill(target: Any, state: Any) -> None:
    """The state of an array or a dtype, as numpy's `__setstate__` takes it."""
    match target, state:
        case _Type(), (int(), ("<" | ">" | "=") as order, None, None, None, *_):
            target.order = order
        case _Array(), (int(), tuple() as shape, _Type() as kind, bool() | int() as fortran, data):
            target.value = _array(shape, kind, bool(fortran), data)
        case _:
            raise _RefusedError(f"gives a {type(target).__name__.strip('_')} a state of its own")


def _array(shape: tuple[Any, ...], kind: _Type, fortran: bool, data: Any) -> NDArray[Any]:
    dtype = np.dtype(kind.order + kind.code)
    if (
        not isinstance(data, bytes)
        or len(shape) > MOST_DIMENSIONS
        or not all(isinstance(dim, int) and dim > 0 for dim in shape)
        or prod(shape) * dtype.itemsize != len(data)
    ):
        raise _RefusedError(f"holds an array whose bytes do not fit its shape {shape}")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def _finished(value: Any, depth: int, done: dict[int, Any]) -> Any:
    """The value with the arrays in the place of what stood for them.

    What is referred to twice is finished once (`done`): lists of the same lists would else grow
    without bound.
    """
    if depth > DEEPEST:
        raise _RefusedError(f"nests deeper than {DEEPEST} levels")
    if id(value) in done:
        return done[id(value)]
    if isinstance(value, _Array) and value.value is not None:
        return value.value
    if isinstance(value, dict):
        finished: Any = {key: _finished(inner, depth + 1, done) for key, inner in value.items()}
    elif isinstance(value, list | tuple):
        finished = type(value)(_finished(inner, depth + 1, done) for inner in value)
    elif isinstance(value, _Array | _Type | _Name) or value is _MARK:
        raise _RefusedError("holds an array without its values")
    else:
        return value
    done[id(value)] = finished
    return finished
