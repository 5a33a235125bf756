"""Snapshots: weights and solver states as Caffe's, and beside them what Caffe forgets."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torrefy.errors import Place, TorrefyError, WeightsError, did_you_mean
from torrefy.net.net import Net
from torrefy.schema import new_message
from torrefy.train.run import read_manifest
from torrefy.weights.caffemodel import read_blob, write_blob
from torrefy.weights.compare import core_shape
from torrefy.weights.files import PART, read_whole, replacing, sweep
from torrefy.weights.hdf5_dataset import read_dataset, read_integer
from torrefy.weights.hdf5_file import HDF5File
from torrefy.weights.wire import BYTES, VARINT, Wire, signed

ENDINGS = {"BINARYPROTO": "", "HDF5": ".h5"}
"""What `snapshot_format` adds to the names."""
EXTRA = ".torrefy.safetensors"
"""The ending of what Caffe doesn't keep."""
_ITER, _LEARNED_NET, _HISTORY, _CURRENT_STEP = 1, 2, 3, 4
_NAME = re.compile(r"(.*)_iter_(\d+)\.solverstate(\.h5)?")


@dataclass(frozen=True)
class SolverState:
    """What a solverstate holds."""

    iteration: int
    """Updates made."""
    current_step: int = 0
    """Drops of the rate behind (lr_policy step and multistep)."""
    history: tuple[NDArray[Any], ...] = ()
    """As the optimiser's `history` gives it."""
    learned_net: str = ""
    """The path of the weights, as it was when they were written; empty: not known."""
    source: str = ""
    """The file that it was read from."""


@dataclass(frozen=True)
class Extra:
    """What Caffe doesn't keep, and a run needs to go on as if nothing had happened."""

    tensors: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """States of random numbers."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Where the data are, the losses to be averaged; as JSON has it."""


def paths(prefix: str, iteration: int, snapshot_format: str = "BINARYPROTO") -> tuple[Path, ...]:
    """The files of a snapshot: weights, state and extra."""
    stem, ending = f"{prefix}_iter_{iteration}", ENDINGS[snapshot_format]
    return (
        Path(f"{stem}.caffemodel{ending}"),
        Path(f"{stem}.solverstate{ending}"),
        Path(f"{stem}{EXTRA}"),
    )


def files_of(state: Path) -> tuple[Path, ...]:
    """The files of the snapshot of a solverstate, itself first."""
    match = _NAME.fullmatch(state.name)
    if match is None:
        return ()
    ending = "HDF5" if match[3] else "BINARYPROTO"
    model, path, extra = paths(str(state.with_name(match[1])), int(match[2]), ending)
    return path, model, extra


def write_snapshot(
    prefix: str, net: Net, state: SolverState, extra: Extra, snapshot_format: str = "BINARYPROTO"
) -> Path:
    """Write weights, extra and solverstate: all to the disk first, then into their places.

    A solverstate always has its weights: a process can be killed at any moment, and the last
    snapshot that has a state can be resumed. Where something can't be written nothing changes, not
    even an earlier snapshot of the same iteration.

    Returns:
        The solverstate's path.

    Raises:
        WeightsError: a file can't be written; there is none of this snapshot then.
    """
    model, path, beside = paths(prefix, state.iteration, snapshot_format)
    sweep(model.parent)
    told = SolverState(state.iteration, state.current_step, state.history, str(model))
    part = model.with_name(PART.replace("*", secrets.token_hex(8)))
    at = model
    try:
        part.mkdir()
        net.save(part / model.name)
        at = beside
        write_extra(part / at.name, state.iteration, extra)
        at = path
        write_state(part / at.name, told)
        # A state that is there already must not be taken for that of the new weights.
        path.unlink(missing_ok=True)
        for at in (model, beside, path):
            (part / at.name).replace(at)
    except WeightsError as error:
        raise WeightsError([replace(p, place=Place(str(at))) for p in error.problems]) from None
    except OSError as error:
        raise WeightsError(f"can't be written: {error.strerror}", place=Place(str(at))) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return path


def write_state(path: Path, state: SolverState) -> None:
    """Write a solverstate that Caffe reads: HDF5 where the name ends in ".h5", else binary.

    Raises:
        WeightsError: it can't be written.
    """
    with replacing(path) as file:
        if path.suffix != ".h5":
            message = new_message("caffe.SolverState")
            message.iter, message.learned_net = state.iteration, state.learned_net
            message.current_step = state.current_step
            file.write(message.SerializeToString())
            for blob in state.history:
                write_blob(file, _HISTORY, blob)
            return
        import h5py

        try:
            with h5py.File(file.name, "w", locking=False) as h5:
                for name, value in (("iter", state.iteration), ("current_step",
                                                                state.current_step)):  # fmt: skip
                    h5.create_dataset(name, data=np.array([value], "<i4"))
                text = state.learned_net.encode()
                # Caffe reads up to a zero byte, which the text's type must have room for.
                h5.create_dataset("learned_net", data=text, dtype=f"S{len(text) + 1}")
                group = h5.create_group("history")
                for i, blob in enumerate(state.history):
                    group.create_dataset(str(i), data=np.asarray(blob, "<f4"))
        except (RuntimeError, ValueError) as error:
            raise WeightsError(f"can't be written: {error}", place=Place(str(path))) from None


def read_state(path: Path) -> SolverState:
    """Read a solverstate of Caffe's or ours, in either format.

    Raises:
        WeightsError: the file is something else, cut off or damaged.
    """
    state = _read_hdf5(path) if path.name.endswith((".h5", ".hdf5")) else _read_binary(path)
    if state.iteration < 0 or state.current_step < 0:
        raise WeightsError(
            f"damaged: it is of iteration {state.iteration} and step {state.current_step}",
            place=Place(str(path)),
        )
    return state


def _read_binary(path: Path) -> SolverState:
    if path.name.endswith((".caffemodel", ".safetensors")):
        raise WeightsError(
            "these are weights, not a solverstate",
            place=Place(str(path)),
            hint="Give the .solverstate beside it; or the weights as weights, to begin anew.",
        )
    wire = Wire(read_whole(path, "a solverstate", ".solverstate"), str(path), "solverstate")
    numbers = {_ITER: 0, _CURRENT_STEP: 0}
    learned_net = ""
    history: list[NDArray[Any]] = []
    known = False
    for part in wire.fields():
        if part.number in numbers and part.kind == VARINT:
            numbers[part.number] = signed(part.value, 32)
            known = True
        elif part.number == _LEARNED_NET and part.kind == BYTES:
            learned_net = wire.text(part)
        elif part.number == _HISTORY and part.kind == BYTES:
            history.append(read_blob(wire, part, len(history)))
    if not known:
        raise WeightsError("this is no solverstate: it has no iteration", place=Place(str(path)))
    return SolverState(
        numbers[_ITER], numbers[_CURRENT_STEP], tuple(history), learned_net, str(path)
    )


def _read_hdf5(path: Path) -> SolverState:
    file = HDF5File(read_whole(path, "an HDF5 file", ".h5"), str(path))
    root = {link.name: link.address for link in file.links(file.root) or ()}
    iteration, current_step, history = (
        root.get(name) for name in (b"iter", b"current_step", b"history")
    )
    if iteration is None or history is None:
        what = "these are weights" if b"data" in root else "it has no iter or no history"
        raise file.refusal(
            f"this is no solverstate: {what}",
            "Give the .solverstate.h5 beside it." if b"data" in root else "",
        )
    blobs: dict[int, int] = {}
    for link in file.links(history) or ():
        if not re.fullmatch(rb"0|[1-9]\d{0,6}", link.name) or link.address is None:
            raise file.refusal(f'"{link.name.decode("utf-8", "replace")}" is no number of a blob')
        blobs[int(link.name)] = link.address
    if sorted(blobs) != list(range(len(blobs))):
        raise file.refusal("its history has gaps")
    return SolverState(
        read_integer(file, iteration, "iter"),
        0 if current_step is None else read_integer(file, current_step, "current_step"),
        tuple(read_dataset(file, blobs[i], f"history {i}") for i in range(len(blobs))),
        source=str(path),
    )


def weights_of(state: SolverState) -> Path:
    """The weights that belong to a solverstate.

    They are looked for beside it first, so that snapshots can be moved; Caffe only knows the path
    that they were written to.

    Raises:
        WeightsError: they are nowhere.
    """
    path = Path(state.source)
    names = [path.name.replace(".solverstate", ".caffemodel")]
    if state.learned_net:
        names.insert(0, Path(state.learned_net).name)
    tried = [path.with_name(name) for name in names]
    if state.learned_net:
        tried.append(Path(state.learned_net))
    for candidate in tried:
        if candidate.is_file():
            return candidate
    raise WeightsError(
        f'the weights "{names[0]}" that belong to it are not beside it', place=Place(state.source)
    )


def find_state(path: str | Path) -> Path:
    """The solverstate that is meant: a file, or the newest one in a folder.

    The folder of a run stands for the snapshots of that run, wherever they are.

    Raises:
        WeightsError: there is none, or several runs have their snapshots in the folder.
    """
    path = Path(path)
    place = Place(str(path))
    if not path.is_dir():
        if not path.exists():
            near = [p.name for p in path.parent.glob("*.solverstate*")]
            raise WeightsError("no such file", place=place, hint=did_you_mean(path.name, near))
        return path
    found = [(match, p) for p in path.iterdir() if (match := _NAME.fullmatch(p.name))]
    prefix = read_manifest(path).get("snapshot_prefix")
    if not found and isinstance(prefix, str):
        beside = Path(prefix)
        found = [
            (match, p)
            for p in beside.parent.glob("*.solverstate*")
            if (match := _NAME.fullmatch(p.name)) and match[1] == beside.name
        ]
    if not found:
        raise WeightsError("there is no solverstate in this folder", place=place)
    prefixes = sorted({match[1] for match, _ in found})
    if len(prefixes) > 1:
        raise WeightsError(
            f"there are solverstates of several runs in this folder: {', '.join(prefixes)}",
            place=place,
            hint="Give the file.",
        )
    return max(found, key=lambda pair: int(pair[0][2]))[1]


def write_extra(path: Path, iteration: int, extra: Extra) -> None:
    """Write what Caffe doesn't keep as .safetensors: tensors, and facts as JSON beside them.

    Raises:
        WeightsError: it can't be written.
    """
    from safetensors.numpy import save

    facts = json.dumps({"iteration": iteration, **extra.facts})
    with replacing(path) as file:
        file.write(save(dict(extra.tensors), {"torrefy": facts}))


def read_extra(state: SolverState) -> Extra | None:
    """What stands beside a solverstate; None where there is nothing, as beside Caffe's.

    Raises:
        WeightsError: the file is damaged, or of another iteration.
    """
    stem = re.sub(r"\.solverstate(\.h5)?$", "", state.source)
    path = Path(f"{stem}{EXTRA}")
    if not path.is_file():
        return None
    from safetensors import SafetensorError, safe_open

    place = Place(str(path))
    try:
        with safe_open(path, "numpy") as file:
            facts = json.loads((file.metadata() or {}).get("torrefy", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"damaged: {error}", place=place) from None
    if not isinstance(facts, dict) or facts.get("iteration") != state.iteration:
        raise WeightsError(
            f"this belongs to another snapshot than that of iteration {state.iteration}",
            place=place,
            hint="Delete it to resume as Caffe does, with the data from their beginning.",
        )
    return Extra(tensors, facts)


def check_history(state: SolverState, shapes: Sequence[tuple[str, tuple[int, ...]]]) -> None:
    """Hold a solverstate's history against what a solver keeps.

    Args:
        state: the solverstate.
        shapes: name and shape of each blob that the solver keeps.

    Raises:
        WeightsError: the snapshot is of another net or another type of solver.
    """
    place = Place(state.source)
    if len(state.history) != len(shapes):
        raise WeightsError(
            f"the snapshot has a history of {len(state.history)} blobs, the solver keeps "
            f"{len(shapes)}",
            place=place,
            hint="Is it of another net, or of another type of solver?",
        )
    for i, (blob, (name, shape)) in enumerate(zip(state.history, shapes, strict=True)):
        if core_shape(blob.shape) != core_shape(shape):
            found, wanted = ("x".join(map(str, s)) or "scalar" for s in (blob.shape, shape))
            raise WeightsError(
                f"history {i} is {found} in the snapshot, but {name} is {wanted} in the net",
                place=place,
                hint="Is it of another net?",
            )


def check_folder(prefix: str, place: Place) -> None:
    """Raise where snapshots could not be written, before hours of training.

    Raises:
        TorrefyError: the folder is missing, or can't be written to.
    """
    folder = Path(prefix).parent
    if not folder.is_dir():
        raise TorrefyError(
            f'snapshots are to be written to "{folder}", which is no folder',
            place=place,
            hint="Make it, or start where it is.",
        )
    if not os.access(folder, os.W_OK):
        raise TorrefyError(f'the folder "{folder}" for snapshots can\'t be written to', place=place)
