"""PriorBox: boxes worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torrefy
from torrefy.net.net import Net
from torrefy.runtime.session import OnnxModel

NetOf = Callable[..., Net]
ErrorOf = Callable[..., str]


def boxes_of(net: Net, plane: str, picture: str) -> torch.Tensor:
    shapes = [[int(d) for d in shape.split("x")] for shape in (plane, picture)]
    top = net(a=torch.zeros(shapes[0]), b=torch.zeros(shapes[1]))["top0"]
    assert top.shape[:2] == (1, 2)
    return top.reshape(2, -1, 4)


def test_squares_come_before_oblongs_row_by_row(net_of: NetOf) -> None:
    plane, picture = "1x8x1x2", "1x3x100x200"
    net = net_of(
        "PriorBox", plane, picture,
        params="prior_box_param { min_size: 40 max_size: 90 aspect_ratio: 4 }",
    )  # fmt: skip
    assert net.outputs == {"top0": (1, 2, 2 * 4 * 4)}
    boxes, variances = boxes_of(net, plane, picture)
    # Steps 200 / 2 and 100 / 1: centres (50, 50) and (150, 50). Sizes 40 x 40, then sqrt(40 · 90)
    # = 60, then 40 · 2 x 40 / 2, then its flip.
    first = [
        [30 / 200, 0.3, 70 / 200, 0.7],
        [20 / 200, 0.2, 80 / 200, 0.8],
        [10 / 200, 0.4, 90 / 200, 0.6],
        [40 / 200, 0.1, 60 / 200, 0.9],
    ]
    second = [[xmin + 0.5, ymin, xmax + 0.5, ymax] for xmin, ymin, xmax, ymax in first]
    torch.testing.assert_close(boxes, torch.tensor(first + second))
    assert torch.equal(variances, torch.full((8, 4), 0.1))


def test_each_min_size_has_its_max_size_and_all_ratios(net_of: NetOf) -> None:
    params = (
        "prior_box_param { min_size: 10 min_size: 20 max_size: 40 max_size: 80 aspect_ratio: 4"
        " flip: false variance: 0.1 variance: 0.2 variance: 0.3 variance: 0.4 }"
    )
    plane, picture = "1x8x1x1", "1x3x100x100"
    boxes, variances = boxes_of(net_of("PriorBox", plane, picture, params=params), plane, picture)
    width = (boxes[:, 2] - boxes[:, 0]) * 100
    height = (boxes[:, 3] - boxes[:, 1]) * 100
    torch.testing.assert_close(width, torch.tensor([10.0, 20.0, 20.0, 20.0, 40.0, 40.0]))
    torch.testing.assert_close(height, torch.tensor([10.0, 20.0, 5.0, 20.0, 40.0, 10.0]))
    torch.testing.assert_close(variances, torch.tensor([[0.1, 0.2, 0.3, 0.4]] * 6))


@pytest.mark.parametrize(
    ("ratios", "widths"),
    [
        ("aspect_ratio: 4 aspect_ratio: 0.25", [20, 40, 10]),  # the flip was there already
        ("aspect_ratio: 1 aspect_ratio: 4 aspect_ratio: 4", [20, 40, 10]),
        ("aspect_ratio: 4.000000001 aspect_ratio: 4 flip: false", [20, 40]),
        ("aspect_ratio: 4 aspect_ratio: 0.25 flip: false", [20, 40, 10]),
        ("", [20]),
    ],
)
def test_ratios_that_are_there_already_are_passed_over(
    net_of: NetOf, ratios: str, widths: list[float]
) -> None:
    plane, picture = "1x8x1x1", "1x3x100x100"
    params = f"prior_box_param {{ min_size: 20 {ratios} }}"
    boxes, _ = boxes_of(net_of("PriorBox", plane, picture, params=params), plane, picture)
    found = (boxes[:, 2] - boxes[:, 0]) * 100
    torch.testing.assert_close(found, torch.tensor(widths, dtype=torch.float32))


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        # centres at 0 and 10 pixels of 40, boxes of 8 pixels
        ("step: 10 offset: 0", [[-0.1, -0.1, 0.1, 0.1], [0.15, -0.1, 0.35, 0.1]]),
        ("step: 10 offset: 0 clip: true", [[0, 0, 0.1, 0.1], [0.15, 0, 0.35, 0.1]]),
        # centres (4 · 0.5, 10 · 0.5) and (4 · 1.5, 5)
        ("step_h: 10 step_w: 4", [[-0.05, 0.025, 0.15, 0.225], [0.05, 0.025, 0.25, 0.225]]),
        # a picture of 80 x 80: steps 80 / 2 and 80 / 1, centres (20, 40) and (60, 40)
        ("img_size: 80", [[0.2, 0.45, 0.3, 0.55], [0.7, 0.45, 0.8, 0.55]]),
        # of 160 wide, 80 high: centres (40, 40) and (120, 40)
        ("img_h: 80 img_w: 160", [[0.225, 0.45, 0.275, 0.55], [0.725, 0.45, 0.775, 0.55]]),
    ],
)
def test_steps_offset_and_the_pictures_size_can_be_given(
    net_of: NetOf, params: str, expected: list[list[float]]
) -> None:
    plane, picture = "1x8x1x2", "1x3x40x40"
    net = net_of("PriorBox", plane, picture, params=f"prior_box_param {{ min_size: 8 {params} }}")
    boxes, _ = boxes_of(net, plane, picture)
    torch.testing.assert_close(boxes, torch.tensor(expected, dtype=torch.float32))


def test_sizes_are_cut_to_whole_pixels_as_in_caffe(net_of: NetOf) -> None:
    plane, picture = "1x8x1x1", "1x3x100x100"
    params = "prior_box_param { min_size: 9.84 max_size: 16.8 }"
    boxes, _ = boxes_of(net_of("PriorBox", plane, picture, params=params), plane, picture)
    widths = (boxes[:, 2] - boxes[:, 0]) * 100
    torch.testing.assert_close(widths, torch.tensor([9.0, 12.0]))  # sqrt(9 · 16)


def test_the_sizes_of_other_pictures_are_followed(net_of: NetOf) -> None:
    net = net_of("PriorBox", "1x8x2x2", "1x3x40x40", params="prior_box_param { min_size: 8 }")
    assert boxes_of(net, "3x8x4x1", "3x3x80x20").shape == (2, 4, 4)


def test_priors_get_no_gradient_and_give_none(net_of: NetOf) -> None:
    net = net_of("PriorBox", "1x8x2x2", "1x3x40x40", params="prior_box_param { min_size: 8 }")
    plane = torch.zeros(1, 8, 2, 2, requires_grad=True)
    assert not net(a=plane, b=torch.zeros(1, 3, 40, 40))["top0"].requires_grad


def test_priors_are_constants_of_a_file(tmp_path: Path) -> None:
    text = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
layer { name: "pool" type: "Pooling" bottom: "data" top: "pool" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "prior" type: "PriorBox" bottom: "pool" bottom: "data" top: "prior"
  prior_box_param { min_size: 3 aspect_ratio: 2 } }
layer { name: "loc" type: "Flatten" bottom: "pool" top: "loc" }
"""  # noqa: E501
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    net = torrefy.load_net(path)
    report = torrefy.export_onnx(net, tmp_path / "m.onnx", blobs=["loc", "prior"])
    assert report.outputs["prior"] == (1, 2, 4 * 4 * 3 * 4)
    assert report.difference == 0
    x = np.zeros((3, 3, 8, 8), np.float32)
    found = OnnxModel(tmp_path / "m.onnx").run({"data": x})["prior"]
    assert np.array_equal(found, net(data=torch.tensor(x))["prior"])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ("", "min_size is missing. Give prior_box_param { min_size: … }."),
        ("min_size: 0", "min_size must be above 0, found 0"),
        (
            "min_size: 8 max_size: 9 max_size: 10",
            "2 max_size for 1 min_size: give one for each, or none",
        ),
        ("min_size: 8 max_size: 8", "max_size 8 must be above its min_size 8"),
        (
            "min_size: 8 variance: 1 variance: 2",
            "2 variance: give 1, or 4 for x, y, width and height",
        ),
        ("min_size: 8 variance: 0", "variance must be above 0, found 0"),
        ("min_size: 8 step: 0", "step must be above 0, found 0"),
        (
            "min_size: 8 step: 8 step_h: 8 step_w: 8",
            "both step and step_h/step_w are given; use one of them",
        ),
        ("min_size: 8 img_h: 80", "img_h and img_w go together; img_w is missing"),
        (
            "min_size: 8 img_size: 80 img_w: 80",
            "both img_size and img_h/img_w are given; use one of them",
        ),
        ("min_size: 8 aspect_ratio: -1", "aspect_ratio must be above 0, found -1"),
    ],
)
def test_wrong_parameters_are_told(error_of: ErrorOf, params: str, message: str) -> None:
    found = error_of("PriorBox", "1x8x2x2", "1x3x40x40", params=f"prior_box_param {{ {params} }}")
    word = message.replace("both ", "").split()[0] if params else "prior_box_param"
    word = word if not word.isdigit() else message.split()[1].strip(":")
    assert found == f'{word}: layer "op": {message}'


def test_bottoms_must_be_planes(error_of: ErrorOf) -> None:
    found = error_of("PriorBox", "1x8x2", "1x3x40x40", params="prior_box_param { min_size: 8 }")
    assert found == (
        'bottom: layer "op": PriorBox takes bottoms of 4 axes (N, C, H, W), bottom 0 is 1x8x2'
    )
