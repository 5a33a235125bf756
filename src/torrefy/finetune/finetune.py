"""From pictures to a deployed model: a pretrained net finetuned in a folder of its own."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from torrefy.data.collect import read_examples
from torrefy.data.examples import Examples
from torrefy.data.preprocess import Preprocessor
from torrefy.errors import DataError, Place, TorrefyError
from torrefy.export.onnx import ExportReport, export_onnx
from torrefy.finetune import phases as running
from torrefy.finetune.answering import Answers, answers_of
from torrefy.finetune.folder import begin, name_of, recipe_of, write_card
from torrefy.finetune.graft import Graft, graft
from torrefy.finetune.loading import LoadReport, after_cut, load
from torrefy.finetune.options import HEADS, Options
from torrefy.finetune.phases import Phase, Work
from torrefy.finetune.pictures import check_augment, write_table
from torrefy.finetune.split import Parts, divide
from torrefy.layers.base import shape_text
from torrefy.net.net import Net
from torrefy.schema import write_text
from torrefy.schema.head import Head, head_types, parse_head
from torrefy.train.callbacks import Callback
from torrefy.weights.files import replacing
from torrefy.weights.load import load_net
from torrefy.zoo.model import Model, find_model

AGAIN = "all"
"""The folder of the phases that learn from all pictures."""
FEW = 10
"""Pictures of a class below which more are asked for."""
MOST_AGAIN = 2000
"""Pictures above which those held out are not worth the time of learning again."""


@dataclass(frozen=True)
class Finetuned:
    """A finetuning that came to its end."""

    folder: Path
    """The run's folder: a model, as `torrefy classify` and all else take it."""
    model: Model
    """The pretrained net."""
    options: Options
    graft: Graft
    parts: Parts
    phases: tuple[Phase, ...]
    kept: Phase
    """The phase whose weights are kept: the last that beat those before on what is held out."""
    values: dict[str, float]
    """How good each phase was on what is held out, as `Answers.value`."""
    refitted: bool
    """Whether its net learned again from all pictures, those that were held out, too."""
    answers: tuple[Answers, ...]
    """What is said of what is held out, by the net that had not seen it; and of what is tested."""
    loaded: LoadReport
    exported: ExportReport
    notes: tuple[str, ...]
    bad: dict[str, str]
    """Pictures that could not be read, where they are named, and what is wrong with each."""
    seconds: float

    @property
    def preprocessor(self) -> Preprocessor:
        """What is done to a picture."""
        return self.model.preprocessor

    @property
    def answer(self) -> str:
        """The blob that holds the answer."""
        return self.graft.answers()[1][0]

    @property
    def onnx(self) -> Path:
        """The net as ONNX, with its preprocessing and classes."""
        return self.exported.path


@dataclass(frozen=True)
class Told:
    """Who is told what a finetuning does; by default nobody."""

    line: Callable[[str], None] = lambda line: None
    """What was found or begun."""
    progress: Callable[[str, int, int], None] = lambda what, done, count: None
    """How many pictures are done of how many."""
    callbacks: Callable[[Phase], Iterable[Callback]] = lambda phase: ()
    """Callbacks of a phase's training."""


def fine_tune(
    model: str | Path,
    data: str | Path | Examples,
    run: str | Path,
    options: Options | None = None,
    *,
    weights: str | Path | None = None,
    preprocessing: str | Path | None = None,
    kind: str | None = None,
    targets: Sequence[str] = (),
    root: str | Path | None = None,
    resume: bool = False,
    told: Told | None = None,
) -> Finetuned:
    """Finetune a pretrained net on pictures.

    Args:
        model: a zoo model's name, a folder with a card, or a .prototxt, as `find_model` takes it.
        data: what `read_examples` takes: a folder with a folder for each class, a list, a table,
            an LMDB; or examples.
        run: the folder to be made: a model again, with its definition, weights and model.onnx, the
            texts that it was trained by, its histories and the lists of its pictures.
        options: how; None: the defaults.
        weights: those of a .prototxt.
        preprocessing: what is done to a picture, where no card says it.
        kind: what a table's columns hold, where they don't tell.
        targets: a table's columns to learn.
        root: the folder that names in a list or table are relative to.
        resume: whether to go on with a run that was broken off.
        told: who is told what happens.

    Raises:
        TorrefyError: the model, data or options are wrong, or the folder exists.
        KeyboardInterrupt: it was stopped; with `resume` it goes on.

    Example:
        done = torrefy.fine_tune("squeezenet_v1.1", "photos/", "photos_run")
        torrefy.Classifier("photos_run")
    """
    begun = time.monotonic()
    options, told, folder = options or Options(), told or Told(), Path(run)
    if options.augment:
        check_augment(options.augment)
    found = find_model(model, weights, preprocessing)
    preprocessor = found.preprocessor
    examples = (
        data if isinstance(data, Examples)
        else read_examples(data, kind=kind, columns=targets, root=root)
    )  # fmt: skip
    head = _head(options, examples)
    parts = divide(examples, options.held_out, options.seed)
    net, loaded = load(
        found, policy=options.load, rename=options.rename, device=options.device
    )  # fmt: skip
    num_output = len(examples.classes)
    name = name_of(folder)
    grafted = graft(
        net, head, num_output, blob=options.blob, output=found.recipe.output, name=name
    )  # fmt: skip
    augment = _augment(options, examples, preprocessor)
    planned = running.plan(grafted, options, len(parts.train), augment)
    definition, answers = grafted.answers()
    begin(folder, found, examples, options, resume)  # last: what is wrong leaves nothing behind
    told.line(_counted(parts))
    told.line(
        f"{found.name}: {head.type_name} head on {grafted.blob} "
        f"({shape_text(net.shapes[grafted.value][1:])})"
    )
    tables = folder / "train.csv", folder / "val.csv"
    for table, part in zip(tables, (parts.train, parts.val), strict=True):
        write_table(table, part)
    if parts.test is not None:
        write_table(folder / "test.csv", parts.test)
    work = Work(
        grafted, options, preprocessor, parts.train, parts.val, folder, told.callbacks,
        told.progress, _as_labels, _class_weight(options, parts.train),
        (str(tables[0]), str(tables[1])),
    )  # fmt: skip
    start = _start(net, folder, grafted)
    values: dict[str, float] = {}
    best: tuple[Phase, Path, Answers] | None = None
    for phase in planned:
        told.line(f"{phase.name}: {phase.what} learns, {phase.epochs} epochs")
        start = running.run(work, phase, start)
        judge = load_net(definition, start, device=options.device)
        judged = _judge(judge, answers[0], work, parts.val, told, part="val")
        values[phase.name] = judged.value
        told.line(f"{phase.name}: {judged.text}")
        if best is None or judged.beat(best[2]):
            best = phase, start, judged
    if best is None:
        raise TorrefyError("there is no phase")  # `plan` gives one at least
    kept, file, judged = best
    again = _learns_again(options, parts)
    if again:
        again_of = planned[: planned.index(kept) + 1]
        told.line(f"{kept.name} is kept; it learns again from all {len(parts.learned)} pictures")
        file = _learn_again(work, again_of, folder / "backbone.caffemodel", parts)
    final = load_net(definition, file, device=options.device)
    everything = [judged]
    if parts.test is not None:
        everything.append(_judge(final, answers[0], work, parts.test, told, part="test"))
    recipe = recipe_of(name, found, examples, answers[0])
    with replacing(folder / "net.prototxt") as written:
        written.write(write_text(definition).encode())
    final.save(folder / "net.caffemodel")
    exported = export_onnx(final, folder / "model.onnx", blobs=answers, recipe=recipe)
    title = f"{found.name}, finetuned with the head {head.type_name}."
    write_card(folder, recipe, title)  # last: from then on the folder is a model
    for features in (folder / "features", folder / AGAIN / "features"):
        shutil.rmtree(features, ignore_errors=True)  # they were for the phases
    notes = list(parts.notes)
    if kept is not planned[-1]:
        notes.append(
            f"{planned[-1].name} did no better on what is held out than {kept.name}, which is "
            "kept: what is gained must be more than its standard error"
        )
    if again:
        notes.append(
            f"the weights learned from all {len(parts.learned)} pictures; what is measured on "
            "those held out is of the weights before, that had not seen them"
        )
    notes += _few(parts)
    report = after_cut(
        loaded,
        [spec.name for spec in grafted.backbone],
        [
            k
            for k, one in final.layers.items()
            if one.declared and k.startswith(f"{grafted.head_name}/")
        ],
    )
    return Finetuned(
        folder=folder,
        model=found,
        options=options,
        graft=grafted,
        parts=parts,
        phases=tuple(planned),
        kept=kept,
        values=values,
        refitted=again,
        answers=tuple(everything),
        loaded=report,
        exported=exported,
        notes=tuple(notes),
        bad=work.bad,
        seconds=time.monotonic() - begun,
    )


def _head(options: Options, examples: Examples) -> Head:
    """The head that is asked for, or that suits what is learned.

    Raises:
        TorrefyError: there is none, or it learns something else.
    """
    default = HEADS.get(examples.kind, "")
    if not options.head and default not in head_types():
        raise TorrefyError(f"no head learns {examples.kind}", hint="Name one by --head.")
    made = parse_head(options.head or default)
    if examples.kind not in made.kinds:
        suited = [n for n in head_types() if examples.kind in head_types()[n].kinds]
        raise DataError(
            f"the head {made.type_name} learns {' or '.join(made.kinds)}, the data have "
            f"{examples.kind}",
            place=Place(examples.origin),
            hint=f"Take {', '.join(suited) or 'another'}; or say --kind, if the data mean another.",
        )
    return made


def _augment(options: Options, examples: Examples, preprocessor: Preprocessor) -> str:
    """What is done to pictures where nothing is asked for.

    Raises:
        DataError: what is asked for would move pictures away from their points.
    """
    plain = preprocessor.colour == "GRAY" or examples.kind == "points"
    augment = options.augment or ("none" if plain else "flip")
    if examples.kind == "points" and augment != "none":
        raise DataError(
            "points don't move with pictures that are augmented here",
            place=Place(examples.origin),
            hint="Take --augment none; or a definition of your own, with target { kind: POINTS }.",
        )
    return augment


def _start(net: Net, folder: Path, grafted: Graft) -> Path:
    """The backbone's weights as a file: what the first phase begins from."""
    file = folder / "backbone.caffemodel"
    if not file.exists():
        stored = net.stored()
        names = {spec.name for spec in grafted.backbone}
        from torrefy.net.stored import write_weights

        layers = tuple(layer for layer in stored.layers if layer.name in names)
        write_weights(file, replace(stored, layers=layers))
    return file


def _learns_again(options: Options, parts: Parts) -> bool:
    """Whether the net learns again from all pictures, once it is chosen what of it learns."""
    if options.refit == "auto":
        return not (parts.given or options.patience) and len(parts.learned) <= MOST_AGAIN
    return options.refit == "yes"


def _learn_again(work: Work, phases: Sequence[Phase], weights: Path, parts: Parts) -> Path:
    """The weights after phases that learn from all pictures, for as many epochs as before."""
    folder, everything = work.folder / AGAIN, parts.learned
    folder.mkdir(exist_ok=True)
    table = folder / "train.csv"
    write_table(table, everything)
    work = replace(
        work, train=everything, folder=folder, tables=(str(table), work.tables[1]),
        class_weight=_class_weight(work.options, everything), tests=False,
    )  # fmt: skip
    for phase in phases:
        weights = running.run(work, phase, weights)
    return weights


def _judge(
    net: Net, answer: str, work: Work, examples: Examples, told: Told, *, part: str
) -> Answers:
    """What a net says of a part; pictures that can't be read are left out if they may be."""
    rows, scores = answers_of(
        net, work.preprocessor, answer, examples, work.pass_over,
        progress=lambda done: told.progress(f"answers, {part}", done, len(examples)),
    )  # fmt: skip
    return Answers(part, examples.take(rows), scores)


def _as_labels(examples: Examples) -> NDArray[np.float32]:
    return examples.targets.astype(np.float32)


def _class_weight(options: Options, train: Examples) -> tuple[float, ...]:
    """A weight of each class's term, so that all count alike; their mean over pictures is 1."""
    if options.balance == "none" or train.kind != "classes":
        return ()
    counts = np.bincount(train.targets, minlength=len(train.classes))
    present = int((counts > 0).sum())
    return tuple(len(train) / (present * n) if n else 0.0 for n in counts.tolist())


def _counted(parts: Parts) -> str:
    train, val, test = parts.train, parts.val, parts.test
    what = f"{len(train.classes)} classes" if train.kind == "classes" else train.kind
    text = f"{len(train)} pictures to learn from, {len(val)} held out"
    text += f", {len(test)} to test" if test is not None else ""
    return f"{text}; {what}"


def _few(parts: Parts) -> list[str]:
    if parts.train.kind != "classes":
        return []
    counts = np.bincount(parts.train.targets, minlength=len(parts.train.classes))
    few = int(((counts > 0) & (counts < FEW)).sum())
    if not few:
        return []
    return [
        f"{few} of {len(counts)} classes are learned from fewer than {FEW} pictures: more would "
        "help, and what is measured here is uncertain"
    ]
