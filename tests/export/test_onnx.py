"""Export: the file computes what the net computes, or there is no file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from tests.conftest import LENET
from tests.golden.replay import Case
from tests.golden.test_layers import cases

import torrefy
from torrefy.data.preprocess import Preprocessor
from torrefy.data.recipe import Recipe
from torrefy.errors import ExportError, TorrefyError
from torrefy.export import onnx as exporting
from torrefy.export.onnx import export_onnx
from torrefy.graph import State
from torrefy.net.compile import layer_types
from torrefy.net.net import Net, compile_net
from torrefy.runtime.session import OnnxModel
from torrefy.schema import parse_text

INPUT = 'layer { name: "data" type: "Input" top: "data" input_param { shape { %s } } }\n'


def net_of(text: str, phase: str = "test") -> Net:
    return compile_net(parse_text(text), State(phase), seed=0)


def test_a_file_keeps_names_and_takes_any_batch(tmp_path: Path) -> None:
    net = net_of(LENET)
    report = export_onnx(net, tmp_path / "lenet.onnx")
    assert report.inputs == {"data": ("batch", 1, 28, 28)}
    assert report.outputs == {"prob": ("batch", 10)}
    assert report.difference < 1e-5
    assert report.bytes == (tmp_path / "lenet.onnx").stat().st_size
    x = np.random.default_rng(0).standard_normal((7, 1, 28, 28)).astype(np.float32)
    ours = OnnxModel(tmp_path / "lenet.onnx").run({"data": x})["prob"]
    np.testing.assert_allclose(ours, net(data=x)["prob"].detach(), atol=1e-6)
    assert [f.name for f in tmp_path.iterdir()] == ["lenet.onnx"]


def test_a_file_says_who_made_it_and_nothing_of_where(tmp_path: Path) -> None:
    export_onnx(net_of(LENET), tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx")
    assert (model.producer_name, model.producer_version) == ("torrefy", torrefy.__version__)
    assert model.opset_import[0].version >= 19
    assert str(Path(torrefy.__file__).parent).encode() not in (tmp_path / "m.onnx").read_bytes()
    assert {"conv1.weight", "ip1.weight"} <= {i.name for i in model.graph.initializer}


def test_blobs_in_the_middle_can_be_the_outputs(tmp_path: Path) -> None:
    net = net_of(LENET)
    report = export_onnx(net, tmp_path / "m.onnx", blobs=["pool1", "ip1"])
    assert list(report.outputs) == ["pool1", "ip1"]
    assert list(export_onnx(net, tmp_path / "m.onnx", blobs=["ip1", "ip1"]).outputs) == ["ip1"]
    with pytest.raises(TorrefyError, match=r'no blob "pol1"\. Did you mean "pool1"\?'):
        export_onnx(net, tmp_path / "m.onnx", blobs=["pol1"])


def test_what_is_computed_of_the_batch_is_said_in_its_name(tmp_path: Path) -> None:
    reshape = 'layer { name: "r" type: "Reshape" bottom: "data" top: "r" reshape_param {'
    net = net_of(INPUT % "dim: 1 dim: 4" + reshape + " shape { dim: 1 dim: -1 dim: 2 } } }")
    assert export_onnx(net, tmp_path / "m.onnx").outputs == {"r": (1, "2*batch", 2)}


def test_an_input_that_is_overwritten_gets_another_name_as_output(tmp_path: Path) -> None:
    net = net_of(INPUT % "dim: 1 dim: 3" + 'layer { type: "ReLU" bottom: "data" top: "data" }')
    assert list(export_onnx(net, tmp_path / "m.onnx").outputs) == ["data_out"]


def test_a_definition_that_fixes_the_batch_is_exported_with_a_note(tmp_path: Path) -> None:
    reshape = 'layer { name: "r" type: "Reshape" bottom: "data" top: "r" reshape_param {'
    net = net_of(INPUT % "dim: 1 dim: 4" + reshape + " shape { dim: 1 dim: 2 dim: 2 } } }")
    report = export_onnx(net, tmp_path / "m.onnx")
    assert report.inputs == {"data": (1, 4)}
    assert report.notes[0].startswith("the batch size is fixed to the definition's: ")


def test_the_recipe_travels_with_the_file(tmp_path: Path) -> None:
    recipe = Recipe(
        name="lenet",
        preprocessor=Preprocessor.from_text("width: 28 height: 28 colour: GRAY scale: 0.00390625"),
        output="prob",
        labels=("zéro", *map(str, range(1, 10))),
        license="BSD-2-Clause",
    )
    export_onnx(net_of(LENET), tmp_path / "m.onnx", recipe=recipe)
    found = OnnxModel(tmp_path / "m.onnx").recipe
    assert found.preprocessor is not None
    assert found.preprocessor.to_text() == recipe.preprocessor.to_text()  # type: ignore[union-attr]
    assert (found.name, found.output, found.labels, found.license) == (
        "lenet", "prob", recipe.labels, "BSD-2-Clause",
    )  # fmt: skip


def test_a_file_that_disagrees_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"what stood here before")
    translate = exporting.translate_net

    def spoiled(net: Net, *rest: object) -> object:
        with torch.no_grad():
            net.params["ip1"][1].add_(torch.arange(10.0))
        return translate(net, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(exporting, "translate_net", spoiled)
    with pytest.raises(ExportError, match='blob "prob": the file differs from the net by 0'):
        export_onnx(net_of(LENET), path)
    assert path.read_bytes() == b"what stood here before"
    assert [f.name for f in tmp_path.iterdir()] == ["m.onnx"]


def test_weights_beyond_protobufs_limit_go_to_a_second_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "MOST_INLINE", 1000)
    net = net_of(LENET)
    report = export_onnx(net, tmp_path / "m.onnx")
    assert sorted(f.name for f in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"]
    assert report.bytes == sum(f.stat().st_size for f in tmp_path.iterdir())
    assert len({f.stat().st_mode for f in tmp_path.iterdir()}) == 1
    x = np.zeros((1, 1, 28, 28), np.float32)
    np.testing.assert_allclose(
        OnnxModel(tmp_path / "m.onnx").run({"data": x})["prob"],
        net(data=x)["prob"].detach(),
        atol=1e-6,
    )


def test_what_can_not_be_exported_is_told(tmp_path: Path) -> None:
    silence = 'layer { type: "Silence" bottom: "data" }'
    for net, message in (
        (
            net_of(LENET, "train"),
            'the net is compiled for phase train. Load it with phase="test".',
        ),
        (
            net_of(INPUT % "dim: 1" + silence),
            "the net has no inputs or no outputs, so there is nothing to export",
        ),
    ):
        with pytest.raises(ExportError) as error:
            export_onnx(net, tmp_path / "m.onnx")
        assert str(error.value) == message
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="there is no folder"):
        export_onnx(net_of(LENET), tmp_path / "no" / "m.onnx")


def exportable() -> list[Path]:
    """The reference cases of nets in TEST that take and give something (Silence does not).

    Types that say why they can't be exported are left out: losses, Python, …
    """
    types = layer_types()
    found = [Case(folder) for folder in cases() if folder.parent.name != "Silence"]
    return [
        case.folder
        for case in found
        if case.meta["phase"] == "TEST"
        and any(case.group("in"))
        and not (case.meta["type"] in types and types[case.meta["type"]].no_onnx)
    ]


def judged(net: Net) -> list[str]:
    """The net's outputs; in place of one that can't be exported, what it is made of."""
    names: list[str] = []
    for name in net.graph.outputs:
        node = net.graph.producers[name]
        alone = net.layers[node.key].no_onnx
        names += [b for b in node.bottoms if b not in net.graph.inputs] if alone else [name]
    return list(dict.fromkeys(names))


@pytest.mark.parametrize("folder", exportable(), ids=lambda p: f"{p.parent.name}/{p.name}")
def test_a_layer_exports_with_the_numbers_of_caffe(folder: Path, tmp_path: Path) -> None:
    """What ONNX Runtime makes of the file is what Caffe made of the layer."""
    case = Case(folder)
    net = case.compile()
    names = [name for name in judged(net) if f"out:{name}" in case.arrays]
    export_onnx(net, tmp_path / "m.onnx", blobs=names)
    model = OnnxModel(tmp_path / "m.onnx")
    found = model.run({n: v for n, v in case.group("in") if n in model.inputs})
    for name, value in zip(names, found.values(), strict=True):
        expected = case.arrays[f"out:{name}"]
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-4, err_msg=name)
