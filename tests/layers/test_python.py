"""Python layers: classes written for pycaffe, run where they are allowed and nowhere else."""

from __future__ import annotations

import copy
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import torrefy
from torrefy.errors import DefinitionError, ExportError, LayerError, TorrefyError
from torrefy.graph import State
from torrefy.net.compile import diagnose
from torrefy.net.net import Net
from torrefy.schema import parse_text

MODULE = '''
import caffe
import numpy as np


class EuclideanLoss(caffe.Layer):
    """The example that comes with Caffe."""

    def setup(self, bottom, top):
        if len(bottom) != 2:
            raise Exception("Need two inputs to compute distance.")

    def reshape(self, bottom, top):
        if bottom[0].count != bottom[1].count:
            raise Exception("Inputs must have the same dimension.")
        self.diff = np.zeros_like(bottom[0].data, dtype=np.float32)
        top[0].reshape(1)

    def forward(self, bottom, top):
        self.diff[...] = bottom[0].data - bottom[1].data
        top[0].data[...] = np.sum(self.diff**2) / bottom[0].num / 2.

    def backward(self, top, propagate_down, bottom):
        for i in range(2):
            if not propagate_down[i]:
                continue
            sign = 1 if i == 0 else -1
            bottom[i].diff[...] = sign * self.diff / bottom[i].num


class Scale(caffe.Layer):
    """Learns a factor; the second top has the sum of each item."""

    def setup(self, bottom, top):
        self.blobs.add_blob(1)
        self.factor = self.blobs[0]
        self.factor.data[...] = float(self.param_str)

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)
        if len(top) > 1:
            top[1].reshape(bottom[0].shape[0])

    def forward(self, bottom, top):
        top[0].data[...] = bottom[0].data * self.factor.data[0]
        if len(top) > 1:
            top[1].data[...] = top[0].data.reshape(bottom[0].num, -1).sum(1)

    def backward(self, top, propagate_down, bottom):
        diff = top[0].diff.copy()
        if len(top) > 1:
            diff += top[1].diff.reshape([-1] + [1] * (diff.ndim - 1))
        self.factor.diff[0] += (bottom[0].data * diff).sum()
        if propagate_down[0]:
            bottom[0].diff[...] = diff * self.factor.data[0]


class Sizes(caffe.Layer):
    """What a blob says of itself, as a blob; shaped in setup alone."""

    def setup(self, bottom, top):
        top[0].reshape(6)

    def forward(self, bottom, top):
        b = bottom[0]
        top[0].data[...] = (b.num, b.channels, b.height, b.width, b.count, self.phase)


class Counter(caffe.Layer):
    """Makes data of nothing, of another size each time."""

    def setup(self, bottom, top):
        self.calls = 0
        top[0].reshape(1, 2)

    def reshape(self, bottom, top):
        pass

    def forward(self, bottom, top):
        self.calls += 1
        top[0].reshape(self.calls, 2)
        top[0].data[...] = self.calls


class Twice(caffe.Layer):
    """Doubles in place."""

    def forward(self, bottom, top):
        top[0].data[...] *= 2

    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[...] *= 2


class Fails(caffe.Layer):
    def setup(self, bottom, top):
        self.fail("setup")

    def reshape(self, bottom, top):
        if self.param_str != "shape":
            top[0].reshape(*bottom[0].shape)
        self.fail("reshape")

    def forward(self, bottom, top):
        self.fail("forward")

    def backward(self, top, propagate_down, bottom):
        self.fail("backward")

    def fail(self, where):
        if self.param_str == where:
            raise ValueError("the moon\\nis full")  # LINE


class Plain:
    """No caffe.Layer at all."""

    def setup(self, bottom, top):
        self.made = True

    def reshape(self, bottom, top):
        top[0].reshape(1)

    def forward(self, bottom, top):
        top[0].data[0] = self.made
'''

INPUT = 'layer { name: "in" type: "Input" top: "%s" input_param { shape { dim: 4 dim: 3 } } }\n'
LINE = next(i for i, line in enumerate(MODULE.split("\n"), 1) if "# LINE" in line)
Load = Callable[..., Net]


def python(cls: str, bottoms: str = "x", tops: str = "y", more: str = "", module: str = "") -> str:
    ends = [f'bottom: "{b}"' for b in bottoms.split()] + [f'top: "{t}"' for t in tops.split()]
    return (
        f'layer {{ name: "{cls.lower()}" type: "Python" {" ".join(ends)}\n'
        f'  python_param {{ module: "{module or "own_layers"}" layer: "{cls}" {more} }} }}\n'
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that Python looks into, with a module of layers."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_layers", raising=False)
    (tmp_path / "own_layers.py").write_text(MODULE)
    return tmp_path


@pytest.fixture
def load(folder: Path) -> Load:
    """`load(text)` with the module's classes allowed."""

    def load(text: str, inputs: str = "x", phase: str = "train", **options: Any) -> Net:
        options = {"allow_python": ["own_layers.*"], "seed": 0, **options}
        whole = "".join(INPUT % name for name in inputs.split()) + text
        return torrefy.load_net(parse_text(whole, file="net.prototxt"), phase=phase, **options)

    return load


def test_a_class_computes_forward_and_backward(load: Load) -> None:
    net = load(
        python(
            "EuclideanLoss",
            "a b",
            "loss",
        )
        + "",
        "a b",
    )
    assert net.shapes["loss"] == (1,)
    a, b = (torch.randn(6, 3, requires_grad=True) for _ in "ab")  # another batch is reshaped for
    loss = net(a=a, b=b)["loss"]
    expected = (a - b).square().sum() / 12
    torch.testing.assert_close(loss, expected[None])
    loss.backward()
    ours = a.grad, b.grad
    theirs = torch.autograd.grad(expected, (a, b))
    torch.testing.assert_close(ours, theirs)


def test_only_the_diffs_that_are_asked_for_are_computed(load: Load) -> None:
    net = load(python("EuclideanLoss", "a b", "loss"), "a b")
    a, b = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3)
    net(a=a, b=b)["loss"].backward()
    torch.testing.assert_close(a.grad, (a - b).detach() / 4)
    assert not net(a=b, b=b)["loss"].requires_grad


def test_blobs_are_params_that_learn(load: Load, folder: Path) -> None:
    text = python("Scale", more='param_str: "2.5"') + python("EuclideanLoss", "y t", "loss")
    net = load(text, "x t")
    factor = net.params["scale"][0]
    assert list(net.state_dict()) == ["scale.blob0"]
    assert factor.tolist() == [2.5]
    x = torch.randn(4, 3)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        net(x=x, t=0.5 * x)["loss"].backward()
        optimizer.step()
    assert factor.item() == pytest.approx(0.5, abs=1e-3)
    net.save(folder / "w.caffemodel")
    again = load(text, "x t", weights=folder / "w.caffemodel")
    assert torch.equal(again.params["scale"][0], factor)
    net.fill()
    assert factor.tolist() == [2.5]


def test_two_tops_and_double_precision(load: Load) -> None:
    net = load(python("Scale", tops="y sums", more='param_str: "3"')).double()
    x = torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=True)

    def run(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        out = net.run({"x": x}, ["y", "sums"])
        return out["y"], out["sums"]

    y, sums = net.layers["scale"](x)
    assert (y.dtype, sums.shape) == (torch.float64, (2,))
    torch.testing.assert_close(sums, 3 * x.sum((1, 2)))
    flat = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(run, (flat,))


def test_blobs_know_their_sizes_and_the_class_its_phase(load: Load) -> None:
    net = load(python("Sizes"))
    assert net(x=torch.zeros(5, 3))["y"].tolist() == [5, 3, 1, 1, 15, 0]
    test = load(python("Sizes"), phase="test")
    assert test(x=torch.zeros(5, 3))["y"].tolist() == [5, 3, 1, 1, 15, 1]


def test_a_class_without_bottoms_makes_data_of_any_size(load: Load) -> None:
    net = load(python("Counter", "", "y"), "")
    assert net.shapes["y"] == (1, 2)
    assert net()["y"].tolist() == [[1, 1]]
    assert net()["y"].tolist() == [[2, 2], [2, 2]]


def test_a_class_works_in_place(load: Load) -> None:
    net = load(python("Twice", "x", "x"))
    x = torch.randn(4, 3, requires_grad=True)
    out = net(x=x)["x"]
    assert torch.equal(out, 2 * x)
    out.sum().backward()
    assert x.grad is not None
    assert (x.grad == 2).all()


def test_a_class_that_extends_nothing_will_do(load: Load) -> None:
    assert load(python("Plain"))(x=torch.zeros(4, 3))["y"].tolist() == [1]


def test_blobs_are_shared_by_name(load: Load) -> None:
    text = "".join(
        python("Scale", b, t, 'param_str: "2"').replace("type:", 'param { name: "f" } type:')
        for b, t in (("x", "y"), ("y", "z"))
    )
    net = load(text)
    assert len(list(net.parameters())) == 1
    net(x=torch.ones(4, 3))["z"].sum().backward()
    assert net.params["scale"][0].grad.tolist() == [48]


def test_what_forward_writes_into_its_blobs_stays(load: Load, folder: Path) -> None:
    (folder / "own_layers.py").write_text(
        MODULE + "\n\nclass Mean(Scale):\n    def forward(self, bottom, top):\n"
        "        self.blobs[0].data[0] = bottom[0].data.mean()\n"
    )
    net = load(python("Mean", more='param_str: "1"'))
    net(x=torch.full((4, 3), 7.0))
    assert net.params["mean"][0].tolist() == [7]
    net.half()
    net(x=torch.full((4, 3), 2.0).half())
    assert net.params["mean"][0].tolist() == [2]


@pytest.mark.slow
def test_copies_and_compiled_nets_compute_the_same(load: Load) -> None:
    net = load(python("Scale", more='param_str: "2"'))
    x = torch.randn(4, 3, requires_grad=True)
    for other in (copy.deepcopy(net), torch.compile(net)):
        out = other(x=x)["y"]
        assert torch.equal(out, 2 * x)
        (grad,) = torch.autograd.grad(out.sum(), x)
        assert (grad == 2).all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_class_runs_on_the_cpu_in_a_net_on_the_gpu(load: Load) -> None:
    net = load(python("Scale", more='param_str: "2"') + python("Counter", "", "c"), device="cuda")
    x = torch.randn(4, 3, device="cuda", requires_grad=True)
    out = net(x=x)
    assert out["y"].is_cuda
    assert out["c"].is_cuda
    torch.testing.assert_close(out["y"], 2 * x)
    out["y"].sum().backward()
    torch.testing.assert_close(net.params["scale"][0].grad, x.detach().sum()[None])


# --- Leave ---


def test_a_class_does_not_run_unless_it_is_allowed(load: Load) -> None:
    text = python("Scale", more='param_str: "2"')
    for allowed in ((), ("own_layers.Twice",), ("own.*",), ("other.Scale",)):
        with pytest.raises(DefinitionError) as error:
            load(text, allow_python=allowed)
        assert str(error.value) == (
            'net.prototxt:3:3: layer "scale": it runs the Python class own_layers.Scale, which is '
            "not allowed. Allow it as --allow-python own_layers.Scale, or "
            'allow_python=["own_layers.Scale"].'
        )
        assert "own_layers" not in sys.modules
    assert load(text, allow_python=["own_layers.Scale"]).params["scale"]


def test_the_rest_of_a_net_is_looked_at_where_a_class_is_not_allowed() -> None:
    text = INPUT % "x" + python("Scale") + python("Twice", "y", "z")
    text += 'layer { name: "r" type: "ReLU" bottom: "z" top: "r" }\n'
    text += 'layer { name: "s" type: "ReLU" bottom: "nothing" top: "s" }\n'
    _, built = diagnose(parse_text(text), State("test"))
    assert [p.layer for p in built.problems] == ["s"]
    assert [p.layer for p in built.missing] == ["scale", "twice"]


@pytest.mark.parametrize(
    ("allowed", "message"),
    [
        ("m.Class", 'allow_python takes a list of names: ["m.Class"]'),
        (["Class"], '"Class" is no Python class. Give module.Class, or module.*'),
        (["*"], '"*" is no Python class. Give module.Class, or module.*'),
    ],
)
def test_leave_is_given_by_whole_names(load: Load, allowed: Any, message: str) -> None:
    with pytest.raises(TorrefyError) as error:
        load(python("Scale"), allow_python=allowed)
    assert str(error.value) == message


def test_a_class_can_not_be_exported(load: Load, folder: Path) -> None:
    conv = 'layer { name: "r" type: "ReLU" bottom: "x" top: "r" }\n'
    net = load(conv + python("Plain", "r", "y"), phase="test")
    with pytest.raises(ExportError) as error:
        torrefy.export_onnx(net, folder / "net.onnx")
    assert str(error.value).startswith(
        'net.prototxt:3:1: layer "plain": Python can\'t be exported to ONNX: it runs a Python '
        "class."
    )
    assert torrefy.export_onnx(net, folder / "net.onnx", blobs=["r"]).difference == 0


# --- What goes wrong ---


def refusal(load: Load, text: str, **options: Any) -> str:
    with pytest.raises(DefinitionError) as error:
        load(text, **options)
    return str(error.value)


def test_a_failure_names_layer_class_line_and_message(load: Load, folder: Path) -> None:
    file = folder / "own_layers.py"
    what = f"own_layers.Fails failed in %s, at {file}:{LINE}: ValueError: the moon is full"
    for method in ("setup", "reshape"):
        text = python("Fails", more=f'param_str: "{method}"')
        assert refusal(load, text) == f'net.prototxt:2:1: layer "fails": {what % method}'
    for method in ("forward", "backward"):
        net = load(python("Fails", more=f'param_str: "{method}"'))
        with pytest.raises(LayerError) as error:
            net(x=torch.zeros(4, 3, requires_grad=True))["y"].sum().backward()
        assert str(error.value) == f'layer "fails": {what % method}'


def test_a_class_that_ends_the_process_does_not(load: Load, folder: Path) -> None:
    (folder / "own_layers.py").write_text(MODULE.replace("raise ValueError(", "raise SystemExit("))
    text = python("Fails", more='param_str: "setup"')
    assert refusal(load, text).endswith("SystemExit: the moon is full")


@pytest.mark.parametrize(
    ("source", "cls", "message"),
    [
        (None, "Scale", '3:26: layer "scale": there is no Python module broken. Name its folder in '
         "PYTHONPATH."),
        ("import no_such_thing", "Scale", '2:1: layer "scale": broken.Scale failed in import, at '
         "{file}:1: ModuleNotFoundError: No module named 'no_such_thing'"),
        ("print 'hello'", "Scale", '2:1: layer "scale": broken.Scale failed in import, at '
         "{file}:1: SyntaxError: Missing parentheses in call to 'print'. Did you mean print(...)?"),
        ("import caffe\n\ncaffe.set_mode_gpu()", "Scale", '2:1: layer "scale": broken.Scale failed '
         "in import, at {file}:3: AttributeError: module 'caffe' has no attribute 'set_mode_gpu'"),
        ("class Scaler: ...", "Scale", '3:42: layer "scale": the Python module broken has no class '
         'Scale. Did you mean "Scaler"?'),
        ("class Scale: ...", "Scale", '2:1: layer "scale": broken.Scale failed in setup: '
         "AttributeError: 'Scale' object has no attribute 'setup'"),
        ("import caffe\nclass Scale(caffe.Layer): ...", "Scale", '2:55: layer "scale": '
         'broken.Scale gives the top "y" no shape in setup and reshape. It calls '
         "top[0].reshape(…) there."),
        ("import caffe\nclass Scale(caffe.Layer):\n  def reshape(self, bottom, top):\n"
         "    top[0].reshape(bottom[0].num / 2)", "Scale", '2:1: layer "scale": broken.Scale '
         "failed in reshape, at {file}:4: TypeError: 'float' object cannot be interpreted as an "
         "integer"),
    ],
)  # fmt: skip
def test_a_module_or_class_that_is_broken_is_told(
    load: Load, folder: Path, monkeypatch: pytest.MonkeyPatch, source: str | None, cls: str,
    message: str,
) -> None:  # fmt: skip
    monkeypatch.delitem(sys.modules, "broken", raising=False)
    file = folder / "broken.py"
    if source:
        file.write_text(source)
    found = refusal(load, python(cls, module="broken"), allow_python=["broken.Scale"])
    assert found == f"net.prototxt:{message.format(file=file)}"
    sys.modules.pop("broken", None)


def test_a_layer_that_names_no_class_is_refused(load: Load) -> None:
    text = 'layer { name: "p" type: "Python" top: "y" python_param { module: "m" } }'
    assert refusal(load, text, inputs="") == (
        'net.prototxt:1:43: layer "p": layer is missing. '
        'Give python_param { module: "…" layer: "…" }.'
    )


def test_a_class_without_backward_says_so(load: Load) -> None:
    out = load(python("Sizes"))(x=torch.zeros(4, 3, requires_grad=True))["y"]
    with pytest.raises(LayerError, match="failed in backward: NotImplementedError: Sizes has no b"):
        out.sum().backward()


# --- The module called caffe ---


def test_caffe_is_there_only_while_a_class_is_imported(load: Load) -> None:
    load(python("Twice", "x", "x"))
    assert "caffe" not in sys.modules
    assert sys.modules["own_layers"].caffe.TEST == 1


def test_a_caffe_that_is_installed_is_left_alone(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    class RealLayer:
        blobs = property(lambda self: "of C++")

        def __init__(self) -> None:
            raise RuntimeError("made by C++ alone")

    real = types.ModuleType("caffe")
    real.Layer = RealLayer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "caffe", real)
    net = load(python("Scale", more='param_str: "2"'))
    assert sys.modules["own_layers"].caffe is real
    assert net(x=torch.ones(4, 3))["y"].sum() == 24
