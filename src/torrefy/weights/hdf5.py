"""The .h5 format: Caffe's HDF5 layout of weights."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torrefy.errors import Place, WeightsError
from torrefy.net.stored import StoredLayer, StoredNet, WeightFormat
from torrefy.weights.files import read_whole, replacing
from torrefy.weights.hdf5_dataset import read_dataset
from torrefy.weights.hdf5_file import HDF5File, Link

MOST_LINKS = 16
"""Soft links that one name may lead through; HDF5's own limit."""
DEEPEST_GROUP = 32
"""How deep groups may nest: one more than the slashes in a layer's name."""
LONGEST_NAME = 1 << 12
"""Characters of a layer's name that are written."""


def read_hdf5(path: Path) -> StoredNet:
    """Read an .h5 file as Caffe's snapshots are: a group `data`, in it a group for each layer.

    A layer's blobs are the datasets "0", "1", … of its group. Caffe leaves out a shared param
    but in the layer that owns it; `StoredLayer.names` then says which blobs are there. Hard
    links are followed, and soft links within the file. Floats stay as they are; integers become
    float32, as in Caffe. A group `diff` is passed over.

    Layers come in the order that `write_hdf5` notes, else, as from Caffe's own files, in the
    order of their names. A group within a group is a layer whose name has a slash. Caffe's files
    hold neither the name of the net nor types. A blob is a view of the file's bytes, unless it is
    kept in chunks; the peak of memory is then what it takes uncompressed.

    Raises:
        WeightsError: the file is something else, cut off or damaged, or it has values that are
            not numbers, are kept in another file, or need a filter that is not built in.
    """
    return _Reading(HDF5File(read_whole(path, "an HDF5 file", ".h5"), str(path))).net()


def write_hdf5(path: Path, stored: StoredNet) -> None:
    """Write an .h5 file that Caffe 1.0 reads, all of it or nothing.

    Blobs keep their float type. A blob that is the memory of one before it, as a shared param
    is, becomes a hard link to that. Beyond Caffe's layout, attributes hold the net's name and
    each layer's type and number; Caffe passes over them.

    Raises:
        WeightsError: it can't be written, a blob is not of floats, or a layer has no name that
            HDF5 can hold.
    """
    import h5py

    place = Place(str(path))
    with replacing(path) as part:
        try:
            with h5py.File(part.name, "w", locking=False) as file:
                _Writing(file.create_group("data"), place).net(stored)
        except (OSError, RuntimeError, ValueError) as error:
            raise WeightsError(f"can't be written: {_reason(error)}", place=place) from None


HDF5 = WeightFormat("hdf5", (".h5", ".hdf5"), read_hdf5, write_hdf5)


class _Reading:
    """One walk through a file."""

    def __init__(self, file: HDF5File) -> None:
        self.file = file
        self.layers: list[StoredLayer] = []
        self.numbers: list[str] = []
        self.read: dict[int, NDArray[Any]] = {}
        """A dataset's address to its values: a shared blob is read once."""

    def net(self) -> StoredNet:
        root = {link.name: link for link in self.links(self.file.root) or ()}
        data = self.follow(root[b"data"], self.file.root) if b"data" in root else None
        links = None if data is None else self.links(data)
        if data is None or links is None:
            what = "there is no group `data` in it"
            if b"history" in root:
                what = "this is a solverstate"
            elif data is not None:
                what = "its `data` is a dataset, as in files for HDF5Data layers"
            raise self.file.refusal(f"these are no weights of Caffe's: {what}")
        self.group(data, links, "", {data})
        if not self.layers:
            raise self.file.refusal("there is no layer in it")
        if all(number.isdecimal() and len(number) < 10 for number in self.numbers):
            order = sorted(range(len(self.layers)), key=lambda i: int(self.numbers[i]))
            self.layers = [self.layers[i] for i in order]
        name = self.file.text(data, "name") or ""
        return StoredNet(name, tuple(self.layers), self.file.path)

    def group(self, address: int, links: Sequence[Link], name: str, above: set[int]) -> None:
        """Take a group as a layer, and the groups in it as layers further down its name."""
        blobs: dict[int, NDArray[Any]] = {}
        groups = []
        for link in links:
            part = link.name.decode("utf-8", "replace")
            found = self.follow(link, address)
            inner = self.links(found)
            if inner is not None:
                groups.append((f"{name}/{part}" if name else part, found, inner))
            elif not name:
                raise self.file.refusal(f'"{part}" in the group `data` is not a group')
            elif not re.fullmatch(r"0|[1-9]\d{0,3}", part):
                raise self.within(name, self.file.refusal(f'"{part}" is not the number of a blob'))
            else:
                blobs[int(part)] = self.blob(found, f"blob {part}", name)
        kind, number = (self.file.text(address, key) for key in ("type", "number"))
        if name and (blobs or not groups or number is not None):
            order = sorted(blobs)
            values = tuple(blobs[i] for i in order)
            self.layers.append(StoredLayer(name, kind or "", values, names=tuple(map(str, order))))
            self.numbers.append(number or "")
        for inner_name, found, inner in groups:
            if len(above) > DEEPEST_GROUP:
                raise self.file.refusal(f"groups nest deeper than {DEEPEST_GROUP}")
            if found in above:
                raise self.file.refusal(f'the group "{inner_name}" is within itself')
            self.group(found, inner, inner_name, above | {found})

    def links(self, address: int) -> list[Link] | None:
        self.file.step(address)
        return self.file.links(address)

    def follow(self, link: Link, group: int, left: int = MOST_LINKS) -> int:
        """The address of what a link in a group leads to, within the file."""
        if link.address is not None:
            return link.address
        name = link.name.decode("utf-8", "replace")
        if link.target is None:
            raise self.file.refusal(
                f'"{name}" is a link to another file; such links are not followed'
            )
        if not left:
            raise self.file.refusal(f'the soft link "{name}" leads round in circles')
        found = self.file.root if link.target.startswith(b"/") else group
        for step in link.target.split(b"/"):
            if step in (b"", b"."):
                continue
            below = {inner.name: inner for inner in self.links(found) or ()}
            if step not in below:
                raise self.file.refusal(f'the soft link "{name}" leads to nothing')
            found = self.follow(below[step], found, left - 1)
        return found

    def blob(self, address: int, what: str, layer: str) -> NDArray[Any]:
        if address not in self.read:
            try:
                self.read[address] = read_dataset(self.file, address, what)
            except WeightsError as error:
                raise self.within(layer, error) from None
        return self.read[address]

    def within(self, layer: str, error: WeightsError) -> WeightsError:
        return WeightsError(error.within(layer=layer).problems)


class _Writing:
    """The group `data` of a new file."""

    def __init__(self, data: Any, place: Place) -> None:
        self.data = data
        self.place = place
        self.made: dict[tuple[Any, ...], Any] = {}
        """Where a blob's memory is to the dataset that holds it."""
        self.blobs: set[str] = set()
        """The paths of all blobs."""

    def net(self, stored: StoredNet) -> None:
        self.blobs = {f"{x.name}/{place}" for x in stored.layers for place in x.places}
        self.text(self.data, "name", stored.name)
        for number, layer in enumerate(stored.layers):
            group = self.group(layer.name)
            self.text(group, "number", str(number))
            self.text(group, "type", layer.type)
            for place, blob in zip(layer.places, layer.blobs, strict=True):
                self.blob(group, str(place), blob, layer.name)

    def text(self, group: Any, name: str, value: str) -> None:
        if value:
            group.attrs[name] = np.bytes_(value.encode())

    def group(self, name: str) -> Any:
        """A new group for a layer; one that was made for a longer name is taken."""
        steps = name.split("/")
        paths = {"/".join(steps[: i + 1]) for i in range(len(steps))}
        odd = any(step in ("", ".") or "\0" in step for step in steps)
        odd |= len(name) > LONGEST_NAME or len(steps) > DEEPEST_GROUP
        if odd or paths & self.blobs:
            raise WeightsError(
                f'HDF5 can\'t hold the layer name "{name}"', place=self.place, hint="Rename it."
            )
        group = self.data
        for step in steps:
            group = group[step] if step in group else group.create_group(step)
        if "number" in group.attrs:
            raise WeightsError(
                "two layers have this name; HDF5 holds one",
                place=self.place,
                layer=name,
                hint="Rename one of them.",
            )
        return group

    def blob(self, group: Any, name: str, blob: NDArray[Any], layer: str) -> None:
        if blob.dtype.kind != "f" or blob.dtype.itemsize > 8:
            raise WeightsError(
                f"blob {name} is {blob.dtype}, but weights are float16, float32 or float64",
                place=self.place,
                layer=layer,
            )
        memory = (blob.ctypes.data, blob.shape, blob.strides, blob.dtype.str)
        if blob.size and memory in self.made:
            group[name] = self.made[memory]
        else:
            self.made[memory] = group.create_dataset(name, data=blob)


def _reason(error: BaseException) -> str:
    """What HDF5 says, without the call that failed and the clock."""
    text = str(error) or type(error).__name__
    told = re.search(r"error message = '([^']+)'", text) or re.search(r"\((.*)\)$", text, re.DOTALL)
    return " ".join((told[1] if told else text).split())
