"""What must hold of a card beyond its grammar."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from torrefy.errors import Problem, ZooError, did_you_mean
from torrefy.zoo.cards import Card
from torrefy.zoo.convert import CONVERTERS
from torrefy.zoo.datasets import dataset_names
from torrefy.zoo.labels import labels
from torrefy.zoo.rename import rename_problems, renames
from torrefy.zoo.sources import DIGITS, parse_url

CHANNELS = {"BGR": 3, "RGB": 3, "GRAY": 1}

Where = tuple[str | int, ...]
Found = Iterator[tuple[str, Where, str]]
"""Messages with the path of the field at fault and a hint."""


def card_problems(card: Card) -> list[Problem]:
    """Everything wrong with a card, each with its place in the text."""
    checks = (_check_name, _check_input, _check_labels, _check_sources)
    return [
        Problem(message, card.text.place(*path), hint=hint)
        for check in checks
        for message, path, hint in check(card)
    ]


def _check_name(card: Card) -> Found:
    name = card.message.name
    if name != card.name:
        yield f'the name is "{name}", the folder\'s is "{card.name}"', ("name",), ""
    elif not re.fullmatch(r"\w[\w.+-]*", name):
        yield f'"{name}" is no name: letters, digits and "_.+-"', ("name",), ""


def _check_input(card: Card) -> Found:
    wanted = card.message.input
    if not (wanted.width and wanted.height):
        yield "the input needs a width and a height", ("input",), ""
    for side in ("width", "height"):
        resized = getattr(wanted, f"resize_{side}")
        if resized and resized < getattr(wanted, side):
            message = f"resize_{side} is {resized}, less than the {side} of {getattr(wanted, side)}"
            yield message, ("input", f"resize_{side}"), ""
    colour = wanted.Colour.Name(wanted.colour)
    channels = CHANNELS[colour]
    if len(wanted.mean) not in {0, 1, channels}:
        allowed = "1 number" if channels == 1 else f"1 or {channels} numbers"
        message = f"the mean of a {colour} picture is {allowed}, found {len(wanted.mean)}"
        yield message, ("input", "mean"), ""


def _check_labels(card: Card) -> Found:
    message = card.message
    if message.labels_file and message.label:
        yield "labels are given both as a file and one by one", ("label",), ""
        return
    path: Where = ("labels_file",) if message.labels_file else ("label",)
    if message.labels_file and not card.beside(message.labels_file).is_file():
        names = [p.name for f in (card.folder, card.folder.parent) for p in f.iterdir()]
        hint = did_you_mean(message.labels_file, names)
        yield f'there is no file of labels "{message.labels_file}"', path, hint
        return
    try:
        known = labels(card)
    except ZooError as error:
        yield str(error), path, ""
        return
    if message.classes != len(known):
        given = f"{message.classes} classes" if message.classes else "no number of classes"
        yield f"the card has {given} and {len(known)} labels", path, ""
    for i, label in enumerate(message.sample.label):
        if label not in known:
            hint = did_you_mean(label, known)
            yield f'"{label}" is none of the labels', ("sample", "label", i), hint


def _check_sources(card: Card) -> Found:
    message = card.message
    if not message.definition and not (card.folder / "net.prototxt").is_file():
        yield "there is no definition: neither a source nor a net.prototxt", ("name",), ""
    if not message.weights and not (card.folder / "solver.prototxt").is_file():
        yield "there is neither a source of weights nor a solver.prototxt", ("name",), ""
    if message.HasField("sample") and not (message.sample.picture and message.sample.label):
        yield "a sample needs a picture and a label", ("sample",), ""
    for path, sources in (
        (("definition",), message.definition),
        (("weights",), message.weights),
        (("sample", "picture"), message.sample.picture),
    ):
        for i, source in enumerate(sources):
            yield from check_source(source, (*path, i))
    if message.dataset and message.dataset not in (known := dataset_names()):
        hint = did_you_mean(message.dataset, known)
        yield f'there is no dataset "{message.dataset}"', ("dataset",), hint


def check_source(source: Any, path: Where) -> Found:
    """What is wrong with a Source message, which stands at a path in its text."""
    try:
        parse_url(source.url)
    except ZooError as error:
        yield error.problems[0].message, (*path, "url"), error.problems[0].hint
    hashes = [name for name in DIGITS if source.HasField(name)]
    if not hashes:
        yield "a source needs a sha256 or a sha1", path, ""
    for name in hashes:
        if not re.fullmatch(f"[0-9a-fA-F]{{{DIGITS[name]}}}", getattr(source, name)):
            message = (
                f'{name} is {DIGITS[name]} hexadecimal digits, found "{getattr(source, name)}"'
            )
            yield message, (*path, name), ""
    if source.converter and source.url.startswith("file:"):
        yield "a file beside the card has no converter", (*path, "converter"), ""
    elif source.converter and (source.converter not in CONVERTERS or path[0] != "weights"):
        hint = did_you_mean(source.converter, CONVERTERS)
        yield f'there is no converter "{source.converter}" for this', (*path, "converter"), hint
    yield from _check_renames(source, path)


def _check_renames(source: Any, path: Where) -> Found:
    by_name = source.converter == "state_dict"
    if by_name and not source.rename:
        yield "the converter state_dict needs a rename", (*path, "converter"), ""
    if source.rename and not by_name:
        yield "a rename is for the converter state_dict", (*path, "rename", 0), ""
    for i, rename in enumerate(renames(source)):
        for message, field, hint in rename_problems(rename):
            yield message, (*path, "rename", i, *([field] if field else [])), hint
