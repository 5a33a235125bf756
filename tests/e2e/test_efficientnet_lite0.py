"""A PyTorch state dict as a Caffe net, against the model of the authors of the file."""

from __future__ import annotations

import contextlib
import importlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import torrefy
from torrefy.errors import ZooError
from torrefy.export.onnx import export_onnx
from torrefy.net.net import Net
from torrefy.runtime.session import OnnxModel
from torrefy.schema import new_message
from torrefy.zoo import Pulled, pull, pull_sample
from torrefy.zoo.recipe import recipe_of
from torrefy.zoo.sources import Sources

NAME = "efficientnet_lite0"
CODE = {
    "__init__.py": "18c809b4dde3430409cd9a68a931bddb0d24ab11cc85cd0a3ab94fe6e4e3f7b3",
    "model.py": "30b407fb0d051526eb1e79ce81d28f998373ed23881270c3a3db958c86b597f8",
    "utils.py": "340d558dda081eab08ff85873dc4400b7305ea76de3131836852f2dacb402f68",
}
"""The PyTorch model that the file's authors publish, in a package of its own."""


@contextlib.contextmanager
def or_skip() -> Iterator[None]:
    """Skip where the index can't be reached; any other failure is one."""
    try:
        yield
    except ZooError as error:
        for sign in ("ConnectError", "ConnectTimeout", "ReadTimeout", "ProxyError"):
            if sign in str(error):
                pytest.skip(f"no package index: {error.problems[-1]}")
        raise


@pytest.fixture(scope="module")
def pulled() -> Pulled:
    with or_skip():
        return pull(NAME)


@pytest.fixture(scope="module")
def net(pulled: Pulled) -> Net:
    return torrefy.load_net(pulled.definition, pulled.weights)


@pytest.fixture(scope="module")
def chelsea(pulled: Pulled) -> torch.Tensor:
    with or_skip():
        picture = pull_sample(pulled.card)
    preprocessor = recipe_of(pulled.card).preprocessor
    assert preprocessor is not None
    assert picture is not None
    return torch.from_numpy(preprocessor.read(picture))[None]


@pytest.fixture
def theirs(pulled: Pulled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> torch.nn.Module:
    """The authors' model with the file as it was published."""
    package = tmp_path / "efficientnet_lite_pytorch"
    package.mkdir()
    with or_skip(), Sources(f"{NAME}_reference") as sources:
        for name, sha256 in CODE.items():
            source = new_message("torrefy.Source")
            source.url = f"pypi:efficientnet-lite-pytorch==0.1.0#{package.name}/{name}"
            source.sha256 = sha256
            shutil.copy(sources.get([source], "reference")[0], package / name)
    with or_skip(), Sources(NAME, pulled.card.folder) as sources:
        file, _ = sources.get(pulled.card.message.weights, "weights")
    monkeypatch.syspath_prepend(tmp_path)
    model = importlib.import_module(package.name).EfficientNet.from_name("efficientnet-lite0")
    assert isinstance(model, torch.nn.Module)
    model.load_state_dict(torch.load(file, weights_only=True))
    return model.eval()


@pytest.mark.network
def test_it_computes_what_its_authors_model_does(
    net: Net, theirs: torch.nn.Module, chelsea: torch.Tensor
) -> None:
    for x in (chelsea, torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))):
        with torch.no_grad():
            found = net.run({"data": x}, ["fc"])["fc"]
            assert (found - theirs(x)).abs().max() <= 1e-4


@pytest.mark.network
def test_the_exported_file_agrees_and_its_convolutions_pad(
    net: Net, chelsea: torch.Tensor, tmp_path: Path
) -> None:
    path = tmp_path / "m.onnx"
    assert export_onnx(net, path).difference <= 1e-4
    with torch.no_grad():
        expected = net(data=chelsea)["prob"].numpy()
    found = OnnxModel(path).run({"data": chelsea.numpy()})["prob"]
    assert np.abs(found - expected).max() <= 1e-4
    kinds = {node.op_type for node in onnx.load(path).graph.node}
    assert kinds == {"Conv", "Clip", "Add", "ReduceMean", "Reshape", "Gemm", "Softmax"}
