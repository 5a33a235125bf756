"""Other people's nets: each read, upgraded and compiled in the states that it is for.

The tests and `corpus.py` share this. The nets are in `../shared/corpus`, where that is at hand.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from torrefy.errors import Problem, TorrefyError
from torrefy.graph import Graph, State, state_of
from torrefy.graph.state import PHASES
from torrefy.layers.base import Outline, Shape
from torrefy.layers.registry import layer_types
from torrefy.net.compile import Built, diagnose
from torrefy.schema import Definition, read_text, upgrade

CORPUS = Path(__file__).parents[2] / "shared" / "corpus"

REFUSED = {
    # Its visualizer doesn't mind: two inputs, one input_shape, and three input_dim.
    "cwlacewe+netscope/presets__1D_lstm.prototxt": "at least 3 axes; bottom 0 is 1x1",
    # A fragment: it has no input.
    "happynear+caffe-windows/matlab__demo__NeuralArt__googlenet_neuralart.prototxt@@74-head": (
        'bottom "data" is not produced by any layer above it'
    ),
    # Deploy nets with a loss in phase train, which has no label.
    "dgschwend+zynqnet/zynqnet_cnn__prototxt_models__squeezenet_b2aa.prototxt": (
        "SoftmaxWithLoss takes 2 to 3 bottoms, found 1"
    ),
    "dgschwend+zynqnet/zynqnet_cnn__prototxt_models__squeezenet_base2_allconv.prototxt": (
        "SoftmaxWithLoss takes 2 to 3 bottoms, found 1"
    ),
}
"""Nets of Caffe's own types that don't compile, and why: Caffe refuses each of them too."""

ITEMS: tuple[Shape, ...] = (
    (3, 227, 227), (3, 32, 32), (1, 28, 28), (3, 224, 224), (3, 299, 299), (6, 227, 227),
    (3, 64, 64), (1, 32, 32), (2, 28, 28), (1, 224, 224), (3,), (10,), (1, 20), (50,),
    (100,), (4096,), (3, 300, 300), (3, 512, 512),
)  # fmt: skip
"""What the data may be like, where only they tell."""


@dataclass(frozen=True)
class File:
    """A net of the corpus, and what the corpus's index says of it."""

    path: Path
    kind: str
    """net-train or net-deploy."""
    types: frozenset[str]
    """Its layer types under today's names; a V1 type that Caffe lacks is "V1:BN"."""
    stock_text: bool
    """Whether Caffe's own schema takes the text."""

    @property
    def name(self) -> str:
        """The path within the corpus."""
        return self.path.relative_to(CORPUS / "prototxt").as_posix()

    @property
    def phases(self) -> tuple[str, ...]:
        """The phases that it has."""
        return PHASES if self.kind == "net-train" else ("test",)


def files() -> list[File]:
    """Every net of the corpus; none where there is no corpus."""
    if not CORPUS.is_dir():
        return []
    with (CORPUS / "index.tsv").open(newline="") as lines:
        return [
            File(
                CORPUS / row["file"],
                row["kind"],
                # The upgrade from V0 turns layers of padding into a pad of others.
                frozenset(filter(None, row["types"].split(","))) - {"Padding(V0)"},
                row["parse_bvlc"] == "ok",
            )
            for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
            if row["kind"] != "solver"
        ]


def stock_types() -> set[str]:
    """The layer types that are Caffe's own."""
    return {name for name, cls in layer_types().items() if cls.__module__.startswith("torrefy.")}


@dataclass
class Attempt:
    """What came of a net."""

    problems: list[Problem] = field(default_factory=list)
    """Why it doesn't compile; the one that a reader meets first is the first."""
    missing: list[Problem] = field(default_factory=list)
    """What is not wrong, but has to be given: shapes that only data tell, Python classes."""
    tried: list[str] = field(default_factory=list)
    """The phases that it is for."""
    definition: Definition | None = None
    """What was read, where that could be."""


def attempt(file: File) -> Attempt:
    """Read a net, upgrade it, and compile it with shapes in each of its phases."""
    result = Attempt()
    try:
        result.definition = upgrade(read_text(file.path))
        for phase in file.phases:
            found = compile_in(result.definition, phase)
            if found is None:
                continue
            _, built = found
            result.tried.append(phase)
            result.problems += built.problems or without_shapes(result.definition, *found)
            result.missing += built.missing
        if not result.tried:
            result.problems.append(Problem("there is no state in which the net has its data"))
    except TorrefyError as error:
        result.problems += error.problems
    return result


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


def without_shapes(definition: Definition, graph: Graph, built: Built) -> list[Problem]:
    """What is wrong with a net that compiles: values without a shape though the data's are given.

    A net with Python classes is not judged: they are not ours to run.
    """
    values = {top for node in graph.nodes for top in node.tops}
    if not built.missing:
        return [Problem(f'"{value}" has no shape') for value in sorted(values - set(built.shapes))]
    if any("Python class" in problem.message for problem in built.missing):
        return []
    unknown = {
        blob: outline
        for node in graph.nodes
        if node.feeds
        for blob, outline in zip(node.spec.top, built.layers[node.key].outline(), strict=True)
        if not all(isinstance(dim, int) for dim in outline)
    }
    if len(built.missing) != len(unknown):
        return [Problem(f"{len(unknown)} inputs have no shape, {len(built.missing)} are told")]
    last: list[Problem] = []
    for item in ITEMS:
        given = {blob: guess(blob, outline, item) for blob, outline in unknown.items()}
        _, whole = diagnose(definition, graph.state, shapes=given)
        if not whole.problems and whole.shapes.keys() == values:
            return []
        last = whole.problems
    return [Problem(f"no shape of data fits: {last[0].message if last else 'some have none'}")]


def guess(blob: str, outline: Outline, item: Shape) -> Shape:
    """A shape that an outline allows."""
    if outline[-1] == "...":
        outline = (*outline[:-1], *(() if "label" in blob else item))
    letters = {"N": 2, **dict(zip("CHW", item, strict=False))}
    return tuple(dim if isinstance(dim, int) else letters.get(dim, 1) for dim in outline)
