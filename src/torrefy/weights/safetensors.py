"""The .safetensors format: the tensors of a net's `state_dict()`, by their names there.

A tensor is called `<layer>.<blob>`, as in `Net.state_dict()`, so that PyTorch reads the file
without Torrefy: `net.load_state_dict(safetensors.torch.load_file("net.safetensors"))`.

`<layer>` is the layer's name as a Python identifier: every character that can't be in one is "_"
("conv1/7x7_s2" gives "conv1_7x7_s2"), a digit gets a "_" in front, a name that is taken "_2" at
its end. `<blob>` is what the layer calls the blob:

    Convolution, Deconvolution, InnerProduct, Embed, Scale   weight, bias
    Bias                                                     bias
    BatchNorm                                                mean_sum, variance_sum, factor
    PReLU                                                    slope
    Parameter                                                value
    LSTM                                                     weight_x, bias, [weight_static,]
                                                             weight_h
    RNN                                                      as LSTM, then weight_o, bias_o

What comes from a file that doesn't tell types, or has a type that is not listed here, is called by
its place: "conv1.0". `Net.save` knows every name.

These names don't tell Caffe's names and order. Both are in the file's metadata, as a JSON text
under the key "torrefy":

    {"name": "LeNet",
     "layers": [{"name": "conv1", "type": "Convolution",
                 "blobs": {"0": "conv1.weight", "1": "conv1.bias"}}, …]}

A file without it, as `safetensors.torch.save_file(net.state_dict(), …)` writes, is read by the
names of its tensors; `copy_weights` then finds layers by identifier and blobs by attribute.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from torrefy.errors import Place, WeightsError
from torrefy.net.stored import StoredLayer, StoredNet, WeightFormat
from torrefy.weights.files import opened, replacing

MOST_TENSORS = 1 << 16
"""Tensors that one file may have: dozens of times a thousand-layer net."""
MOST_AXES = 32
"""The axes a blob can have; Caffe's own limit."""

_KEY = "torrefy"
_LSTM = ("weight_x", "bias", "weight_static", "weight_h")
_RNN = (*_LSTM, "weight_o", "bias_o")
_WEIGHT = ("weight", "bias")
_BLOBS = {
    "BatchNorm": ("mean_sum", "variance_sum", "factor"),
    "Bias": ("bias",),
    "Convolution": _WEIGHT,
    "Deconvolution": _WEIGHT,
    "Embed": _WEIGHT,
    "InnerProduct": _WEIGHT,
    "LSTM": _LSTM,
    "PReLU": ("slope",),
    "Parameter": ("value",),
    "RNN": _RNN,
    "Scale": _WEIGHT,
}
"""What a type's blobs are called, in Caffe's order; tests hold this to the layers themselves."""
_ORDER = {
    name: i
    for i, name in enumerate(
        ("weight", "slope", "value", "mean_sum", "variance_sum", "factor", *_RNN)
    )
}


def read_safetensors(path: Path) -> StoredNet:
    """Read a .safetensors file, one of Torrefy's or any `state_dict()` of a net.

    float16, float32 and float64 stay so; bfloat16, which numpy doesn't have, becomes float32.

    Raises:
        WeightsError: the file is something else, cut off or damaged, or a tensor is not of
            floats.
    """
    from safetensors import SafetensorError, safe_open

    place = Place(str(path))
    opened(path, "a safetensors file", ".safetensors").close()
    try:
        with safe_open(path, framework="numpy", backend="pread") as file:
            names = file.offset_keys()
            if len(names) > MOST_TENSORS:
                raise WeightsError(f"more than {MOST_TENSORS} tensors", place=place)
            if not names:
                raise WeightsError("there is no tensor in it", place=place)
            tensors = {name: _tensor(file, name, path) for name in names}
            described = (file.metadata() or {}).get(_KEY)
    except SafetensorError as error:
        reason = str(error).removeprefix("Error while deserializing header: ")
        raise WeightsError(
            f"cut off, damaged, or not a safetensors file: {reason[:200]}", place=place
        ) from None
    except OSError as error:
        raise WeightsError(f"can't be read: {error.strerror or error}", place=place) from None
    except MemoryError:
        raise WeightsError("there is not enough memory", place=place) from None
    notes: list[str] = []
    if described is not None:
        net = _described(described, tensors, str(path))
        if net:
            return net
        notes.append("what it says of the layers doesn't fit its tensors, and is passed over")
    layers = _grouped(tensors, place, notes)
    return StoredNet("", layers, str(path), tuple(notes))


def write_safetensors(path: Path, stored: StoredNet) -> None:
    """Write a .safetensors file, all of it or nothing. Blobs keep their float type.

    Raises:
        WeightsError: it can't be written, or a blob is not of floats.
    """
    from torrefy.net.program import RESERVED, identifier

    place = Place(str(path))
    tensors: dict[str, NDArray[Any]] = {}
    layers = []
    taken = set(RESERVED)
    count: Counter[str] = Counter()
    for layer in stored.layers:
        count[layer.name] += 1
        repeated = f"#{count[layer.name]}" if count[layer.name] > 1 else ""
        module = identifier(layer.name + repeated, taken)
        blobs = {}
        for at, name, blob in zip(layer.places, _names(layer), layer.blobs, strict=True):
            if blob.dtype.kind != "f" or blob.dtype.itemsize > 8:
                raise WeightsError(
                    f"blob {at} is {blob.dtype}, but weights are float16, float32 or float64",
                    place=place,
                    layer=layer.name,
                )
            blobs[str(at)] = f"{module}.{name}"
            tensors[blobs[str(at)]] = blob
        layers.append({"name": layer.name, "type": layer.type, "blobs": blobs})
    metadata = {_KEY: json.dumps({"name": stored.name, "layers": layers})}
    with replacing(path) as file:
        write_tensors(file, tensors, metadata)


SAFETENSORS = WeightFormat("safetensors", (".safetensors",), read_safetensors, write_safetensors)


def _names(layer: StoredLayer) -> list[str]:
    """What a layer's blobs are called in the file."""
    if layer.names and not layer.names[0].isdecimal():
        return list(layer.names)
    known: tuple[str, ...] = _BLOBS.get(layer.type, ())
    if known[:4] == _LSTM and len(layer.places) < len(known):
        known = tuple(name for name in known if name != "weight_static")
    return [known[at] if at < len(known) else str(at) for at in layer.places]


def write_tensors(
    file: BinaryIO, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]
) -> None:
    """Write a file of tensors with metadata: header and values, piece by piece.

    Not by `safetensors.numpy.save_file`: it puts another file, with permissions of its own, in
    the place of the one that is to be written whole or not at all.
    """
    # The widest first, so that every tensor is aligned, as the library has it.
    order = sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))
    header: dict[str, Any] = {"__metadata__": metadata}
    at = 0
    for name in order:
        blob = tensors[name]
        dtype = f"F{8 * blob.itemsize}"
        end = at + blob.nbytes
        header[name] = {"dtype": dtype, "shape": list(blob.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for name in order:
        little = tensors[name].dtype.newbyteorder("<")
        file.write(np.ascontiguousarray(tensors[name], little).reshape(-1).view(np.uint8).data)


def _tensor(file: Any, name: str, path: Path) -> NDArray[Any]:
    kept = file.get_slice(name)
    dtype, shape = kept.get_dtype(), kept.get_shape()
    place = Place(str(path))
    if dtype not in ("F16", "BF16", "F32", "F64"):
        raise WeightsError(
            f'the tensor "{name}" is {dtype}; weights are F16, BF16, F32 or F64', place=place
        )
    if len(shape) > MOST_AXES:
        raise WeightsError(f'the tensor "{name}" has more than {MOST_AXES} axes', place=place)
    if math.prod(dim for dim in shape if dim) > 1 << 56:
        size = "x".join(map(str, shape))
        raise WeightsError(f'the tensor "{name}" is {size}: too large', place=place)
    values: NDArray[Any]
    if dtype == "BF16":
        from safetensors import safe_open

        with safe_open(path, framework="pt", backend="pread") as by_torch:
            values = by_torch.get_tensor(name).float().numpy()
    else:
        values = file.get_tensor(name)
    values.setflags(write=False)
    return values


def _described(text: str, tensors: Mapping[str, NDArray[Any]], path: str) -> StoredNet | None:
    """The net as the metadata tells it; None where that is not so, or not of these tensors."""
    try:
        net = json.loads(text)
        layers = []
        used: list[str] = []
        for layer in net["layers"]:
            blobs = layer["blobs"].items()
            order = sorted((_place(at), tensor) for at, tensor in blobs)
            used += [tensor for _, tensor in order]
            names = tuple(str(at) for at, _ in order)
            values = tuple(tensors[tensor] for _, tensor in order)
            layers.append(
                StoredLayer(_text(layer["name"]), _text(layer["type"]), values, None, names)
            )
        if sorted(used) != sorted(tensors):
            return None
        return StoredNet(_text(net["name"]), tuple(layers), path)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        return None


def _grouped(
    tensors: Mapping[str, NDArray[Any]], place: Place, notes: list[str]
) -> tuple[StoredLayer, ...]:
    """Layers by the names of the tensors alone; blobs in Caffe's order as far as it is known."""
    groups: dict[str, dict[str, NDArray[Any]]] = {}
    for tensor, values in tensors.items():
        layer, _, name = tensor.rpartition(".")
        if not layer or not name:
            raise WeightsError(
                f'the tensor "{tensor}" is not called by layer and blob, as "conv1.weight" is',
                place=place,
            )
        groups.setdefault(layer, {})[name] = values
    layers = []
    for layer, blobs in groups.items():
        if all(name.isdecimal() for name in blobs):
            order = sorted(blobs, key=int)
        else:
            order = sorted(blobs, key=lambda name: (_ORDER.get(name, len(_ORDER)), name))
            if len(order) > 1 and not set(order) <= _ORDER.keys():
                notes.append(
                    f'layer "{layer}": its blobs are taken in the order {", ".join(order)}'
                )
        layers.append(
            StoredLayer(layer, "", tuple(blobs[name] for name in order), None, tuple(order))
        )
    return tuple(layers)


def _place(text: str) -> int:
    place = int(text)
    if str(place) != text or not 0 <= place < 10000:
        raise ValueError(text)
    return place


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value
