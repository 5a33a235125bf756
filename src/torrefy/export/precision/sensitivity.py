"""Which layers lose most in int8, and how few of them must stay in fp32."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from torrefy.export.precision.compare import Agreement, Reference, decibels
from torrefy.export.precision.graph import Running, layer_name, with_outputs
from torrefy.export.precision.pictures import Decoded
from torrefy.export.precision.quantise import Quantiser

FEW = 32
"""Pictures that tell which layers are sensitive."""
MOST_KEPT = 0.5
"""Of the layers no more stay in fp32."""


@dataclass(frozen=True)
class LayerNoise:
    """What int8 does to a layer."""

    layer: str
    operator: str
    snr: float
    """Signal to noise of what it makes, dB: its own noise and that of all above it."""
    alone: float | None
    """Signal to noise of the net's answers where it alone is in int8; None: not measured."""
    kept: bool
    """Whether it stays in fp32."""

    def as_json(self) -> dict[str, Any]:
        """As numbers that JSON has."""
        return asdict(self)


@dataclass(frozen=True)
class Kept:
    """What was tried until it agreed well enough."""

    quantiser: Quantiser
    """What made the graph."""
    model: Any
    agreement: Agreement
    nodes: frozenset[str]
    """The nodes that stay in fp32."""
    alone: dict[str, float]
    """By node: the answers' signal to noise where it alone is in int8; empty: not measured."""


def keep_sensitive(
    quantiser: Quantiser,
    reference: Reference,
    aim: float,
    always: Collection[str] = (),
    told: Callable[[str], None] = lambda _: None,
) -> Kept:
    """An int8 graph whose answers agree with fp32's, with as few layers in fp32 as that takes.

    Where the whole net in int8 agrees less than `aim`, each layer is put in int8 by itself, and
    they are kept in fp32 from the one whose noise hurts the answers most: 1, 2, 3, 4, 6, 8, 12 …,
    up to half of them. If none of that reaches the aim, what agreed best is taken.

    Args:
        quantiser: of the graph.
        reference: the answers in fp32 to the calibration pictures.
        aim: the agreement wanted.
        always: nodes that stay in fp32 in any case.
        told: is told what goes on.
    """
    told("int8")
    fixed = frozenset(always)
    model = quantiser.without(fixed)
    best = Kept(quantiser, model, reference.compare(model), fixed, {})
    if best.agreement.agreement >= aim:
        return best
    units = [unit for unit in quantiser.units if unit[0].name not in fixed]
    alone: dict[str, float] = {}
    for number, unit in enumerate(units):
        told(f"layer {number + 1} of {len(units)}: {layer_name(unit[0])}")
        single = quantiser.only([node.name for node in unit])
        alone[unit[0].name] = reference.compare(single, FEW).snr
    order = sorted(units, key=lambda unit: alone[unit[0].name])
    for count in _counts(int(len(units) * MOST_KEPT)):
        told(f"{count} of {len(units)} layers in fp32")
        nodes = fixed | {node.name for unit in order[:count] for node in unit}
        model = quantiser.without(nodes)
        agreement = reference.compare(model)
        if (agreement.agreement, agreement.snr) > (best.agreement.agreement, best.agreement.snr):
            best = Kept(quantiser, model, agreement, nodes, alone)
        if agreement.agreement >= aim:
            break
    return replace(best, alone=alone)


def _counts(most: int) -> list[int]:
    """How many are tried: 1, 2, 3, 4, 6, 8, 12, 16 and so on."""
    counts, count = [], 1
    while count <= most:
        counts.append(count)
        count += max(1, (1 << (count.bit_length() - 1)) // 2)
    return counts


def keep_fewest(
    quantisers: Iterable[Quantiser],
    reference: Reference,
    aim: float,
    always: Collection[str] = (),
    told: Callable[[str], None] = lambda _: None,
) -> Kept:
    """As `keep_sensitive`, by the quantiser that reaches the aim with the fewest layers in fp32.

    If none reaches it, by the one that agrees best. After one that leaves none in fp32 no other is
    tried.
    """
    found: list[Kept] = []
    for quantiser in quantisers:
        kept = keep_sensitive(quantiser, reference, aim, always, told)
        found.append(kept)
        if kept.agreement.agreement >= aim and not kept.alone:
            break

    def worth(kept: Kept) -> tuple[bool, int, float, float]:
        reached = kept.agreement.agreement >= aim
        few = -len(kept.nodes) if reached else 0
        return reached, few, kept.agreement.agreement, kept.agreement.snr

    return max(found, key=worth)


def layer_noise(kept: Kept, pictures: Decoded, threads: int = 0) -> tuple[LayerNoise, ...]:
    """What int8 does to each layer that has weights or sums, the noisiest first."""
    model, quantiser = kept.model, kept.quantiser
    made = {name for node in model.graph.node for name in node.output}
    values = []
    for unit in quantiser.units:
        name = unit[-1].output[0]
        rounded = f"{name}_DequantizeLinear_Output"
        values.append((unit, name, rounded if rounded in made else name))
    values = [entry for entry in values if entry[2] in made]
    plain = Running(with_outputs(quantiser.model, [v for _, v, _ in values]), threads)
    low = Running(with_outputs(model, [v for _, _, v in values]), threads)
    sums = np.zeros((len(values), 2))
    for batch in pictures.batches(FEW):
        wanted = plain(batch, [v for _, v, _ in values])
        found = low(batch, [v for _, _, v in values])
        for row, (one, other) in enumerate(zip(wanted, found, strict=True)):
            sums[row, 0] += np.square(one, dtype=np.float64).sum()
            sums[row, 1] += np.square(one - other, dtype=np.float64).sum()
    noises = [
        LayerNoise(
            layer=layer_name(unit[0]),
            operator=unit[0].op_type,
            snr=decibels(float(signal), float(noise)),
            alone=kept.alone.get(unit[0].name),
            kept=unit[0].name in kept.nodes,
        )
        for (unit, _, _), (signal, noise) in zip(values, sums, strict=True)
    ]
    return tuple(sorted(noises, key=lambda noise: noise.snr))
