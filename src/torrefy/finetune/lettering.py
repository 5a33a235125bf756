"""Names from anywhere in letters: what becomes of what can't be shown, and which font has them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

MOST_FONTS = 400
"""How many of a system's fonts are looked into."""
WIDE = ("cjk", "noto", "wqy", "droid", "unifont", "gothic", "msyh", "simsun", "malgun", "hiragino",
        "pingfang", "meiryo", "nanum", "arial unicode")  # fmt: skip
"""What the names of fonts with many letters hold; these are looked into first."""


def shown(text: str) -> str:
    """A text that can be written anywhere: on one line, all its characters whole and visible.

    Names of files may have control characters, or bytes that are no characters.
    """
    # Not `split()`, to which a space that must not be broken at is one like any other.
    whole = re.sub(r"[ \t\n\r\v\f]+", " ", text).strip(" ")
    return "".join("\ufffd" if unicodedata.category(c) in ("Cc", "Cs", "Cn") else c for c in whole)


def font_for(texts: Iterable[str]) -> Path | None:
    """A file of a font that has all letters of some texts; None: neither ours nor the system's.

    Ours is DejaVu Sans, which comes with matplotlib and has no Chinese, Japanese or Korean.
    """
    letters = frozenset(c for text in texts for c in text if not c.isspace())
    return _font_for(letters)


def usual_font() -> Path:
    """DejaVu Sans."""
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


@lru_cache(maxsize=64)
def _font_for(letters: frozenset[str]) -> Path | None:
    usual = usual_font()
    if _has(usual, letters):
        return usual
    from matplotlib.font_manager import findSystemFonts

    # Pictures of fixed size can't be drawn at any, and macOS's last resort has boxes for letters.
    found = sorted(
        f for f in findSystemFonts() if not any(w in f.lower() for w in ("emoji", "lastresort"))
    )
    likely = [f for f in found if any(word in f.lower() for word in WIDE)]
    rest = [f for f in found if f not in set(likely)]
    for file in [*likely, *rest][:MOST_FONTS]:
        if _has(Path(file), letters):
            return Path(file)
    return None


@lru_cache(maxsize=512)
def _charmap(file: Path) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(str(file)).get_charmap())
    except (RuntimeError, OSError):  # a file that is no font, or a broken one
        return frozenset()


def _has(file: Path, letters: frozenset[str]) -> bool:
    return {ord(letter) for letter in letters} <= _charmap(file)
