"""Features by a Ray cluster on this machine: the plain run's numbers, whoever dies."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from tests.finetune.conftest import make_model, make_pictures

from torrefy.features import ray_engine
from torrefy.features.formats import read
from torrefy.features.stream import extract_to

pytest.importorskip("ray")


@pytest.mark.skipif(os.cpu_count() == 1, reason="two workers want two cores")
def test_two_workers_give_the_plain_runs_arrays_though_one_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, photos = make_model(tmp_path / "model"), make_pictures(tmp_path / "photos", each=20)
    (photos / "rot/3 é.png").write_bytes(b"broken")
    extract_to(tmp_path / "plain.npz", model, photos, batch=4, engine="torch", bad="skip")
    mark = tmp_path / "killed"

    class Mortal(ray_engine.Worker):
        """Dies at its third batch, once."""

        batches = 0

        def __call__(self, batch):  # type: ignore[no-untyped-def]
            self.batches += 1
            if self.batches == 3 and not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return super().__call__(batch)

    monkeypatch.setattr(ray_engine, "Worker", Mortal)
    done = extract_to(
        tmp_path / "ray.npz", model, photos, batch=4, engine="ray", workers=2, bad="skip"
    )  # fmt: skip
    assert mark.exists()
    assert (done.count, done.engine) == (59, "ray")
    assert list(done.bad) == [f"{photos}/rot/3 é.png"]
    plain, found = read(tmp_path / "plain.npz"), read(tmp_path / "ray.npz")
    assert found.paths == plain.paths
    assert np.array_equal(found.labels, plain.labels)  # type: ignore[arg-type]
    assert np.allclose(found.matrix(), plain.matrix(), atol=1e-6)
