"""Heads: what writes layers onto a backbone's blob, so that a definition is again one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, TypeVar

from torrefy.errors import DefinitionError, Place, Problem, TorrefyError, did_you_mean
from torrefy.plugins import Named, cached, contributions
from torrefy.schema.compose import schema
from torrefy.schema.fields import FieldError
from torrefy.schema.text import parse_text
from torrefy.schema.typed import Typed, typed

NET = "caffe.NetParameter"


@dataclass
class Site:
    """Where a head is built: the blob that it reads, and the layers that it has written there.

    Layers and tops are called by the head's name and their own: "head/score".
    """

    bottom: str
    """The backbone's blob."""
    num_output: int = 0
    """How many classes, or numbers, there are; 0: not told."""
    label: str = ""
    """The blob of the targets; empty where the net has none, and the head answers."""
    name: str = "head"
    lr_mult: float = 1.0
    loss_weight: float = 1.0
    layers: list[Any] = field(default_factory=list)
    """The LayerParameters so far."""
    scores: list[str] = field(default_factory=list)
    """The blobs that were compared with targets by `loss`, or are the answers of `answer`."""

    @property
    def learns(self) -> bool:
        """Whether the net has targets, so that losses and metrics are written."""
        return bool(self.label)

    def add(
        self, kind: str, *bottoms: str, name: str, in_place: bool = False, **fields: Any
    ) -> str:
        """Write a layer.

        Args:
            kind: its type.
            bottoms: the blobs that it reads.
            name: its name and its top's, behind the head's own.
            in_place: whether it overwrites its bottom.
            fields: of the LayerParameter; messages as dicts: `pooling_param={"pool": "AVE"}`.

        Returns:
            Its top.

        Raises:
            TorrefyError: a field that isn't there, or that doesn't take its value.
        """
        full = f"{self.name}/{name}"
        top = bottoms[0] if in_place else full
        given = {"name": full, "type": kind, "bottom": list(bottoms), "top": [top], **fields}
        try:
            self.layers.append(schema().message_class("caffe.LayerParameter")(**given))
        except (ValueError, TypeError) as error:
            raise TorrefyError(f'the layer "{full}" can\'t be written: {error}') from None
        return top

    def add_learned(
        self, kind: str, *bottoms: str, name: str, blobs: int = 2, **fields: Any
    ) -> str:
        """Write a layer that has a weight and (`blobs` 2) a bias, with rates as Caffe's habit is.

        A bias learns at twice the rate and doesn't decay.
        """
        param = [{"lr_mult": self.lr_mult, "decay_mult": 1}]
        param += [{"lr_mult": 2 * self.lr_mult, "decay_mult": 0}] * (blobs - 1)
        return self.add(kind, *bottoms, name=name, **{"param": param, **fields})

    def loss(
        self, kind: str, score: str, target: str = "", *, name: str = "loss", **fields: Any
    ) -> str:
        """Write a layer that compares a score with the targets, or with what was made of them."""
        self.scores.append(score)
        weight = [self.loss_weight] if self.loss_weight != 1 else []
        fields = {"loss_weight": weight, **fields}
        return self.add(kind, score, target or self.label, name=name, **fields)

    def metric(self, kind: str, score: str, name: str, **fields: Any) -> str:
        """Write a layer that measures, in phase TEST alone."""
        include = [{"phase": "TEST"}]
        return self.add(kind, score, self.label, name=name, include=include, **fields)

    def answer(self, blob: str) -> None:
        """Say which blob is the answer."""
        self.scores.append(blob)

    def classify(self, score: str) -> None:
        """End with what most heads of classes end with.

        Where it learns a SoftmaxWithLoss, and an Accuracy in phase TEST; else a Softmax, "prob".
        """
        if self.learns:
            self.loss("SoftmaxWithLoss", score)
            self.metric("Accuracy", score, "accuracy")
        else:
            self.answer(self.add("Softmax", score, name="prob"))


class Head(Typed):
    """Writes layers onto a backbone's blob.

    A definition names it, `head { type: "Linear" bottom: "fc7" num_output: 10 }`, and so does a
    command line, `--head Linear`. A plugin's is returned by the hook `torrefy_heads`. A head writes
    text and needs no torch.

    Example:
        @head("Tanh")
        class Tanh(Head):
            "A layer of tanh units, then one of classes."
            hidden: int = field(64, doc="units", at_least=1)

            def write(self, site):
                x = site.add_learned("InnerProduct", site.bottom, name="hidden",
                                     inner_product_param={"num_output": self.hidden})
                x = site.add("TanH", x, name="tanh", in_place=True)
                score = site.add_learned("InnerProduct", x, name="score",
                                         inner_product_param={"num_output": site.num_output})
                site.classify(score)
    """

    kinds: ClassVar[tuple[str, ...]] = ("classes",)
    """What it learns: "classes" (one of some), "tags" (any of some), "numbers", "points" (x and y
    of each, as shares of the picture's width and height), "masks" (a class for each pixel)."""

    def suit(self, shapes: Mapping[str, Sequence[int]], bottom: str) -> None:
        """Fill in what is open and depends on the backbone, when a net is finetuned.

        Args:
            shapes: of all its blobs.
            bottom: the one that the head reads.
        """

    def write(self, site: Site) -> None:
        """Write the layers.

        Raises:
            TorrefyError: they can't be.
        """
        raise NotImplementedError

    def layers(self, site: Site) -> list[Any]:
        """The LayerParameters that it writes there.

        Raises:
            TorrefyError: they can't be written; or none is.
        """
        self.write(site)
        if not site.layers:
            raise TorrefyError(f'the head "{self.type_name}" wrote no layer')
        return site.layers


Kind = TypeVar("Kind", bound=type[Head])


def head(type_name: str) -> Callable[[Kind], Kind]:
    """Give a Head class its type in the text: `@head("Linear")`."""
    return typed(type_name)


@cached
def head_types() -> Named:
    """Every head class, by its type."""
    return Named("head", contributions("torrefy_heads"), "type_name", check=_problem)


def _problem(given: Any) -> str:
    cls = given.load()
    if isinstance(cls, type) and issubclass(cls, Head):
        return ""
    return f"what it gives as a head is no subclass of Head: {cls!r}"


def find_head(name: str) -> type[Head]:
    """A head's class by its type; capitals don't matter where no other is called so.

    Raises:
        TorrefyError: there is none.
    """
    known = head_types()
    alike = [one for one in known if one.lower() == name.lower()]
    if name not in known and len(alike) != 1:
        told = f'there is no head "{name}"' if name else "a head has no type"
        raise TorrefyError(told, hint=did_you_mean(name, known) or f"There are {', '.join(known)}.")
    found: type[Head] = known[name if name in known else alike[0]]
    return found


def parse_head(text: str) -> Head:
    """A head as a command line names it: `linear`, or with fields `MLP hidden: 256`.

    Raises:
        TorrefyError: there is no such head, or a field is wrong.
    """
    name, _, fields = text.strip().partition(" ")
    cls = find_head(name)
    if fields.strip() and not cls.param:
        raise TorrefyError(f"{cls.type_name} takes no parameters, found {fields.strip()}")
    inner = f"{cls.param} {{ {fields} }}" if fields.strip() else ""
    place = Place(f'head "{text.strip()}"')  # a column would be that of a text nobody wrote
    try:
        definition = parse_text(f'head {{ type: "{cls.type_name}" {inner} }}', NET)
        return cls.from_message(definition.message.head[0])
    except DefinitionError as error:
        raise DefinitionError([replace(p, place=place) for p in error.problems]) from None
    except FieldError as error:
        raise DefinitionError(str(error), place=place, hint=error.hint) from None


def written_heads(
    messages: Iterable[Any], blobs: Iterable[str], place: Callable[..., Any]
) -> list[tuple[int, list[Any]]]:
    """The layers that a definition's heads write, by the heads' numbers.

    Args:
        messages: its HeadParameters.
        blobs: what its layers make.
        place: tells where a part of it stands: `place("head", 0, "type")`.

    Raises:
        DefinitionError: with all that is wrong.
    """
    made = set(blobs)
    written: list[tuple[int, list[Any]]] = []
    problems: list[Problem] = []
    for i, message in enumerate(messages):
        name = f'head "{message.name}"'
        try:
            cls = find_head(message.type)
        except TorrefyError as error:
            problems += error.within(place=place("head", i, "type")).problems
            continue
        for one, _ in message.ListFields():
            called = schema().called(one.name)
            if one.message_type is not None and called != cls.param:
                takes = f"takes {cls.param}" if cls.param else "takes no parameters"
                told = f"{name}: {cls.type_name} {takes}, found {called}"
                problems.append(Problem(told, place("head", i, one.name)))
        if message.bottom not in made:
            told = f'{name}: bottom "{message.bottom}" is not produced by any layer above it'
            told = told if message.bottom else f"{name} has no bottom, the blob that it reads"
            hint = did_you_mean(message.bottom, made) if message.bottom else ""
            problems.append(Problem(told, place("head", i, "bottom"), hint=hint))
        site = Site(
            message.bottom,
            message.num_output,
            message.label if message.label in made else "",
            message.name,
            message.lr_mult,
            message.loss_weight,
        )
        try:
            layers = cls.from_message(message).layers(site)
        except FieldError as error:
            found = place("head", i, error.path)
            problems.append(Problem(f"{name}: {error}", found, hint=error.hint))
        except TorrefyError as error:
            problems += error.within(place=place("head", i)).problems
        else:
            written.append((i, layers))
            made.update(top for layer in layers for top in layer.top)
    if problems:
        raise DefinitionError(problems)
    return written
