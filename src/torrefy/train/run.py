"""A run's folder: everything that is needed to repeat a training, and what came of it."""

from __future__ import annotations

import contextlib
import json
import platform
import shlex
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import torrefy
from torrefy.errors import Place, TorrefyError
from torrefy.schema.fields import field
from torrefy.train.callbacks import Callback, callback

if TYPE_CHECKING:
    from torrefy.train.history import Row
    from torrefy.train.solver import Solver

MANIFEST, HISTORY, CURVES, LOG = "run.json", "history.csv", "curves.png", "train.log"
"""The files of the folder beside the definitions."""
PACKAGES = ("torch", "numpy", "protobuf", "pillow", "lmdb", "h5py")
"""Those whose versions are told."""
REFRESH = 10.0
"""Seconds between two pictures of the curves."""


@callback("RunFolder")
class RunFolder(Callback):
    """Keeps a folder for the run, which `torrefy train` has by default.

    In it are: the solver's and the nets' texts as they were given, and the files of statistics that
    their data layers name; `run.json` with the command, its folder, the seed, the device and all
    versions, once for each time that the run was begun or resumed; `history.csv`, a row at each
    display and test; `curves.png`, drawn anew every ten seconds; `train.log`, Caffe's lines. A run
    that begins at iteration 0 begins the folder anew; one that is resumed goes on with its history.

    Example:
        callback { type: "RunFolder" run_folder_param { folder: "runs/one" } }
    """

    everywhere = False

    folder: str = field("", doc="the folder; empty: what the program says, or PREFIX.run")
    curves: bool = field(True, doc="whether curves are drawn")

    def setup(self) -> None:
        """Nothing is open yet."""
        self.path = Path()
        """The folder, once the run has begun."""
        self._log: TextIO | None = None
        self._drawn = 0.0

    def on_train_begin(self, solver: Solver) -> None:
        """Make the folder, or go on with it.

        Raises:
            TorrefyError: it can't be written to, or its history is none.
        """
        if self._log is not None:
            return
        from torrefy.train.history import History
        from torrefy.weights.files import sweep

        self.path = Path(self.folder) if self.folder else solver.run_folder
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            sweep(self.path)
            if solver.iteration:
                earlier = History.read(self.path / HISTORY, solver.iteration)
                solver.history.rows[:0] = earlier.rows
            self._write_definitions(solver)
            self._write_manifest(solver)
            self._log = (self.path / LOG).open("a" if solver.iteration else "w", encoding="utf-8")
        except OSError as error:
            raise TorrefyError(
                f"the run's folder can't be written to: {error.strerror}",
                place=Place(str(self.path)),
            ) from None

    def on_log(self, solver: Solver, line: str) -> None:
        """Keep a line."""
        self._to_log(f"{line}\n")

    def on_row(self, solver: Solver, row: Row) -> None:
        """Write the history, and at times the curves."""
        self._write(HISTORY, solver.history.text().encode())
        self._to_log("", flush=True)
        if time.monotonic() - self._drawn > REFRESH:
            self._draw(solver)

    def on_train_end(self, solver: Solver) -> None:
        """Draw the last curves."""
        self._draw(solver)

    def _to_log(self, text: str, *, flush: bool = False) -> None:
        """Write to the log; one that the disk refuses is closed.

        Raises:
            TorrefyError: the disk refuses.
        """
        if self._log is None:
            return
        try:
            self._log.write(text)
            if flush:
                self._log.flush()
        except OSError as error:
            log, self._log = self._log, None
            with contextlib.suppress(OSError):  # what is left to be written is in the way
                log.close()
            place = Place(str(self.path / LOG))
            raise TorrefyError(f"can't be written: {error.strerror}", place=place) from None

    def _draw(self, solver: Solver) -> None:
        if not self.curves or len(solver.history) < 2:
            return
        from torrefy.train.curves import draw_curves

        self._write(CURVES, draw_curves(solver.history, solver.net.graph.name or str(self.path)))
        self._drawn = time.monotonic()

    def _write(self, name: str, data: bytes) -> None:
        from torrefy.weights.files import replacing

        with replacing(self.path / name) as file:
            file.write(data)

    def _write_definitions(self, solver: Solver) -> None:
        """The texts as they were given, by their files' names; one that is a message, as text."""
        for definition in solver.definitions:
            name = Path(definition.source.file).name
            self._write(name, definition.source.text.encode())
        named = {
            layer.transform_param.statistics: None
            for net in (solver.net, *solver.test_nets)
            for layer in net.graph.definition.message.layer
            if net.graph.state.keeps(layer) and layer.transform_param.statistics
        }
        taken: set[str] = set()
        for number, file in enumerate(named, 1):
            source, name = Path(file), Path(file).name
            name = f"{number}-{name}" if name in taken else name
            taken.add(name)
            target = self.path / name
            if source.is_file() and not (target.exists() and source.samefile(target)):
                self._write(name, source.read_bytes())

    def _write_manifest(self, solver: Solver) -> None:
        manifest = read_manifest(self.path) if solver.iteration else {}
        begun = [*manifest.get("begun", []), _circumstances(solver)]
        told = {
            "snapshot_prefix": str(Path(solver.snapshot_prefix).absolute()),
            "seed": solver.seed,
            "begun": begun,
        }
        self._write(MANIFEST, json.dumps(told, indent=2).encode())


def read_manifest(folder: Path) -> dict[str, Any]:
    """What `run.json` in a folder says; nothing where there is none that can be read."""
    try:
        found = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _circumstances(solver: Solver) -> dict[str, Any]:
    """How a run was begun: what is needed to do it again."""
    import torch

    versions = {"torrefy": torrefy.__version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    device = str(solver.device)
    if solver.device.type == "cuda":
        device = f"{device} ({torch.cuda.get_device_name(solver.device)})"
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "iteration": solver.iteration,
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "folder": str(Path.cwd()),
        "device": device,
        "processes": solver.processes.world,
        "threads": torch.get_num_threads(),
        "machine": platform.platform(),
        "versions": versions,
    }
