"""The compiled net: layers and params by their Caffe names, and programs that run them."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from torrefy.errors import LayerError, TorrefyError, did_you_mean
from torrefy.graph import Graph, State, graph_text
from torrefy.layers.base import Layer, Shape, shape_text
from torrefy.layers.fillers import fill
from torrefy.net.compile import Built, diagnose, infer
from torrefy.net.program import module_names, write_program
from torrefy.net.stored import StoredLayer, StoredNet, write_weights
from torrefy.schema import Definition

Arrays = Mapping[str, Tensor | NDArray[Any]]


class Net(nn.Module):
    """A net made of layers, called with its inputs by name.

    It is a `torch.nn.Module`: its children are the layers under identifiers of their Caffe
    names, so that `state_dict()` has names like "conv1.weight" and "bn1.mean_sum" (listed in
    `torrefy.weights.safetensors`), and `to`, `train`, `eval` and `torch.compile` do what they do
    to any module. Batch and picture sizes other than the definition's are taken wherever the
    layers allow them.
    """

    def __init__(self, graph: Graph, built: Built) -> None:
        """Take a resolved graph and its built layers; see `compile_net` for the usual way."""
        super().__init__()
        self.graph = graph
        self.layers: dict[str, Layer] = built.layers
        """The layers by their Caffe names; a repeated name goes on as "conv1#2"."""
        self.shapes: dict[str, Shape] = built.shapes
        """The shape of every value, as the definition has it."""
        self.loss_weights: dict[str, float] = {
            value: weight
            for node in graph.nodes
            for value, weight in zip(node.tops, built.layers[node.key].loss_weights, strict=True)
            if weight
        }
        """What counts in the loss: values by name, and the factor of each."""
        for key, name in module_names(graph).items():
            self.add_module(name, built.layers[key])
        self._programs: dict[tuple[tuple[str, ...], tuple[str, ...], bool], fx.GraphModule] = {}
        self.program()  # torch.compile can't write one while it traces

    @property
    def inputs(self) -> dict[str, Shape]:
        """The input blobs and the shapes that the definition gives them."""
        return {name: self.shapes[value] for name, value in self.graph.inputs.items()}

    @property
    def outputs(self) -> dict[str, Shape]:
        """The blobs that the net returns and their shapes.

        These are the blobs that no layer reads; in phase train also those that layers read but
        that count in the loss.
        """
        return {name: self.shapes[name] for name in self._returned}

    @property
    def _returned(self) -> tuple[str, ...]:
        losses = self.loss_weights if self.graph.state.phase == "train" else ()
        return tuple(dict.fromkeys((*self.graph.outputs, *losses)))

    @property
    def params(self) -> dict[str, list[Tensor]]:
        """Each layer's blobs in Caffe's order and shapes: `nn.Parameter`, statistics as buffers.

        A param with an lr_mult of 0 requires no gradient, as in Caffe, unless the definition has
        force_backward.
        """
        return {key: layer.blobs for key, layer in self.layers.items() if layer.declared}

    @property
    def device(self) -> torch.device:
        """Where the params are (the CPU for a net without any)."""
        for tensor in itertools.chain(self.parameters(), self.buffers()):  # the first is enough
            return tensor.device
        return torch.device("cpu")

    def forward(self, **inputs: Tensor | NDArray[Any]) -> dict[str, Tensor]:
        """Run the whole net.

        Args:
            inputs: every input blob by name, `net(data=x)`.

        Returns:
            The net's outputs by name.

        Raises:
            TorrefyError: an input is missing, unknown, or of the wrong number of axes.
            LayerError: a layer can't take inputs of these sizes; it is named.
        """
        starts = tuple(self.graph.inputs)
        tops = self._execute(starts, self._returned, self._feed(inputs, starts))
        return dict(zip(self._returned, tops, strict=True))

    def loss(self, blobs: Mapping[str, Tensor]) -> Tensor:
        """The net's loss: the sum of the blobs that count in it, each times its loss weight.

        A loss layer's first top counts with a weight of 1 unless the definition says otherwise;
        any other top counts where it has a `loss_weight`. All numbers of a blob are summed. A net
        in which nothing counts has a loss of 0.

        Args:
            blobs: what `net(...)` returned, or `run` with the blobs in `loss_weights`.

        Raises:
            TorrefyError: a blob that counts is missing.

        Example:
            net.loss(net(data=pictures, label=labels)).backward()
        """
        total: Tensor | None = None
        for name, weight in self.loss_weights.items():
            if name not in blobs:
                raise TorrefyError(
                    f'the blob "{name}" counts in the loss, but is missing',
                    hint="A net compiled for phase train returns all that count.",
                )
            blob = blobs[name]
            # Most nets have one loss, a scalar that counts once: see benchmarks/train.py.
            term = blob.sum() if blob.dim() else blob
            term = term if weight == 1 else weight * term
            total = term if total is None else total + term
        return torch.zeros((), device=self.device) if total is None else total

    def run(self, inputs: Arrays, blobs: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Compute some blobs by name, and nothing that they don't depend on.

        Args:
            inputs: arrays by blob name: the net's inputs, or any blob to start from.
            blobs: what to compute; None: the net's outputs.

        Returns:
            The blobs asked for. A name means the blob's last value; a value that an in-place
            layer overwrites is called `blob@layer`.

        Raises:
            TorrefyError: there is no such blob, or an input that they need is missing.
        """
        wanted = list(self._returned) if blobs is None else list(blobs)
        if isinstance(blobs, str):
            raise TorrefyError(f'blobs takes a list of names: ["{blobs}"]')
        for name in (*inputs, *wanted):
            self.check_blob(name)
        starts = tuple(sorted(inputs))
        values = self._execute(starts, tuple(wanted), self._feed(inputs, starts))
        return dict(zip(wanted, values, strict=True))

    def program(
        self, blobs: Iterable[str] | None = None, inputs: Iterable[str] | None = None
    ) -> fx.GraphModule:
        """The `torch.fx.GraphModule` that computes some blobs from some others.

        It shares the net's layers, takes the inputs in order and returns a tuple.

        Args:
            blobs: what it returns; None: the net's outputs.
            inputs: what it takes; None: the net's inputs. A name that is an input's means what
                is fed to the net, even if an in-place layer overwrites it later.
        """
        wanted = self._returned if blobs is None else tuple(blobs)
        given = tuple(self.graph.inputs if inputs is None else inputs)
        return self._program(given, wanted, recorded=True)

    def _program(
        self, given: tuple[str, ...], wanted: tuple[str, ...], recorded: bool
    ) -> fx.GraphModule:
        key = (given, wanted, recorded)
        if key not in self._programs:
            starts = {name: self.graph.inputs.get(name, name) for name in given}
            self._programs[key] = write_program(self.graph, self.layers, starts, wanted, recorded)
        return self._programs[key]

    def fill(self, layers: Iterable[str] | None = None, seed: int | None = None) -> None:
        """Give layers (None: all) the first values that their fillers make.

        Args:
            layers: keys of `net.layers`.
            seed: of the random fillers; None: another one each time.
        """
        generator = torch.Generator()
        if seed is None:
            generator.seed()
        else:
            generator.manual_seed(seed)
        for key in self.layers if layers is None else layers:
            layer = self.layers[key]
            for filled, blob in zip(layer.declared, layer.blobs, strict=True):
                first = torch.empty(filled.shape)
                fill(first, filled.filler, generator)
                with torch.no_grad():
                    blob.copy_(first)

    def save(self, path: str | Path) -> None:
        """Write the weights to a file whose ending says the format.

        Args:
            path: ".caffemodel"; ".h5" in Caffe's layout; ".safetensors" with the names of
                `state_dict()`, as `torrefy.weights.safetensors` documents.

        Raises:
            WeightsError: no format has that ending, or the file can't be written.
        """
        write_weights(path, self.stored())

    def to_prototxt(self) -> str:
        """The net's definition as it was compiled: upgraded, its state's layers alone.

        It compiles to the same net, in the same phase.
        """
        return graph_text(self.graph)

    def stored(self) -> StoredNet:
        """The weights as a file of weights holds them: every layer, blobs in Caffe's order."""
        layers = [
            StoredLayer(
                node.name,
                node.type,
                tuple(blob.detach().cpu().numpy() for blob in self.layers[node.key].blobs),
                node.spec,
                tuple(filled.attribute for filled in self.layers[node.key].declared),
            )
            for node in self.graph.nodes
        ]
        return StoredNet(self.graph.name, tuple(layers))

    def check_blob(self, name: str) -> None:
        """Raise a TorrefyError unless the net has a blob of that name."""
        if name not in self.shapes:
            raise TorrefyError(
                f'the net has no blob "{name}"', hint=did_you_mean(name, self.shapes)
            )

    def _execute(
        self, names: tuple[str, ...], wanted: tuple[str, ...], fed: list[Tensor]
    ) -> tuple[Tensor, ...]:
        """Compute blobs; what fails for want of the right sizes is told by its layer."""
        values: tuple[Tensor, ...]
        if torch.compiler.is_compiling():  # which sees for itself what can be overwritten
            values = self._program(names, wanted, recorded=True)(*fed)
            return values
        program = self._program(names, wanted, torch.is_grad_enabled())
        try:
            # Nobody hangs hooks on a program, so none are looked for: benchmarks/train.py.
            values = program.forward(*fed)
        except (RuntimeError, IndexError, ValueError):
            self._explain(dict(zip(names, (tuple(x.shape) for x in fed), strict=True)))
            raise
        return values

    def _explain(self, given: dict[str, Shape]) -> None:
        """Raise the error of the first layer that can't take what comes from such inputs."""
        shapes = {self.graph.inputs.get(name, name): shape for name, shape in given.items()}
        for node in self.graph.nodes:
            if node.feeds or not all(b in shapes for b in node.bottoms):
                continue
            layer = copy.deepcopy(self.layers[node.key]).to("meta")
            try:
                tops = infer(layer, [shapes[b] for b in node.bottoms])
            except LayerError as error:
                raise error.within(place=node.place, layer=node.name) from None
            shapes.update(zip(node.tops, tops, strict=True))

    def _shape_of_input(self, name: str) -> Shape:
        return self.shapes[self.graph.inputs.get(name, name)]

    def _feed(self, inputs: Arrays, names: Sequence[str]) -> list[Tensor]:
        """The inputs in order, as tensors on the net's device."""
        for name in inputs:
            if name not in names:
                raise TorrefyError(
                    f'the net has no input "{name}"',
                    hint=did_you_mean(name, names) or f"It takes {', '.join(names) or 'none'}.",
                )
        fed = []
        for name in names:
            if name not in inputs:
                raise TorrefyError(
                    f'the input "{name}" ({shape_text(self._shape_of_input(name))}) is missing',
                    hint=f"The net takes {', '.join(names)}.",
                )
            given = inputs[name]
            tensor = given if isinstance(given, Tensor) else torch.as_tensor(given)
            shape = self._shape_of_input(name)
            if tensor.dim() != len(shape):
                raise TorrefyError(
                    f'the input "{name}" takes {len(shape)} axes, as in {shape_text(shape)}; '
                    f"found {shape_text(tensor.shape)}"
                )
            if not isinstance(given, Tensor):
                tensor = tensor.to(self.device, torch.get_default_dtype())
            fed.append(tensor)
        return fed


def compile_net(
    definition: Definition,
    state: State,
    device: str | torch.device = "cpu",
    fill: bool = True,
    seed: int | None = None,
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    allow_python: Collection[str] = (),
) -> Net:
    """Compile an upgraded definition (see `schema.upgrade`) in a state.

    Args:
        definition: a NetParameter with its source.
        state: phase, level and stages.
        device: where the params are put: "cpu", "cuda", "cuda:1".
        fill: whether the params get the values of their fillers; without it they hold
            whatever the memory held.
        seed: of the random fillers; None: another one each time.
        shapes: shapes of inputs by their blobs' names, over the definition's own.
        allow_python: the Python classes that may run: "module.Class", or "module.*" for all of
            a module.

    Raises:
        DefinitionError: with all that is wrong or missing, in the order of the text.
        TorrefyError: there is no such device.
    """
    graph, built = diagnose(definition, state, shapes=shapes, allow_python=allow_python)
    built.demand_all()
    net = Net(graph, built)
    net.train(state.phase == "train")
    _allocate(net, find_device(device))
    _freeze(net)
    if fill:
        net.fill(seed=seed)
    return net


def find_device(device: str | torch.device) -> torch.device:
    """The device of a name.

    Raises:
        TorrefyError: torch has none of that name here.
    """
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise TorrefyError(
            f'there is no device "{device}" here: {reason}',
            hint='Take "cpu", "cuda" where torch finds a GPU, or "mps" on a Mac that has one.',
        ) from None
    return found


def _allocate(net: Net, device: torch.device) -> None:
    """Memory for every param and statistic; a shared param is allocated once and stays shared."""
    made: dict[int, nn.Parameter] = {}
    for layer in net.layers.values():
        for name, param in layer.named_parameters(recurse=False):
            if id(param) not in made:
                made[id(param)] = nn.Parameter(torch.empty_like(param, device=device))
            setattr(layer, name, made[id(param)])
        for name, buffer in layer.named_buffers(recurse=False):
            setattr(layer, name, torch.empty_like(buffer, device=device))


def _freeze(net: Net) -> None:
    """Params with an lr_mult of 0 get no gradient, as in Caffe, unless force_backward says so."""
    if net.graph.definition.message.force_backward:
        return
    for node in net.graph.nodes:
        for spec, blob in zip(node.spec.param, net.layers[node.key].blobs, strict=False):
            if isinstance(blob, nn.Parameter) and spec.lr_mult == 0:
                blob.requires_grad_(False)
