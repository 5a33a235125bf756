"""The nets that a solver trains and tests: their definitions, states and shared weights."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from torrefy.errors import DefinitionError, LayerError, TorrefyError
from torrefy.graph import PHASES, State
from torrefy.layers.base import Shape, shape_text
from torrefy.layers.registry import layer_types
from torrefy.net.net import Net, compile_net
from torrefy.schema import Definition, new_message, parse_text, read_text, upgrade, write_text
from torrefy.train.feed import Arrays, Batch, Feed, IterableFeed, Peeked, feeds_for

TRAIN_FIELDS = ("net", "net_param", "train_net", "train_net_param")
"""Where a solver says what it trains; exactly one is given."""


@dataclass(frozen=True)
class Declared:
    """A net that a solver declares: its upgraded definition in a state."""

    definition: Definition
    state: State

    @property
    def feeding(self) -> list[Any]:
        """The LayerParameters of its layers that data come from, in order."""
        types = layer_types()
        return [
            layer
            for layer in self.definition.message.layer
            if self.state.keeps(layer) and any(cls.feeds for cls in types.choose_all(layer.type))
        ]

    @property
    def inputs(self) -> list[str]:
        """The blobs that these layers make."""
        return [top for layer in self.feeding for top in layer.top]

    def feed(
        self,
        given: Feed | Iterable[Batch] | None,
        seed: int,
        loading: Mapping[str, Any] | None = None,
    ) -> Peeked:
        """Where its batches come from.

        Args:
            given: in place of what its data layers name; None: that.
            seed: of the order of data, crops and mirroring.
            loading: how data layers are read, as `torrefy.data.loader.Loader` takes it. Of rank
                and world `Arrays` hear, too.

        Raises:
            DataError: the data can't be read, or there are none.
        """
        if isinstance(given, Arrays) and loading is not None:
            given.divide(loading.get("rank", 0), loading.get("world", 1))
        if given is None:
            return Peeked(feeds_for(self.definition, self.feeding, self.state.phase, seed, loading))
        return Peeked(given if isinstance(given, Feed) else IterableFeed(given, self.inputs))

    def compile(
        self,
        shapes: Mapping[str, Shape],
        device: str | torch.device,
        seed: int | None,
        allow_python: Collection[str],
    ) -> Net:
        """The net, for batches of these shapes."""
        return compile_net(
            self.definition,
            self.state,
            device,
            seed=seed,
            shapes={name: shapes[name] for name in self.inputs if name in shapes},
            allow_python=allow_python,
        )


def train_net(solver: Definition) -> Declared:
    """What a solver trains, in phase train; `train_state` is merged over the net's own state.

    Raises:
        DefinitionError: none is given, or several; or the net's definition is wrong.
    """
    parameter = solver.message
    given = [name for name in TRAIN_FIELDS if parameter.HasField(name)]
    if not given:
        raise DefinitionError(
            "the solver names no net",
            place=solver.place(),
            hint='Give net: "train_val.prototxt", or one of net_param, train_net, train_net_param.',
        )
    if len(given) > 1:
        raise DefinitionError(
            f"{' and '.join(given)} are given: a solver trains one net",
            place=solver.place(given[1]),
        )
    extra = parameter.train_state if parameter.HasField("train_state") else None
    return _declared(solver, given[0], None, "train", extra)


def test_nets(solver: Definition) -> list[Declared]:
    """What a solver tests, in Caffe's order.

    That is each test_net_param, each test_net, and then as many times net or net_param as there
    are more test_iter; all in phase test, with one test_state each where there is any.

    Raises:
        DefinitionError: the numbers of nets, test_iter and test_state don't agree, or
            test_interval is missing; or a definition is wrong.
    """
    parameter = solver.message
    sources: list[tuple[str, int | None]] = []
    for name in ("test_net_param", "test_net"):
        sources += [(name, i) for i in range(len(getattr(parameter, name)))]
    generic = [name for name in ("net", "net_param") if parameter.HasField(name)]
    iterations = len(parameter.test_iter)
    if iterations < len(sources) or (iterations > len(sources) and not generic):
        raise DefinitionError(
            f"{len(sources)} test nets, but {iterations} test_iter: give one for each",
            place=solver.place("test_iter" if iterations else sources[0][0]),
        )
    sources += [(generic[0], None)] * (iterations - len(sources)) if generic else []
    states = list(parameter.test_state)
    if states and len(states) != len(sources):
        raise DefinitionError(
            f"{len(sources)} test nets, but {len(states)} test_state: give one for each, or none",
            place=solver.place("test_state"),
        )
    if sources and parameter.test_interval <= 0:
        raise DefinitionError(
            "there are test nets, but no test_interval",
            place=solver.place("test_interval" if parameter.HasField("test_interval")
                               else "test_iter"),
            hint="Give test_interval: the iterations between two tests.",
        )  # fmt: skip
    return [
        _declared(solver, name, index, "test", states[i] if states else None)
        for i, (name, index) in enumerate(sources)
    ]


def _declared(
    solver: Definition, field: str, index: int | None, phase: str, extra: Any
) -> Declared:
    value = getattr(solver.message, field)
    value = value if index is None else value[index]
    path = (field,) if index is None else (field, index)
    if isinstance(value, str):
        try:
            definition = read_text(value)
        except DefinitionError as error:
            beside = Path(solver.source.file).parent / value
            if Path(value).exists() or not beside.exists():
                raise
            raise DefinitionError(
                f'there is no file "{value}" here, but beside the solver',
                place=solver.place(*path),
                hint="As in Caffe, paths are relative to the folder that training starts in.",
            ) from error
    else:
        definition = parse_text(write_text(value), file=f"{solver.source.file} {field}")
    definition = upgrade(replace(definition, dialect=definition.dialect or solver.dialect))
    state = new_message("caffe.NetState")
    state.phase = PHASES.index(phase)
    state.MergeFrom(definition.message.state)
    if extra is not None:
        state.MergeFrom(extra)
    return Declared(
        definition, State(PHASES[state.phase], state.level, tuple(dict.fromkeys(state.stage)))
    )


def share_weights(net: Net, tester: Net) -> None:
    """Let a test net have the trained net's params and statistics, layer by layer by name.

    As Caffe's ShareTrainedLayersWith; layers that only the test net has keep their own.

    Raises:
        LayerError: a layer's blobs differ in number or shape.
    """
    for key, layer in tester.layers.items():
        source = net.layers.get(key)
        if source is None or not (layer.declared or source.declared):
            continue
        mine, theirs = ([tuple(b.shape) for b in one.blobs] for one in (layer, source))
        if mine != theirs:
            told = [", ".join(map(shape_text, shapes)) or "none" for shapes in (mine, theirs)]
            raise LayerError(
                f"its blobs in the test net ({told[0]}) are not those of the net that is trained "
                f"({told[1]})",
                layer=layer.name,
            )
        for filled, blob in zip(layer.declared, source.blobs, strict=True):
            _put(layer, filled.attribute, blob)


def _put(layer: nn.Module, attribute: str, blob: Tensor) -> None:
    if attribute in layer._parameters:
        shared = blob if isinstance(blob, nn.Parameter) else nn.Parameter(blob.detach())
        layer._parameters[attribute] = shared
    elif attribute in layer._buffers:
        layer._buffers[attribute] = blob.detach()


def refuse_if_idle(net: Net) -> None:
    """Raise a TorrefyError where a net has nothing to learn from."""
    if not net.loss_weights:
        raise TorrefyError(
            "the net has no loss in phase train, so nothing would be learned",
            hint="Is its loss layer left out by an include rule?",
        )
    if not any(p.requires_grad for p in net.parameters()):
        raise TorrefyError("no layer of the net has a param with an lr_mult above 0")
