"""`torrefy demo`: the main job on real input, by PyTorch and by ONNX Runtime."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click

from torrefy.cli.output import console, json_option, one_line, print_json
from torrefy.errors import TorrefyError

MOST_DIFFERENCE = 1e-4


@click.command(epilog="\b\nExample:\n  torrefy demo\n  torrefy demo open_nsfw")
@click.argument("model", default="squeezenet_v1.1")
@json_option
def command(*, model: str, as_json: bool) -> None:
    """Classify a photograph by PyTorch and by ONNX Runtime, and compare.

    MODEL is a zoo model whose card has a sample picture. The weights and the picture are
    fetched, the net is compiled to PyTorch and exported to ONNX, and both say what they see.
    """
    from torrefy.zoo import find_card, pull_sample

    card = find_card(model)
    sample = pull_sample(card)
    if sample is None:
        raise TorrefyError(f"the card of {model} has no sample picture", place=card.text.place())
    top = min(5, card.message.classes or 5)
    from torrefy.export.onnx import export_onnx
    from torrefy.runtime.classifier import Classifier
    from torrefy.weights.load import load_net
    from torrefy.zoo import pull

    by_torch = Classifier(model)
    pulled = pull(model)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{model}.onnx"
        net = load_net(pulled.definition, pulled.weights)
        export_onnx(net, file, blobs=[card.message.output], recipe=by_torch.recipe)
        by_onnx = Classifier(file)
        picture = by_torch.preprocessor.read(sample)[None]
        ours, theirs = (c.predict(picture)[0] for c in (by_torch, by_onnx))
    difference = float(abs(ours - theirs).max())
    best = ours.argsort()[::-1][:top]
    names = [by_torch.labels[i] for i in best]
    if as_json:
        print_json(
            {
                "ok": True,
                "model": model,
                "picture": str(sample),
                "classes": [
                    {"label": name, "pytorch": float(ours[i]), "onnxruntime": float(theirs[i])}
                    for name, i in zip(names, best, strict=True)
                ],
                "difference": difference,
            }
        )
    else:
        _print(model, sample, [(n, ours[i], theirs[i]) for n, i in zip(names, best, strict=True)])
        click.echo(f"largest difference: {difference:.2e}")
    expected = list(card.message.sample.label)
    if names[0] not in expected:
        raise TorrefyError(f'expected one of {", ".join(expected)} first, found "{names[0]}"')
    if difference > MOST_DIFFERENCE:
        raise TorrefyError(f"the two differ by more than {MOST_DIFFERENCE:g}")


def _print(model: str, sample: Path, rows: list[tuple[str, Any, Any]]) -> None:
    from rich.table import Table

    click.echo(one_line(f"{sample.name}, as {model} sees it"))
    table = Table(box=None, pad_edge=False)
    table.add_column("class", overflow="fold")
    table.add_column("PyTorch", justify="right")
    table.add_column("ONNX Runtime", justify="right")
    for name, ours, theirs in rows:
        table.add_row(one_line(name), f"{ours:.6f}", f"{theirs:.6f}")
    console().print(table)
