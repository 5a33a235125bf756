"""Caffe's interface for layers written in Python: numpy blobs, and the class to extend."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import math
import operator
import sys
import types
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

TRAIN, TEST = 0, 1
"""The phases, as pycaffe numbers them."""


class Blob:
    """A blob: `data` and `diff` are numpy arrays, read and written in place."""

    def __init__(self, data: NDArray[Any], shaped: bool = True) -> None:
        """Take an array as data; its diff is 0. `shaped` is whether anyone gave it its shape."""
        self._data = data
        self._diff = np.zeros_like(data)
        self.shaped = shaped

    def hold(self, data: NDArray[Any]) -> None:
        """Take an array as data, and a diff of 0."""
        self._data = data
        self._diff = np.zeros_like(data)

    @property
    def data(self) -> NDArray[Any]:
        """The values."""
        return self._data

    @property
    def diff(self) -> NDArray[Any]:
        """The gradient."""
        return self._diff

    @property
    def shape(self) -> list[int]:
        """The extents of the axes."""
        return list(self._data.shape)

    @property
    def count(self) -> int:
        """How many values there are."""
        return self._data.size

    def reshape(self, *shape: int) -> None:
        """Take another shape: the same values where it holds as many, else zeros."""
        dims = tuple(operator.index(dim) for dim in shape)
        if dims != self._data.shape:
            same = math.prod(dims) == self._data.size
            self._data = self._data.reshape(dims) if same else np.zeros(dims, self._data.dtype)
            self._diff = np.zeros_like(self._data)
        self.shaped = True

    def _legacy(self, axis: int) -> int:
        if self._data.ndim > 4:
            raise ValueError(f"num to width are of 4 axes; the blob has {self._data.ndim}")
        sizes: list[int] = [*self._data.shape, 1, 1, 1, 1]
        return sizes[axis]

    @property
    def num(self) -> int:
        """The first of four axes; those that there are not are 1."""
        return self._legacy(0)

    @property
    def channels(self) -> int:
        """The second of four axes."""
        return self._legacy(1)

    @property
    def height(self) -> int:
        """The third of four axes."""
        return self._legacy(2)

    @property
    def width(self) -> int:
        """The last of four axes."""
        return self._legacy(3)


class Blobs(list[Blob]):
    """The learned blobs of a layer."""

    def add_blob(self, *shape: int) -> None:
        """Add a blob of zeros."""
        self.append(Blob(np.zeros(tuple(operator.index(dim) for dim in shape), np.float32)))


class Layer:
    """What a class of a `Python` layer extends, as `caffe.Layer`.

    `setup` is called once; `reshape` after it and before each `forward`; `backward` writes the
    diffs of the bottoms that `propagate_down` asks for, and those of `blobs`.
    """

    param_str: str
    """`python_param { param_str }`."""
    phase: int
    """TRAIN or TEST."""
    blobs: Blobs
    """The learned blobs; `setup` adds them."""

    def __init__(self, *arguments: Any) -> None:
        """Caffe hands over the LayerParameter."""

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Read the parameters and check the bottoms."""

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Give the tops their shapes."""

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Write the tops' data."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def backward(
        self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]
    ) -> None:
        """Write the bottoms' diffs."""
        raise NotImplementedError(f"{type(self).__name__} has no backward")


def load(module: str, name: str) -> Any:
    """Import a class as Python itself would, with a `caffe` to import where there is none.

    `sys.path` stays as it is: a module is found by PYTHONPATH, or where packages are installed;
    in the working folder only where Python looks there (`python -m torrefy`, not `torrefy`).

    Raises:
        Exception: whatever importing the module raises.
        AttributeError: it has no such name.
    """
    with _stand_in():
        return getattr(importlib.import_module(module), name)


def create(cls: Any, spec: Any) -> Any:
    """An object of a layer's class."""
    theirs = getattr(sys.modules.get("caffe"), "Layer", None)
    if theirs not in (None, Layer) and issubclass(cls, theirs):
        # A real Caffe's Layer is made by C++ alone, and its blobs are C++'s.
        own: Any = type(cls.__name__, (cls,), {"blobs": None})
        return own.__new__(own)
    return cls(spec) if issubclass(cls, Layer) else cls()


@contextlib.contextmanager
def _stand_in() -> Iterator[None]:
    """A module `caffe` with all that a layer's class needs, unless there is a real one."""
    if _is_installed():
        yield
        return
    module = types.ModuleType("caffe", "What Torrefy has of pycaffe: all that a layer needs.")
    vars(module).update(Layer=Layer, TRAIN=TRAIN, TEST=TEST)
    sys.modules["caffe"] = module
    try:
        yield
    finally:
        if sys.modules.get("caffe") is module:
            del sys.modules["caffe"]


def _is_installed() -> bool:
    if "caffe" in sys.modules:
        return True
    found = importlib.util.find_spec("caffe")
    return found is not None and found.origin is not None  # a folder of that name is no package
