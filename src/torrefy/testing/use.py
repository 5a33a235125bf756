"""A layer in use: its type, its parameters, its bottoms and what they hold."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from torrefy.graph import State
from torrefy.layers.base import Layer, Shape
from torrefy.layers.registry import layer_types
from torrefy.net.net import Net, compile_net
from torrefy.plugins import Plugin, added, hookimpl
from torrefy.schema import Definition, parse_text, upgrade


@dataclass(frozen=True)
class Use:
    """One layer between inputs of the net, as the checks of `torrefy.testing` take it."""

    layer: str | type[Layer]
    """A layer class, which need not be given by any plugin yet; a type ("Pooling"); or the
    whole text of a layer."""
    bottoms: Sequence[Shape] = ()
    params: str = ""
    """What the layer holds beside its ends: "pooling_param { kernel_size: 2 }"."""
    tops: int = 1
    below: Mapping[int, int] = field(default_factory=dict)
    """Bottoms that hold whole numbers, by their index, and what these are below. Where a class
    has an `index_limit`, that need not be said."""
    positive: bool = False
    """Whether the bottoms hold numbers above 0 only."""
    feed: Callable[[list[Tensor]], list[Tensor]] | None = None
    """Makes what the bottoms hold of random numbers, where these won't do."""
    smooth: bool = True
    """Whether the gradient can be found by finite differences: no kink, no jump."""
    varying: bool = False
    """Whether the tops' first axis depends on the numbers, so that it can't be inferred."""
    phase: str = "test"

    @property
    def type(self) -> str:
        """The layer's type."""
        if not isinstance(self.layer, str):
            return self.layer.type_name
        return str(self._given.type) if "{" in self.layer else self.layer

    @property
    def ends(self) -> tuple[list[str], list[str]]:
        """The names of the bottoms and tops."""
        if isinstance(self.layer, str) and "{" in self.layer:
            return list(self._given.bottom), list(self._given.top)
        return [f"in{i}" for i in range(len(self.bottoms))], [f"out{i}" for i in range(self.tops)]

    @property
    def _given(self) -> Any:
        (layer,) = parse_text(str(self.layer)).message.layer
        return layer

    def text(self) -> str:
        """The definition: an Input for each bottom, then the layer."""
        bottoms, tops = self.ends
        lines = [
            f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ '
            + " ".join(f"dim: {d}" for d in shape) + " } } }"
            for name, shape in zip(bottoms, self.bottoms, strict=True)
        ]  # fmt: skip
        if isinstance(self.layer, str) and "{" in self.layer:
            return "\n".join([*lines, self.layer])
        ends = [*(f'bottom: "{name}"' for name in bottoms), *(f'top: "{name}"' for name in tops)]
        lines.append(f'layer {{ name: "op" type: "{self.type}" {" ".join(ends)} {self.params} }}')
        if not isinstance(self.layer, str):
            lines[:0] = dialect_line(self.layer)
        return "\n".join(lines)

    def definition(self) -> Definition:
        """The definition, read."""
        return upgrade(parse_text(self.text()))

    def net(self, seed: int = 0) -> Net:
        """The net; params are their fillers' values with a little noise, that no 0 hides much."""
        net = compile_net(self.definition(), State(self.phase), seed=seed)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for param in net.parameters():
                param.add_(torch.randn(param.shape, generator=generator), alpha=0.1)
            for buffer in net.buffers():
                buffer.fill_(1 + seed)
        return net

    def values(self, net: Net) -> dict[str, Tensor]:
        """What the bottoms hold, by their names: the same numbers each time."""
        generator = torch.Generator().manual_seed(0)
        layer = layer_of(net)
        found = []
        for i, dims in enumerate(self.bottoms):
            limit = self.below.get(i, layer.index_limit(i, self.bottoms))
            if limit is not None:
                x = torch.randint(limit, dims, generator=generator).double()
            else:
                x = torch.randn(dims, generator=generator, dtype=torch.float64)
                x = x.abs() + 0.1 if self.positive else x
            found.append(x)
        if self.feed is not None:
            found = self.feed(found)
        return dict(zip(self.ends[0], found, strict=True))

    def is_counted(self, bottom: int, net: Net) -> bool:
        """Whether a bottom holds whole numbers, to which no gradient goes."""
        return bottom in self.below or layer_of(net).index_limit(bottom, self.bottoms) is not None


def layer_of(net: Net) -> Layer:
    """The layer of a use's net."""
    return net.layers[net.graph.nodes[-1].key]


class _Giver:
    """A plugin that gives one layer class."""

    def __init__(self, cls: type[Layer]) -> None:
        self.cls = cls

    @hookimpl
    def torrefy_layers(self) -> list[type[Layer]]:
        """The class."""
        return [self.cls]


@contextlib.contextmanager
def offered(layer: str | type[Layer]) -> Iterator[None]:
    """Within it, a class is a layer type of this process, whether a plugin gives it or not."""
    if isinstance(layer, str) or _owner(layer) is not None:
        yield
    else:
        with added(_Giver(layer), "under-test"):
            yield


def _owner(cls: type[Layer]) -> Plugin | None:
    claims = layer_types().claims.get(cls.type_name, ())
    owners = (one.plugin for one in claims if one.thing is cls or one.is_loaded_as(cls))
    return next(owners, None)


def dialect_line(cls: type[Layer]) -> list[str]:
    """The comment that chooses a class where several have its type."""
    owner = _owner(cls)
    if owner is None or owner.built_in or len(layer_types().claims[cls.type_name]) < 2:
        return []
    return [f"# torrefy: dialect={owner.name}"]
