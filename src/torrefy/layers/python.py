"""Python: a layer that is a class of one's own, with Caffe's interface over numpy."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from torrefy.errors import LayerError, did_you_mean
from torrefy.layers import pycaffe
from torrefy.layers.base import Layer, Shape, layer
from torrefy.layers.pycaffe import Blob, Blobs


class _Held:
    """The user's object. Copies of a net share it: it may hold what can't be copied."""

    def __init__(self, it: Any) -> None:
        self.it = it

    def __deepcopy__(self, _: Any) -> _Held:
        return self


@layer("Python")
class Python(Layer):
    """What a Python class computes, written for pycaffe: `class X(caffe.Layer)`.

    It runs only where the class is allowed by name (`--allow-python module.Class`,
    `allow_python=["module.Class"]`): a definition is no reason to run code. The module is found
    as Python finds modules, by PYTHONPATH; where pycaffe is not installed, `import caffe` gives
    it Layer, TRAIN and TEST while it is imported.

    The class has setup(bottom, top), reshape(bottom, top), forward(bottom, top) and
    backward(top, propagate_down, bottom), and is given param_str, phase and blobs (`add_blob`).
    Blobs have data and diff as numpy arrays on the CPU, float32 (float64 in a net of doubles),
    whatever the net's device. Shapes come from `setup` and `reshape` on bottoms of zeros. What
    `setup` writes into its blobs is what they are filled with. As nothing asks for a layer
    without tops, it doesn't run. share_in_parallel does nothing.
    """

    param = "python_param"
    bottoms = (0, None)
    tops = (0, None)
    no_onnx = "it runs a Python class"
    example = 'python_param { module: "losses" layer: "SmoothLoss" param_str: "0.5" }'

    def foreign_code(self) -> str:
        """The class."""
        for field in ("module", "layer"):
            if not getattr(self.p, field):
                raise self.error(
                    f"{field} is missing",
                    field=field,
                    hint='Give python_param { module: "…" layer: "…" }.',
                )
        return f"{self.p.module}.{self.p.layer}"

    def setup(self, *bottoms: Shape) -> None:
        """Import the class, make an object of it and set it up."""
        try:
            cls = pycaffe.load(self.p.module, self.p.layer)
            held = pycaffe.create(cls, self.spec)
        except (Exception, SystemExit) as error:  # a stranger's code raises anything
            raise self.not_loaded(error) from error
        held.param_str = held.param_str_ = self.p.param_str  # older classes read the latter
        held.blobs = Blobs()
        self.held = _Held(held)
        self.top_shapes: list[Shape | None] = [None] * self.num_tops
        """What the class has last given the tops; None: nothing yet."""
        # It holds nothing, and is where the net is.
        self.register_buffer("anchor", torch.empty(0, device="meta"), persistent=False)
        bottom, top = self.zeros(bottoms)
        self.call("setup", bottom, top)
        self.top_shapes = [tuple(blob.shape) if blob.shaped else None for blob in top]
        for i, blob in enumerate(held.blobs):
            self.add_param(f"blob{i}", blob.shape, torch.tensor(blob.data))

    def not_loaded(self, error: BaseException) -> LayerError:
        """What is wrong with the class's module."""
        module, name = self.p.module, self.p.layer
        if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
            return self.error(
                f"there is no Python module {error.name}",
                field="module",
                hint="Name its folder in PYTHONPATH.",
            )
        if isinstance(error, AttributeError) and getattr(error, "name", None) == name:
            return self.error(
                f"the Python module {module} has no class {name}",
                field="layer",
                hint=did_you_mean(name, vars(error.obj)),
            )
        return self.failed("import", error)

    def zeros(self, shapes: Sequence[Shape]) -> tuple[list[Blob], list[Blob]]:
        """Bottoms of zeros, and the tops."""
        bottom = [Blob(np.zeros(shape, np.float32)) for shape in shapes]
        return bottom, self.make_tops(bottom)

    def make_tops(self, bottom: Sequence[Blob]) -> list[Blob]:
        """The tops before `forward`; where the layer works in place, they are its bottoms."""
        tops = []
        for i, (name, shape) in enumerate(zip(self.spec.top, self.top_shapes, strict=True)):
            if i < len(bottom) and self.spec.bottom[i] == name:
                tops.append(bottom[i])
                continue
            kind = bottom[0].data.dtype if bottom else np.float32
            tops.append(Blob(np.zeros(shape or (), kind), shape is not None))
        return tops

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        """The tops' shapes, by the class's `reshape`."""
        bottom, top = self.zeros(bottoms)
        self.call("reshape", bottom, top)
        return self.shapes_of(top, "setup and reshape")

    def shapes_of(self, top: Sequence[Blob], where: str) -> list[Shape]:
        """The tops' shapes.

        Raises:
            LayerError: the class has left one without.
        """
        for i, (name, blob) in enumerate(zip(self.spec.top, top, strict=True)):
            if not blob.shaped:
                raise self.error(
                    f'{self.foreign_code()} gives the top "{name}" no shape in {where}',
                    field="top",
                    hint=f"It calls top[{i}].reshape(…) there.",
                )
        self.top_shapes = [tuple(blob.shape) for blob in top]
        return [tuple(blob.shape) for blob in top]

    def forward(self, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Run the class."""
        tops: tuple[Tensor, ...] = _Pass.apply(self, *bottoms, *self.blobs)  # type: ignore[no-untyped-call]
        return tops[0] if self.num_tops == 1 else tops

    def run(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Run:
        """Reshape and compute, as Caffe at each pass."""
        bottom = [Blob(array_of(x).copy()) for x in bottoms]
        top = self.make_tops(bottom)
        self.hold(params)
        self.call("reshape", bottom, top)
        self.call("forward", bottom, top)
        self.shapes_of(top, "reshape and forward")
        for blob, param in zip(self.held.it.blobs, params, strict=False):
            # The class may have written into its blobs; on the CPU they are the params' memory.
            written = torch.from_numpy(blob.data).to(param)
            if not torch.equal(written, param):
                param.copy_(written)
        return Run(bottom, top)

    def run_back(
        self,
        run: Run,
        grads: Sequence[Tensor],
        propagate_down: Sequence[bool],
        params: Sequence[Tensor],
    ) -> list[Blob]:
        """Compute the diffs of the run's bottoms, and those of the params, which are returned."""
        for blob in run.bottom:
            blob.diff[...] = 0
        for blob, grad in zip(run.top, grads, strict=True):
            blob.diff[...] = array_of(grad)
        self.hold(params)
        self.call("backward", run.top, list(propagate_down), run.bottom)
        blobs: list[Blob] = self.held.it.blobs[: len(params)]
        return blobs

    def hold(self, params: Sequence[Tensor]) -> None:
        """Let the class's blobs have the params' values, and diffs of 0."""
        for blob, param in zip(self.held.it.blobs, params, strict=False):
            blob.hold(array_of(param))

    def call(self, method: str, *arguments: Any) -> None:
        """Call a method of the class.

        Raises:
            LayerError: it has failed; with the line that did.
        """
        held = self.held.it
        held.phase = pycaffe.TRAIN if self.training else pycaffe.TEST
        try:
            getattr(held, method)(*arguments)
        except (Exception, SystemExit) as error:  # a stranger's code raises anything
            raise self.failed(method, error, sys.modules.get(type(held).__module__)) from error

    def failed(self, doing: str, error: BaseException, module: Any = None) -> LayerError:
        """That the class has failed, and where: in the last line that is its module's."""
        lines = [
            (line.filename, line.lineno)
            for line in traceback.extract_tb(error.__traceback__)
            if line.filename not in (__file__, pycaffe.__file__)
            and not line.filename.startswith("<frozen ")
        ]
        own = [line for line in lines if line[0] == getattr(module, "__file__", None)]
        message = str(error)
        if isinstance(error, SyntaxError) and error.filename:
            own, message = [(error.filename, error.lineno)], error.msg
        place = ", at {}:{}".format(*(own or lines)[-1]) if own or lines else ""
        what = ": ".join(filter(None, (type(error).__name__, " ".join(message.split()))))
        return self.error(f"{self.foreign_code()} failed in {doing}{place}: {what}")


@dataclass(frozen=True)
class Run:
    """The blobs of one forward pass."""

    bottom: list[Blob]
    top: list[Blob]


class _Pass(torch.autograd.Function):
    """A forward and a backward pass of a layer's class."""

    @staticmethod
    def forward(ctx: Any, layer: Python, *tensors: Tensor) -> tuple[Tensor, ...]:
        count = len(tensors) - len(layer.declared)
        run = layer.run(tensors[:count], tensors[count:])
        ctx.layer, ctx.run, ctx.count = layer, run, count
        ctx.kinds = [(x.device, x.dtype) for x in tensors]
        ctx.save_for_backward(*tensors[count:])
        like: Any = next((x for x in tensors if x.is_floating_point()), layer.anchor)
        return tuple(torch.from_numpy(blob.data).to(like) for blob in run.top)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        needs = ctx.needs_input_grad[1:]
        down = needs[: ctx.count]
        params = ctx.layer.run_back(ctx.run, grads, down, ctx.saved_tensors)
        blobs = (*ctx.run.bottom, *params)
        return None, *(
            torch.from_numpy(blob.diff.copy()).to(*kind) if need else None
            for blob, kind, need in zip(blobs, ctx.kinds, needs, strict=True)
        )


def array_of(tensor: Tensor) -> NDArray[Any]:
    """A tensor's values on the CPU, as float64 or else float32; where it is that, its memory."""
    kind = torch.float64 if tensor.dtype == torch.float64 else torch.float32
    array: NDArray[Any] = tensor.detach().to("cpu", kind).numpy()
    return array
