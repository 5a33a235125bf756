"""Weights of losses: what each does to value and gradient, held against PyTorch's own losses."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from tests.layers.test_losses import message_of, net_of
from torch import Tensor

from torrefy.net.net import Net


def value_and_gradient(net: Net, x: Tensor, *others: Tensor) -> tuple[Tensor, Tensor]:
    x = x.detach().requires_grad_()
    loss = net(a=x, **dict(zip("bc", others, strict=False)))["top0"]
    return loss.detach(), torch.autograd.grad(loss, x)[0]


def expected(loss: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    return loss.detach(), torch.autograd.grad(loss, x)[0]


def text(*shape: int) -> str:
    return "x".join(map(str, shape))


@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 3, 2)])
@pytest.mark.parametrize("given", ["items", "labels"])
@pytest.mark.parametrize("ignored", [False, True])
def test_softmax_loss_weighs_items_labels_and_classes(
    shape: tuple[int, ...], given: str, ignored: bool
) -> None:
    torch.manual_seed(0)
    labels = (shape[0], *shape[2:])
    weights = torch.rand(labels if given == "labels" else labels[:1]) * 3
    classes = [0.5, 0.0, 2.0, 1.0]
    params = "loss_param { " + " ".join(f"class_weight: {w}" for w in classes)
    params += " ignore_label: 3 }" if ignored else " }"
    net = net_of(
        "SoftmaxWithLoss", text(*shape), text(*labels), text(*weights.shape), params=params
    )
    x = torch.randn(shape, requires_grad=True)
    label = torch.randint(0, 4, labels)
    terms = F.cross_entropy(
        x, label, torch.tensor(classes), reduction="none", ignore_index=3 if ignored else -100
    )
    factors = weights.reshape(*weights.shape, *(1,) * (terms.dim() - weights.dim()))
    count = int((label != 3).sum()) if ignored else label.numel()
    torch.testing.assert_close(
        value_and_gradient(net, x, label.float(), weights),
        expected((terms * factors).sum() / count, x),
    )


def test_class_weights_are_an_infogain_loss_with_them_on_the_diagonal() -> None:
    classes = [1.0, 3.0, 0.25]
    params = "loss_param { " + " ".join(f"class_weight: {w}" for w in classes) + " }"
    x, label = torch.randn(5, 3), torch.tensor([0.0, 1, 2, 1, 1])
    one = net_of("SoftmaxWithLoss", "5x3", "5", params=params)
    other = net_of("InfogainLoss", "5x3", "5", "3x3")
    torch.testing.assert_close(
        value_and_gradient(one, x, label),
        value_and_gradient(other, x, label, torch.diag(torch.tensor(classes))),
    )


def test_the_axis_of_the_classes_may_be_another() -> None:
    x, label = torch.randn(2, 3, 4, requires_grad=True), torch.randint(0, 4, (2, 3))
    weights = torch.tensor([2.0, 0.5])
    net = net_of("SoftmaxWithLoss", "2x3x4", "2x3", "2", params="softmax_param { axis: 2 }")
    terms = F.cross_entropy(x.flatten(0, 1), label.flatten(), reduction="none").reshape(2, 3)
    torch.testing.assert_close(
        value_and_gradient(net, x, label.float(), weights),
        expected((terms * weights[:, None]).sum() / 6, x),
    )


@pytest.mark.parametrize("weights", [(5,), (5, 4)])
def test_sigmoid_loss_weighs_items_targets_and_classes(weights: tuple[int, ...]) -> None:
    params = "loss_param { class_weight: 1 class_weight: 2 class_weight: 0 class_weight: 4 }"
    net = net_of("SigmoidCrossEntropyLoss", "5x4", "5x4", text(*weights), params=params)
    x, target, given = torch.randn(5, 4, requires_grad=True), torch.rand(5, 4), torch.rand(weights)
    factors = given.reshape(5, -1) * torch.tensor([1.0, 2, 0, 4])
    terms = F.binary_cross_entropy_with_logits(x, target, reduction="none")
    torch.testing.assert_close(
        value_and_gradient(net, x, target, given), expected((terms * factors).sum() / 5, x)
    )


@pytest.mark.parametrize("weights", [(5,), (5, 4)])
def test_euclidean_loss_weighs_items_and_numbers(weights: tuple[int, ...]) -> None:
    net = net_of("EuclideanLoss", "5x4", "5x4", text(*weights))
    x, target, given = torch.randn(5, 4, requires_grad=True), torch.rand(5, 4), torch.rand(weights)
    terms = (x - target).square() * given.reshape(5, -1)
    torch.testing.assert_close(
        value_and_gradient(net, x, target, given), expected(terms.sum() / 10, x)
    )


@pytest.mark.parametrize("kind", ["SoftmaxWithLoss", "SigmoidCrossEntropyLoss", "EuclideanLoss"])
def test_weights_of_1_change_nothing_get_no_gradient_and_compile(kind: str) -> None:
    labels = (5,) if kind == "SoftmaxWithLoss" else (5, 4)
    plain = net_of(kind, "5x4", text(*labels))
    net = net_of(kind, "5x4", text(*labels), "5")
    x, target = torch.randn(5, 4), torch.randint(0, 2, labels).float()
    ones = torch.ones(5, requires_grad=True)
    torch.testing.assert_close(
        value_and_gradient(net, x, target, ones), value_and_gradient(plain, x, target)
    )
    assert not net(a=x, b=target, c=ones)["top0"].requires_grad
    torch.compiler.reset()  # it compiles a function only so often, whichever net it is of
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(
        compiled(a=x, b=target, c=ones)["top0"], net(a=x, b=target, c=ones)["top0"]
    )
    zero = value_and_gradient(net, x, target, torch.zeros(5))
    assert not zero[0].any()
    assert not zero[1].any()


@pytest.mark.parametrize(
    ("kind", "shapes", "params", "told"),
    [
        (
            "SoftmaxWithLoss", ("5x4x3", "5x3", "4"), "",
            "bottom 2 of 4 has 4 weights; it takes 5, one for each item, or 15, one for each term",
        ),
        (
            "SoftmaxWithLoss", ("5x4", "5", "5x4"), "",
            "bottom 2 of 5x4 has 20 weights; it takes 5, one for each item",
        ),
        (
            "EuclideanLoss", ("5x4", "5x4", "4"), "",
            "bottom 2 of 4 has 4 weights; it takes 5, one for each item, or 20, one for each term",
        ),
        (
            "SoftmaxWithLoss", ("5x4", "5"), "loss_param { class_weight: 1 class_weight: 2 }",
            "class_weight is given 2 times for 4 classes: give one for each",
        ),
        (
            "SigmoidCrossEntropyLoss", ("5x2", "5x2"),
            "loss_param { class_weight: 1 class_weight: -2 }",
            "class_weight is -2, expected 0 or more",
        ),
        (
            "InfogainLoss", ("5x2", "5", "2x2"), "loss_param { class_weight: 1 class_weight: 2 }",
            "InfogainLoss takes no class_weight. Multiply the rows of the matrix.",
        ),
    ],
)  # fmt: skip
def test_weights_that_do_not_fit_are_told(
    kind: str, shapes: tuple[str, ...], params: str, told: str
) -> None:
    assert message_of(kind, *shapes, params=params).rpartition('"op": ')[2] == told


def test_a_batch_whose_weights_do_not_fit_is_told_at_run_time() -> None:
    net = net_of("EuclideanLoss", "5x4", "5x4", "5")
    with pytest.raises(Exception, match="bottom 2 of 3 has 3 weights; it takes 2"):
        net(a=torch.zeros(2, 4), b=torch.zeros(2, 4), c=torch.zeros(3))
    assert math.isclose(net(a=torch.ones(2, 4), b=torch.zeros(2, 4), c=torch.ones(2))["top0"], 2.0)
