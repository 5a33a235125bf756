"""An exported file in fewer bits, measured against it, and refused where it agrees too little."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from torrefy.data.recipe import PREFIX, Recipe
from torrefy.errors import ExportError, Place, did_you_mean, nearest_file
from torrefy.export.precision.compare import Agreement, Output, Reference, find_output
from torrefy.export.precision.graph import MOST_INLINE, layer_name, prepared
from torrefy.export.precision.half import halved, kept_in_fp32
from torrefy.export.precision.pictures import Decoded, choose, decode, sample
from torrefy.export.precision.quantise import Quantiser
from torrefy.export.precision.ranges import measure
from torrefy.export.precision.report import PrecisionReport, metadata
from torrefy.export.precision.sensitivity import LayerNoise, keep_fewest, layer_noise

if TYPE_CHECKING:
    from torrefy.data.examples import Examples
    from torrefy.data.preprocess import Preprocessor

PRECISIONS = ("fp16", "bf16", "int8")
"""What a file in fp32 can be asked to be made; bf16 is refused, with a reason."""
CALIBRATED = 128
"""Pictures that calibrate."""
HELD_OUT = 512
"""Pictures at most that agreement is measured on."""
LEAST_AGREEMENT = 0.93
CLIPPED = (0.0, 0.8)
"""The shares of a range that clipping leaves at least: one net does better with the first, another
with the second."""
NOISES = 16
"""Random inputs that fp16 is measured on where there are no pictures."""


@dataclass(frozen=True)
class _Asked:
    """What was asked for."""

    calibrate: Examples | None
    held_out: Examples | None
    count: int
    seed: int
    least_agreement: float
    keep: tuple[str, ...]
    reduce_range: bool | None
    threads: int
    told: Callable[[str], None]


@dataclass(frozen=True)
class _Job:
    """What is made into what."""

    model: Any
    output: Output
    calibration: Decoded | None
    measured: Decoded
    source: Path
    path: Path
    folder: Path
    """For what is only needed meanwhile."""


def lower_precision(
    source: str | Path,
    path: str | Path,
    precision: str,
    *,
    calibrate: str | Path | Sequence[str | Path] | Examples | None = None,
    held_out: str | Path | Sequence[str | Path] | Examples | None = None,
    count: int = CALIBRATED,
    seed: int = 0,
    least_agreement: float = LEAST_AGREEMENT,
    keep: Sequence[str] = (),
    reduce_range: bool | None = None,
    threads: int = 0,
    told: Callable[[str], None] = lambda _: None,
) -> PrecisionReport:
    """Make a file of an exported one that computes in int8 or fp16, and measure what that costs.

    int8: ranges of all values are measured on calibration pictures, and clipped where the mean
    squared error of 256 steps is least; weights have a scale for each channel; biases undo what
    rounding the weights shifts. Where the answers to the calibration pictures agree less than
    half-way between `least_agreement` and 1, the layers that hurt most stay in fp32, as few as
    that takes; and all is tried with ranges that are clipped less, too.

    fp16, for GPUs: inputs and outputs stay float32; so does what squares values, as LRN, and what
    comes within a factor of 4 of fp16's largest number.

    Then the file is compared with the one in fp32 on pictures that did not calibrate. Agreement
    is the share of them with the same class; of nets that give no classes, or only two, the share
    with all numbers within 2 % of the range that the output takes.

    Args:
        source: an .onnx file in fp32 that Torrefy exported with preprocessing.
        path: the file to write.
        precision: "int8" or "fp16".
        calibrate: pictures, as `torrefy.data.collect.read_examples` takes them. int8 needs them;
            fp16 is measured on noise without.
        held_out: other pictures to measure on; None: those of `calibrate` that did not calibrate.
        count: how many calibrate, at most; without `held_out` no more than half.
        seed: of their choice.
        least_agreement: what agrees less, on those held out, is refused.
        keep: layers that stay in fp32 in any case, by their names in the report.
        reduce_range: weights of 7 bits, for x86 CPUs without VNNI; None: as this one needs.
        threads: of ONNX Runtime; 0: as it decides.
        told: is told what goes on.

    Raises:
        ExportError: it agrees too little, and what was measured; nothing is written. Or there is
            no such precision, or the file can't be lowered.
        DataError: there are too few pictures.

    Example:
        torrefy.export_onnx(net, "net.onnx", recipe=recipe)
        report = torrefy.lower_precision("net.onnx", "net-int8.onnx", "int8", calibrate="pictures")
        print(report.held_out.top1)
    """
    import onnx

    source, path = Path(source), Path(path)
    check_asked(path, precision, calibrate is not None)
    if not source.is_file():
        raise ExportError("no such file", place=Place(str(source)), hint=nearest_file(source))
    if not 0 <= least_agreement <= 1:
        raise ExportError(f"the least agreement is a share from 0 to 1, not {least_agreement:g}")
    if count < 1:
        raise ExportError(f"{count} pictures can't calibrate")
    try:
        model = onnx.load(source)
    except Exception as error:  # noqa: BLE001  protobuf's errors, OSError, onnx's own
        raise ExportError(f"no ONNX file: {error}", place=Place(str(source))) from None
    asked = _Asked(
        _examples(calibrate), _examples(held_out), count, seed, least_agreement, tuple(keep),
        reduce_range, threads, told,
    )  # fmt: skip
    recipe = Recipe.from_metadata({p.key: p.value for p in model.metadata_props}, str(source))
    output = _checked_output(model, recipe, source, asked)
    ready = prepared(model)
    with tempfile.TemporaryDirectory(prefix="torrefy-") as folder:
        calibration, measured = _pictures(ready, recipe, asked, Path(folder))
        work = _int8 if precision == "int8" else _fp16
        return work(_Job(ready, output, calibration, measured, source, path, Path(folder)), asked)


def check_asked(path: str | Path, precision: str, calibrated: bool) -> None:
    """Refuse what can be seen to be wrong at once.

    Raises:
        ExportError: there is no such precision or folder, or int8 has no pictures.
    """
    path = Path(path)
    if precision == "bf16":
        raise ExportError(
            "no file is written in bf16: ONNX Runtime's CPU provider has no convolution in it",
            hint="Take fp16 for a GPU, int8 for a CPU.",
        )
    if precision not in PRECISIONS:
        raise ExportError(
            f'there is no precision "{precision}"',
            hint=did_you_mean(precision, PRECISIONS) or "There are fp16 and int8.",
        )
    if not path.parent.is_dir():
        raise ExportError(f"there is no folder {path.parent}", place=Place(str(path)))
    if precision == "int8" and not calibrated:
        raise ExportError(
            "int8 needs pictures to calibrate on",
            hint="Give a folder of a hundred or more like those that it will see: "
            "calibrate=…, or --calibrate.",
        )


def _examples(data: Any) -> Examples | None:
    from torrefy.data.collect import read_examples
    from torrefy.data.examples import Examples

    if data is None or isinstance(data, Examples):
        return data
    return read_examples(data, targets=False)


def _checked_output(model: Any, recipe: Recipe, source: Path, asked: _Asked) -> Output:
    """The output to compare; refuse a file that is not one of pictures in fp32."""
    import onnx

    place = Place(str(source))
    had = {p.key: p.value for p in model.metadata_props}.get(PREFIX + "precision")
    if had or any(node.op_type == "DequantizeLinear" for node in model.graph.node):
        raise ExportError(f"the file is in {had or 'int8'} already", place=place)
    given = model.graph.input
    if len(given) != 1 or given[0].type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
        raise ExportError(
            f"the file takes {', '.join(value.name for value in given)}; only nets of one input "
            "in float32 can be lowered",
            place=place,
        )
    if recipe.preprocessor is None and asked.calibrate is not None:
        raise ExportError(
            "the file doesn't say what is done to a picture",
            place=place,
            hint="Export it with --preprocessing.",
        )
    return find_output(model, recipe.output, len(recipe.labels))


def _pictures(
    model: Any, recipe: Recipe, asked: _Asked, folder: Path
) -> tuple[Decoded | None, Decoded]:
    """Those that calibrate, and those that agreement is measured on."""
    if asked.calibrate is None:
        noise = Decoded(_noise(model, recipe, asked.seed))
        return None, noise
    preprocessor: Preprocessor = recipe.preprocessor  # type: ignore[assignment]  # checked
    if asked.held_out is None:
        rows, others = choose(asked.calibrate, asked.count, asked.seed)
        rest = asked.calibrate
    else:
        rows = sample(asked.calibrate, asked.count, asked.seed)
        rest = asked.held_out
        others = sample(rest, HELD_OUT, asked.seed)
    asked.told("pictures")
    calibration = decode(asked.calibrate, preprocessor, rows, folder / "calibration.npy")
    measured = decode(rest, preprocessor, others[:HELD_OUT], folder / "held_out.npy")
    return calibration, measured


def _noise(model: Any, recipe: Recipe, seed: int) -> Any:
    """Random inputs as large as pictures are."""
    dims = model.graph.input[0].type.tensor_type.shape.dim
    message = recipe.preprocessor.message if recipe.preprocessor else None
    shape = (NOISES, *(dim.dim_value or 1 for dim in dims[1:]))
    spread = 64.0 * message.scale if message else 1.0
    values = np.random.default_rng(seed).standard_normal(shape) * spread
    return values.astype(np.float32)


def _int8(job: _Job, asked: _Asked) -> PrecisionReport:
    if job.calibration is None:
        raise ExportError("int8 needs pictures to calibrate on")
    asked.told("ranges")
    spreads = measure(job.model, job.calibration.batches(), asked.threads)
    quantisers = [
        Quantiser(job.model, spreads, least=least, reduce_range=asked.reduce_range)
        for least in CLIPPED
    ]
    if not quantisers[0].units:
        raise ExportError("the net has no layer with weights that could be in int8")
    (job.folder / "calibration").mkdir()
    reference = Reference(
        job.model, job.output, job.calibration, job.folder / "calibration", asked.threads
    )
    aim = (1 + asked.least_agreement) / 2
    always = _named(quantisers[0], asked.keep)
    kept = keep_fewest(quantisers, reference, aim, always, asked.told)
    noises = layer_noise(kept, job.calibration, asked.threads)
    units = kept.quantiser.units
    names = tuple(layer_name(unit[0]) for unit in units if unit[0].name in kept.nodes)
    (job.folder / "held_out").mkdir()
    asked.told("pictures held out")
    held = Reference(job.model, job.output, job.measured, job.folder / "held_out", asked.threads)
    agreement = held.compare(kept.model)
    _refuse(agreement, asked, "int8", noises)
    told = metadata("int8", kept.agreement, agreement, names)
    size = _write(kept.model, job.path, told)
    return PrecisionReport(
        path=job.path,
        precision="int8",
        bytes=size,
        bytes_fp32=_size(job.source),
        output=job.output.name,
        calibration=kept.agreement,
        held_out=agreement,
        least_agreement=asked.least_agreement,
        layers=noises,
        kept=names,
        weight_bits=7 if kept.quantiser.reduce_range else 8,
        notes=(*_notes(job.calibration, job.measured),),
    )


def _fp16(job: _Job, asked: _Asked) -> PrecisionReport:
    asked.told("ranges")
    spreads = measure(job.model, (job.calibration or job.measured).batches(), asked.threads)
    kept = kept_in_fp32(job.model, spreads)
    named = {layer_name(node) for node in job.model.graph.node}
    for name in asked.keep:
        if name not in named:
            raise _unknown(name, named)
    kept |= {node.name for node in job.model.graph.node if layer_name(node) in asked.keep}
    names = tuple(layer_name(node) for node in job.model.graph.node if node.name in kept)
    held = Reference(job.model, job.output, job.measured, job.folder, asked.threads)
    half = halved(job.model, kept)
    agreement = held.compare(half)
    _refuse(agreement, asked, "fp16", ())
    size = _write(half, job.path, metadata("fp16", None, agreement, ()))
    notes = [] if job.calibration else [f"measured on {NOISES} random inputs, not on pictures"]
    return PrecisionReport(
        path=job.path,
        precision="fp16",
        bytes=size,
        bytes_fp32=_size(job.source),
        output=job.output.name,
        calibration=None,
        held_out=agreement,
        least_agreement=asked.least_agreement,
        kept=names,
        notes=(*notes, *(_notes(job.calibration, job.measured) if job.calibration else ())),
    )


def _named(quantiser: Quantiser, layers: Sequence[str]) -> frozenset[str]:
    """The nodes of layers that a user names.

    Raises:
        ExportError: there is no such layer.
    """
    units = {layer_name(unit[0]): unit for unit in quantiser.units}
    for name in layers:
        if name not in units:
            raise _unknown(name, units)
    return frozenset(node.name for name in layers for node in units[name])


def _unknown(name: str, layers: Collection[str]) -> ExportError:
    return ExportError(
        f'there is no layer "{name}" to keep in fp32',
        hint=did_you_mean(name, layers) or f"There are {', '.join(sorted(layers))}.",
    )


def _refuse(
    agreement: Agreement, asked: _Asked, precision: str, noises: Sequence[LayerNoise]
) -> None:
    """Raise where it agrees too little, with what was measured and what may help."""
    if agreement.agreement >= asked.least_agreement:
        return
    what = "classes are the same" if agreement.top1 is not None else "answers are within 2 %"
    kept = sum(noise.kept for noise in noises)
    worst = [noise.layer for noise in noises if not noise.kept][:3]
    told = f", though {kept} of {len(noises)} layers stay in fp32" if kept else ""
    also = f"; or --keep-fp32 {worst[0]}, one of the noisiest" if worst else ""
    raise ExportError(
        f"{precision} agrees too little with fp32: on {agreement.pictures} pictures that did not "
        f"calibrate {agreement.agreement:.2%} of the {what}{told}; asked for are "
        f"{asked.least_agreement:.2%}; signal to noise of the answers is {agreement.snr:.1f} dB",
        hint="Nothing was written. Calibrate on more pictures like those that the net sees"
        f"{also}; or take less by --least-agreement.",
    )


def _notes(calibration: Decoded, measured: Decoded) -> list[str]:
    notes = []
    if len(measured) < 100:
        notes.append(
            f"agreement is known from {len(measured)} pictures only: one more or less is "
            f"{1 / len(measured):.1%}"
        )
    bad = (*calibration.bad, *measured.bad)
    if bad:
        notes.append(f"{len(bad)} pictures can't be read; the first: {bad[0].problems[0]}")
    return notes


def _size(path: Path) -> int:
    """Of a file and of the one beside it with its weights."""
    beside = path.with_name(f"{path.name}.data")
    return path.stat().st_size + (beside.stat().st_size if beside.is_file() else 0)


def _write(model: Any, path: Path, told: dict[str, str]) -> int:
    """Check the file and put it in its place; its size."""
    import onnx

    for key, value in told.items():
        model.metadata_props.add(key=key, value=value)
    inside = sum(len(item.raw_data) for item in model.graph.initializer) <= MOST_INLINE
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            made = Path(folder, path.name)
            onnx.save_model(
                model, made, save_as_external_data=not inside,
                location=None if inside else f"{path.name}.data", size_threshold=1024,
            )  # fmt: skip
            onnx.checker.check_model(str(made), full_check=True)
            size = sum(file.stat().st_size for file in Path(folder).iterdir())
            for file in sorted(Path(folder).iterdir(), reverse=True):  # the weights first
                file.replace(path.parent / file.name)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"ONNX's checker refuses the file: {error}") from None
    except OSError as error:
        raise ExportError(f"can't be written: {error.strerror}", place=Place(str(path))) from None
    return size
