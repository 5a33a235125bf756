"""Features of any number of pictures into a file: in constant memory, and resumed if broken off."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from torrefy.data.ahead import BATCH
from torrefy.data.collect import read_examples
from torrefy.data.examples import Examples
from torrefy.errors import DataError, Place, did_you_mean
from torrefy.features.extract import Extractor, parts, placed
from torrefy.features.formats import format_of, write
from torrefy.features.kept import STATE, Kept
from torrefy.features.table import Features

ENGINES = ("auto", "torch", "onnx", "ray")
"""What runs the net: PyTorch; ONNX Runtime, which is faster on a processor but is made ready first;
auto: that if there are WORTH pictures or more; ray: the workers of a cluster."""
WORTH = 64


@dataclass(frozen=True)
class Extracted:
    """Features that were written."""

    paths: tuple[Path, ...]
    """What was written: one file, or of an LMDB one for each blob."""
    count: int
    """Pictures whose features there are."""
    dims: dict[str, int]
    """How many numbers each blob has for a picture."""
    bad: dict[str, str]
    """Pictures that could not be read, where they are named, and what is wrong with each."""
    resumed: int
    """Pictures that an earlier run had done."""
    engine: str
    """ "torch", "onnx" or "ray"."""
    seconds: float


def part_of(target: Path) -> Path:
    """Where features are kept until their file is written."""
    return target.with_name(f".{target.name}.part")


def extract_to(
    target: str | Path,
    model: str | Path | Extractor,
    data: str | Path | Sequence[str | Path] | Examples,
    blobs: Sequence[str] = (),
    *,
    format: str = "",  # noqa: A002 (what the option is called)
    batch: int = BATCH,
    bad: str = "fail",
    engine: str = "auto",
    workers: int = 2,
    address: str | None = None,
    progress: Callable[[int, int], None] = lambda done, count: None,
    **options: Any,
) -> Extracted:
    """Take features of pictures and write them to a file, all or nothing.

    What is computed lies in a folder beside it until then. A run that was broken off, by whatever,
    goes on where it was when the same is asked for again.

    Args:
        target: the file, .npz, .h5 or .parquet; or the folder of an LMDB, whose name ends in lmdb.
        model: as `Extractor` takes it, or one.
        data: as `torrefy.extract` takes it.
        blobs: what features are; none: what the net's last learned layer reads.
        format: "npz", "h5", "parquet" or "lmdb"; empty: by the target's ending.
        batch: pictures that go through the net together, each version counted.
        bad: "fail": a picture that can't be read is an error; "skip": it is left out.
        engine: one of ENGINES.
        workers: of Ray.
        address: of Ray's cluster; None: one on this machine is started.
        progress: told how many pictures are done of how many.
        options: as `Extractor` takes them.

    Raises:
        TorrefyError: as `torrefy.extract`; the target exists, or another extraction to it was
            broken off.
    """
    begun = time.monotonic()
    target = Path(target)
    place = Place(str(target))
    kind = format_of(target, format)
    if target.exists():
        raise DataError("this exists; it is not overwritten", place=place)
    if not target.resolve().parent.is_dir():
        raise DataError(f"there is no folder {target.parent}", place=place)
    if engine not in ENGINES:
        hint = did_you_mean(engine, ENGINES) or f"There are {', '.join(ENGINES)}."
        raise DataError(f'there is no engine "{engine}"', hint=hint)
    examples = data if isinstance(data, Examples) else read_examples(data, targets=False)
    if not len(examples):
        raise DataError("there are no pictures", place=Place(examples.origin))
    extractor = model if isinstance(model, Extractor) else Extractor(model, blobs, **options)
    runs_onnx = engine == "onnx" or (engine == "auto" and len(examples) >= WORTH)
    runs_onnx = runs_onnx and extractor.use_onnx()
    sample = extractor(np.zeros((1, *extractor.preprocessor.shape), np.float32))
    names = hashlib.sha256("\0".join(examples.names).encode("utf-8", "replace")).hexdigest()
    asked = {**extractor.origin(), **placed(examples)}
    key = f"{json.dumps(asked, sort_keys=True)} {names}"
    folder = part_of(target)
    kept = Kept(
        _same(folder, key),
        key,
        {blob: array.shape[1:] for blob, array in sample.items()},
        len(examples),
        dtype=np.float16 if extractor.float16 else np.float32,
    )
    resumed = kept.done
    progress(kept.done, len(examples))
    left = range(kept.done, len(examples))
    if engine == "ray":
        from torrefy.features import ray_engine

        made = ray_engine.parts(
            extractor.settings, examples, left, batch, workers=workers, address=address
        )
    else:
        made = parts(extractor, examples, left, batch)
    try:
        for part in made:
            for error in part.bad.values():
                if bad == "fail":
                    raise error
                kept.bad[str(error.problems[0].place)] = error.problems[0].message
            kept.advance(len(part.rows), part.good, [part.arrays])
            progress(kept.done, len(examples))
    except BaseException:
        if kept.items:
            kept.save()
        else:  # nothing that is worth to go on with
            shutil.rmtree(folder, ignore_errors=True)
        raise
    if not kept.items:
        shutil.rmtree(folder, ignore_errors=True)
        raise DataError("no picture can be read", place=Place(examples.origin))
    chosen = examples.take(kept.items)
    features = Features(
        {blob: kept.filled(blob) for blob in extractor.blobs},
        chosen.names,
        chosen.targets if chosen.kind == "classes" else None,
        chosen.classes if chosen.kind == "classes" else (),
        chosen.groups,
        chosen.parts,
        asked,
    )
    written = write(target, features, kind.name)
    shutil.rmtree(folder, ignore_errors=True)
    return Extracted(
        tuple(written), len(features), extractor.dims, kept.bad, resumed,
        "ray" if engine == "ray" else "onnx" if runs_onnx else "torch", time.monotonic() - begun,
    )  # fmt: skip


def _same(folder: Path, key: str) -> Path:
    """The folder, if nothing else is kept there.

    Raises:
        DataError: what an extraction with other settings left there.
    """
    try:
        had = json.loads((folder / STATE).read_text(encoding="utf-8"))["key"]
    except (OSError, ValueError, KeyError, TypeError):
        return folder
    if not str(had).startswith(key):
        raise DataError(
            "another extraction to this file was broken off",
            place=Place(str(folder)),
            hint="Ask for what it was asked for, and it goes on; or remove this folder.",
        )
    return folder
