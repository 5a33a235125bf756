"""Where an exported file departs from the net: every blob of both, on the same random inputs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch

from torrefy.data.labels import label_limits
from torrefy.data.recipe import Recipe
from torrefy.export import onnx as writing
from torrefy.export.opset import OPSET
from torrefy.net.fold import fold
from torrefy.net.net import Net
from torrefy.runtime.session import OnnxModel


@dataclass(frozen=True)
class LayerDifference:
    """How far a layer's top in ONNX Runtime is from the net's in PyTorch."""

    layer: str
    type: str
    blob: str
    difference: float
    """The largest absolute difference."""
    largest: float
    """The largest absolute value in PyTorch."""

    def departs(self, tolerance: float = writing.TOLERANCE) -> bool:
        """Whether that is more than an export allows."""
        return not self.difference <= tolerance * max(1.0, self.largest)


def compare_layers(
    net: Net,
    blobs: Iterable[str] | None = None,
    *,
    recipe: Recipe | None = None,
    opset: int = OPSET,
) -> list[LayerDifference]:
    """Export a net with the tops of all layers that are left of it as outputs, and compare each.

    ONNX Runtime can't fuse what is asked for: the file that `export_onnx` writes may round
    otherwise, but computes the same.

    Args:
        net: a net in phase test.
        blobs: the outputs that it is folded for; None: the net's.
        recipe: what the net sees, for inputs of its size.
        opset: ONNX's operator set.

    Returns:
        In the order in which they are computed. A top of which only the places are computed that
        a stride leaves is not among them.

    Raises:
        ExportError: PyTorch's exporter can't express the net.
    """
    outputs = tuple(net.graph.outputs if blobs is None else blobs)
    folded = fold(net, outputs).cpu()
    nodes = {
        top: node for node in folded.graph.nodes if not node.feeds
        for top in node.tops if folded.shapes[top] == net.shapes.get(top)
    }  # fmt: skip
    program, _ = writing.translate_net(folded, tuple(nodes), opset, folded.inputs)
    names = writing.output_names(folded, tuple(nodes))
    random, limits = np.random.default_rng(0), label_limits(net)
    with tempfile.TemporaryDirectory(prefix="torrefy-") as folder:
        file = Path(folder) / "layers.onnx"
        onnx.save_model(program.model_proto, file, save_as_external_data=True)
        model = OnnxModel(file)
        inputs = {
            name: writing.random_input(
                random, shape, writing.varying(shape, net.inputs[name]), recipe,
                limits[name].classes if name in limits else None,
            )
            for name, shape in model.inputs.items()
        }  # fmt: skip
        found = model.run(inputs)
    with torch.no_grad():
        expected = net.run(inputs, list(nodes))
    differences = []
    for name, (blob, node) in zip(names, nodes.items(), strict=True):
        difference, largest = writing.distance(found[name], expected[blob])
        differences.append(LayerDifference(node.name, node.type, blob, difference, largest))
    return differences
