"""A head on a frozen net, finetuned with features that are kept and without.

SqueezeNet v1.1 on three textures (`torrefy data fetch textures`), 10 epochs of the head alone: as
a whole, from the pictures to the scores of the right halves. What is judged is that both learn the
same; the time saved is told.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

from torrefy.finetune.finetune import fine_tune
from torrefy.finetune.options import Options
from torrefy.zoo.fetch import fetch_dataset

EPOCHS = 10
APART = 0.03
"""The difference of the accuracies, 3 of 96 pictures, that is allowed."""


def main() -> int:
    """Print times and accuracies; 1 where these differ, or where keeping is slower."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fetch_dataset("textures", folder / "textures")
        found = {}
        for cache in (True, False):
            options = Options(unfreeze="none", head_epochs=EPOCHS, cache=cache)
            begun = time.perf_counter()
            done = fine_tune("squeezenet_v1.1", folder / "textures", folder / f"{cache}", options)
            found[cache] = time.perf_counter() - begun, done.answers[-1].value
    (kept, right), (anew, also_right) = found[True], found[False]
    result = {
        "benchmark": "finetune: features kept",
        "kept_seconds": round(kept, 2),
        "anew_seconds": round(anew, 2),
        "speed_up": round(anew / kept, 2),
        "kept_accuracy": round(right, 4),
        "anew_accuracy": round(also_right, 4),
        "passed": abs(right - also_right) <= APART and kept < anew,
    }
    print(json.dumps(result))
    return int(not result["passed"])


if __name__ == "__main__":
    sys.exit(main())
