"""Preprocessing: what a net's card says is done to a picture, done."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from torrefy.data.pictures import read_picture
from torrefy.data.resize import averaged, covering
from torrefy.errors import DefinitionError, PictureError, Place, Problem, TorrefyError
from torrefy.schema import new_message, parse_text, write_text

if TYPE_CHECKING:
    from torrefy.data.augment.versions import Versions

MESSAGE = "torrefy.Preprocessing"

MOST_PIXELS = 1 << 26
"""The largest picture that is made on the way to a net (8192 by 8192)."""


class Preprocessor:
    """Turns pictures into what a net takes, as a `torrefy.Preprocessing` message says.

    A picture is resized, its centre cropped to the net's size, and its values x become
    (x − mean)·scale in float32, as in Caffe's transformer.

    - STRETCH resizes to the given size whatever the aspect; SHORTER_SIDE to the smallest picture
      of the same aspect that covers the given size, the longer side rounded.
    - The crop starts at ⌊(size − cropped) / 2⌋, as Caffe's.
    - Resizing is Pillow's: a new pixel is an average over all the old ones that it covers.
      Caffe's OpenCV looks at the 4 nearest (16 for BICUBIC), also where a picture is made much
      smaller, and skips what lies between; its answers differ a little from these.

    Example:
        >>> card = Preprocessor.from_text("width: 2 height: 2 mean: 100 scale: 0.5")
        >>> card(np.full((5, 7, 3), 102, np.uint8))[0]
        array([[1., 1.],
               [1., 1.]], dtype=float32)
    """

    def __init__(self, message: Any, place: Callable[[str], Place] | None = None) -> None:
        """Take a `torrefy.Preprocessing` message; it is copied.

        Args:
            message: the message.
            place: tells where a field of it stands, for errors (`Definition.place`).

        Raises:
            DefinitionError: with all that is wrong.
        """
        problems = [
            Problem(text, place(field) if place else None) for field, text in _problems(message)
        ]
        if problems:
            raise DefinitionError(problems)
        self.message = new_message(MESSAGE)
        self.message.CopyFrom(message)
        self.blob: str = message.blob
        """The net's input that takes the pictures."""
        self.colour: str = message.Colour.Name(message.colour)
        """The channel order of pictures given and arrays made: "BGR", "RGB" or "GRAY"."""
        self.channels = _channels(message)
        self.width: int = message.width
        self.height: int = message.height
        self._resampling: str = message.Interpolation.Name(message.interpolation)
        mean = np.array(list(message.mean) or [0.0], np.float32)
        self._mean = mean.reshape(-1, 1, 1)
        self._scale = np.float32(message.scale)

    @classmethod
    def from_text(cls, text: str, file: str = "<preprocessing>") -> Preprocessor:
        """The preprocessor that `to_text` wrote; errors call the text `file`."""
        definition = parse_text(text, MESSAGE, file)
        return cls(definition.message, definition.place)

    def to_text(self) -> str:
        """The message as text: what an exported file's metadata keeps."""
        return write_text(self.message)

    @property
    def shape(self) -> tuple[int, int, int]:
        """C×H×W of what is made."""
        return self.channels, self.height, self.width

    def __call__(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        """H×W×C bytes, in the order of `colour`, to C×H×W float32.

        Raises:
            PictureError: an array of another kind, or a picture so narrow that resizing it would
                take more than MOST_PIXELS.
        """
        resized = self._resized(picture)
        top = (resized.shape[1] - self.height) // 2
        left = (resized.shape[2] - self.width) // 2
        return self._seen(resized, top, left)

    def versions(self, picture: NDArray[np.uint8], versions: Versions) -> NDArray[np.float32]:
        """Versions of a picture, V×C×H×W, each made as the picture alone is.

        Crops are taken of the resized picture, and that is augmented.

        Raises:
            PictureError: as for the picture alone; or an augmentation makes it smaller than the
                crop.
        """
        # Augmentations take blue first.
        order = slice(None, None, -1 if self.colour == "RGB" else 1)
        made = []
        for seen, version in versions.of(self._resized(picture)[order]):
            size = seen.shape[-2:]
            top, left = version.place(size, (self.height, self.width))
            if top < 0 or left < 0:
                raise PictureError(
                    f"{versions.name} makes the picture {size[1]}x{size[0]}, smaller than the "
                    f"net's {self.width}x{self.height}"
                )
            values = self._seen(seen[order], top, left)
            made.append(values[..., ::-1] if version.mirrored else values)
        return np.stack(made)

    def check_versions(self, versions: Versions) -> None:
        """Refuse crops of pictures that are only as large as the net's input.

        Raises:
            TorrefyError: they are.
        """
        message = self.message
        resized = (message.resize_width, message.resize_height)
        if (
            versions.crops
            and message.resize == message.STRETCH
            and resized in ((0, 0), (self.width, self.height))
        ):
            raise TorrefyError(
                f"{versions.name} crops pictures that are larger than the net's input, but those "
                f"of this model are resized to {self.width}x{self.height}, which it takes whole",
                hint="flip goes, or augmentations.",
            )

    def _resized(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """H×W×C bytes to C×H×W, resized."""
        wanted = picture.dtype == np.uint8 and picture.ndim == 3
        if not wanted or picture.shape[2] != self.channels or not picture.size:
            shape = "x".join(map(str, picture.shape))
            raise PictureError(
                f"expected a picture of HxWx{self.channels} bytes in the order {self.colour}, "
                f"found {shape} of {picture.dtype}"
            )
        height, width = picture.shape[:2]
        resized = self._resized_to(width, height)
        if math.prod(resized) > MOST_PIXELS:
            raise PictureError(
                f"the picture is {width}x{height}: too narrow to be resized to "
                f"{resized[0]}x{resized[1]}"
            )
        if resized != (width, height):
            picture = averaged(picture, resized[1], resized[0], self._resampling)
        return picture.transpose(2, 0, 1)

    def _seen(self, picture: NDArray[Any], top: int, left: int) -> NDArray[np.float32]:
        """A crop of C×H×W, less the mean, times the scale."""
        cropped = picture[:, top : top + self.height, left : left + self.width]
        values = cropped.astype(np.float32)
        values -= self._mean
        values *= self._scale
        return np.ascontiguousarray(values)

    def _resized_to(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of a picture before it is cropped."""
        message = self.message
        to_width = message.resize_width or self.width
        to_height = message.resize_height or self.height
        if message.resize == message.STRETCH:
            return to_width, to_height
        return covering(width, height, to_width, to_height)

    def read(self, path: Path | str, versions: Versions | None = None) -> NDArray[np.float32]:
        """Read a picture file and make it C×H×W for the net; of versions, V×C×H×W.

        Raises:
            PictureError: the file can't be read as a picture; it is named.
        """
        try:
            picture = read_picture(path, self.colour)
            return self(picture) if versions is None else self.versions(picture, versions)
        except PictureError as error:
            raise error.within(place=Place(str(path))) from None


def _channels(message: Any) -> int:
    return 1 if message.colour == message.GRAY else 3


def _problems(message: Any) -> Iterator[tuple[str, str]]:
    """The fields of a Preprocessing message that are wrong, with what is wrong."""
    if not message.blob:
        yield "blob", "the blob has no name"
    for first, second in (("width", "height"), ("resize_width", "resize_height")):
        sides = getattr(message, first), getattr(message, second)
        needed = first == "width" or message.HasField(first) or message.HasField(second)
        if needed and 0 in sides:
            yield (
                first,
                f"{first} and {second} go together, both above 0; found {sides[0]}x{sides[1]}",
            )
        elif math.prod(sides) > MOST_PIXELS:
            yield first, f"a {first} and {second} of {sides[0]}x{sides[1]} are too large"
    resize = message.resize_width, message.resize_height
    if all(resize) and (resize[0] < message.width or resize[1] < message.height):
        yield (
            "resize_width",
            f"resized to {resize[0]}x{resize[1]}, a picture can't be cropped to "
            f"{message.width}x{message.height}",
        )
    channels = _channels(message)
    if len(message.mean) not in {0, 1, channels}:
        colour = message.Colour.Name(message.colour)
        wanted = "1" if channels == 1 else f"1 or {channels}"
        yield "mean", f"{len(message.mean)} values of mean for {colour}: give {wanted}"
    if not all(map(math.isfinite, message.mean)):
        yield "mean", f"mean must be finite, found {', '.join(f'{x:g}' for x in message.mean)}"
    if not math.isfinite(message.scale) or message.scale == 0:
        yield "scale", f"scale must be a finite number other than 0, found {message.scale:g}"
