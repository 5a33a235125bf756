"""DetectionOutput: rows worked out by hand, and the same rows from a file."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torrefy
from numpy.typing import NDArray
from torrefy.errors import ExportError, LayerError
from torrefy.graph import State
from torrefy.net.net import Net, compile_net
from torrefy.runtime.session import OnnxModel
from torrefy.schema import parse_text

NetOf = Callable[..., Net]
ErrorOf = Callable[..., str]

A = [0.0, 0.0, 0.4, 0.4]
B = [0.1, 0.0, 0.5, 0.4]  # overlaps A by 0.12 / 0.2 = 0.6
C = [0.6, 0.6, 0.8, 0.8]
PRIORS = torch.tensor([[A + B + C, [0.1] * 12]])
SCORES = torch.tensor(
    # background, class 1, class 2
    [[[0.05, 0.9, 0.05], [0.0, 0.8, 0.6], [0.0, 0.3, 0.7]]]
)
A1, B1, C1 = (0, 1, 0.9, *A), (0, 1, 0.8, *B), (0, 1, 0.3, *C)
B2, C2 = (0, 2, 0.6, *B), (0, 2, 0.7, *C)


def detector(net_of: NetOf, params: str, count: int = 3, classes: int = 3, boxes: int = 1) -> Net:
    return net_of(
        "DetectionOutput",
        f"1x{4 * count * boxes}", f"1x{classes * count}", f"1x2x{4 * count}",
        params=f"detection_output_param {{ num_classes: {classes} {params} }}",
    )  # fmt: skip


def rows_of(
    net: Net, scores: torch.Tensor = SCORES, loc: torch.Tensor | None = None
) -> torch.Tensor:
    if loc is None:
        loc = torch.zeros(scores.shape[0], 12)
    top = net(a=loc, b=scores.flatten(1), c=PRIORS)["top0"]
    assert top.shape[:2] == (1, 1)
    return top[0, 0]


def check_rows(found: torch.Tensor, *expected: tuple[float, ...]) -> None:
    torch.testing.assert_close(found, torch.tensor(expected))


NMS = "confidence_threshold: 0.1 nms_param { nms_threshold: 0.5 %s }"


@pytest.mark.parametrize(
    ("params", "rows"),
    [
        # Class 1: B goes, since it overlaps A. Class 2: B and C don't overlap; A is below 0.1.
        (NMS % "", [A1, C1, C2, B2]),
        ("confidence_threshold: 0.1 nms_param { nms_threshold: 0.7 }", [A1, B1, C1, C2, B2]),
        # The best two of class 1 are A and B, before B goes.
        (NMS % "top_k: 2", [A1, C2, B2]),
        (NMS % "top_k: 1", [A1, C2]),
        (NMS % "top_k: -1", [A1, C1, C2, B2]),
        # The best of all classes, in the same order.
        (NMS % "" + " keep_top_k: 3", [A1, C2, B2]),
        (NMS % "" + " keep_top_k: 2", [A1, C2]),
        (NMS % "" + " keep_top_k: 4", [A1, C1, C2, B2]),
        # Scores must be above the threshold, not at it.
        ("confidence_threshold: 0.7 nms_param { nms_threshold: 0.7 }", [A1, B1]),
        # The threshold is 0.7 for A, and 0.35 after it.
        ("confidence_threshold: 0.1 nms_param { nms_threshold: 0.7 eta: 0.5 }", [A1, C1, C2, B2]),
        # The default threshold is 0.3, and all scores count: A and B of class 2, too.
        ("", [A1, C1, C2, B2]),
    ],
)
def test_rows_go_by_picture_label_and_score(
    net_of: NetOf, params: str, rows: list[tuple[float, ...]]
) -> None:
    net = detector(net_of, params)
    assert net.outputs == {"top0": (1, 1, 1, 7)}
    check_rows(rows_of(net), *rows)


def test_another_background_is_passed_over(net_of: NetOf) -> None:
    params = "background_label_id: 2 " + NMS % ""
    check_rows(rows_of(detector(net_of, params)), A1, C1)
    without = rows_of(detector(net_of, "background_label_id: -1 " + NMS % ""))
    check_rows(without, A1, C1, C2, B2)


def test_a_batch_is_numbered_and_a_picture_without_objects_left_out(net_of: NetOf) -> None:
    scores = torch.cat([torch.zeros_like(SCORES), SCORES, SCORES * (SCORES > 0.85)])
    found = rows_of(detector(net_of, NMS % ""), scores)
    expected = [(1.0, *row[1:]) for row in (A1, C1, C2, B2)]
    check_rows(found, *expected, (2.0, *A1[1:]))


def test_nothing_found_is_a_row_for_each_picture(net_of: NetOf) -> None:
    found = rows_of(detector(net_of, NMS % ""), torch.zeros(2, 3, 3))
    assert found.tolist() == [[0, -1, -1, -1, -1, -1, -1], [1, -1, -1, -1, -1, -1, -1]]


@pytest.mark.parametrize(
    ("params", "loc", "box"),
    [
        # A, 0.4 wide and high, with variances of 0.1
        ("code_type: CORNER", [1, 2, -1, 3], [0.1, 0.2, 0.3, 0.7]),
        ("code_type: CORNER_SIZE", [1, 2, -1, 3], [0.04, 0.08, 0.36, 0.52]),
        # centre (0.2 + 0.04, 0.2), twice as wide
        ("code_type: CENTER_SIZE", [1, 0, 10 * math.log(2), 0], [-0.16, 0, 0.64, 0.4]),
        (
            "code_type: CORNER variance_encoded_in_target: true",
            [0.1, 0.2, -0.1, 0.3],
            [0.1, 0.2, 0.3, 0.7],
        ),
    ],
)
def test_locations_are_decoded_against_the_priors(
    net_of: NetOf, params: str, loc: list[float], box: list[float]
) -> None:
    numbers = torch.tensor([[*loc, *[0.0] * 8]])
    found = rows_of(detector(net_of, f"{params} confidence_threshold: 0.85"), loc=numbers)
    check_rows(found, (0, 1, 0.9, *box))


def test_each_class_can_have_a_box_of_its_own(net_of: NetOf) -> None:
    net = detector(net_of, "share_location: false confidence_threshold: 0.65", boxes=3)
    loc = torch.zeros(1, 3, 3, 4)  # prior, class
    loc[0, 0, 1] = 1.0  # A of class 1 moves by 0.1
    loc[0, 2, 2] = -1.0  # C of class 2 moves by −0.1
    found = rows_of(net, loc=loc.flatten(1))
    # A has moved away from B: 0.4 · 0.3 = 0.12 of 0.2, still 0.6 over 0.3, so that B goes.
    moved_a, moved_c = [0.1, 0.1, 0.5, 0.5], [0.5, 0.5, 0.7, 0.7]
    check_rows(found, (0, 1, 0.9, *moved_a), (0, 2, 0.7, *moved_c))


def test_equal_scores_go_by_the_order_of_the_priors(net_of: NetOf) -> None:
    scores = torch.full((1, 3, 3), 0.5)
    found = rows_of(detector(net_of, NMS % ""), scores)
    expected = [(0, c, 0.5, *box) for c in (1, 2) for box in (A, C)]
    check_rows(found, *expected)
    found = rows_of(detector(net_of, NMS % "" + " keep_top_k: 3"), scores)
    check_rows(found, *expected[:3])


def test_scores_that_are_no_numbers_are_never_found(net_of: NetOf) -> None:
    scores = SCORES.clone()
    scores[0, 0, 1] = math.nan
    check_rows(rows_of(detector(net_of, NMS % "top_k: 2"), scores), B1, C1, C2, B2)


def test_what_is_found_has_a_gradient(net_of: NetOf) -> None:
    net = detector(net_of, NMS % "")
    loc = torch.zeros(1, 12, requires_grad=True)
    scores = SCORES.flatten(1).requires_grad_()
    rows = net(a=loc, b=scores, c=PRIORS)["top0"][0, 0]  # A1, C1, C2, B2
    rows[:, 3].sum().backward(retain_graph=True)  # all xmin: A and B once, C twice
    assert loc.grad is not None
    torch.testing.assert_close(loc.grad.reshape(3, 4)[:, 0], torch.tensor([0.1, 0.1, 0.2]))
    assert not loc.grad.reshape(3, 4)[:, 1:].any()
    rows[:, 2].sum().backward()
    assert scores.grad is not None
    assert scores.grad.reshape(3, 3).tolist() == [[0, 1, 0], [0, 0, 1], [0, 1, 1]]


@pytest.mark.parametrize(
    ("shapes", "params", "message"),
    [
        (
            ("1x12", "1x9", "1x2x12"),
            "",
            "parameter",
        ),
        (
            ("1x8", "1x9", "1x2x12"),
            "num_classes: 3",
            "bottom 0 of 1x8 has 8 numbers a picture, but 3 priors take 12: 4 for each prior",
        ),
        (
            ("1x12", "1x9", "1x2x12"),
            "num_classes: 3 share_location: false",
            "bottom 0 of 1x12 has 12 numbers a picture, but 3 priors take 36: 4 for each of 3 "
            "classes for each prior",
        ),
        (
            ("1x12", "1x8", "1x2x12"),
            "num_classes: 3",
            "bottom 1 of 1x8 has 8 numbers a picture, but 3 priors take 9: 3 for each prior",
        ),
        (
            ("1x12", "2x9", "1x2x12"),
            "num_classes: 3",
            "bottom 0 of 1x12 and bottom 1 of 2x9 must have the same first axis",
        ),
        (
            ("1x12", "1x9", "1x12"),
            "num_classes: 3",
            "bottom 2 must hold priors and their variances, 1x2x(4 for each), found 1x12",
        ),
    ],
)
def test_shapes_that_do_not_fit_are_told(
    error_of: ErrorOf, shapes: tuple[str, ...], params: str, message: str
) -> None:
    found = error_of("DetectionOutput", *shapes, params=f"detection_output_param {{ {params} }}")
    if not params:
        assert found == (
            'detection_output_param: layer "op": num_classes is missing. '
            "Give detection_output_param { num_classes: … }."
        )
        return
    assert found == f'bottom: layer "op": {message}'


@pytest.mark.parametrize(
    ("params", "word", "message"),
    [
        ("num_classes: 0", "num_classes", "num_classes must be at least 1, found 0"),
        ("num_classes: 1", "num_classes", "there is no class but the background"),
        (
            "num_classes: 3 nms_param { eta: 0 }",
            "eta",
            "eta must be above 0 and at most 1, found 0",
        ),
        (
            "num_classes: 3 nms_param { nms_threshold: -1 }",
            "nms_threshold",
            "nms_threshold must be at least 0, found -1",
        ),
    ],
)
def test_wrong_parameters_are_told(error_of: ErrorOf, params: str, word: str, message: str) -> None:
    found = error_of(
        "DetectionOutput", "1x12", "1x9", "1x2x12",
        params=f"detection_output_param {{ {params} }}",
    )  # fmt: skip
    assert found == f'{word}: layer "op": {message}'


def test_numbers_that_do_not_fit_are_told_at_run_time(net_of: NetOf) -> None:
    with pytest.raises(LayerError, match="bottom 0 of 1x8 has 8 numbers a picture, but 3 priors"):
        rows_of(detector(net_of, ""), loc=torch.zeros(1, 8))


@pytest.mark.filterwarnings("error:Dynamo")
def test_it_is_the_same_compiled() -> None:
    net = net_with_priors("nms_param { nms_threshold: 0.45 top_k: 20 } keep_top_k: 15")
    inputs = {name: torch.tensor(array) for name, array in random_inputs(2).items()}
    (found,) = torch.compile(net.program(["found"]), backend="eager")(*inputs.values())
    torch.testing.assert_close(found, net(**inputs)["found"])


# ONNX

COUNT, CLASSES = 40, 4


def net_with_priors(params: str, boxes: int = 1) -> Net:
    """DetectionOutput with the priors of a plane of 5 by 8 places."""
    text = ""
    for name, shape in (
        ("loc", (1, COUNT * boxes * 4)), ("conf", (1, COUNT * CLASSES)),
        ("plane", (1, 1, 5, 8)), ("data", (1, 1, 100, 160)),
    ):  # fmt: skip
        dims = " ".join(f"dim: {d}" for d in shape)
        text += f"""
            layer {{ name: "{name}" type: "Input" top: "{name}"
              input_param {{ shape {{ {dims} }} }} }}"""
    text += f"""
        layer {{ name: "priors" type: "PriorBox" bottom: "plane" bottom: "data" top: "priors"
          prior_box_param {{ min_size: 40 }} }}
        layer {{ name: "op" type: "DetectionOutput" top: "found"
          bottom: "loc" bottom: "conf" bottom: "priors"
          detection_output_param {{ num_classes: {CLASSES} {params} }} }}"""
    return compile_net(parse_text(text), State("test"))


def random_inputs(batch: int, boxes: int = 1, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    random = np.random.default_rng(seed)
    arrays = {
        "loc": random.standard_normal((batch, COUNT * boxes * 4)),
        # Scores of few values, so that many are equal.
        "conf": random.integers(0, 8, (batch, COUNT * CLASSES)) / 8,
        "plane": np.zeros((batch, 1, 5, 8)),
        "data": np.zeros((batch, 1, 100, 160)),
    }
    return {name: array.astype(np.float32) for name, array in arrays.items()}


@pytest.mark.parametrize(
    ("params", "boxes"),
    [
        ("code_type: CENTER_SIZE confidence_threshold: 0.3 nms_param { nms_threshold: 0.45 }", 1),
        ("code_type: CENTER_SIZE nms_param { nms_threshold: 0.45 top_k: 20 } keep_top_k: 15", 1),
        ("code_type: CORNER nms_param { nms_threshold: 0.2 top_k: 30 } keep_top_k: 15", 1),
        ("code_type: CORNER_SIZE nms_param { nms_threshold: 0.45 top_k: 1 }", 1),
        ("share_location: false nms_param { nms_threshold: 0.45 top_k: 20 } keep_top_k: 7", 4),
        ("background_label_id: -1 nms_param { top_k: 10 } keep_top_k: 3", 1),
    ],
)
def test_a_file_finds_the_same_rows_in_the_same_order(
    tmp_path: Path, params: str, boxes: int
) -> None:
    net = net_with_priors(params, boxes)
    assert torrefy.export_onnx(net, tmp_path / "m.onnx").inputs["loc"][0] == "batch"
    model = OnnxModel(tmp_path / "m.onnx")
    for batch, seed in ((1, 0), (3, 1), (2, 2)):
        inputs = random_inputs(batch, boxes, seed)
        found = model.run(inputs)["found"]
        expected = net(**{k: torch.tensor(v) for k, v in inputs.items()})["found"].numpy()
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=1e-6)
        # The order, scores and labels are exactly the same.
        np.testing.assert_array_equal(found[..., :3], expected[..., :3])


def test_a_file_says_nothing_found_as_the_net_does(tmp_path: Path) -> None:
    torrefy.export_onnx(net_with_priors("confidence_threshold: 2"), tmp_path / "m.onnx")
    found = OnnxModel(tmp_path / "m.onnx").run(random_inputs(3))["found"]
    assert found.tolist() == [[[[float(i), *[-1.0] * 6] for i in range(3)]]]


def test_a_falling_threshold_is_refused_by_onnx(net_of: NetOf, tmp_path: Path) -> None:
    net = detector(net_of, "nms_param { eta: 0.9 }")
    with pytest.raises(ExportError) as error:
        torrefy.export_onnx(net, tmp_path / "m.onnx")
    assert str(error.value).endswith(
        'layer "op": DetectionOutput can\'t be exported to ONNX: eta is 0.9, and '
        "NonMaxSuppression's threshold can't fall. Export blobs above it: blobs=[…], or --blob."
    )
