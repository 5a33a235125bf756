"""The converter "state_dict": tensors of a PyTorch model, made blobs of a definition's layers."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from torrefy.errors import Place, Problem, WeightsError, did_you_mean
from torrefy.zoo.rename import Rename

if TYPE_CHECKING:
    from torrefy.net.stored import StoredLayer, StoredNet

MOST_BYTES = 1 << 30
"""A state dict is read into memory whole; a longer file, or one that means to be, is refused."""
MOST_TENSORS = 1 << 16
"""Dozens of times what a thousand-layer net has."""
MOST_AXES = 32
"""As in Caffe."""

STATISTICS = ("running_mean", "running_var")
"""The tensors that a BatchNorm is known by."""
UNUSED = "num_batches_tracked"
"""Caffe's BatchNorm has no such count: its third blob divides the others, and is 1 here."""

Tensors = dict[str, NDArray[np.float32]]
PlaceOf = Callable[..., Place]
"""Where a part of the source stands in its card: `place("rename", 3)`."""


def read_state_dict(path: Path) -> dict[str, Tensors]:
    """A state dict's tensors as float32, by module and then by their names there.

    Read by `torch.load(weights_only=True)`, which makes tensors and plain values and calls
    nothing else.

    Raises:
        WeightsError: the file is something else, packed, or too large.
    """
    held = _load(path)
    if not isinstance(held, Mapping):
        raise WeightsError(
            f"expected tensors by name, found a {type(held).__name__}", place=Place(str(path))
        )
    if len(held) > MOST_TENSORS:
        raise WeightsError(
            f"more than {MOST_TENSORS} tensors: too many for a state dict", place=Place(str(path))
        )
    odd = _odd(held)
    if odd:
        raise WeightsError(odd, place=Place(str(path)))
    modules: dict[str, Tensors] = {}
    for name, tensor in held.items():
        module, _, own = name.rpartition(".")
        # A tensor may be a view, or of bfloat16, which numpy lacks.
        modules.setdefault(module, {})[own] = tensor.detach().float().contiguous().numpy()
    return modules


def convert_state_dict(
    path: Path, rules: Sequence[Rename], definition: Path, place: PlaceOf
) -> StoredNet:
    """A state dict as the weights of a definition.

    The first rule that fits a module counts. Its `weight` and `bias` become the layer's blobs 0
    and 1: torch's order of axes in Conv, ConvTranspose, Linear, Embedding and PReLU is Caffe's.
    A BatchNorm's `running_mean` and `running_var` become a BatchNorm's mean and variance, its
    `weight` and `bias` a Scale's.

    Args:
        path: the file.
        rules: the card's.
        definition: the net, which must get all that it learns, in its own shapes.
        place: where a part of the source stands in its card.

    Raises:
        WeightsError: with every tensor that no rule takes or no layer can have, every rule whose
            layer is not in the definition, and every layer that gets nothing.
        DefinitionError: the definition is wrong.
    """
    from torrefy.net.stored import StoredNet
    from torrefy.weights.copy import match_weights
    from torrefy.weights.load import load_net

    net = load_net(definition)
    types = {node.name: node.type for node in net.graph.nodes}
    layers, problems = _layers(read_state_dict(path), rules, types, place)
    if problems:
        raise WeightsError(problems)
    stored = StoredNet(path.stem, layers, str(path))
    lacking = match_weights(net, stored, fresh=["*"]).report.fresh
    if lacking:
        raise WeightsError(f"no rename gives anything to {_listed(lacking)}", place=place("rename"))
    return stored


def _load(path: Path) -> Any:
    import torch

    place = Place(str(path))
    if path.stat().st_size > MOST_BYTES:
        raise WeightsError(
            f"more than {MOST_BYTES >> 20} MiB: too long for a state dict", place=place
        )
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
                    raise WeightsError(
                        "the archive is compressed, which PyTorch's are not; it is refused",
                        place=place,
                    )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except WeightsError:
        raise
    except Exception as error:  # broken files make torch raise nearly anything
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise WeightsError(
            f"the file names {named[1]}, which is no tensor's; it is refused"
            if named
            else "PyTorch can't read this as a state dict",
            place=place,
        ) from error


def _odd(held: Mapping[Any, Any]) -> str:
    """What of a state dict is no plain tensor by its name, or too much; empty: nothing."""
    import torch

    total = 0
    for name, tensor in held.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            return f"expected tensors by name, found a {type(tensor).__name__} under {name!r:.80}"
        total += tensor.numel() * 4
        plain = tensor.layout is torch.strided and not tensor.is_quantized
        if not plain or tensor.is_complex() or tensor.is_meta or tensor.dim() > MOST_AXES:
            return f'"{name:.80}" is no plain tensor of numbers'
    return f"its tensors have more than {MOST_BYTES >> 20} MiB" if total > MOST_BYTES else ""


def _layers(
    modules: Mapping[str, Tensors],
    rules: Sequence[Rename],
    types: Mapping[str, str],
    place: PlaceOf,
) -> tuple[tuple[StoredLayer, ...], list[Problem]]:
    """The layers that the rules make of modules, and what is wrong."""
    from torrefy.net.stored import StoredLayer

    made: dict[str, StoredLayer] = {}
    origin: dict[str, str] = {}
    problems: list[Problem] = []
    untaken: list[str] = []
    for module, tensors in modules.items():
        fitting = ((i, rule.fit(module)) for i, rule in enumerate(rules))
        index, rule = next(((i, fit) for i, fit in fitting if fit is not None), (0, None))
        if rule is None:
            untaken += [f"{module}.{own}".lstrip(".") for own in tensors]
            continue
        if not rule.layer:
            continue
        at = place("rename", index)
        reason = _unfit(rule, tensors)
        if reason:
            problems.append(Problem(*reason[:1], at, rule.layer, reason[1]))
            continue
        for layer, blobs in _blobs(rule, tensors).items():
            if layer not in types:
                hint = did_you_mean(layer, types)
                problems.append(Problem("the definition has no such layer", at, layer, hint))
            elif layer in made:
                message = f"it gets the tensors of {origin[layer]} and of {module}"
                problems.append(Problem(message, at, layer))
            else:
                made[layer] = StoredLayer(layer, types[layer], blobs)
                origin[layer] = module
    if untaken:
        message = f"no rename fits {_listed(untaken)}"
        hint = "One without a layer leaves a module out."
        problems.append(Problem(message, place("rename"), hint=hint))
    return tuple(made.values()), problems


def _listed(names: Sequence[str]) -> str:
    """Some names, and how many more."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(f'{name:.80}' for name in names[:3])}{more}"


def _unfit(rule: Rename, tensors: Tensors) -> tuple[str, str] | None:
    """Why a module's tensors are no layer's blobs, and a hint; or None."""
    normalises = any(name in tensors for name in STATISTICS)
    takes = ("weight", "bias", *STATISTICS, UNUSED) if normalises else ("weight", "bias")
    strange = [name for name in tensors if name not in takes]
    if strange:
        return (
            f"{rule.module}.{strange[0]} is no layer's blob",
            "A module has a weight and a bias, a BatchNorm running_mean and running_var, too.",
        )
    missing = [name for name in STATISTICS if normalises and name not in tensors]
    if missing:
        return f"{rule.module} has no {missing[0]}", ""
    affine = "weight" in tensors or "bias" in tensors
    if normalises and affine and not rule.scale:
        return (
            f"{rule.module} is a BatchNorm with a weight and a bias, which are a Scale's",
            'Give scale: "…".',
        )
    if rule.scale and not normalises:
        return f"{rule.module} is no BatchNorm, so there is nothing for a scale", ""
    if rule.scale and not affine:
        return f"{rule.module} has no weight and no bias for a scale", ""
    return None


def _blobs(rule: Rename, tensors: Tensors) -> dict[str, tuple[NDArray[np.float32], ...]]:
    """The blobs of each layer that a rule names."""
    given = tuple(tensors[name] for name in ("weight", "bias") if name in tensors)
    if STATISTICS[0] not in tensors:
        return {rule.layer: given}
    made: dict[str, tuple[NDArray[np.float32], ...]] = {}
    made[rule.layer] = (*(tensors[name] for name in STATISTICS), np.ones(1, np.float32))
    if rule.scale:
        made[rule.scale] = given
    return made
