"""A pretrained net loaded by a declared policy, and a report of what became of each layer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torrefy.errors import Place, TorrefyError, WeightsError
from torrefy.graph import state_of
from torrefy.layers.base import shape_text
from torrefy.net.net import Net, compile_net
from torrefy.net.stored import StoredLayer, StoredNet, read_weights
from torrefy.schema import upgrade
from torrefy.weights.compare import core_shape
from torrefy.weights.copy import match_weights
from torrefy.weights.load import read_net
from torrefy.zoo.model import Model


@dataclass(frozen=True)
class Loaded:
    """What became of a layer's weights."""

    layer: str
    fate: str
    """ "copied"; "skipped": its shapes are others than the file's, so it begins anew; "anew": the
    file has nothing for it; "unused": the file has it, the net does not."""
    why: str = ""


@dataclass(frozen=True)
class LoadReport:
    """What became of every layer's weights."""

    layers: tuple[Loaded, ...]

    def __str__(self) -> str:
        told = []
        for fate in ("copied", "skipped", "anew", "unused"):
            names = [one.layer for one in self.layers if one.fate == fate]
            if names:
                few = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if names[3:] else "")
                told.append(f"{len(names)} {fate}" + ("" if fate == "copied" else f" ({few})"))
        return "; ".join(told)


def renamed(stored: StoredNet, rules: Sequence[str]) -> StoredNet:
    """Weights with layers called otherwise.

    Args:
        stored: what a file held.
        rules: "old=new"; "*" stands for anything, the same in both: "old_*=new_*". The first that
            a name fits counts.

    Raises:
        TorrefyError: a rule is none, or fits no layer.
    """
    parsed = []
    for rule in rules:
        old, mark, new = rule.partition("=")
        if not (mark and old and new) or old.count("*") < new.count("*"):
            raise TorrefyError(
                f'"{rule}" is no rule to rename by', hint='Give "old=new", or "old_*=new_*".'
            )
        pattern = re.compile("(.*)".join(map(re.escape, old.split("*"))))
        parsed.append((rule, pattern, new))
    used: set[str] = set()

    def name_of(layer: StoredLayer) -> str:
        for rule, pattern, new in parsed:
            match = pattern.fullmatch(layer.name)
            if match:
                used.add(rule)
                first, *rest = new.split("*")
                return first + "".join(map("".join, zip(match.groups(), rest, strict=False)))
        return layer.name

    layers = tuple(replace(layer, name=name_of(layer)) for layer in stored.layers)
    idle = [rule for rule in rules if rule not in used]
    if idle:
        raise TorrefyError(
            f'"{idle[0]}" fits no layer of {stored.source}',
            hint=f"It has {', '.join(layer.name for layer in stored.layers if layer.blobs)[:200]}.",
        )
    return replace(stored, layers=layers)


def load(
    model: Model, *, policy: str = "strict", rename: Sequence[str] = (), device: str = "cpu"
) -> tuple[Net, LoadReport]:
    """A pretrained net in phase test.

    Args:
        model: the definition and weights.
        policy: "strict": each layer must get weights of its shapes; "skip": those that don't begin
            anew.
        rename: rules as `renamed` takes them.
        device: where the net is.

    Raises:
        WeightsError: the file can't be read or, by the policy, doesn't fit.
        DefinitionError: the definition is wrong.
    """
    definition = upgrade(read_net(model.definition))
    net = compile_net(definition, state_of(definition.message, "test", 0, ()), device, seed=0)
    stored = renamed(read_weights(model.weights), rename)
    skipped: dict[str, str] = {}
    if policy == "skip":
        for layer in stored.layers:
            blobs = net.layers[layer.name].blobs if layer.name in net.layers else []
            mine, theirs = ([core_shape(b.shape) for b in own] for own in (blobs, layer.blobs))
            if blobs and theirs and mine != theirs:
                told = [", ".join(shape_text(b.shape) for b in own) for own in (layer.blobs, blobs)]
                skipped[layer.name] = f"{told[0]} in the file, {told[1]} in the net"
        kept = tuple(layer for layer in stored.layers if layer.name not in skipped)
        stored = replace(stored, layers=kept)
    match = match_weights(net, stored, fresh=["*"] if policy == "skip" else ())
    if not match.report.copied:
        raise WeightsError("the file has nothing for any layer", place=Place(str(model.weights)))
    match.copy()
    rows = [Loaded(name, "copied") for name in match.report.copied]
    rows += [Loaded(name, "skipped", why) for name, why in skipped.items()]
    rows += [Loaded(name, "anew") for name in match.report.fresh if name not in skipped]
    rows += [Loaded(name, "unused") for name in match.report.ignored]
    return net, LoadReport(tuple(rows))


def after_cut(report: LoadReport, kept: Sequence[str], head: Sequence[str]) -> LoadReport:
    """The report of a net that was cut and got a head.

    Args:
        report: of the whole net.
        kept: the backbone's layers.
        head: the head's that learn.
    """
    rows = [
        one if one.layer in kept or one.fate == "unused" else replace(one, fate="unused")
        for one in report.layers
    ]
    return LoadReport((*rows, *(Loaded(name, "anew", "the head's") for name in head)))
