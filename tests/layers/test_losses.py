"""Losses and accuracy: what reference cases can't say: errors, compiled code, double labels."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from torrefy.errors import DefinitionError, LayerError
from torrefy.graph import State
from torrefy.net.net import Net, compile_net
from torrefy.schema import new_message, parse_text
from torrefy.testing.gradients import check_gradients
from torrefy.testing.use import Use


def net_of(kind: str, *shapes: str, params: str = "", tops: int = 1) -> Net:
    """A net of one layer "op" with Input blobs a, b, c for bottoms."""
    names = "abc"[: len(shapes)]
    lines = [
        f'layer {{ name: "{n}" type: "Input" top: "{n}" input_param {{ shape {{ '
        + " ".join(f"dim: {d}" for d in shape.split("x"))
        + " } } }"
        for n, shape in zip(names, shapes, strict=True)
    ]
    ends = [f'bottom: "{n}"' for n in names] + [f'top: "top{i}"' for i in range(tops)]
    lines.append(f'layer {{ name: "op" type: "{kind}" {" ".join(ends)} {params} }}')
    return compile_net(parse_text("\n".join(lines), file="net.prototxt"), State("train"))


def message_of(*arguments: str, **options: str) -> str:
    with pytest.raises(DefinitionError) as error:
        net_of(*arguments, **options)  # type: ignore[arg-type]
    return str(error.value)


@pytest.mark.parametrize(
    ("kind", "shapes", "message"),
    [
        (
            "SoftmaxWithLoss",
            ("5x4x3", "5x4"),
            "bottom 1 of 5x4 has 20 labels, but bottom 0 of 5x4x3 takes 15: one for each place "
            "along all axes but axis 1",
        ),
        (
            "SoftmaxWithLoss",
            ("5x4", "4"),
            "bottom 0 of 5x4 and bottom 1 of 4 must have the same first axis",
        ),
        (
            "Accuracy",
            ("5x4", "6"),
            "bottom 1 of 6 has 6 labels, but bottom 0 of 5x4 takes 5: one for each place along "
            "all axes but axis 1",
        ),
        (
            "EuclideanLoss",
            ("5x4", "5x3"),
            "bottom 0 of 5x4 and bottom 1 of 5x3 must hold equally many numbers",
        ),
        (
            "SigmoidCrossEntropyLoss",
            ("5x4", "5"),
            "bottom 0 of 5x4 and bottom 1 of 5 must hold equally many numbers",
        ),
        (
            "ContrastiveLoss",
            ("5x4", "5x3", "5"),
            "bottoms 0 and 1 must both be NxC, found 5x4 and 5x3",
        ),
        (
            "ContrastiveLoss",
            ("5x4", "5x4", "4"),
            "bottom 2 of 4 must have a number for each of 5 pairs",
        ),
        (
            "InfogainLoss",
            ("5x4", "5", "5x4"),
            "the matrix is 5x4, but bottom 0 of 5x4 has 4 classes along axis 1",
        ),
    ],
)
def test_shapes_that_do_not_fit_are_both_named(
    kind: str, shapes: tuple[str, ...], message: str
) -> None:
    line = len(shapes) + 1
    place = f"net.prototxt:{line}:{37 + len(kind)}"
    assert message_of(kind, *shapes).removesuffix(".") == f'{place}: layer "op": {message}'


def test_a_batch_that_does_not_fit_its_labels_is_told_at_run_time() -> None:
    net = net_of("SoftmaxWithLoss", "5x4", "5")
    assert net(a=torch.zeros(3, 4), b=torch.zeros(3))["top0"] == pytest.approx(1.3862944)
    with pytest.raises(LayerError, match="bottom 1 of 2 has 2 labels, but bottom 0 of 3x4 takes 3"):
        net(a=torch.zeros(3, 4), b=torch.zeros(2))


@pytest.mark.parametrize(
    "kind", ["SoftmaxWithLoss", "HingeLoss", "MultinomialLogisticLoss", "Accuracy"]
)
@pytest.mark.parametrize("label", [4, -1, -100])
def test_a_label_that_is_no_class_is_told(kind: str, label: int) -> None:
    net = net_of(kind, "2x4", "2")
    with pytest.raises(LayerError) as error:
        net(a=torch.rand(2, 4), b=torch.tensor([0.0, label]))
    assert f'layer "op": there is a label {label}, but the 4 classes are 0 to 3' in str(error.value)


def test_a_label_that_is_no_class_is_told_where_another_is_ignored() -> None:
    net = net_of("SoftmaxWithLoss", "1x4x2", "1x2", params="loss_param { ignore_label: 255 }")
    net(a=torch.rand(1, 4, 2), b=torch.tensor([[255.0, 1.0]]))
    with pytest.raises(LayerError, match="there is a label 9, but the 4 classes are 0 to 3"):
        net(a=torch.rand(1, 4, 2), b=torch.tensor([[255.0, 9.0]]))


@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 3)])
def test_a_probability_that_vanishes_costs_87_and_still_has_a_gradient(
    shape: tuple[int, ...],
) -> None:
    labels = (6, *shape[2:])
    net = net_of("SoftmaxWithLoss", "x".join(map(str, shape)), "x".join(map(str, labels)))
    x = torch.zeros(shape)
    x[:, 1] = 500
    x.requires_grad_()
    loss = net(a=x, b=torch.zeros(labels))["top0"]
    assert loss.item() == pytest.approx(87.33655, abs=1e-4)
    loss.backward()
    assert x.grad is not None
    expected = torch.zeros(shape)
    expected[:, 0], expected[:, 1] = -1 / math.prod(labels), 1 / math.prod(labels)
    torch.testing.assert_close(x.grad, expected)


@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 3)])
@pytest.mark.parametrize("spread", [1.0, 300.0])
def test_softmax_loss_is_the_same_compiled(shape: tuple[int, ...], spread: float) -> None:
    labels = (6, *shape[2:])
    net = net_of("SoftmaxWithLoss", "x".join(map(str, shape)), "x".join(map(str, labels)))
    x = (torch.randn(shape) * spread).requires_grad_()
    label = torch.randint(0, 4, labels).float()
    (expected,) = torch.autograd.grad(net(a=x, b=label)["top0"], x)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    top = compiled(a=x, b=label)["top0"]
    torch.testing.assert_close(top, net(a=x, b=label)["top0"])
    torch.testing.assert_close(torch.autograd.grad(top, x)[0], expected)


def test_softmax_loss_is_torchs_cross_entropy() -> None:
    x, label = torch.randn(7, 5, 2), torch.randint(0, 5, (7, 2))
    ours = net_of("SoftmaxWithLoss", "7x5x2", "7x2")(a=x, b=label)["top0"]
    torch.testing.assert_close(ours, F.cross_entropy(x, label))


def test_probabilities_of_a_second_top_pass_no_gradient() -> None:
    net = net_of("SoftmaxWithLoss", "2x3", "2", tops=2)
    x = torch.randn(2, 3, requires_grad=True)
    tops = net(a=x, b=torch.zeros(2))
    torch.testing.assert_close(tops["top1"], x.softmax(1).detach())
    assert not tops["top1"].requires_grad
    assert net.loss_weights == {"top0": 1.0}


def test_targets_and_matrices_get_no_gradient() -> None:
    x, target = (torch.rand(2, 3, requires_grad=True) for _ in range(2))
    top = net_of("SigmoidCrossEntropyLoss", "2x3", "2x3")(a=x, b=target)["top0"]
    assert torch.autograd.grad(top, (x, target), allow_unused=True)[1] is None
    matrix = torch.eye(3, requires_grad=True)
    top = net_of("InfogainLoss", "2x3", "2", "3x3")(a=x, b=torch.zeros(2), c=matrix)["top0"]
    assert torch.autograd.grad(top, (x, matrix), allow_unused=True)[1] is None


def infogain(source: str | None) -> str:
    params = f'infogain_loss_param {{ source: "{source}" }}' if source else ""
    return message_of("InfogainLoss", "2x3", "2", params=params).split(": ", 1)[1]


def test_a_matrix_that_is_not_there_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert infogain(None) == (
        'layer "op": the matrix is missing. Give infogain_loss_param { source: "…" }, or a third '
        "bottom."
    )
    assert infogain("h.binaryproto") == (
        'layer "op": can\'t read "h.binaryproto": No such file or directory. The path is relative '
        "to the working folder."
    )
    Path("h.binaryproto").write_bytes(b"\xff\xff")
    assert infogain("h.binaryproto") == 'layer "op": h.binaryproto: this is no BlobProto'
    blob = new_message("caffe.BlobProto")
    blob.shape.dim.extend([3, 3])
    blob.data.extend([1.0] * 8)
    Path("h.binaryproto").write_bytes(blob.SerializeToString())
    assert infogain("h.binaryproto") == (
        'layer "op": h.binaryproto: a blob of 3x3 that holds 8 values'
    )
    blob.data.append(1.0)
    blob.shape.dim[:] = [-3, -3]
    Path("h.binaryproto").write_bytes(blob.SerializeToString())
    assert infogain("h.binaryproto") == (
        'layer "op": h.binaryproto: a blob of -3x-3 that holds 9 values'
    )
    blob.shape.dim[:] = [3, 3]
    Path("h.binaryproto").write_bytes(blob.SerializeToString())
    params = 'infogain_loss_param { source: "h.binaryproto" }'
    top = net_of("InfogainLoss", "2x3", "2", params=params)(a=torch.zeros(2, 3), b=torch.zeros(2))
    assert top["top0"].item() == pytest.approx(3 * 1.0986123)


def test_top_k_of_too_few_classes_is_told() -> None:
    assert message_of("Accuracy", "2x3", "2", params="accuracy_param { top_k: 4 }") == (
        'net.prototxt:3:97: layer "op": top_k 4 of 3 classes'
    )


# --- Probabilities in place of labels ---


@pytest.mark.parametrize(
    ("scores", "labels"), [("6x4", "6x4"), ("6x4x1x1", "6x4"), ("2x4x3", "2x4x3")]
)
@pytest.mark.parametrize(
    ("params", "over"), [("", 6), ("loss_param { normalization: NONE }", 1)]
)  # fmt: skip
def test_softmax_loss_takes_probabilities(scores: str, labels: str, params: str, over: int) -> None:
    net = net_of("SoftmaxWithLoss", scores, labels, params=params)
    shape = [int(n) for n in scores.split("x")]
    x = (3 * torch.randn(shape)).requires_grad_()
    t = torch.rand(shape)
    t /= t.sum(1, keepdim=True)
    loss = net(a=x, b=t.reshape([int(n) for n in labels.split("x")]))["top0"]
    expected = F.cross_entropy(x, t, reduction="sum") / over
    torch.testing.assert_close(loss, expected)
    loss.backward()
    mine, x.grad = x.grad, None
    expected.backward()
    torch.testing.assert_close(mine, x.grad)


def test_softmax_losss_gradients_for_probabilities_are_those_of_finite_differences() -> None:
    def unnormalised(values: list[torch.Tensor]) -> list[torch.Tensor]:
        return [values[0], values[1].detach().abs()]

    check_gradients(
        Use("SoftmaxWithLoss", [(5, 4), (5, 4)], feed=unnormalised, below={1: 1}, phase="train")
    )
    net = net_of("SoftmaxWithLoss", "2x3", "2x3")
    target = torch.rand(2, 3, requires_grad=True)
    net(a=torch.randn(2, 3, requires_grad=True), b=target)["top0"].backward()
    assert target.grad is None


def test_probabilities_that_are_one_class_cost_what_its_label_costs() -> None:
    x, label = 300 * torch.randn(8, 4), torch.arange(8) % 4
    plain, soft = net_of("SoftmaxWithLoss", "8x4", "8"), net_of("SoftmaxWithLoss", "8x4", "8x4")
    torch.testing.assert_close(
        soft(a=x, b=F.one_hot(label, 4).float())["top0"], plain(a=x, b=label.float())["top0"]
    )


def test_the_second_top_holds_probabilities_here_too() -> None:
    net = net_of("SoftmaxWithLoss", "2x3", "2x3", tops=2)
    x = torch.randn(2, 3)
    torch.testing.assert_close(net(a=x, b=torch.ones(2, 3))["top1"], x.softmax(1))


def test_with_one_class_a_column_is_still_labels() -> None:
    net = net_of("SoftmaxWithLoss", "3x1", "3x1")
    assert net(a=torch.randn(3, 1), b=torch.zeros(3, 1))["top0"] == 0
    with pytest.raises(LayerError, match="there is a label 1, but the 1 classes are 0 to 0"):
        net(a=torch.randn(3, 1), b=torch.ones(3, 1))


def test_probabilities_can_not_be_ignored() -> None:
    told = message_of(
        "SoftmaxWithLoss", "2x3", "2x3", params="loss_param { ignore_label: 255 }"
    )  # fmt: skip
    assert told.partition(": ")[2] == (
        'layer "op": there is an ignore_label, but bottom 1 of 2x3 holds probabilities, not labels'
    )


def test_probabilities_have_no_weights() -> None:
    told = message_of("SoftmaxWithLoss", "2x3", "2x3", "2")
    assert told.partition(": ")[2] == (
        'layer "op": there are weights, but bottom 1 of 2x3 holds probabilities, not labels'
    )


def test_probabilities_of_other_classes_are_told() -> None:
    told = message_of("SoftmaxWithLoss", "2x3", "2x5")
    assert told.partition(": ")[2] == (
        'layer "op": bottom 1 of 2x5 has 10 labels, but bottom 0 of 2x3 takes 2: one for each '
        "place along all axes but axis 1. Or the probabilities of the classes: 2x3."
    )


def test_losses_that_take_labels_alone_say_where_probabilities_go() -> None:
    assert message_of("HingeLoss", "2x3", "2x3").partition(": ")[2] == (
        'layer "op": bottom 1 of 2x3 has 6 labels, but bottom 0 of 2x3 takes 2: one for each '
        "place along all axes but axis 1. Probabilities, as Mixup makes them, go to "
        "SoftmaxWithLoss and Accuracy."
    )


def test_the_right_class_of_probabilities_is_the_likeliest() -> None:
    net = net_of("Accuracy", "4x3", "4x3", tops=2)
    scores = torch.tensor([[9, 1, 0], [1, 9, 0], [9, 1, 0], [0, 1, 9.0]])
    labels = torch.tensor([[0.7, 0.3, 0], [0.7, 0.3, 0], [0.5, 0.5, 0], [0.2, 0, 0.8]])
    found = net(a=scores, b=labels)
    assert found["top0"] == 0.75
    torch.testing.assert_close(found["top1"], torch.tensor([2 / 3, 0.0, 1.0]))


def test_smoothed_labels_are_torchs() -> None:
    net = net_of(
        "SoftmaxWithLoss", "3x4", "3", params="loss_param { label_smoothing: 0.1 ignore_label: 9 }"
    )
    x, y = torch.randn(3, 4, requires_grad=True), torch.tensor([2.0, 9.0, 0.0])
    loss = net(a=x, b=y)["top0"]
    expected = F.cross_entropy(x, y.long(), ignore_index=9, label_smoothing=0.1)
    assert torch.allclose(loss, expected)
    found, wanted = (torch.autograd.grad(one, x)[0] for one in (loss, expected))
    assert torch.allclose(found, wanted, atol=1e-7)
