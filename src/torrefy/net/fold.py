"""The same net in fewer layers, for inference: BatchNorm, Scale and Bias folded, Dropout gone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from torrefy.graph import Graph, Node
from torrefy.layers.base import Layer
from torrefy.layers.convolution import Convolution, Deconvolution
from torrefy.layers.dropout import Dropout
from torrefy.layers.inner_product import InnerProduct
from torrefy.layers.normalization import BatchNorm
from torrefy.layers.scale import Bias, Scale
from torrefy.layers.shape import Split
from torrefy.net.net import Net, compile_net
from torrefy.net.program import needed_nodes
from torrefy.schema import Definition, new_message

Affine = tuple[Tensor, Tensor]
"""Factor and offset of each channel, in double precision."""


def fold(net: Net, blobs: Iterable[str] | None = None) -> Net:
    """A net that computes the same blobs in TEST with fewer layers; the given one stays as it is.

    What the blobs don't depend on is left out. A run of BatchNorm, Scale and Bias over the
    channels becomes part of the Convolution, Deconvolution or InnerProduct before it, else one
    Scale. Dropout and Split vanish. The weights are combined in double precision.

    Args:
        net: a net in phase test.
        blobs: the blobs that it must still compute, by name; None: its outputs.
    """
    return _Folding(net, tuple(net.graph.outputs if blobs is None else blobs)).run()


@dataclass(frozen=True)
class _Step:
    """A layer of the folded net: its message, and where its blobs come from."""

    spec: Any
    blobs: tuple[Tensor, ...]


class _Folding:
    def __init__(self, net: Net, outputs: tuple[str, ...]) -> None:
        self.net = net
        self.graph: Graph = net.graph
        self.outputs = outputs
        needed = needed_nodes(self.graph, self.graph.inputs.values(), outputs)
        self.nodes = [n for n in self.graph.nodes if n.key in needed]
        self.readers = Counter(b for n in self.nodes for b in n.bottoms)
        self.reader = {b: n for n in self.nodes for b in n.bottoms}
        self.same: dict[str, str] = {}
        """A value to the one that it equals."""
        self.done: set[str] = set()
        self.steps: list[_Step] = []

    def run(self) -> Net:
        used = {b for node in self.nodes for b in node.bottoms} | set(self.outputs)
        for name, value in self.graph.inputs.items():
            if value in used:
                self.steps.append(_Step(self.input(value, self.net.inputs[name]), ()))
        for node in self.nodes:
            if node.key not in self.done:
                self.take(node)
        message = new_message("caffe.NetParameter")
        message.name = self.graph.name
        for step in self.steps:
            message.layer.add().CopyFrom(step.spec)
        given = self.graph.definition
        source = replace(given.source, file=f"{given.source.file} (folded)")
        definition = Definition(message, source, dialect=given.dialect)
        folded = compile_net(definition, replace(self.graph.state, phase="test"), fill=False)
        # An input that is overwritten in place keeps its blob's name.
        inputs = {b: v for b, v in self.graph.inputs.items() if v in folded.graph.inputs}
        folded.graph = replace(folded.graph, inputs=inputs)
        with torch.no_grad():
            for layer, step in zip(folded.layers.values(), self.steps, strict=True):
                for mine, blob in zip(layer.blobs, step.blobs, strict=True):
                    mine.copy_(blob)
        return folded.to(self.net.device)

    def input(self, value: str, shape: tuple[int, ...]) -> Any:
        spec = new_message("caffe.LayerParameter")
        spec.name, spec.type = value, "Input"
        spec.top.append(value)
        spec.input_param.shape.add().dim.extend(shape)
        return spec

    def take(self, node: Node) -> None:
        """Copy a layer, with the affine layers behind it folded in where that is possible."""
        layer = self.net.layers[node.key]
        if isinstance(layer, Dropout | Split) and not set(node.tops) & set(self.outputs):
            for top in node.tops:
                self.same[top] = self.value(node.bottoms[0])
            return
        if isinstance(layer, Convolution | Deconvolution | InnerProduct) and _absorbs(layer):
            chain, top = self.chain(node)
            if chain:
                weight, bias = _folded(layer, _product([self.affine(n) for n in chain]))
                spec = self.spec(node, (top,))
                getattr(spec, layer.param).bias_term = True
                self.steps.append(_Step(spec, (weight, bias)))
                return
        if self.is_affine(node):
            chain, top = self.chain(node)
            chain = [node, *chain]
            if len(chain) > 1 or isinstance(layer, BatchNorm):
                spec = self.spec(node, (top,))
                spec.type = "Scale"
                spec.ClearField(layer.param)
                spec.scale_param.bias_term = True
                affine = _product([self.affine(n) for n in chain])
                self.steps.append(_Step(spec, affine))
                return
        self.steps.append(_Step(self.spec(node, node.tops), tuple(layer.blobs)))

    def spec(self, node: Node, tops: Iterable[str]) -> Any:
        spec = new_message("caffe.LayerParameter")
        spec.CopyFrom(node.spec)
        spec.name = node.key
        for field in ("bottom", "top", "include", "exclude", "param", "loss_weight", "blobs"):
            spec.ClearField(field)
        spec.bottom.extend(self.value(b) for b in node.bottoms)
        spec.top.extend(tops)
        return spec

    def value(self, name: str) -> str:
        return self.same.get(name, name)

    def chain(self, node: Node) -> tuple[list[Node], str]:
        """The affine layers that follow, each the only reader of the one before; the last top."""
        top = node.tops[0]
        found: list[Node] = []
        while self.readers[top] == 1 and top not in self.outputs:
            reader = self.reader[top]
            if not self.is_affine(reader):
                break
            found.append(reader)
            self.done.add(reader.key)
            top = reader.tops[0]
        return found, top

    def is_affine(self, node: Node) -> bool:
        """Whether a layer is a factor and an offset for each channel, fixed in TEST."""
        layer = self.net.layers[node.key]
        rank = len(self.net.shapes[node.bottoms[0]]) if node.bottoms else 0
        if rank < 2:
            return False
        if isinstance(layer, BatchNorm):
            return layer.use_global_stats is not False
        return isinstance(layer, Scale | Bias) and layer.per_channel

    def affine(self, node: Node) -> Affine:
        layer = self.net.layers[node.key]
        if isinstance(layer, BatchNorm):
            mean, variance = (s.double() for s in layer.statistics())
            factor = torch.rsqrt(variance + layer.eps)
            return factor, -mean * factor
        first = layer.blobs[0].detach().double()
        if isinstance(layer, Bias):
            return torch.ones_like(first), first
        has_bias = len(layer.blobs) > 1
        return first, layer.blobs[1].detach().double() if has_bias else torch.zeros_like(first)


def _product(chain: list[Affine]) -> Affine:
    """One affine map for several in a row."""
    factor, offset = chain[0]
    for next_factor, next_offset in chain[1:]:
        factor, offset = factor * next_factor, offset * next_factor + next_offset
    return factor, offset


def _absorbs(layer: Layer) -> bool:
    """Whether the layer's output channels are its top's axis 1, and it makes one top."""
    if isinstance(layer, InnerProduct):
        return layer.start == 1
    return layer.num_tops == 1 and isinstance(layer, Convolution | Deconvolution) and (
        layer.channel_axis == 1
    )  # fmt: skip


def _folded(layer: Layer, affine: Affine) -> Affine:
    """Weight and bias of the layer with an affine map of its channels behind it."""
    factor, offset = affine
    weight = layer.blobs[0].detach().double()
    bias = layer.blobs[1].detach().double() if len(layer.blobs) > 1 else torch.zeros_like(offset)
    if isinstance(layer, Deconvolution):  # C×out/group×k…: group g's outputs are a block
        group = layer.group
        blocks = weight.reshape(group, weight.shape[0] // group, *weight.shape[1:])
        by_block = factor.reshape(group, 1, -1, *[1] * (weight.dim() - 2))
        scaled = (blocks * by_block).reshape(weight.shape)
    elif isinstance(layer, InnerProduct) and layer.transpose:
        scaled = weight * factor
    else:
        scaled = weight * factor.reshape(-1, *[1] * (weight.dim() - 1))
    return scaled, bias * factor + offset
