"""What a data layer does to pictures, in front of an exported net: it then takes raw ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from torrefy.data.draws import Draws
from torrefy.data.normalise.normaliser import CHANNELS, Normalised, Normaliser, scale_of
from torrefy.data.normalise.statistics import Statistics
from torrefy.data.recipe import Recipe
from torrefy.data.transform import Transformer, read_mean
from torrefy.errors import ExportError
from torrefy.layers.base import Shape, shape_text
from torrefy.net.net import Net


class Front(nn.Module):
    """(x − mean)·scale of a data layer and its statistics, as a module.

    It takes pictures of 0..255 of the size that the statistics are of, which is that after the
    crop, with the channels in the order that the net was trained with, Caffe's being blue, green,
    red. Whitening is computed in float32 here, and in float64 by the data layer.
    """

    def __init__(self, spec: Any, net: Net, folder: Path | str = ".") -> None:
        """Read what a layer names.

        Args:
            spec: the LayerParameter, with statistics; of phase test.
            net: the net that is exported; the layer's first top is its input.
            folder: what the layer's files are relative to.

        Raises:
            DataError: a file is missing, or does not fit the layer.
            ExportError: the net has no such input, or one of another shape.
        """
        super().__init__()
        self.blob: str = spec.top[0] if spec.top else ""
        """The net's input."""
        self.given = self.blob
        """The file's input."""
        if self.blob not in net.inputs:
            raise ExportError(
                f'the net has no input "{self.blob}", which the layer makes',
                layer=spec.name,
                hint=f"It has {', '.join(net.inputs)}.",
            )
        normaliser = Normaliser.from_layer(spec, folder)
        if normaliser is None:
            raise ExportError("the layer has no statistics", layer=spec.name)
        channels, height, width = normaliser.shape
        wanted = net.inputs[self.blob][1:]
        if normaliser.kind in CHANNELS and len(wanted) == 3:
            height, width = wanted[1:]
        self.shape: tuple[int, int, int] = (channels, height, width)
        """CxHxW of the raw pictures."""
        made = normaliser.made if normaliser.matrices else self.shape
        if made != wanted:
            raise ExportError(
                f'the layer makes {shape_text(made)}, but the net\'s "{self.blob}" is '
                f"{shape_text(wanted)}",
                layer=spec.name,
            )
        self.statistics = Statistics.read(Path(folder, spec.transform_param.statistics))
        self.made = made
        mean = self._mean(spec, folder)
        self.scale = scale_of(spec)
        self.transform = Normalised(Transformer(scale=self.scale, mean=mean), normaliser)
        """The data layer's own way, which the file is compared with."""
        shift = np.asarray(mean, np.float32)
        if shift.ndim != 3:
            shift = shift.reshape(-1, 1, 1)
        self.first: Tensor | None
        self.std: Tensor | None
        self.second: Tensor
        self.register_buffer("first", _tensor(shift) if shift.size else None)
        self.register_buffer("second", _tensor(normaliser.mean))
        self.register_buffer("std", None if normaliser.std is None else _tensor(normaliser.std))
        self.matrices = len(normaliser.matrices)
        for number, matrix in enumerate(normaliser.matrices):
            self.register_buffer(f"matrix{number}", _tensor(matrix))

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W of 0..255 to what the net takes."""
        if self.first is not None:
            x = x - self.first
        if self.scale != 1:
            x = x * self.scale
        x = x - self.second
        if self.std is not None:
            x = x / self.std
        if self.matrices:
            x = x.flatten(1)
            for number in range(self.matrices):
                x = x @ getattr(self, f"matrix{number}")
            x = x.reshape(-1, *self.made)
        return x

    def expected(self, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        """The same by the data layer."""
        return np.stack([self.transform((one,), Draws(0, 0))[0] for one in pictures])

    def samples(self, random: np.random.Generator, count: int) -> NDArray[np.float32]:
        """Raw pictures that are distributed as those that the statistics are of."""
        found = self.statistics
        if found.eigenvalues is None or found.components is None:
            spread = found.channel_std.reshape(-1, 1, 1)
            middle = found.channel_mean.reshape(-1, 1, 1)
            values = middle + spread * random.standard_normal((count, *self.shape))
        else:
            numbers = random.standard_normal((count, len(found.eigenvalues)))
            rows = (numbers * np.sqrt(found.eigenvalues)) @ found.components.reshape(
                len(found.eigenvalues), -1
            )
            values = found.mean + rows.reshape(count, *found.shape)
        raw = values / self.scale
        if self.first is not None:
            raw = raw + self.first.numpy()
        return raw.astype(np.float32)

    def put_before(self, program: fx.GraphModule, net: Net) -> None:
        """Let a net's program begin with this."""
        index = list(net.inputs).index(self.blob)
        holders = [node for node in program.graph.nodes if node.op == "placeholder"]
        program.add_module("torrefy_front", self)
        with program.graph.inserting_after(holders[-1]):
            call = program.graph.call_module("torrefy_front", (holders[index],))
        holders[index].replace_all_uses_with(call, delete_user_cb=lambda user: user is not call)
        program.recompile()

    def check(self, recipe: Recipe) -> None:
        """Refuse a preprocessing that would do again what this does.

        Raises:
            ExportError: it has a mean or a scale.
        """
        message = recipe.preprocessor.message if recipe.preprocessor else None
        if message is not None and (any(message.mean) or message.scale != 1):
            raise ExportError(
                "the preprocessing has a mean or a scale, and the file would do that itself",
                hint="Leave out mean and scale where statistics are built in.",
            )

    def _mean(self, spec: Any, folder: Path | str) -> NDArray[np.float32]:
        """The layer's own mean; of an image the part that is seen at the centre."""
        given = spec.transform_param
        if not given.HasField("mean_file"):
            return np.asarray(list(given.mean_value), np.float32)
        mean = read_mean(Path(folder, given.mean_file))
        if mean.ndim != 3:
            return mean
        _, height, width = self.shape
        top, left = (mean.shape[1] - height) // 2, (mean.shape[2] - width) // 2
        return mean[:, top : top + height, left : left + width]


def shapes_with(front: Front | None, net: Net) -> dict[str, Shape]:
    """The inputs' shapes, one of them perhaps of raw pictures."""
    shapes = dict(net.inputs)
    if front is not None:
        shapes[front.blob] = (*shapes[front.blob][:1], *front.shape)
    return shapes


def _tensor(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))
