"""A Net written as an ONNX file, and compared with the file by running both."""

from __future__ import annotations

import contextlib
import logging
import re
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from torrefy import __version__
from torrefy.data.labels import label_limits
from torrefy.data.recipe import Recipe
from torrefy.errors import ExportError, Place, TorrefyError
from torrefy.export.answer import add_class, check_class
from torrefy.export.front import Front, shapes_with
from torrefy.export.lowering import as_exported, shape_weights
from torrefy.export.opset import OPSET, check_opset
from torrefy.export.whole import Whole
from torrefy.export.written import free_memory, write_model
from torrefy.layers.recurrent import Recurrent
from torrefy.net.fold import fold_and_tell
from torrefy.net.net import Net
from torrefy.net.passes.plan import PassResult
from torrefy.net.program import needed_nodes
from torrefy.runtime.base import Shape
from torrefy.runtime.session import OnnxModel

MOST_INLINE = 1 << 30
"""Weights of more bytes than this go to a second file: protobuf ends at 2 GiB."""

_WORD = re.compile(r"\w+")
TOLERANCE = 1e-4


@dataclass(frozen=True)
class ExportReport:
    """What was exported, and how well it agrees with the net."""

    path: Path
    inputs: dict[str, Shape]
    """The inputs' shapes; "batch" may vary."""
    outputs: dict[str, Shape]
    opset: int
    bytes: int
    """The size of the file, and of the second one with the weights where there is one."""
    layers: int
    """Layers of the net that take part."""
    folded: int
    """How many of them were folded into others."""
    difference: float
    """The largest absolute difference between the net in PyTorch and the file in ONNX Runtime."""
    blob: str
    """The output that has it."""
    notes: tuple[str, ...] = ()
    passes: tuple[PassResult, ...] = ()
    """What each pass over the net did."""
    levels: float | None = None
    """Of a file that resizes pictures itself the largest difference from Pillow, in levels of
    0..255."""


def export_onnx(
    net: Net,
    path: str | Path,
    *,
    blobs: Iterable[str] | None = None,
    recipe: Recipe | None = None,
    front: Front | None = None,
    whole: bool = False,
    classes: bool = False,
    external: bool = False,
    opset: int = OPSET,
    tolerance: float = TOLERANCE,
) -> ExportReport:
    """Write a net as an ONNX file with weights, folded for inference, and check it.

    Blobs keep their names. The batch size may vary unless the definition fixes it. BatchNorm,
    Scale and Bias are folded into the layers before them, Dropout is gone. The file passes
    ONNX's checker and is run in ONNX Runtime on random inputs beside the net; only if both agree
    it takes its place at `path`.

    Args:
        net: a net in phase test, on any device.
        path: the file; a file there is replaced.
        blobs: which blobs are outputs; None: the net's outputs.
        recipe: preprocessing and labels that the file shall carry.
        front: what a data layer does to pictures, to be part of the file, which then takes
            pictures of 0..255; None: nothing.
        whole: let the file do the recipe's preprocessing itself: it then takes "pictures", N×H×W×3
            bytes in RGB of any size.
        classes: add the output "class", N numbers: the places of the largest scores, to be looked
            up in the recipe's labels.
        external: write the weights to a second file, PATH.data; those of more than MOST_INLINE
            bytes always go there.
        opset: ONNX's operator set, 19 or newer.
        tolerance: the largest difference allowed between PyTorch and ONNX Runtime: absolute, or
            relative to the output's largest value where that is above 1.

    Raises:
        ExportError: the net is for training, has no inputs, can't be expressed, or disagrees.
        TorrefyError: there is no such blob.
    """
    path = Path(path)
    place = Place(str(path))
    if net.graph.state.phase != "test":
        raise ExportError("the net is compiled for phase train", hint='Load it with phase="test".')
    outputs = tuple(dict.fromkeys(net.graph.outputs if blobs is None else blobs))
    for name in outputs:
        net.check_blob(name)
    if not net.graph.inputs or not outputs:
        raise ExportError("the net has no inputs or no outputs, so there is nothing to export")
    needed = needed_nodes(net.graph, net.graph.inputs.values(), outputs)
    for node in net.graph.nodes:
        reason = net.layers[node.key].no_onnx
        if reason and node.key in needed:
            raise ExportError(
                f"{node.type} can't be exported to ONNX: {reason}",
                place=node.place,
                layer=node.name,
                hint="Export blobs above it: blobs=[…], or --blob.",
            )
    if not path.parent.is_dir():
        raise ExportError(f"there is no folder {path.parent}", place=place)
    check_opset(opset)
    inside = Whole.of(recipe, net) if whole else None
    if front is not None and recipe is not None:
        front.check(recipe)
    folded, passes = fold_and_tell(net, outputs)
    folded = folded.cpu()
    if front is not None:
        front.put_before(folded.program(outputs), folded)
    program, notes = translate_net(folded, outputs, opset, shapes_with(front, folded))
    model = program.model_proto
    recipe = replace(recipe or Recipe(name=net.graph.name), whole=whole)
    for value in program.model.graph.initializers.values():
        value.const_value = None  # the exporter's own graph outlives its program
    shape_weights(model)
    names = _finish(model, folded, outputs, recipe)
    levels = None
    if inside is not None:
        inside.put_before(model)
        levels = inside.difference(opset)
    scores = add_class(model, recipe, names) if classes else ""
    left = sum(1 for node in folded.graph.nodes if not node.feeds)
    del folded, program
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            written = Path(folder) / path.name
            _write(model, written, external)
            del model
            free_memory()
            _check(written)
            shapes = OnnxModel(written)
            difference, blob = _compare(
                net, shapes, names, tolerance, recipe, front=inside or front, scores=scores
            )
            size = sum(file.stat().st_size for file in Path(folder).iterdir())
            for file in sorted(Path(folder).iterdir(), reverse=True):  # the weights first
                file.replace(path.parent / file.name)
    except OSError as error:
        raise ExportError(f"can't be written: {error.strerror}", place=place) from None
    return ExportReport(
        path=path,
        inputs=shapes.inputs,
        outputs=shapes.outputs,
        opset=opset,
        bytes=size,
        layers=len(needed),
        folded=len(needed) - left,
        difference=difference,
        blob=blob,
        notes=notes,
        passes=passes,
        levels=levels,
    )


def translate_net(
    net: Net, outputs: Sequence[str], opset: int, inputs: Mapping[str, Sequence[int]]
) -> tuple[Any, tuple[str, ...]]:
    """PyTorch's exporter at work: with any batch size if the net takes any, else with its own.

    The batch is the first axis; recurrent nets, which count steps there, have it in the second.
    """
    shapes = [tuple(shape) for shape in inputs.values()]
    recurrent = any(isinstance(layer, Recurrent) for layer in net.layers.values())
    why = ""
    for axis in (0, 1) if recurrent else (0,):
        several = [(*s[:axis], s[axis] + 1, *s[axis + 1 :]) if len(s) > axis else s for s in shapes]
        if several == shapes or any(0 in s for s in several):
            continue
        try:
            program = net.program(outputs)
            with torch.no_grad():
                program(*(torch.zeros(s) for s in several))
            axes = tuple({axis: torch.export.Dim.AUTO} if len(s) > axis else {} for s in shapes)
            return _export(net, outputs, several, axes, opset), ()
        except (TorrefyError, RuntimeError) as error:
            why = why or str(error).splitlines()[0]
    try:
        program = _export(net, outputs, shapes, None, opset)
    except (TorrefyError, RuntimeError) as error:
        raise ExportError(
            f"PyTorch's exporter can't express the net: {str(error).splitlines()[0]}"
        ) from error
    return program, (f"the batch size is fixed to the definition's: {why}",)


def _export(net: Net, outputs: Sequence[str], shapes: Sequence[Any], axes: Any, opset: int) -> Any:
    with _quiet(), torch.no_grad(), as_exported(net):
        return torch.onnx.export(
            net.program(outputs),
            tuple(torch.zeros(shape) for shape in shapes),
            dynamo=True,
            input_names=list(net.inputs),
            output_names=output_names(net, outputs),
            dynamic_shapes=axes,
            opset_version=opset,
            verbose=False,
        )


def translate(module: torch.nn.Module, sample: Tensor, given: str, made: str, opset: int) -> Any:
    """A module of one input and one output as an ONNX model, for batches of any size.

    Args:
        module: the module.
        sample: an input of two rows or more.
        given: what the input is called.
        made: what the output is called.
        opset: ONNX's operator set.

    Raises:
        ExportError: PyTorch's exporter can't express it.
    """
    try:
        with _quiet(), torch.no_grad():
            program: Any = torch.onnx.export(
                module, (sample,), dynamo=True, input_names=[given], output_names=[made],
                dynamic_shapes=({0: torch.export.Dim.AUTO},), opset_version=opset, verbose=False,
            )  # fmt: skip
    except (TorrefyError, RuntimeError) as error:
        told = str(error).splitlines()[0]
        raise ExportError(f"PyTorch's exporter can't express the net: {told}") from error
    return program.model_proto


def output_names(net: Net, outputs: Sequence[str]) -> list[str]:
    """The outputs' names; an input that is overwritten in place can't have one name for both."""
    return [f"{name}_out" if name in net.graph.inputs else name for name in outputs]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """PyTorch's exporter without its talk of packages that are not needed here."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _finish(model: Any, net: Net, outputs: Sequence[str], recipe: Recipe) -> dict[str, str]:
    """Names, metadata and origin; returns the net's blob of each output of the file."""
    model.producer_name = "torrefy"
    model.producer_version = __version__
    model.graph.name = net.graph.name or "net"
    # The exporter notes source lines of whoever ran it at every node.
    for part in (*model.graph.node, *model.graph.input, *model.graph.output,
                 *model.graph.value_info, *model.graph.initializer, model.graph):  # fmt: skip
        del part.metadata_props[:]
        part.ClearField("doc_string")
    del model.metadata_props[:]
    for key, value in recipe.to_metadata().items():
        model.metadata_props.add(key=key, value=value)
    _name_batch(model)
    return dict(zip(output_names(net, outputs), outputs, strict=True))


def _name_batch(model: Any) -> None:
    """Call the varying extents "batch", and by their input where there are several."""
    names: dict[str, str] = {}
    for value in model.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                names.setdefault(dim.dim_param, f"batch_{value.name}" if names else "batch")
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:  # "s31", or what is computed of it: "4420*s31"
                dim.dim_param = _WORD.sub(lambda m: names.get(m[0], m[0]), dim.dim_param)


def _write(model: Any, path: Path, external: bool = False) -> None:
    """Write the model, which is used up."""
    import onnx

    weights = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    if external or weights > MOST_INLINE:
        onnx.save_model(
            model, path, save_as_external_data=True, location=f"{path.name}.data",
            size_threshold=1024,
        )  # fmt: skip
        # onnx makes that file for its owner alone.
        path.with_name(f"{path.name}.data").chmod(path.stat().st_mode)
    else:
        write_model(model, path)


def _check(path: Path) -> None:
    """Have ONNX's checker look at a file."""
    import onnx

    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"ONNX's checker refuses the file: {error}") from None


def _compare(
    net: Net,
    model: OnnxModel,
    names: dict[str, str],
    tolerance: float,
    recipe: Recipe,
    *,
    front: Front | Whole | None,
    scores: str,
) -> tuple[float, str]:
    """The largest difference between net and file, and its output.

    Raises:
        ExportError: it is above the tolerance.
    """
    random, limits = np.random.default_rng(0), label_limits(net)
    blobs = {front.given: front.blob} if front is not None else {}
    worst, worst_blob = 0.0, next(iter(names))
    training = net.training
    net.eval()
    try:
        for more in (0, 2):
            inputs: dict[str, NDArray[Any]] = {
                name: random_input(
                    random,
                    shape,
                    varying(shape, net.inputs[blobs.get(name, name)]) + more,
                    recipe,
                    limits[name].classes if name in limits else None,
                )
                for name, shape in model.inputs.items()
            }
            fed = dict(inputs)
            if front is not None:
                count = len(fed.pop(front.given))
                inputs[front.given] = front.samples(random, count)
                fed[front.blob] = front.expected(inputs[front.given])
            _reset(net)
            with torch.no_grad():
                expected = net.run(fed, list(names.values()))
            found = model.run(inputs)
            if scores:
                check_class(found, scores, len(recipe.labels))
            for name, blob in names.items():
                difference, scale = distance(found[name], expected[blob])
                if not difference <= tolerance * max(1.0, scale):
                    raise ExportError(
                        f'blob "{blob}": the file differs from the net by {difference:.3g} where '
                        f"the largest value is {scale:.3g}; allowed is {tolerance:g}",
                        hint="Nothing was written. A larger tolerance would allow it.",
                    )
                if difference > worst:
                    worst, worst_blob = difference, blob
            if not any(isinstance(dim, str) for s in model.inputs.values() for dim in s):
                break
    finally:
        net.train(training)
        _reset(net)
    return worst, worst_blob


def _reset(net: Net) -> None:
    """Let what a net carries from batch to batch start anew, as the file does at each run."""
    for layer in net.layers.values():
        layer.reset()


def varying(shape: Shape, given: Sequence[int]) -> int:
    """The definition's extent of the axis that may vary in a file; 0 where none may."""
    return next((g for dim, g in zip(shape, given, strict=False) if isinstance(dim, str)), 0)


def random_input(
    random: np.random.Generator,
    shape: Shape,
    batch: int,
    recipe: Recipe | None,
    limit: int | None = None,
) -> NDArray[np.float32]:
    """Noise of the size of what the net sees: with a recipe, pictures less their mean.

    Where there is a limit, indices below it.
    """
    dims = [dim if isinstance(dim, int) else batch for dim in shape]
    if limit is not None:
        return random.integers(0, limit, dims).astype(np.float32)
    message = recipe.preprocessor.message if recipe and recipe.preprocessor else None
    spread = 64.0 * message.scale if message else 1.0
    return (random.standard_normal(dims) * spread).astype(np.float32)


def distance(found: NDArray[Any], expected: Tensor) -> tuple[float, float]:
    """The largest difference, and the largest value that is expected."""
    wanted = expected.double().cpu().numpy()
    if found.shape != wanted.shape:
        raise ExportError(
            f"an output of the file is {found.shape} where the net's is {wanted.shape}"
        )
    if not wanted.size:
        return 0.0, 0.0
    with np.errstate(invalid="ignore"):
        difference = np.abs(found - wanted)
    same = (found == wanted) | (np.isnan(found) & np.isnan(wanted))
    difference = np.where(same, 0, difference)  # a scalar's, too
    return float(difference.max()), float(np.nanmax(np.abs(wanted), initial=0.0))
