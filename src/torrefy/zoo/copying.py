"""A zoo model's own files, copied to where they are trained and changed."""

from __future__ import annotations

from pathlib import Path

from torrefy.errors import Place, Problem, ZooError
from torrefy.weights.files import replacing
from torrefy.zoo.cards import FILE, Card


def copy_model(card: Card, folder: Path | str) -> list[Path]:
    """Copy a model's prototxts, and what else lies beside its card, into a folder.

    The paths in them are relative to that folder: it is the working folder to train in.

    Args:
        card: the model's.
        folder: made where it is not there yet.

    Returns:
        The files written.

    Raises:
        ZooError: the model has no prototxt beside its card, or one of the files exists there
            already: nothing is written then.
        WeightsError: a file can't be written.
    """
    folder = Path(folder)
    files = sorted(p for p in card.folder.iterdir() if p.is_file() and p.name != FILE)
    files = [path for path in files if not path.name.startswith(".")]
    if not any(path.suffix == ".prototxt" for path in files):
        raise ZooError(
            f"{card.name} has no definition of its own to copy",
            hint=f"`torrefy zoo pull {card.name}` fetches it, and says where it is.",
        )
    targets = [folder / path.name for path in files]
    taken = [path for path in targets if path.exists()]
    if taken:
        message = "this exists; it is not overwritten, and nothing is copied"
        raise ZooError([Problem(message, Place(str(path))) for path in taken])
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ZooError(f"can't be made: {error.strerror}", place=Place(str(folder))) from None
    for path, target in zip(files, targets, strict=True):
        with replacing(target) as file:
            file.write(path.read_bytes())
    return targets
