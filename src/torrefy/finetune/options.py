"""What a finetuning can be told, and what it does where it isn't."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from torrefy.errors import TorrefyError, did_you_mean

HEADS = {"classes": "Linear", "tags": "MultiLabel", "numbers": "Regression", "points": "Keypoints"}
"""The head that is taken where none is named, by what is learned."""
CHOICES = {
    "balance": ("none", "weights"),
    "load": ("strict", "skip"),
    "bad_images": ("fail", "skip"),
    "refit": ("auto", "yes", "no"),
    "precision": ("fp32", "bf16", "fp16"),
}


@dataclass(frozen=True)
class Options:
    """How a net is finetuned.

    There are phases. In the first the head alone learns, on features of the frozen backbone, which
    are computed once. Then layers of the backbone learn, too, at smaller rates, on augmented
    pictures. A phase is kept if it does better on the pictures that are held out than those before
    it, by more than the standard error; and where pictures are few, it learns again from all.
    """

    head: str = ""
    """The head, with fields: "MLP hidden: 256"; empty: by what is learned."""
    blob: str = ""
    """Where the backbone is cut; empty: at what its last learned layer reads."""
    held_out: float = 0.2
    """The share of each class that is held out, where the data don't say it themselves."""
    refit: str = "auto"
    """Whether the phases that are kept learn again from all pictures, those held out, too: "yes",
    "no"; "auto": up to 2,000 pictures, where the data don't say what is held out and a phase's
    length doesn't hang on it (`patience`)."""
    seed: int = 0
    unfreeze: str = "half"
    """What of the backbone learns in the end: "all", the later "half" of its layers, "none"; or a
    layer's name, and all behind it."""
    gradual: int = 1
    """In how many phases that is unfrozen, from its end to its beginning."""
    discriminative: float = 0.3
    """The rate of the first layer as a share of the last one's; those between lie between."""
    head_epochs: int = 0
    """Epochs of the first phase; 0: as many as give 600 updates, 20 at least."""
    epochs: int = 0
    """Epochs of each later phase; 0: 10 of up to 500 pictures, 5 of up to 5,000, else 3."""
    batch: int = 0
    """Pictures to a batch; 0: 32, of the first phase 64; 8 batches to an epoch at least."""
    head_lr: float = 0.003
    """The rate of the first phase (AdamW)."""
    lr: float = 0.0003
    """The backbone's rate in the later phases (SGD with momentum); the head's is ten times it."""
    find_lr: bool = False
    """Whether each phase's rate is looked for first, and taken."""
    augment: str = ""
    """What is done to pictures in the later phases: "none", "flip", a recipe's name, or
    augmentations: "Rotation min: -10 max: 10"; empty: "flip" of pictures in colour, else "none".
    """
    cache: bool = True
    """Whether what the frozen part makes is kept, where nothing but flips is done to pictures."""
    balance: str = "none"
    """ "weights": each class counts alike in the loss, however few its pictures are."""
    smoothing: float = 0.1
    """The share of a label's probability that goes to all classes alike."""
    patience: int = 0
    """Tests in a row without gain after which a phase ends; 0: it never does."""
    load: str = "strict"
    """ "skip": layers whose shapes differ from the file's begin anew; "strict": an error."""
    rename: tuple[str, ...] = ()
    """Names of layers in the file by patterns and what they become: "old_*=new_*"."""
    bad_images: str = "fail"
    """ "skip": pictures that can't be read are left out, and told."""
    device: str = "cpu"
    precision: str = "fp32"
    channels_last: bool = False
    workers: int | None = None
    """Processes that read pictures; None: as `torrefy train`."""

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            TorrefyError: one is none that is known, or out of its range.
        """
        for name, choices in CHOICES.items():
            found = getattr(self, name)
            if found not in choices:
                hint = did_you_mean(str(found), choices) or f"It is {' or '.join(choices)}."
                raise TorrefyError(f'{name} can\'t be "{found}"', hint=hint)
        for name, least, below in (
            ("held_out", 0, 1), ("discriminative", 0, None), ("head_lr", 0, None), ("lr", 0, None),
        ):  # fmt: skip
            value = getattr(self, name)
            if not (least < value and (below is None or value < below)):
                limit = f" and below {below}" if below is not None else ""
                raise TorrefyError(f"{name} must be above {least}{limit}, found {value:g}")
        if not 0 <= self.smoothing < 1:
            raise TorrefyError(f"smoothing must be 0 or more and below 1, found {self.smoothing:g}")
        for name in ("head_epochs", "epochs", "batch", "patience", "seed"):
            if getattr(self, name) < 0:
                raise TorrefyError(f"{name} must be 0 or more, found {getattr(self, name)}")
        if self.refit == "yes" and self.patience:
            raise TorrefyError(
                "patience ends a phase by pictures that are held out, and a refit holds none out",
                hint="Leave one of them out.",
            )
        if self.gradual < 1:
            raise TorrefyError(f"gradual must be 1 or more, found {self.gradual}")

    def given(self) -> dict[str, Any]:
        """What differs from the defaults."""
        return {
            one.name: getattr(self, one.name)
            for one in fields(self)
            if getattr(self, one.name) != one.default
        }

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return asdict(self)
