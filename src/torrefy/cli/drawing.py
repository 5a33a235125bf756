"""A net drawn by Graphviz: layers as boxes, blobs as ovals."""

from __future__ import annotations

import subprocess
from html import escape
from typing import TYPE_CHECKING, Any

from torrefy.cli.output import one_line
from torrefy.errors import TorrefyError
from torrefy.graph import Graph, Node

if TYPE_CHECKING:
    from torrefy.net.compile import Built

_INSTALL = (
    'Install both: pip install "torrefy[svg]", and the program by apt, dnf, brew or winget '
    "install graphviz."
)
_LEARNED, _FIXED, _BLOB = "#cfe2f3", "#f3f3f3", "#fff2cc"


def draw(graph: Graph, built: Built) -> str:
    """The drawing as a text in Graphviz's language.

    A layer that works in place is a line in the box of the layer that it works on, so that the
    drawing runs one way, as the net does. Layers with learned params are blue.

    Raises:
        TorrefyError: the graphviz package is not installed.
    """
    from torrefy.layers.base import shape_text

    graphviz = _graphviz()
    drawing = graphviz.Digraph(
        graph.name or "net",
        graph_attr={"ranksep": "0.25", "nodesep": "0.3"},
        node_attr={"fontname": "Helvetica", "fontsize": "12", "height": "0.3", "penwidth": "0.7"},
        edge_attr={"arrowsize": "0.6", "penwidth": "0.7"},
    )
    boxes = _boxes(graph)
    for i, box in enumerate(boxes):
        learned = any(built.layers[node.key].declared for node in box)
        drawing.node(
            f"layer{i}",
            _box_label(box, built),
            shape="box",
            margin="0.05,0.02",
            style="rounded,filled",
            fillcolor=_LEARNED if learned else _FIXED,
        )
    drawn: dict[str, str] = {}
    for box in boxes:
        for value, name in zip(box[-1].tops, box[-1].spec.top, strict=True):
            drawn[value] = f"blob{len(drawn)}"
            shape = shape_text(built.shapes[value])
            label = f'<{_text(name)}<br/><font point-size="10">{shape}</font>>'
            drawing.node(drawn[value], label, shape="oval", style="filled", fillcolor=_BLOB)
    for i, box in enumerate(boxes):
        for value in box[0].bottoms:
            drawing.edge(drawn[value], f"layer{i}")
        for value in box[-1].tops:
            drawing.edge(f"layer{i}", drawn[value])
    return str(drawing.source)


def render(text: str) -> bytes:
    """A Graphviz text as an SVG picture.

    Raises:
        TorrefyError: the `dot` program is not installed, or fails.
    """
    graphviz = _graphviz()
    try:
        return bytes(graphviz.Source(text).pipe(format="svg"))
    except graphviz.ExecutableNotFound:
        raise TorrefyError(
            "drawing an SVG needs Graphviz's program dot, which is not there", hint=_INSTALL
        ) from None
    except subprocess.CalledProcessError as error:
        reason = (error.stderr or b"").decode(errors="replace").strip() or str(error)
        raise TorrefyError(f"dot can't draw this net: {reason}") from None


def _graphviz() -> Any:
    try:
        import graphviz
    except ImportError:
        raise TorrefyError(
            "drawing needs the Python package graphviz, which is not there", hint=_INSTALL
        ) from None
    return graphviz


def _boxes(graph: Graph) -> list[list[Node]]:
    """The nodes in order, each with the in-place ones that alone read what it makes."""
    readers: dict[str, int] = {}
    for node in graph.nodes:
        for value in node.bottoms:
            readers[value] = readers.get(value, 0) + 1
    boxes: list[list[Node]] = []
    ends: dict[str, list[Node]] = {}
    for node in graph.nodes:
        in_place = len(node.bottoms) == len(node.tops) == 1 and node.spec.bottom == node.spec.top
        box = ends.get(node.bottoms[0]) if in_place and readers[node.bottoms[0]] == 1 else None
        if box is None:
            box = []
            boxes.append(box)
        box.append(node)
        if len(node.tops) == 1:
            ends[node.tops[0]] = box
    return boxes


def _box_label(box: list[Node], built: Built) -> str:
    """Name and type of each layer of a box, and the parameters that the definition gives it."""
    rows = []
    for node in box:
        cell = f"<b>{_text(node.name)}</b>  {_text(node.type)}"
        given = _given(built.layers[node.key].p)
        if given:
            cell += f'<br/><font point-size="10">{_text(given)}</font>'
        rows.append(f"<tr><td>{cell}</td></tr>")
    table = '<table border="0" color="#aaaaaa" cellspacing="0" cellpadding="3">'
    return f"<{table}{'<hr/>'.join(rows)}</table>>"


def _given(message: Any) -> str:
    """The numbers and choices of a layer's message that are given: "num_output 64, pad 1"."""
    if message is None:
        return ""
    parts = []
    for field, value in message.ListFields():
        if field.message_type is not None or field.name == "engine":
            continue
        values = list(value) if field.is_repeated else [value]
        if field.enum_type is not None:
            values = [field.enum_type.values_by_number[v].name for v in values]
        if field.type == field.TYPE_BOOL:
            values = ["yes" if v else "no" for v in values]
        elif field.cpp_type in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
            values = [f"{v:g}" for v in values]
        parts.append(f"{field.name} {' '.join(map(str, values))}")
    return ", ".join(parts)


def _text(text: str) -> str:
    return escape(one_line(text)) or "&#160;"  # an empty tag is a syntax error to dot
