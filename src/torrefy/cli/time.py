"""`torrefy time`: how long a net takes, and each of its layers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torrefy.cli.definition import diagnose_definition, is_zoo_name, state_options
from torrefy.cli.output import console, json_option, one_line, print_json
from torrefy.errors import TorrefyError

if TYPE_CHECKING:
    from torrefy.net.net import Net
    from torrefy.net.timing import LayerTime, Timing

WIDE = 120
"""From this width on the table also says what each layer computes and holds."""
BAR = 10
"""How many columns the bar of a layer takes that needs all of the time."""


@click.command(
    epilog="\b\nExample:\n  torrefy time deploy.prototxt\n"
    "  torrefy time train_val.prototxt --phase train --shape data=64x3x227x227 --device cuda\n"
    "  torrefy time squeezenet_v1.1 --batch 16 --forward-only --sort"
)
@click.argument("model", metavar="DEFINITION|NAME")
@click.option("--weights", metavar="FILE", help="Weights; without them what fillers make.")
@click.option("--iterations", type=click.IntRange(1), default=50, show_default=True, metavar="N",
              help="Passes that are measured.")  # fmt: skip
@click.option("--device", default="cpu", show_default=True, metavar="NAME",
              help='Where to compute: "cpu", "cuda", "cuda:1".')  # fmt: skip
@click.option("--batch", type=click.IntRange(1), metavar="N",
              help="The inputs' first axis, over the definition's and --shape's.")  # fmt: skip
@click.option("--forward-only", is_flag=True, help="Measure forward passes alone.")
@click.option("--sort", is_flag=True, help="The slowest layer first.")
@state_options
@json_option
def command(
    *,
    model: str,
    weights: str | None,
    iterations: int,
    device: str,
    batch: int | None,
    forward_only: bool,
    sort: bool,
    as_json: bool,
    **state: Any,
) -> None:
    """Tell how long a net and each of its layers take.

    DEFINITION is a net's prototxt; or give a zoo model's NAME. Inputs and the tops of data layers
    are random, no data are read. A few passes go ahead; of the N behind them the median counts.
    In phase test a forward pass records nothing for a backward pass, as in use; in phase train it
    does. A layer's time is that of the step which computes it: a Scale behind a BatchNorm is part
    of it. Multiply-adds: a multiplication and the addition behind it count as one.
    """
    from torrefy.data.noise import random_inputs, stir
    from torrefy.net.timing import demand_clock, time_net

    net = _load(model, weights, device, batch, state)
    demand_clock(net.device)
    if weights is None:
        stir(net)
    inputs = random_inputs(net)
    _try(net, inputs)
    with _progress() as progress:
        timing = time_net(net, inputs, iterations, not forward_only, progress)
    layers = list(timing.layers)
    if sort:
        layers.sort(key=lambda layer: -layer.total_ms)
    if as_json:
        print_json(_as_json(model, net, timing, layers))
    else:
        _print(net, timing, layers)


def _load(
    model: str, weights: str | None, device: str, batch: int | None, state: dict[str, Any]
) -> Net:
    from torrefy.weights.load import load_net

    definition = _definition(model)
    if batch is not None:
        state = {**state, "shapes": _batched(definition, batch, state)}
    return load_net(definition, weights, device=device, fresh=["*"], seed=0, **state)


def _definition(model: str) -> str | Path:
    """A file's path, or that of a zoo model's definition."""
    if not is_zoo_name(model):
        return model
    from torrefy.zoo import pull_definition

    return pull_definition(model)


def _batched(
    definition: str | Path, batch: int, state: dict[str, Any]
) -> dict[str, tuple[int, ...]]:
    """The inputs' shapes with another batch: what has as many as the first input has."""
    from torrefy.weights.load import read_net

    graph, built = diagnose_definition(read_net(definition), **state)
    built.demand_all()
    shapes = {name: built.shapes[value] for name, value in graph.inputs.items()}
    old = next((shape[:1] for shape in shapes.values()), ())
    return {
        name: (batch, *shape[1:]) if old and shape[:1] == old else shape
        for name, shape in shapes.items()
    }


def _try(net: Net, inputs: dict[str, Any]) -> None:
    """Run the net once: what fails on made-up numbers is told as that.

    Raises:
        TorrefyError: it does not run, and why.
    """
    import torch

    try:
        with torch.no_grad():
            net(**inputs)
    except TorrefyError:
        raise
    except (RuntimeError, IndexError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise TorrefyError(f"the net does not run on random numbers: {reason}") from error


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None] | None]:
    """A bar on stderr, where that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import Progress

    with Progress(console=console(stderr=True), transient=True) as bar:
        task = bar.add_task("passes")
        yield lambda done, of: bar.update(task, completed=done, total=of)


def _as_json(model: str, net: Net, timing: Timing, layers: list[LayerTime]) -> dict[str, Any]:
    return {
        "ok": True,
        "model": model,
        "phase": net.graph.state.phase,
        **_machine(net),
        "iterations": timing.iterations,
        "warm_up": timing.warm_up,
        "inputs": net.inputs,
        "forward_ms": timing.forward_ms,
        "backward_ms": timing.backward_ms,
        "forward_backward_ms": timing.forward_backward_ms,
        "total_ms": timing.total_ms,
        "layers_forward_ms": timing.layers_forward_ms,
        "layers_backward_ms": timing.layers_backward_ms,
        "multiply_adds": sum(layer.multiply_adds for layer in layers),
        "parameters": sum(layer.parameters for layer in layers),
        "activation_bytes": timing.activation_bytes,
        "peak_bytes": timing.peak_bytes,
        "slowest": timing.slowest.name if timing.slowest else None,
        "layers": [{**asdict(layer), "share": _share(layer, timing)} for layer in layers],
    }


def _machine(net: Net) -> dict[str, Any]:
    """What the times hold for."""
    import torch

    cuda = net.device.type == "cuda"
    return {
        "device": str(net.device),
        "gpu": torch.cuda.get_device_name(net.device) if cuda else None,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def _share(layer: LayerTime, timing: Timing) -> float:
    """A layer's part of the time of all layers, from 0 to 1."""
    whole = timing.layers_forward_ms + timing.layers_backward_ms
    return layer.total_ms / whole if whole else 0.0


def _print(net: Net, timing: Timing, layers: list[LayerTime]) -> None:
    from rich.bar import Bar
    from rich.filesize import decimal
    from rich.table import Table
    from rich.text import Text

    from torrefy.layers.base import shape_text

    out = console()
    wide = out.width >= WIDE
    table = Table(box=None, pad_edge=False)
    table.add_column("layer", overflow="fold")
    table.add_column("type", overflow="fold")
    if wide:
        table.add_column("output", overflow="fold")
    for head in ("forward ms", "backward ms", "share", ""):
        table.add_column(head, justify="right" if head else "left", no_wrap=True)
    if wide:
        for head in ("multiply-adds", "parameters", "activations"):
            table.add_column(head, justify="right", no_wrap=True)
    for layer in layers:
        share = _share(layer, timing)
        inside = f"in {layer.part_of}" if layer.part_of else _ms(layer.forward_ms)
        cells: list[Any] = [layer.name, layer.type, inside, _ms(layer.backward_ms)]
        cells.append(f"{share:.1%}" if layer.forward_ms is not None else "-")
        if wide:
            cells.insert(2, ", ".join(map(shape_text, layer.shapes)))
        cells = [Text(one_line(cell)) for cell in cells]
        cells.append(Bar(1, 0, share, width=BAR))
        if wide:
            cells += [_number(layer.multiply_adds), _number(layer.parameters)]
            cells.append(decimal(layer.activation_bytes) if layer.activation_bytes else "-")
        table.add_row(*cells, style="bold" if layer is timing.slowest else "")
    out.print(table)
    click.echo()
    for word, told in _summary(net, timing):
        click.echo(one_line(f"{word:<17} {told}"))


def _summary(net: Net, timing: Timing) -> Iterator[tuple[str, str]]:
    from rich.filesize import decimal

    from torrefy.layers.base import shape_text

    machine = _machine(net)
    inputs = ", ".join(f"{name} {shape_text(shape)}" for name, shape in net.inputs.items())
    yield "inputs", f"{inputs or 'none'}, in phase {net.graph.state.phase}"
    where = machine["gpu"] or f"{machine['threads']} thread{'s' * (machine['threads'] != 1)}"
    yield "device", f"{machine['device']}, {where}, PyTorch {machine['torch']}"
    if timing.slowest:
        share = f"{_share(timing.slowest, timing):.1%}"
        yield "slowest", f"{timing.slowest.name}, {share} of the time of all layers"
    sums = timing.layers_forward_ms, timing.layers_backward_ms
    yield "forward pass", f"{_ms(timing.forward_ms)} ms; the layers' sum {_ms(sums[0])} ms"
    if timing.backward_ms is not None and timing.forward_backward_ms is not None:
        yield "backward pass", f"{_ms(timing.backward_ms)} ms; the layers' sum {_ms(sums[1])} ms"
        yield "forward-backward", f"{_ms(timing.forward_backward_ms)} ms"
    total = timing.total_ms / 1000
    yield "total time", f"{total:.3g} s for {timing.iterations} passes, {timing.warm_up} before"
    count = sum(layer.multiply_adds for layer in timing.layers)
    yield "multiply-adds", f"{count:,} in a forward pass"
    yield "parameters", f"{sum(layer.parameters for layer in timing.layers):,}"
    yield "activations", f"{decimal(timing.activation_bytes)}, the sum of all tops"
    if timing.peak_bytes is not None:
        yield "peak memory", f"{decimal(timing.peak_bytes)}, parameters included"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}" if value < 10 else f"{value:.1f}"


def _number(count: int) -> str:
    return f"{count:,}" if count else "-"
