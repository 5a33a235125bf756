"""Traps in data layers: fields that are ignored, and answers that vary."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torrefy.lint.nets import _phases
from torrefy.lint.rule import Finding, NetSubject, on_layer, rule

TRANSFORMED = ("Data", "ImageData", "WindowData", "MemoryData")
LEGACY = {
    "Data": "data_param",
    "ImageData": "image_data_param",
}
"""Layers whose own message once held what transform_param holds now. (WindowData reads its own.)"""
MOVED = ("scale", "mean_file", "crop_size", "mirror")


@rule("T201", "mirror-in-test")
def mirror_in_test(net: NetSubject) -> Iterator[Finding]:
    """With mirror, pictures are flipped at random in TEST too, so that scores vary.

    Caffe asks for the phase where it crops, not where it flips. (Source: Caffe's
    data_transformer.cpp.)
    """
    for index, layer in net.of_type(*TRANSFORMED):
        if layer.transform_param.mirror and "test" in _phases(layer):
            only = _phases(layer) == {"test"}
            yield Finding(
                "mirror flips pictures at random in phase test too, so scores vary",
                "Give mirror: false for phase test.",
                ("layer", index, "transform_param", "mirror"), layer.name,
                edit="false" if only else "",
            )  # fmt: skip


@rule("T202", "ignored-transform")
def ignored_transform(net: NetSubject) -> Iterator[Finding]:
    """scale, mean_file, crop_size and mirror in data_param are read and ignored.

    Only the older `layers { type: DATA }` are upgraded; in a `layer { type: "Data" }` these
    fields do nothing. (Source: Caffe's upgrade_proto.cpp.)
    """
    for index, layer in net.of_type(*LEGACY):
        param: Any = getattr(layer, LEGACY[layer.type])
        for name in MOVED:
            if param.HasField(name):
                yield on_layer(
                    index, layer, f"{name} in {LEGACY[layer.type]} is ignored",
                    f"Put it into transform_param {{ {name}: … }}.", LEGACY[layer.type], name,
                )  # fmt: skip


@rule("T203", "ignored-window-scale")
def ignored_window_scale(net: NetSubject) -> Iterator[Finding]:
    """WindowData ignores transform_param.scale: it reads its own.

    (Source: Caffe's window_data_layer.cpp.)
    """
    for index, layer in net.of_type("WindowData"):
        if layer.transform_param.HasField("scale"):
            yield on_layer(
                index, layer, "scale in transform_param is ignored",
                "Put it into window_data_param.", "transform_param", "scale",
            )  # fmt: skip


@rule("T204", "transformed-hdf5")
def transformed_hdf5(net: NetSubject) -> Iterator[Finding]:
    """HDF5Data takes no transform_param; Caffe stops when it is given one.

    (Source: Caffe's hdf5_data_layer.cpp.)
    """
    for index, layer in net.of_type("HDF5Data"):
        if layer.HasField("transform_param"):
            yield on_layer(
                index, layer, "HDF5Data does not transform, and Caffe refuses transform_param",
                "Transform the data before they are written.", "transform_param",
            )  # fmt: skip


@rule("T205", "leveldb-by-default")
def leveldb_by_default(net: NetSubject) -> Iterator[Finding]:
    """A Data layer without a backend reads LevelDB, also where its source is called lmdb.

    (Source: Caffe's DataParameter, whose default it is.)
    """
    for index, layer in net.of_type("Data"):
        param = layer.data_param
        if not param.HasField("backend") and "lmdb" in param.source.lower():
            yield on_layer(
                index, layer, f'no backend is given, so "{param.source}" is read as LevelDB',
                "Give backend: LMDB.", "data_param",
            )  # fmt: skip


@rule("T206", "unshuffled-list")
def unshuffled_list(net: NetSubject) -> Iterator[Finding]:
    """ImageData in TRAIN without shuffle gives pictures in the list's order.

    A list that is sorted by class then has batches of one class.
    """
    for index, layer in net.of_type("ImageData"):
        if "train" in _phases(layer) and net.trains and not layer.image_data_param.shuffle:
            yield on_layer(
                index, layer, "pictures come in the list's order",
                "Give shuffle: true, unless the list is shuffled.", "image_data_param",
            )  # fmt: skip
