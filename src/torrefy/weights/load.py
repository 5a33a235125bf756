"""A definition and a file of weights become a net."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import torch
from google.protobuf.message import Message

from torrefy.errors import DefinitionError, Place, TorrefyError
from torrefy.graph import state_of
from torrefy.net.net import Net, compile_net
from torrefy.net.stored import read_weights
from torrefy.plugins import in_dialect
from torrefy.schema import Definition, parse_text, read_text, upgrade, write_text
from torrefy.weights.copy import match_weights


def load_net(
    definition: str | Path | Definition | Message,
    weights: str | Path | None = None,
    *,
    phase: str = "test",
    stages: Iterable[str] = (),
    level: int = 0,
    device: str | torch.device = "cpu",
    fresh: Collection[str] = (),
    seed: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    allow_python: Collection[str] = (),
    dialect: str = "",
) -> Net:
    """Compile a prototxt into a net, with weights from a file.

    Args:
        definition: a prototxt's path, a definition read before, or a NetParameter as
            `NetSpec.to_proto` makes it; errors then give lines of `NetSpec.to_text`.
        weights: a file of weights (".caffemodel", ".h5", ".safetensors"); None: all params get
            their fillers' values.
        phase: "train" or "test".
        stages: the stages that `include { stage: … }` rules ask for.
        level: the level that `min_level` and `max_level` ask for.
        device: where the params are put: "cpu", "cuda", "cuda:1".
        fresh: names or patterns of layers that the file may have nothing for; they get their
            fillers' values. `["*"]` allows any, as Caffe does.
        seed: of random fillers.
        shapes: shapes of inputs by their blobs' names, over the definition's own; what a data
            layer's definition doesn't tell must be given: `{"data": (64, 3, 227, 227)}`.
        allow_python: the classes of `Python` layers that may run, as a definition is no reason
            to run code: "module.Class", or "module.*" for all of a module.

        dialect: the plugin whose meaning counts where several have one name, as a line
            `# torrefy: dialect=NAME` in the definition says it.

    Raises:
        PluginError: there is no such dialect.
        DefinitionError: with all that is wrong with the definition, each with its place.
        WeightsError: the file can't be read or does not fit.

    Example:
        net = torrefy.load_net("deploy.prototxt", weights="net.caffemodel")
        prob = net(data=picture)["prob"]
    """
    with in_dialect(dialect):
        upgraded = upgrade(_definition_of(definition))
        net = compile_net(
            upgraded,
            state_of(upgraded.message, phase, level, stages),
            device,
            fill=weights is None,
            seed=seed,
            shapes=shapes,
            allow_python=allow_python,
        )
    if weights is not None:
        match = match_weights(net, read_weights(weights), fresh)
        net.fill(match.report.fresh, seed)  # first: what a fresh layer shares is not its to fill
        match.copy()
    return net


def _definition_of(given: str | Path | Definition | Message) -> Definition:
    if isinstance(given, Definition):
        return given
    if isinstance(given, Message):
        return parse_text(write_text(given), file="NetParameter")
    if isinstance(given, (str, Path)):
        return read_net(given)
    raise TorrefyError(
        f"a definition is a path or a NetParameter, found {type(given).__name__}",
        hint="Give its to_proto()." if hasattr(given, "to_proto") else "",
    )


def read_net(path: str | Path) -> Definition:
    """The text of a net's definition.

    Raises:
        DefinitionError: it can't be read, or is a solver's.
    """
    try:
        return read_text(path)
    except DefinitionError:
        try:
            solver = read_text(path, "caffe.SolverParameter").message
        except DefinitionError:
            solver = None
        if solver is None:
            raise
        net = solver.net or solver.train_net
        raise DefinitionError(
            "this is a solver's definition, not a net's",
            place=Place(str(path)),
            hint=f'Load its net, "{net}".' if net else "",
        ) from None
