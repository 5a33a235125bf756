"""One model in every runtime, which is the fastest, and how fast each is."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from tests.finetune.conftest import make_model, make_pictures

import torrefy
from torrefy.cli import main
from torrefy.data.preprocess import Preprocessor
from torrefy.data.recipe import Recipe
from torrefy.errors import TorrefyError
from torrefy.export.onnx import export_onnx
from torrefy.plugins import added, configure, hookimpl, reset
from torrefy.plugins.manager import _settings
from torrefy.runtime.base import Runtime, open_session, runtimes
from torrefy.runtime.bench import bench
from torrefy.runtime.choose import fastest
from torrefy.runtime.engine import noise_for
from torrefy.runtime.metadata import read_metadata
from torrefy.runtime.onnx_runtime import OnnxRuntime
from torrefy.runtime.runnable import FOLDER, Runnable
from torrefy.runtime.session import OnnxModel, device_here


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORREFY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("torrefy.runtime.choose.SECONDS", 0.05)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


@pytest.fixture
def small(cache: Path, tmp_path: Path) -> Path:
    """A folder with a card, which is a model of 12x12 pictures and 5 classes."""
    return make_model(tmp_path / "small")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return make_pictures(tmp_path / "photos", each=10)


def exported(cache: Path) -> list[Path]:
    return sorted((cache / FOLDER).rglob("*.onnx"))


class Quick(Runtime):
    """Answers at once, always the same."""

    name = "quick"
    broken = ""
    off = 0.0

    def missing(self, device: str, precision: str) -> str:
        return "" if precision == "fp32" else "it is too quick for that"

    def version(self) -> str:
        return "1"

    def open(self, model: Runnable, device: str, precision: str, threads: int) -> Any:
        if self.broken:
            raise TorrefyError(self.broken)
        session = OnnxRuntime().open(model, device, precision, threads)
        answer = session.run(noise_for(session.inputs, model.recipe, "", 8))["prob"] + self.off
        session.run = lambda inputs, blobs=None: {"prob": answer}  # type: ignore[method-assign]
        return session


class Plugin:
    TORREFY_API = 1

    @hookimpl
    def torrefy_runtimes(self) -> list[type[Runtime]]:
        return [Quick]


@pytest.fixture
def quick() -> Iterator[None]:
    with added(Plugin(), "quick"):
        yield


@pytest.mark.parametrize("runtime", [None, "onnxruntime", "pytorch", "auto"])
@pytest.mark.parametrize("batch", [1, 4])
def test_every_runtime_gives_the_nets_answers(
    small: Path, photos: Path, runtime: str | None, batch: int
) -> None:
    classifier = torrefy.Classifier(small, runtime=runtime, threads=1)
    assert classifier.runtime in runtimes()
    net = torrefy.load_net(small / "net.prototxt", weights=small / "net.caffemodel")
    answers = list(classifier.classify(sorted(photos.rglob("*.png"))[:6], batch=batch))
    for answer in answers:
        x = classifier.preprocessor.read(answer.path)[None]
        expected = net(data=x)["prob"][0].detach().numpy()
        for guess in answer.guesses:
            assert guess.score == pytest.approx(expected[guess.index], abs=1e-5)
            assert guess.label == "abcde"[guess.index]


def test_a_net_is_exported_once_and_again_when_it_changes(small: Path, cache: Path) -> None:
    first = Runnable(small).file()
    made = first.stat().st_mtime_ns
    assert [first] == exported(cache)
    assert Runnable(str(small)).file() == first
    assert first.stat().st_mtime_ns == made
    assert OnnxModel(first).recipe.to_metadata() == Runnable(small).recipe.to_metadata()
    definition = small / "net.prototxt"
    definition.write_text(definition.read_text().replace("relu2", "relu_two"))
    second = Runnable(small).file()
    assert second != first
    assert sorted([first, second]) == exported(cache)


class Mute:
    """A plugin whose layer has no words in ONNX."""

    TORREFY_API = 1

    @hookimpl
    def torrefy_layers(self) -> list[Any]:
        from torrefy.layers.base import Layer, layer

        @layer("Twice")
        class Twice(Layer):
            """Twice its bottom."""

            no_onnx = "it has no words for twice"

            def forward(self, x: Any) -> Any:
                return 2 * x

        return [Twice]


def test_a_card_may_name_any_blob_as_its_output(small: Path, photos: Path) -> None:
    card = small / "card.prototxt"
    card.write_text(card.read_text() + 'output: "fc"\n')
    picture = next(photos.rglob("*.png"))
    ours, theirs = (
        next(torrefy.Classifier(small, runtime=name).predict([picture]))
        for name in ("onnxruntime", "pytorch")
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert not np.isclose(ours.sum(), 1)  # no probabilities


TWICE = """
from torrefy.layers.base import Layer, layer
from torrefy.plugins import hookimpl
TORREFY_API = 1

@layer("Twice")
class Twice(Layer):
    "Twice its bottom."
    def forward(self, x):
        return 2 * x

@hookimpl
def torrefy_layers():
    return [Twice]
"""


def test_a_model_that_was_exported_is_opened_without_torch(small: Path) -> None:
    Runnable(small).file()
    code = (
        "import sys, torrefy; assert torrefy.Classifier(sys.argv[1]).runtime == 'onnxruntime';"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(small)], check=True, timeout=60)


def test_a_net_is_exported_again_when_a_plugins_code_changes(small: Path, tmp_path: Path) -> None:
    definition = small / "net.prototxt"
    text = definition.read_text().replace('bottom: "fc" top: "prob"', 'bottom: "twice" top: "prob"')
    prob = text[text.index('layer { name: "prob"') :]
    twice = 'layer { name: "twice" type: "Twice" bottom: "fc" top: "twice" }\n'
    definition.write_text(text.replace(prob, twice + prob))
    plugin = tmp_path / "twice.py"
    files = list(_settings.files)
    found = []
    for code in (TWICE, TWICE.replace("2 * x", "3 * x")):
        plugin.write_text(code)
        configure(files=[plugin])
        try:
            found.append(Runnable(small).file())
        finally:
            _settings.files[:] = files
            reset()
    assert len(set(found)) == 2
    x = {"data": np.random.default_rng(0).normal(size=(1, 3, 12, 12)).astype(np.float32)}
    two, three = (np.log(OnnxModel(file).run(x)["prob"][0]) for file in found)
    np.testing.assert_allclose((three - three[0]) * 2, (two - two[0]) * 3, atol=1e-3)


def test_what_onnx_has_no_words_for_is_computed_by_pytorch(small: Path, photos: Path) -> None:
    usual = torrefy.Classifier(small)
    definition = small / "net.prototxt"
    text = definition.read_text().replace(
        'layer { name: "prob" type: "Softmax" bottom: "fc"',
        'layer { name: "twice" type: "Twice" bottom: "fc" top: "twice" }\n'
        'layer { name: "prob" type: "Softmax" bottom: "twice"',
    )
    definition.write_text(text)
    with added(Mute(), "mute"):
        classifier = torrefy.Classifier(small)
        assert (usual.runtime, classifier.runtime) == ("onnxruntime", "pytorch")
        picture = next(photos.rglob("*.png"))
        before, after = (np.log(next(c.predict([picture]))) for c in (usual, classifier))
        np.testing.assert_allclose(after - after[0], 2 * (before - before[0]), atol=1e-4)
        with pytest.raises(TorrefyError, match="Twice can't be exported to ONNX: it has no words"):
            torrefy.Classifier(small, runtime="onnxruntime")


def test_the_fastest_is_measured_once(
    small: Path, cache: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice = fastest(Runnable(small))
    assert choice.runtime == "quick"
    assert {"quick", "onnxruntime", "pytorch"} <= set(choice.seconds)
    assert choice.failed["torch.compile"] == "it takes long to open"
    assert choice.told().startswith("runtime quick: 0.0 ms a picture (")
    assert choice.told().endswith(", measured now")
    again = fastest(Runnable(small))
    assert again.told() == choice.told().replace("measured now", "as measured before")
    assert (again.seconds, again.failed) == (choice.seconds, choice.failed)
    for file in (cache / "runtimes").iterdir():
        file.write_text('{"runtime": 3}')
    assert fastest(Runnable(small)).measured_now
    # Another model is another question; what fails is left out.
    monkeypatch.setattr(Quick, "broken", "no")
    definition = small / "net.prototxt"
    definition.write_text(definition.read_text().replace("relu2", "relu_two"))
    other = fastest(Runnable(small))
    assert other.measured_now
    assert other.runtime != "quick"
    assert other.failed["quick"] == "no"
    monkeypatch.setattr(Quick, "broken", "")
    monkeypatch.setattr(Quick, "off", 0.01)
    definition.write_text(definition.read_text().replace("relu_two", "relu_too"))
    wrong = fastest(Runnable(small))
    assert wrong.runtime != "quick"
    assert re.fullmatch(r"its answers are 0\.\d+ off those of onnxruntime", wrong.failed["quick"])


class Failing:
    """A plugin with runtimes that fail, each its way."""

    TORREFY_API = 1

    @hookimpl
    def torrefy_runtimes(self) -> list[type[Runtime]]:
        class Raising(Quick):
            name = "raising"

            def open(self, model: Runnable, *others: Any) -> Any:
                raise ZeroDivisionError("by its own fault")

        class Endless(Quick):
            name = "endless"
            off = float("nan")

        return [Raising, Endless]


def test_runtimes_that_fail_are_left_out(small: Path) -> None:
    with added(Failing(), "failing"):
        choice = fastest(Runnable(small))
        assert choice.failed["raising"].startswith("ZeroDivisionError: by its own fault (")
        assert choice.failed["endless"] == "its answers are not finite"


def test_a_net_of_a_fixed_batch_is_computed_in_it_by_pytorch(lenet: Path, cache: Path) -> None:
    text = lenet.read_text().replace(
        'layer { name: "prob" type: "Softmax" bottom: "ip1"',
        'layer { name: "flat" type: "Reshape" bottom: "ip1" top: "flat" '
        'reshape_param { shape { dim: 2 dim: 10 } } }\nlayer { name: "prob" type: "Softmax" '
        'bottom: "flat"',
    )
    lenet.write_text(text)
    weights = lenet.with_suffix(".caffemodel")
    torrefy.load_net(lenet, seed=0).save(weights)
    session = open_session(Runnable(lenet, weights), "pytorch")
    assert session.inputs == {"data": (2, 1, 28, 28)}
    found = bench(
        lenet, weights, runtimes=["onnxruntime", "pytorch"], precisions=["fp32"], seconds=0.05
    )
    assert [(row.runtime, row.batch, row.same_class) for row in found.rows] == [
        ("onnxruntime", 2, 1.0), ("pytorch", 2, 1.0),
    ]  # fmt: skip


def test_what_lies_in_the_current_folder_is_not_imported(small: Path, tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text("raise ImportError('not this one')")
    assert Path.cwd() == tmp_path
    assert bench(small, runtimes=["onnxruntime"], batches=[1], seconds=0.05).rows


def test_the_metadata_of_a_file_are_read_without_its_weights(small: Path, tmp_path: Path) -> None:
    file = Runnable(small).file()
    assert read_metadata(file) == OnnxModel(file).session.get_modelmeta().custom_metadata_map
    for content in (b"", b"no model", file.read_bytes()[:-100]):
        (tmp_path / "bad.onnx").write_bytes(content)
        with pytest.raises(TorrefyError, match=r"bad\.onnx: "):
            read_metadata(tmp_path / "bad.onnx")


def test_who_asks_for_the_fastest_is_told_what_it_is(small: Path, photos: Path) -> None:
    picture = str(next(photos.rglob("*.png")))
    for when in ("measured now", "as measured before"):
        done = CliRunner().invoke(main, ["classify", str(small), picture, "--runtime", "auto"])
        assert done.exit_code == 0, done.output
        (line,) = done.stderr.splitlines()
        assert line.startswith("runtime ")
        assert line.endswith(f", {when}")


def test_without_a_cache_a_model_is_computed_all_the_same(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TORREFY_CACHE", str(tmp_path / "file/cache"))
    assert torrefy.Classifier(small).runtime == "pytorch"
    with pytest.raises(TorrefyError, match=r"the cache .* can't be written to"):
        torrefy.Classifier(small, runtime="onnxruntime")


def test_a_device_that_is_not_there_is_told_in_a_line(
    small: Path, photos: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    picture = str(next(photos.rglob("*.png")))
    file = str(Runnable(small).file())
    for device in ("auto", "cpu"):
        done = CliRunner().invoke(main, ["classify", file, picture, "--device", device])
        assert done.exit_code == 0, done.output
    capfd.readouterr()
    if device_here() == "cpu":
        done = CliRunner().invoke(main, ["classify", file, picture, "--device", "cuda"])
        assert done.exit_code == 1
        assert len(done.stderr.splitlines()) == 1
        assert "CUDAExecutionProvider" in done.stderr
        assert capfd.readouterr().err == ""


def test_slips_with_runtimes_are_told(small: Path, tmp_path: Path) -> None:
    file = Runnable(small).file()
    wrong = tmp_path / "wrong.onnx"
    wrong.write_bytes(b"no model")
    for call, message in (
        (lambda: torrefy.Classifier(small, runtime="onxruntime"),
         'there is no runtime "onxruntime". Did you mean "onnxruntime"?'),
        (lambda: torrefy.Classifier(file, runtime="pytorch"),
         f"{file} is an ONNX file, which has no definition. "
         "Give the model that it was exported from."),
        (lambda: torrefy.Classifier(small, precision="int8"),
         "int8 is a file's own, not a runtime's. "
         "`torrefy export --precision int8 --calibrate PICTURES` makes one."),
        (lambda: torrefy.Classifier(small, precision="fp8"),
         'there is no precision "fp8". There are fp32, bf16, fp16.'),
        (lambda: torrefy.Classifier(small, runtime="pytorch", precision="fp16"),
         "pytorch can't compute this here: fp16 is slower than fp32 in torch on a CPU"),
        (lambda: torrefy.Classifier(small, runtime="onnxruntime", precision="bf16"),
         "onnxruntime can't compute this here: it computes in what a file is written in, "
         "not in bf16 on demand"),
        (lambda: Runnable(tmp_path / "no.onnx"), f"{tmp_path / 'no.onnx'}: no such file"),
        (lambda: torrefy.Classifier(wrong), f"{wrong}: ONNX Runtime can't take this file: "),
    ):  # fmt: skip
        with pytest.raises(TorrefyError) as error:
            call()
        assert str(error.value).startswith(message)


def test_precisions_that_a_runtime_computes_in(small: Path, photos: Path) -> None:
    pictures = sorted(photos.rglob("*.png"))[:8]
    full, half = (
        np.stack(list(torrefy.Classifier(small, runtime="pytorch", precision=p).predict(pictures)))
        for p in ("fp32", "bf16")
    )
    assert 0 < np.abs(full - half).max() < 0.05


def test_a_session_writes_times_of_its_operators(small: Path, tmp_path: Path) -> None:
    file = Runnable(small).file()
    model = OnnxModel(file, "auto", optimisation="basic", profile=tmp_path / "times")
    assert device_here() == "cpu" or model.session.get_providers()[0] != "CPUExecutionProvider"
    model.run({"data": np.zeros((1, 3, 12, 12), np.float32)})
    written = Path(model.session.end_profiling())
    assert written.name.startswith("times")
    assert any(event.get("cat") == "Node" for event in json.loads(written.read_text()))


def test_each_runtime_has_its_rows(small: Path, photos: Path) -> None:
    found = bench(
        small, runtimes=["onnxruntime", "pytorch"], precisions=["fp32", "int8"], batches=[3, 1],
        pictures=photos, seconds=0.05,
    )  # fmt: skip
    assert [(r.runtime, r.precision, r.batch) for r in found.rows] == [
        ("onnxruntime", "fp32", 1), ("onnxruntime", "fp32", 3),
        ("pytorch", "fp32", 1), ("pytorch", "fp32", 3),
        ("onnxruntime", "int8", 1), ("onnxruntime", "int8", 3),
    ]  # fmt: skip
    assert found.left_out == (("pytorch", "int8", "it computes definitions, and int8 is a file's"),)
    assert (found.compared_with, found.compared_on) == ("onnxruntime in fp32", "15 pictures")
    for row in found.rows:
        assert 0 < row.p50_ms <= row.p90_ms <= row.p99_ms
        assert row.pictures_per_second == pytest.approx(1000 * row.batch / row.p50_ms, rel=0.01)
        assert row.memory_mb is None or 30 < row.memory_mb < 3000
        assert row.difference is not None
        if row.precision == "fp32":
            assert row.same_class == 1
            assert row.difference < 1e-4
        else:
            assert 0 < row.difference < 0.3


def test_bench_on_the_command_line(small: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        main, ["bench", str(small), "--runtime", "onnxruntime", "--batch", "2", "--json",
               "--seconds", "0.1", "--precision", "fp32", "--precision", "int8"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert [(r["runtime"], r["precision"], r["batch"]) for r in told["rows"]] == [
        ("onnxruntime", "fp32", 2)
    ]
    assert told["compared_on"] == "32 pictures of noise"
    assert told["left_out"] == [
        {"runtime": "onnxruntime", "precision": "int8",
         "reason": "int8 needs pictures to calibrate on: --pictures"}
    ]  # fmt: skip
    done = CliRunner().invoke(main, ["bench", str(small), "--runtime", "pytorc"])
    assert (done.exit_code, done.stderr) == (
        1, 'error: there is no runtime "pytorc". Did you mean "pytorch"?\n',
    )  # fmt: skip


def test_a_file_of_a_fixed_batch_is_measured_in_it(lenet: Path, cache: Path) -> None:
    text = lenet.read_text().replace(
        'bottom: "ip1" top: "prob"',
        'bottom: "flat" top: "prob"',
    ) + (
        'layer { name: "flat" type: "Reshape" bottom: "ip1" top: "flat" '
        "reshape_param { shape { dim: 2 dim: 10 } } }"
    )
    lines = text.replace('layer { name: "prob"', 'layer { name: "PROB"').splitlines()
    prob = next(line for line in lines if '"PROB"' in line)
    lenet.write_text("\n".join([line for line in lines if line != prob] + [prob]))
    recipe = Recipe(
        preprocessor=Preprocessor.from_text("width: 28 height: 28 colour: GRAY mean: 128")
    )
    report = export_onnx(torrefy.load_net(lenet, seed=0), lenet.parent / "two.onnx", recipe=recipe)
    assert report.inputs["data"][0] == 2
    found = bench(report.path, batches=[1, 8], seconds=0.05, precisions=["fp32"])
    assert {row.batch for row in found.rows} == {2}
    assert {row.same_class for row in found.rows} == {1.0}
    assert ("pytorch", "fp32", "it computes definitions, and this is an ONNX file") in (
        found.left_out
    )


DYING = """
import os
from torrefy.plugins import hookimpl
from torrefy.runtime.base import Runtime
TORREFY_API = 1

class Dying(Runtime):
    name = "dying"
    def missing(self, device, precision): return ""
    def version(self): return "1"
    def open(self, model, device, precision, threads): os._exit(3)

@hookimpl
def torrefy_runtimes(): return [Dying]
"""


def test_a_runtime_whose_process_dies_is_told(small: Path, tmp_path: Path) -> None:
    (tmp_path / "dying.py").write_text(DYING)
    files = list(_settings.files)
    configure(files=[tmp_path / "dying.py"])
    try:
        found = bench(small, runtimes=["dying", "onnxruntime"], precisions=["fp32"], seconds=0.05)
    finally:
        _settings.files[:] = files
        reset()
    assert found.left_out == (("dying", "fp32", "its process died (exit code 3)"),)
    assert {row.runtime for row in found.rows} == {"onnxruntime"}


def test_times_are_of_runs_that_were_warm() -> None:
    from torrefy.runtime.choose import timed

    waits = iter([0.03] + [0.0] * 10_000_000)
    times = timed(lambda: time.sleep(next(waits)), 0.05, 5)
    assert len(times) >= 5
    assert max(times) < 0.03


def test_threads_are_as_asked(small: Path) -> None:
    session = open_session(Runnable(small), "onnxruntime", threads=1)
    assert isinstance(session, OnnxModel)
    assert session.session.get_session_options().intra_op_num_threads == 1
