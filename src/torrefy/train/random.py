"""Random numbers of one's own: what a training draws is nobody else's business, nor theirs its."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

CPU, CUDA, MPS = "random.cpu", "random.cuda", "random.mps"
"""What the states are called."""


class Randomness:
    """A stream of torch's random numbers, on the CPU and on one GPU.

    Within `with randomness:` torch draws from it; outside it stands still, and torch's own stream
    goes on where it was. It may be entered again while it is.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        """Begin at a seed.

        Args:
            seed: 0 or more.
            device: where the training is.
        """
        self.device = device
        self._depth = 0
        with self._apart():
            torch.manual_seed(seed)
            self._states = self._read()

    def __enter__(self) -> None:
        """Let torch draw from here."""
        if not self._depth:
            self._others = self._read()
            self._write(self._states)
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        """Let torch go on where it was."""
        self._depth -= 1
        if not self._depth:
            self._states = self._read()
            self._write(self._others)

    def state(self) -> dict[str, NDArray[Any]]:
        """Where it is."""
        states = self._read() if self._depth else self._states
        return {name: state.numpy() for name, state in states.items()}

    def restore(self, states: Mapping[str, NDArray[Any]]) -> None:
        """Go to where another one was; what the states don't tell stays."""
        given = {
            name: torch.from_numpy(np.array(states[name], np.uint8))
            for name in (CPU, CUDA, MPS)
            if name in states
        }
        if self._depth:
            self._write(given)
        else:
            self._states = {**self._states, **given}

    @contextlib.contextmanager
    def _apart(self) -> Iterator[None]:
        others = self._read()
        try:
            yield
        finally:
            self._write(others)

    def _read(self) -> dict[str, torch.Tensor]:
        states = {CPU: torch.get_rng_state()}
        if self.device.type == "cuda":
            states[CUDA] = torch.cuda.get_rng_state(self.device)
        elif self.device.type == "mps":
            states[MPS] = torch.mps.get_rng_state()
        return states

    def _write(self, states: Mapping[str, torch.Tensor]) -> None:
        if CPU in states:
            torch.set_rng_state(states[CPU])
        if CUDA in states and self.device.type == "cuda":
            torch.cuda.set_rng_state(states[CUDA], self.device)
        if MPS in states and self.device.type == "mps":
            torch.mps.set_rng_state(states[MPS])
