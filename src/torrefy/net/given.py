"""What is given to a definition from outside: shapes of inputs, and leave to run Python classes."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from torrefy.errors import Place, Problem, TorrefyError, did_you_mean
from torrefy.graph import Graph, Node
from torrefy.layers.base import Outline
from torrefy.schema import Definition


@dataclass(frozen=True)
class Given:
    """What whoever compiles a definition says to it."""

    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Shapes of inputs by the blob's name, over the definition's own."""
    allow_python: Collection[str] = ()
    """The Python classes that may run: "module.Class", or "module.*" for all of a module."""

    def __post_init__(self) -> None:
        if isinstance(self.allow_python, str):
            raise TorrefyError(f'allow_python takes a list of names: ["{self.allow_python}"]')
        for name in self.allow_python:
            if not all(name.rpartition(".")[::2]):
                raise TorrefyError(
                    f'"{name}" is no Python class', hint="Give module.Class, or module.*"
                )

        for blob, shape in self.shapes.items():
            if not all(isinstance(dim, int) and dim >= 0 for dim in shape):
                raise TorrefyError(
                    f'the shape given for "{blob}" must be whole numbers, 0 or more; '
                    f"found {tuple(shape)}"
                )

    def allows(self, code: str) -> bool:
        """Whether a class, "module.Class", may run."""
        module = code.rpartition(".")[0]
        return code in self.allow_python or f"{module}.*" in self.allow_python

    def written_into(self, definition: Definition) -> Definition:
        """The definition with the shapes of its Input layers as they are given."""
        message = type(definition.message)()
        message.CopyFrom(definition.message)
        for layer in message.layer:
            if layer.type != "Input" or not self.shapes.keys() & set(layer.top):
                continue
            own = [tuple(shape.dim) for shape in layer.input_param.shape]
            own *= len(layer.top) if len(own) == 1 else 1
            if len(own) != len(layer.top) and not self.shapes.keys() >= set(layer.top):
                continue  # the layer tells what is wrong with its own
            layer.input_param.ClearField("shape")
            for top, old in itertools.zip_longest(layer.top, own[: len(layer.top)]):
                layer.input_param.shape.add().dim.extend(self.shapes.get(top, old))
        return replace(definition, message=message)

    def problems(self, graph: Graph) -> Iterator[Problem]:
        """What does not fit the graph."""
        place = Place(graph.definition.source.file)
        for blob in self.shapes:
            if blob not in graph.inputs:
                names = ", ".join(graph.inputs)
                yield Problem(
                    f'a shape is given for "{blob}", which is no input of the net',
                    place,
                    hint=did_you_mean(blob, graph.inputs)
                    or (f"Its inputs are {names}." if names else "It has none."),
                )


def shape_wanted(node: Node, blob: str, outline: Outline) -> Problem:
    """That an input's shape must be given, since only the data tell it."""
    known = [f"batch {outline[0]}"] if outline and isinstance(outline[0], int) else []
    if len(outline) == 4:
        _, channels, *size = outline
        if isinstance(channels, int):
            known.append(f"{channels} channel{'s' * (channels != 1)}")
        if all(isinstance(dim, int) for dim in size):
            known.append("x".join(map(str, size)))
    told = f" ({', '.join(known)})" if known else ""
    dims = ", ".join(map(str, outline))
    return Problem(
        f'the shape of "{blob}" is known only from the data{told}',
        node.place,
        node.name,
        f"Give it as --shape {blob}={'x'.join(map(str, outline))}, "
        f'or shapes={{"{blob}": ({dims}{"," * (len(outline) == 1)})}}.',
    )


def leave_wanted(node: Node, place: Place, code: str) -> Problem:
    """That a layer's class may not run until it is allowed."""
    return Problem(
        f"it runs the Python class {code}, which is not allowed",
        place,
        node.name,
        f'Allow it as --allow-python {code}, or allow_python=["{code}"].',
    )
