"""Pictures for a model that crops and normalises them itself: resized alone, all of one size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from torrefy.data.preprocess import Preprocessor
from torrefy.errors import TorrefyError

if TYPE_CHECKING:
    from torrefy.data.augment.versions import Versions


class Uncropped(Preprocessor):
    """Resizes by Pillow, and leaves the rest to the model, to which that size is the right one.

    Of a picture that is larger than the size asked for along one side the part is cut out whose
    centre, as the model crops it, is the centre of the whole.
    """

    def __init__(self, inner: Preprocessor) -> None:
        """Take what the model does to a picture."""
        message = type(inner.message)()
        message.CopyFrom(inner.message)
        for field in ("mean", "scale"):
            message.ClearField(field)
        message.width = inner.message.resize_width or inner.width
        message.height = inner.message.resize_height or inner.height
        super().__init__(message)
        self.inner = inner

    def __call__(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        """H×W×C bytes, in the order of `colour`, to C×H×W of 0..255, of the size to resize to."""
        resized = self._resized(picture)
        top, left = (
            (now - cropped) // 2 - (size - cropped) // 2
            for now, size, cropped in zip(
                resized.shape[1:], self.shape[1:], self.inner.shape[1:], strict=True
            )
        )
        return self._seen(resized, top, left)

    def check_versions(self, versions: Versions) -> None:
        """Refuse versions: the crop is the model's.

        Raises:
            TorrefyError: always.
        """
        raise TorrefyError(
            f"{versions.name} makes versions of a picture, but this file does the preprocessing "
            "itself, for one",
            hint="Export the model without --with-preprocessing.",
        )

    def whole(self, seen: NDArray[Any]) -> NDArray[np.uint8]:
        """N×C×H×W as the model's input: N×H×W×3 in RGB."""
        pictures = np.asarray(seen, np.uint8).transpose(0, 2, 3, 1)
        if self.colour == "GRAY":
            return np.repeat(pictures, 3, axis=3)
        return pictures[..., ::-1] if self.colour == "BGR" else pictures
