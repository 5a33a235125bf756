"""Every layer type is held to what Torrefy's own are."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torrefy.testing import check_docs, check_example, check_layer

PRIORS = torch.tensor([[0.0, 0, 0.4, 0.4], [0.1, 0, 0.5, 0.4], [0.6, 0.6, 0.8, 0.8]])


def with_priors(bottoms: list[Tensor]) -> list[Tensor]:
    """Random locations and scores of three priors; a row for each object or detection."""
    bottoms[2] = torch.stack([PRIORS, torch.full((3, 4), 0.1)]).reshape(1, 2, 12).double()
    if len(bottoms) > 3:
        bottoms[3] = objects(bottoms[3])
    return bottoms


def objects(like: Tensor) -> Tensor:
    """Objects of label 1 near the first priors, alternating between two pictures."""
    rows = torch.zeros_like(like)
    rows[..., 0] = torch.arange(like.shape[2]) % 2
    rows[..., 1] = 1
    rows[..., 3:7] = torch.tensor([0.02, 0.01, 0.43, 0.38])
    return rows


def detections(bottoms: list[Tensor]) -> list[Tensor]:
    """Detections where the objects are."""
    found = torch.zeros_like(bottoms[0])
    found[..., 1], found[..., 2], found[..., 3:] = 1, bottoms[0][..., 2].abs(), PRIORS[0]
    return [found, objects(bottoms[1])]


@pytest.mark.parametrize(
    ("kind", "params"),
    [
        ("ConvolutionDepthwise", ""),
        ("DepthwiseConvolution", ""),
        ("Normalize", ""),
        ("Normalize", "norm_param { eps: 0.1 }"),
        ("Permute", ""),
        ("ReLU6", ""),
        ("ReLU6", "relu6_param { }"),
        ("ShuffleChannel", ""),
    ],
)
def test_a_plain_layer_is_sound(kind: str, params: str) -> None:
    check_layer(kind, params=params, bottoms=[(2, 4, 6, 6)] if params else ())


@pytest.mark.parametrize("bottoms", [2, 3, 4])
def test_smooth_l1_loss_is_sound(bottoms: int) -> None:
    weights = {2: 3, 3: 3}
    below = {i: weights[i] for i in range(2, bottoms)}
    params = "smooth_l1_loss_param { sigma: 1.5 }"
    check_layer("SmoothL1Loss", [(2, 3)] * bottoms, params, below=below, phase="train")


def test_prior_box_is_sound() -> None:
    check_layer("PriorBox", smooth=False)


@pytest.mark.parametrize("code", ["CORNER", "CENTER_SIZE", "CORNER_SIZE"])
def test_detection_output_is_sound(code: str) -> None:
    params = f"detection_output_param {{ num_classes: 2 code_type: {code} keep_top_k: 1 }}"
    bottoms = [(1, 12), (1, 6), (1, 2, 12)]
    check_layer("DetectionOutput", bottoms, params, feed=with_priors, smooth=False)


@pytest.mark.parametrize("loss", ["SOFTMAX", "LOGISTIC"])
@pytest.mark.parametrize("mining", ["NONE", "MAX_NEGATIVE", "HARD_EXAMPLE"])
@pytest.mark.parametrize("code", ["CORNER", "CENTER_SIZE", "CORNER_SIZE"])
def test_multi_box_loss_is_sound(loss: str, mining: str, code: str) -> None:
    params = (
        f"multibox_loss_param {{ num_classes: 3 conf_loss_type: {loss} mining_type: {mining} "
        f"code_type: {code} sample_size: 2 }}"
    )
    check_layer(
        "MultiBoxLoss", [(2, 12), (2, 9), (1, 2, 12), (1, 1, 3, 8)], params,
        feed=with_priors, below={2: 1, 3: 1}, phase="train",
    )  # fmt: skip


def test_detection_evaluate_is_sound() -> None:
    params = "detection_evaluate_param { num_classes: 3 }"
    bottoms = [(1, 1, 4, 7), (1, 1, 3, 8)]
    check_layer("DetectionEvaluate", bottoms, params, feed=detections, smooth=False)


def test_annotated_data_is_documented() -> None:
    check_docs("AnnotatedData")
    check_example("AnnotatedData")
