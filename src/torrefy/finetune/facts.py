"""What a report tells besides numbers: what was made of what, and how."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class PhaseFacts:
    """A phase of a finetuning."""

    name: str
    learned: str
    """What learned, in words: "the head and 12 layers from fire6 on"."""
    epochs: int
    lr: float


@dataclass(frozen=True)
class Facts:
    """What a report tells besides numbers: what was made of what, and how."""

    title: str
    model: str
    """The pretrained model: "squeezenet_v1.1"."""
    head: str
    blob: str
    """Where the backbone was cut."""
    data: str
    """What it was finetuned on, in words."""
    pictures: Mapping[str, int] = field(default_factory=dict)
    """How many there are by parts: "train", "val", "test"."""
    counts: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """How many of each class or tag, by parts; those of "train" are in the table of classes."""
    options: Mapping[str, Any] = field(default_factory=dict)
    loaded: str = ""
    """What became of the pretrained weights."""
    phases: Sequence[PhaseFacts] = ()
    command: str = ""
    """What repeats it."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of programs: "torch": "2.13.0"."""
    seconds: float = math.nan
    """How long it took; NaN: not known."""
    files: Mapping[str, str] = field(default_factory=dict)
    """What is in the folder besides what the report itself writes, and what each file holds."""
    lr_finder: bytes | None = None
    """A PNG of the loss over the learning rate."""
    notes: Sequence[str] = ()
    """What a reader must know."""
    date: str = ""
