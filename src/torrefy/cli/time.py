"""`torrefy time`: how long each layer of a net takes."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from torrefy.cli.definition import state_options
from torrefy.cli.output import console, json_option, one_line, print_json
from torrefy.errors import TorrefyError

if TYPE_CHECKING:
    from torrefy.train.timing import Timing


@click.command(
    epilog="\b\nExample:\n  torrefy time deploy.prototxt\n"
    "  torrefy time train_val.prototxt --phase train --shape data=64x3x227x227 --shape label=64\n"
    "  torrefy time deploy.prototxt --batch 32 --forward-only --sort"
)
@click.argument("definition")
@click.option("--weights", metavar="FILE",
              help="Weights; else those of the fillers, which take as long.")  # fmt: skip
@click.option("--iterations", type=click.IntRange(1), default=50, show_default=True, metavar="N",
              help="How many passes the medians are of.")  # fmt: skip
@click.option("--batch", type=click.IntRange(1), metavar="N",
              help="The first axis of every input, over the definition's own.")  # fmt: skip
@click.option("--device", default="cpu", show_default=True, metavar="NAME",
              help='Where to compute: "cpu", "cuda", "cuda:1".')  # fmt: skip
@click.option("--forward-only", is_flag=True, help="Leave out the way back.")
@click.option("--sort", is_flag=True, help="The slowest layer first.")
@state_options
@json_option
def command(
    *,
    definition: str,
    weights: str | None,
    iterations: int,
    batch: int | None,
    device: str,
    forward_only: bool,
    sort: bool,
    as_json: bool,
    **state: Any,
) -> None:
    """Say how long each layer takes, forward and backward.

    Every layer is run by itself, in milliseconds; then the whole net, in which layers are merged
    and work in place, so that it takes less than the sum. Inputs are random. Multiply-adds are of
    one forward pass (FLOPs are twice as many), memory is that of the layers' tops.
    """
    from torrefy.train.timing import time_net
    from torrefy.weights.load import load_net

    net = load_net(definition, weights, device=device, **state)
    if batch is not None:
        shapes = {name: (batch, *shape[1:]) for name, shape in net.inputs.items()}
        net = load_net(definition, weights, device=device, **{**state, "shapes": shapes})
    if not net.graph.nodes:
        raise TorrefyError("the net has no layers")
    timing = time_net(net, iterations=iterations, backward=not forward_only)
    if as_json:
        print_json({"ok": True, "phase": net.graph.state.phase, **asdict(timing)})
        return
    _print(timing, sort)


def _print(timing: Timing, sort: bool) -> None:
    from rich.table import Table

    from torrefy.layers.base import shape_text

    out = console()
    table = Table(box=None, pad_edge=False)
    for name in ("layer", "type", "output"):
        table.add_column(name, overflow="fold")
    for name in ("forward", "backward", "share", "multiply-adds", "parameters", "memory"):
        table.add_column(name, justify="right", no_wrap=True)
    layers = list(timing.layers)
    spent = {id(one): one.forward + (one.backward or 0.0) for one in layers}
    whole = sum(spent.values()) or 1.0
    slowest = max(spent.values())
    if sort:
        layers.sort(key=lambda one: -spent[id(one)])
    for one in layers:
        share = spent[id(one)] / whole
        shapes = ", ".join(shape_text(shape) for shape in one.shapes)
        table.add_row(
            one_line(one.name),
            one_line(one.type),
            one_line(shapes),
            f"{one.forward:.3f}",
            "-" if one.backward is None else f"{one.backward:.3f}",
            f"{100 * share:.1f} %",
            f"{one.multiply_adds:,}" if one.multiply_adds else "-",
            f"{one.parameters:,}" if one.parameters else "-",
            _bytes(one.bytes),
            style="bold" if spent[id(one)] == slowest else None,
        )
    out.print(table)
    click.echo()
    backs = [one.backward for one in layers if one.backward is not None]
    rows = [
        ("the layers", sum(one.forward for one in layers), sum(backs) if backs else None),
        ("the whole net", timing.forward, timing.backward),
    ]
    for name, forward, backward in rows:
        back = "" if backward is None else f", backward {backward:.3f} ms"
        both = "" if backward is None else f", both {forward + backward:.3f} ms"
        click.echo(f"{name:<14} forward {forward:.3f} ms{back}{both}")
    inputs = ", ".join(f"{name} {shape_text(shape)}" for name, shape in timing.inputs.items())
    click.echo(one_line(f"{'inputs':<14} {inputs or 'none'}"))
    multiply_adds = sum(one.multiply_adds for one in layers)
    memory = sum(one.bytes for one in layers)
    click.echo(f"{'multiply-adds':<14} {multiply_adds:,}")
    click.echo(f"{'memory':<14} {_bytes(memory)} in tops")
    if timing.peak_bytes is not None:
        click.echo(f"{'peak':<14} {_bytes(timing.peak_bytes)} on {timing.device}")
    click.echo(f"{'iterations':<14} {timing.iterations} on {timing.device}")


def _bytes(count: int) -> str:
    return f"{count / 2**20:.2f} MiB" if count else "-"
