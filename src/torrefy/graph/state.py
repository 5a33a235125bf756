"""The state of a net, and which layers its rules include."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torrefy.errors import DefinitionError, TorrefyError, did_you_mean

PHASES = ("train", "test")


@dataclass(frozen=True)
class State:
    """Phase, level and stages: what `include` and `exclude` rules are matched against."""

    phase: str = "test"
    level: int = 0
    stages: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.phase not in PHASES:
            raise DefinitionError(
                f'phase must be "train" or "test", found "{self.phase}"',
                hint=did_you_mean(str(self.phase).lower(), PHASES),
            )

    def meets(self, rule: Any) -> bool:
        """Whether a NetStateRule holds: everything that it says is so."""
        if rule.HasField("phase") and PHASES[rule.phase] != self.phase:
            return False
        if rule.HasField("min_level") and self.level < rule.min_level:
            return False
        if rule.HasField("max_level") and self.level > rule.max_level:
            return False
        stages = set(self.stages)
        return stages.issuperset(rule.stage) and stages.isdisjoint(rule.not_stage)

    def keeps(self, layer: Any) -> bool:
        """Whether a layer is part of the net: any `include` rule holds, or no `exclude` rule."""
        if layer.include:
            return any(self.meets(rule) for rule in layer.include)
        return not any(self.meets(rule) for rule in layer.exclude)


def state_of(net: Any, phase: str, level: int = 0, stages: Iterable[str] = ()) -> State:
    """The state to build a net in: as Caffe, what is asked for over what the net says itself."""
    if isinstance(stages, str):
        raise TorrefyError(f'stages takes a list of names: ["{stages}"]')
    own = net.state
    merged = tuple(dict.fromkeys([*own.stage, *stages]))
    return State(phase.lower(), level or own.level, merged)
