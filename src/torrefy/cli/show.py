"""`torrefy show`: a net's layers as a table, as JSON, or drawn."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from torrefy.cli.definition import diagnose_file, state_options
from torrefy.cli.output import console, json_option, note_line, one_line, print_json, write_file
from torrefy.graph import Graph

if TYPE_CHECKING:
    from torrefy.net.compile import Built

WIDE = 120
"""From this width on the table also says which blobs each layer reads and writes."""


@dataclass(frozen=True)
class Row:
    """One layer of the table; its fields are the keys of the JSON."""

    name: str
    type: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    """The tops' shapes."""
    parameters: int
    """Learned numbers; those of a shared param count in the first layer that has it."""
    statistics: int
    """Numbers that are kept with the weights but not learned."""
    multiply_adds: int
    """One forward pass's, with the definition's batch."""
    line: int
    """The layer's line in the file."""


@click.command(
    epilog="\b\nExample:\n  torrefy show net.prototxt\n  torrefy show --svg net.svg net.prototxt"
)
@click.argument("file")
@state_options
@click.option("--dot", metavar="FILE", help="Write the drawing as a Graphviz text; - for stdout.")
@click.option("--svg", metavar="FILE", help="Write the drawing as an SVG picture.")
@json_option
def command(
    *,
    file: str,
    dot: str | None,
    svg: str | None,
    as_json: bool,
    **state: Any,
) -> None:
    """Show a net's layers: shapes, parameters and multiply-adds.

    FILE is a prototxt. Multiply-adds are those of one forward pass of Convolution, Deconvolution
    and InnerProduct layers. In a pipe, and on a terminal of 120 columns, the table also has each
    layer's bottoms and tops. Drawing needs the graphviz package and program.
    """
    if dot == "-" and as_json:
        raise click.UsageError("--dot - and --json both print to stdout; give --dot a file")
    graph, built = diagnose_file(file, **state)
    built.demand_all()
    if dot or svg:
        _draw(graph, built, dot, svg)
    rows = layer_rows(graph, built)
    if as_json:
        print_json(_as_json(file, graph, built, rows))
    elif dot != "-":
        _print_table(file, graph, built, rows)


def layer_rows(graph: Graph, built: Built) -> list[Row]:
    """The table's rows, in the net's order."""
    rows = []
    for node in graph.nodes:
        layer = built.layers[node.key]
        counts = [0, 0]
        for i, blob in enumerate(layer.declared):
            name = node.param_names[i] if i < len(node.param_names) else ""
            if not name or built.owners[name] == (node.key, i):
                counts[blob.statistic] += math.prod(blob.shape)
        shapes = tuple(built.shapes[top] for top in node.tops)
        rows.append(
            Row(
                name=node.name,
                type=node.type,
                bottoms=tuple(node.spec.bottom),
                tops=tuple(node.spec.top),
                shapes=shapes,
                parameters=counts[0],
                statistics=counts[1],
                multiply_adds=layer.multiply_adds([built.shapes[b] for b in node.bottoms], shapes),
                line=node.place.line if node.place else 0,
            )
        )
    return rows


def _totals(rows: list[Row]) -> dict[str, int]:
    names = ("parameters", "statistics", "multiply_adds")
    return {name: sum(getattr(row, name) for row in rows) for name in names}


def _as_json(file: str, graph: Graph, built: Built, rows: list[Row]) -> dict[str, Any]:
    return {
        "ok": True,
        "file": file,
        "name": graph.name,
        "phase": graph.state.phase,
        "level": graph.state.level,
        "stages": graph.state.stages,
        "inputs": {name: built.shapes[value] for name, value in graph.inputs.items()},
        "outputs": {name: built.shapes[name] for name in graph.outputs},
        **_totals(rows),
        "layers": [asdict(row) for row in rows],
        "notes": graph.notes,
    }


def _print_table(file: str, graph: Graph, built: Built, rows: list[Row]) -> None:
    from rich.table import Table

    from torrefy.layers.base import shape_text

    out = console()
    wide = out.width >= WIDE
    table = Table(box=None, pad_edge=False)
    table.add_column("layer", overflow="fold")
    table.add_column("type", overflow="fold")
    if wide:
        table.add_column("bottoms -> tops", overflow="fold")
    table.add_column("output", overflow="fold")
    table.add_column("parameters", justify="right", no_wrap=True)
    table.add_column("multiply-adds", justify="right", no_wrap=True)
    for row in rows:
        shapes = ", ".join(shape_text(shape) for shape in row.shapes)
        cells = [row.name, row.type, shapes, _number(row.parameters), _number(row.multiply_adds)]
        if wide:
            cells.insert(
                2, " -> ".join(filter(None, (", ".join(row.bottoms), ", ".join(row.tops))))
            )
        table.add_row(*map(one_line, cells))
    out.print(table)
    for note in graph.notes:
        click.echo(note_line(file, note), err=True)
    totals = _totals(rows)
    click.echo()
    inputs = {name: built.shapes[value] for name, value in graph.inputs.items()}
    outputs = {name: built.shapes[name] for name in graph.outputs}
    for word, blobs in (("inputs", inputs), ("outputs", outputs)):
        listed = ", ".join(f"{name} {shape_text(shape)}" for name, shape in blobs.items())
        click.echo(one_line(f"{word:<14} {listed or 'none'}"))
    click.echo(f"{'layers':<14} {len(rows):,} in phase {graph.state.phase}")
    kept = f", and {totals['statistics']:,} statistics" if totals["statistics"] else ""
    click.echo(f"{'parameters':<14} {totals['parameters']:,}{kept}")
    click.echo(f"{'multiply-adds':<14} {totals['multiply_adds']:,}")


def _draw(graph: Graph, built: Built, dot: str | None, svg: str | None) -> None:
    from torrefy.cli.drawing import draw, render

    text = draw(graph, built)
    picture = render(text) if svg else b""
    if dot == "-":
        click.echo(text, nl=False)
    elif dot:
        write_file(dot, text.encode())
    if svg:
        write_file(svg, picture)
    for written in (dot, svg):
        if written and written != "-":
            click.echo(one_line(f"wrote {written}"), err=True)


def _number(count: int) -> str:
    return f"{count:,}" if count else "-"
