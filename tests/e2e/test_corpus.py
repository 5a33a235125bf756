"""Other people's nets: all that are Caffe's own compile, or say what only their data tell."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.conftest import SHARED

from torrefy.errors import TorrefyError
from torrefy.graph import Graph, State, state_of
from torrefy.graph.state import PHASES
from torrefy.layers.base import Outline, Shape
from torrefy.net.compile import Built, diagnose, layer_types
from torrefy.schema import Definition, read_text, upgrade

CORPUS = SHARED / "corpus"

REFUSED = {
    # Its visualizer doesn't mind: two inputs, one input_shape, and three input_dim.
    "cwlacewe+netscope/presets__1D_lstm.prototxt": "at least 3 axes; bottom 0 is 1x1",
    # A fragment: it has no input.
    "happynear+caffe-windows/matlab__demo__NeuralArt__googlenet_neuralart.prototxt@@74-head": (
        'bottom "data" is not produced by any layer above it'
    ),
    # Deploy nets with a loss in phase train, which has no label.
    "dgschwend+zynqnet/zynqnet_cnn__prototxt_models__squeezenet_b2aa.prototxt": (
        "SoftmaxWithLoss takes 2 bottoms, found 1"
    ),
    "dgschwend+zynqnet/zynqnet_cnn__prototxt_models__squeezenet_base2_allconv.prototxt": (
        "SoftmaxWithLoss takes 2 bottoms, found 1"
    ),
}
"""The nets that don't compile, and why: Caffe refuses each of them too."""

ITEMS: tuple[Shape, ...] = (
    (3, 227, 227), (3, 32, 32), (1, 28, 28), (3, 224, 224), (3, 299, 299), (6, 227, 227),
    (3, 64, 64), (1, 32, 32), (2, 28, 28), (1, 224, 224), (3,), (10,), (1, 20), (50,),
    (100,), (4096,),
)  # fmt: skip
"""What the data may be like, where only they tell."""


@dataclass(frozen=True)
class File:
    """A net of the corpus."""

    path: Path
    phases: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.path.relative_to(CORPUS / "prototxt").as_posix()


def files() -> Iterator[File]:
    """The nets whose types and fields are all those of Caffe 1.0."""
    if not CORPUS.is_dir():
        return
    stock = {name for name, cls in layer_types().items() if cls.__module__.startswith("torrefy.")}
    with (CORPUS / "index.tsv").open(newline="") as lines:
        for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
            ours = row["parse_bvlc"] == "ok" and set(row["types"].split(",")) <= stock
            if row["kind"] != "solver" and ours:
                phases = PHASES if row["kind"] == "net-train" else ("test",)
                yield File(CORPUS / row["file"], phases)


def states(definition: Definition, phase: str) -> Iterator[State]:
    """A phase with the stages that the layers' rules name: none, one, or several of them."""
    layers = definition.message.layer
    rules = [rule for layer in layers for rule in (*layer.include, *layer.exclude)]
    stages = dict.fromkeys(stage for rule in rules for stage in (*rule.stage, *rule.not_stage))
    for count in range(len(stages) + 1):
        for some in itertools.combinations(stages, count):
            yield state_of(definition.message, phase, stages=some)


def is_for(definition: Definition, state: State) -> bool:
    """Whether a net is for a state: whether no data that it needs are those of another state."""
    layers = definition.message.layer
    kept = [layer for layer in layers if state.keeps(layer)]
    needed = {bottom for layer in kept for bottom in layer.bottom}
    made = {top for layer in kept for top in layer.top}
    others = {top for layer in layers if not layer.bottom for top in layer.top}
    return not needed & (others - made)


def compile_in(definition: Definition, phase: str) -> tuple[Graph, Built] | None:
    """The net in the first of the phase's states in which it compiles, else in the first."""
    found = None
    for state in states(definition, phase):
        if is_for(definition, state):
            graph, built = diagnose(definition, state)
            if not built.problems:
                return graph, built
            found = found or (graph, built)
    return found


@pytest.mark.parametrize("file", list(files()), ids=lambda f: f.name)
def test_a_net_compiles_in_its_own_phases(file: File) -> None:
    problems = []
    tried = 0
    try:
        definition = upgrade(read_text(file.path))
        for phase in file.phases:
            found = compile_in(definition, phase)
            if found is None:
                continue
            tried += 1
            problems += found[1].problems
            if not found[1].problems:
                shapes_are_told(definition, *found)
    except TorrefyError as error:
        problems += error.problems
    reason = REFUSED.get(file.name)
    if reason:
        assert any(reason in problem.message for problem in problems)
    else:
        assert problems == []
        assert tried


def shapes_are_told(definition: Definition, graph: Graph, built: Built) -> None:
    """Every shape is known, or a note says what must be given; given that, every shape is known."""
    values = {top for node in graph.nodes for top in node.tops}
    if not built.missing:
        assert built.shapes.keys() == values
        return
    assert all(p.place and p.place.line and p.hint for p in built.missing)
    if any("Python class" in problem.message for problem in built.missing):
        return  # not ours to run
    unknown = {
        blob: outline
        for node in graph.nodes
        if node.feeds
        for blob, outline in zip(node.spec.top, built.layers[node.key].outline(), strict=True)
        if not all(isinstance(dim, int) for dim in outline)
    }
    assert len(built.missing) == len(unknown)
    for item in ITEMS:
        given = {blob: guess(blob, outline, item) for blob, outline in unknown.items()}
        _, whole = diagnose(definition, graph.state, shapes=given)
        if not whole.problems:
            assert whole.shapes.keys() == values
            return
    pytest.fail(f"no shape of data fits: {whole.problems[0]}")


def guess(blob: str, outline: Outline, item: Shape) -> Shape:
    """A shape that an outline allows."""
    if outline[-1] == "...":
        outline = (*outline[:-1], *(() if "label" in blob else item))
    letters = {"N": 2, **dict(zip("CHW", item, strict=False))}
    return tuple(dim if isinstance(dim, int) else letters.get(dim, 1) for dim in outline)


def test_the_nets_that_are_refused_are_few() -> None:
    count = sum(len(file.phases) for file in files())
    if not count:
        pytest.skip("no ../shared here")
    assert len(REFUSED) < 0.01 * count
