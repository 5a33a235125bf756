"""Pictures: found by what a user names, read as arrays of bytes through Pillow."""

from __future__ import annotations

import functools
import glob
import io
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from torrefy.errors import PictureError, Place, did_you_mean, nearest_file
from torrefy.schema.source import kind_of

COLOURS = ("BGR", "RGB", "GRAY")
"""The channel orders that nets are trained with."""

STORED = "STORED"
"""What `decode_picture` takes for grey where the picture is grey, else BGR."""

SUFFIXES = (
    ".avif", ".bmp", ".dib", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".jpx",
    ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
)  # fmt: skip
"""What a picture's name ends in, where a folder is searched. A named file may end in anything."""

FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
"""What is read. Pillow knows more, but runs other programs for some and guesses others."""

MOST_STREAMED = 256 << 20
"""The most bytes that are taken from a pipe; a file's size is only bounded by its pixels."""

PIECE = 1 << 16
"""Characters of a list of names that are read at once."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What sets a picture of each EXIF orientation upright."""


def find_pictures(names: Iterable[Path | str], listed: TextIO | None = None) -> list[Path]:
    """The files that `each_picture` gives, in a list."""
    return list(each_picture(names, listed))


def each_picture(names: Iterable[Path | str], listed: TextIO | None = None) -> Iterator[Path]:
    """The files that names stand for, in the order of the names; what is named twice comes twice.

    A folder stands for the pictures in it and below it, sorted, hidden ones left out; links to
    folders are not followed. `*`, `?`, `[…]` and `**` stand for what they match, sorted, unless a
    file is called just so. `-` stands for the names in `listed`, one a line (or separated by NUL,
    as `find -print0` writes them).

    A name that leads to nothing is kept: `read_picture` says what is wrong with it, so that one
    bad name doesn't stop the others.

    Names are looked for as they are asked for: of a list its next lines are held, of a tree the
    names in the folders from its root to where it is.
    """
    for name in names:
        if str(name) == "-" and listed is not None:
            for line in _listed(listed):
                yield from _stands_for(line)
        else:
            yield from _stands_for(str(name))


def _listed(listed: TextIO) -> Iterator[str]:
    """The names in a list, read a piece at a time."""
    rest, separator = "", ""
    while piece := listed.read(PIECE):
        # Names from `find -print0` are far shorter than a piece: the first one tells.
        separator = separator or ("\0" if "\0" in piece else "\n")
        *whole, rest = (rest + piece).split(separator)
        yield from filter(None, map(_name, whole))
    if _name(rest):
        yield _name(rest)


def _name(line: str) -> str:
    return line.removesuffix("\r") if line.strip() else ""


def _stands_for(name: str) -> Iterator[Path]:
    path = Path(name)
    if not path.exists() and glob.has_magic(name):
        matches = sorted(glob.glob(name, recursive=True))  # noqa: PTH207  as a shell would
        for match in matches:
            yield from _inside(Path(match))
        if matches:
            return
    yield from _inside(path)


def _inside(path: Path) -> Iterator[Path]:
    """A folder's pictures; a file is its own. A folder that holds or shows none is kept."""
    if not path.is_dir():
        yield path
        return
    empty = True
    waiting = [iter(_shown(path))]
    while waiting:
        found, is_folder = next(waiting[-1], (None, False))
        if found is None:
            waiting.pop()
        elif is_folder:
            waiting.append(iter(_shown(found)))
        else:
            empty = False
            yield found
    if empty:
        yield path


def _shown(folder: Path) -> Iterator[tuple[Path, bool]]:
    """What a folder holds, sorted: pictures, and folders, which are marked; itself if closed."""
    try:
        with os.scandir(folder) as entries:
            # Names alone: entries would take five times the memory.
            names = [e.name + "/" * _is_folder(e) for e in entries if _is_shown(e)]
    except OSError:
        yield folder, False
        return
    names.sort(key=lambda name: name.removesuffix("/"))
    for name in names:
        yield folder / name.removesuffix("/"), name.endswith("/")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_shown(entry: os.DirEntry[str]) -> bool:
    if entry.name.startswith("."):
        return False
    if _is_folder(entry):
        return not entry.is_symlink()
    return entry.name.lower().endswith(SUFFIXES)


def read_picture(
    path: Path | str, colour: str = "BGR", *, streams: bool = True
) -> NDArray[np.uint8]:
    """Read a picture as H×W×C bytes, upright; C is 3, in the order of `colour`, or 1 for GRAY.

    Of animations and of files with several pages the first frame is taken. Transparency is
    dropped and the colour below it kept; 16 bits become 8 by their upper byte; colour becomes
    grey as (9797 R + 19234 G + 3737 B) >> 15, but a JPEG has its own luminance: all as Caffe's
    OpenCV reads JPEGs and PNGs. Newer OpenCV turns pictures by their EXIF orientation, the one of
    Caffe's days did not; here they are turned. Colour profiles are not applied. Pixels of 32 bits
    are taken as 0..65535 where they are integers, and as 0..1 where they are floats.

    Args:
        path: the file.
        colour: one of COLOURS.
        streams: whether a pipe or a device is read, too, which may never give anything.

    Raises:
        PictureError: no such file, not a picture, cut short or broken, too large (Pillow's limit
            against decompression bombs), or pixels whose range is unknown.
    """
    if colour not in COLOURS:
        raise PictureError(
            f'colour must be one of {", ".join(COLOURS)}, found "{colour}"',
            hint=did_you_mean(str(colour), COLOURS),
        )
    path = Path(path)
    place = Place(str(path))
    with _open(path, place, streams) as file:
        return _decoded(file, place, colour)


def decode_picture(
    data: bytes, place: Place, colour: str = "BGR", background: int | None = None
) -> NDArray[np.uint8]:
    """A picture in memory as `read_picture` reads one from a file.

    Args:
        data: the bytes of a JPEG, PNG, …
        place: where they come from, for errors.
        colour: one of COLOURS, or STORED: grey pictures as H×W×1, others as H×W×3 in BGR.
        background: the grey, 0 to 255, that shows where a picture is transparent; None:
            transparency is dropped.

    Raises:
        PictureError: as `read_picture`.
    """
    return _decoded(io.BytesIO(data), place, colour, background)


def _decoded(
    file: io.BufferedReader | io.BytesIO, place: Place, colour: str, background: int | None = None
) -> NDArray[np.uint8]:
    try:
        with Image.open(file, formats=_formats()) as image:
            if colour == "GRAY":
                image.draft("L", image.size)  # JPEGs only: their own luminance
            image.load()
            upright = _upright(image)
            laid = upright if background is None else _laid_on(upright, background)
            return _pixels(laid, colour)
    except UnidentifiedImageError:
        file.seek(0)
        raise _unreadable(file.read(64), place) from None
    except Image.DecompressionBombError as error:
        raise PictureError(
            f"the picture is too large: {str(error).split(',')[0]}", place=place
        ) from None
    except PictureError as error:
        raise error.within(place=place) from None
    except Exception as error:  # broken files make Pillow's decoders raise nearly anything
        reason = str(error) or type(error).__name__
        if "truncated" in reason.lower():
            raise PictureError("the picture is cut short", place=place) from error
        raise PictureError(f"the picture is broken: {reason}", place=place) from error


@functools.cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _open(path: Path, place: Place, streams: bool) -> io.BufferedReader | io.BytesIO:
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            if not os.access(path, os.R_OK | os.X_OK):
                raise PictureError("this folder can't be read: Permission denied", place=place)
            told = "there is no picture in this folder" if streams else "this is a folder"
            raise PictureError(told, place=place)
        if not streams and not stat.S_ISREG(mode):
            raise PictureError("this is a device or a pipe, not a picture", place=place)
        file = path.open("rb")
    except FileNotFoundError:
        if glob.has_magic(str(path)):
            raise PictureError("no file matches this pattern", place=place) from None
        raise PictureError("no such file", place=place, hint=nearest_file(path)) from None
    except OSError as error:
        raise PictureError(f"can't be read: {error.strerror}", place=place) from None
    except ValueError:  # a NUL in the name
        raise PictureError("no such file", place=place) from None
    if stat.S_ISREG(mode):
        return file
    with file:
        data = file.read(MOST_STREAMED + 1)
    if len(data) > MOST_STREAMED:
        raise PictureError(
            f"more than {MOST_STREAMED >> 20} MiB from a pipe: too long for a picture", place=place
        )
    return io.BytesIO(data)


def _unreadable(head: bytes, place: Place) -> PictureError:
    """What to say of a file that Pillow doesn't know, by its first bytes."""
    if not head:
        return PictureError("the file is empty", place=place)
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"mif1", b"msf1"):
        return PictureError(
            "this is a HEIC picture, which Pillow can't read", place=place, hint="Save it as JPEG."
        )
    kind = kind_of(head)
    if kind.endswith("picture"):
        return PictureError(f"this is {kind} that is broken or cut short", place=place)
    if kind:
        return PictureError(f"this is {kind}, not a picture", place=place)
    return PictureError("this is not a picture", place=place)


def _upright(image: Image.Image) -> Image.Image:
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # noqa: BLE001  a broken tag in a good picture: leave it as it lies
        turn = None
    return image if turn is None else image.transpose(turn)


def _laid_on(image: Image.Image, background: int) -> Image.Image:
    """A picture without transparency: what is below shows through. Of 16 bits it is dropped."""
    if not image.has_transparency_data or image.mode.startswith("I"):
        return image
    sheet = Image.new("RGBA", image.size, (background,) * 3 + (255,))
    sheet.alpha_composite(image.convert("RGBA"))
    return sheet.convert("L" if image.mode in ("1", "L", "LA", "La") else "RGB")


def _pixels(image: Image.Image, colour: str) -> NDArray[np.uint8]:
    if image.mode == "I" or image.mode.startswith("I;16") or image.mode == "F":
        pixels = _to_bytes(np.asarray(image))
    elif image.mode in ("1", "L"):
        pixels = np.asarray(image.convert("L"))
    elif image.mode in ("LA", "La"):
        pixels = np.asarray(image.convert("LA"))[..., 0]
    else:
        pixels = _colours(image)
    if pixels.ndim == 2:
        grey = pixels[..., np.newaxis]
        return np.array(grey) if colour in ("GRAY", STORED) else np.repeat(grey, 3, axis=2)
    if colour == "GRAY":
        return grey_of(pixels)
    if colour == "RGB":
        return np.array(pixels)
    # Channel by channel is 3 times as fast as copying pixels[..., ::-1], and a fifth of the time
    # that a photograph takes from file to net.
    turned = np.empty(pixels.shape, np.uint8)
    for i in range(3):
        turned[..., i] = pixels[..., 2 - i]
    return turned


def grey_of(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """H×W×3 in RGB as H×W×1: (9797 R + 19234 G + 3737 B) >> 15, as OpenCV reads PNGs."""
    red, green, blue = (pixels[..., i].astype(np.uint32) for i in range(3))
    mixed = (9797 * red + 19234 * green + 3737 * blue) >> 15
    return mixed.astype(np.uint8)[..., np.newaxis]


def _colours(image: Image.Image) -> NDArray[np.uint8]:
    """R, G and B of a picture in colours, without its transparency."""
    if image.mode in ("P", "PA", "RGBa"):
        # Straight to RGB, Pillow would warn of a palette's transparency.
        image = image.convert("RGBA")
    elif image.mode in ("CMYK", "YCbCr", "HSV"):
        image = image.convert("RGB")
    if image.mode not in ("RGB", "RGBA", "RGBX"):
        raise PictureError(f"pixels of the kind {image.mode} can't be read", hint="Save it as RGB.")
    return np.asarray(image)[..., :3]


def _to_bytes(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Grey of 16 or 32 bits as bytes."""
    low, high = values.min(), values.max()
    most = 1 if values.dtype.kind == "f" else 65535
    if not (low >= 0 and high <= most):  # not a number is caught too
        raise PictureError(
            f"its pixels go from {low:g} to {high:g}; expected 0 to {most}",
            hint="Save it with 8 bits.",
        )
    if values.dtype.kind == "f":
        values = np.rint(values * np.float32(255))
    else:
        values = values >> 8
    return values.astype(np.uint8)
