"""What a model wants to see and what its answers mean, as texts that travel with its file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from torrefy import __version__
from torrefy.data.preprocess import Preprocessor
from torrefy.errors import TorrefyError

PREFIX = "torrefy."
"""What the keys of an exported file's metadata begin with."""
WHOLE = "pictures of any size, NxHxWx3 bytes in RGB"
"""What the metadata `torrefy.takes` says of a file that does the preprocessing itself."""


@dataclass(frozen=True)
class Recipe:
    """All that stands between pictures and a net, and between its numbers and an answer."""

    name: str = ""
    """The model's name, "squeezenet_v1.1"."""
    preprocessor: Preprocessor | None = None
    """What is done to a picture; None: not known."""
    output: str = ""
    """The blob that holds the answer; empty: the net's only output."""
    labels: tuple[str, ...] = ()
    """The classes in the order of the output; empty: not known, classes are numbers."""
    license: str = ""
    """The licence of the weights."""
    source: str = ""
    """Where the weights come from: an address."""
    whole: bool = False
    """Whether the file does the preprocessing itself, and takes whole pictures."""

    def to_metadata(self) -> dict[str, str]:
        """The recipe as a file's metadata: texts by name, absent where nothing is known."""
        metadata = {
            "name": self.name,
            "preprocessing": self.preprocessor.to_text() if self.preprocessor else "",
            "output": self.output,
            "labels": json.dumps(self.labels, ensure_ascii=False) if self.labels else "",
            "license": self.license,
            "source": self.source,
            "takes": WHOLE if self.whole else "",
            "version": __version__,
        }
        return {PREFIX + key: value for key, value in metadata.items() if value}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], file: str) -> Recipe:
        """The recipe that a file carries; errors call it `file`.

        Raises:
            TorrefyError: the metadata is not what `to_metadata` writes.
        """

        def read(key: str) -> str:
            return metadata.get(PREFIX + key, "")

        text = read("preprocessing")
        try:
            labels = json.loads(read("labels") or "[]")
        except (ValueError, RecursionError):
            labels = None
        if not isinstance(labels, list) or not all(isinstance(item, str) for item in labels):
            raise TorrefyError(f"{file}: the metadata {PREFIX}labels is not a list of texts")
        return cls(
            name=read("name"),
            preprocessor=Preprocessor.from_text(text, f"{file} ({PREFIX}preprocessing)")
            if text
            else None,
            output=read("output"),
            labels=tuple(labels),
            license=read("license"),
            source=read("source"),
            whole=read("takes") == WHOLE,
        )
