"""DetectionEvaluate: rows worked out by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torrefy.errors import LayerError
from torrefy.net.net import Net

NetOf = Callable[..., Net]
ErrorOf = Callable[..., str]

A = [0.0, 0.0, 0.4, 0.4]
B = [0.1, 0.0, 0.5, 0.4]  # overlaps A by 0.6
C = [0.6, 0.6, 0.8, 0.8]

OBJECTS = [
    # picture, label, instance, box, difficult
    [0, 1, 0, *A, 0],
    [0, 1, 1, *C, 1],
    [1, 2, 0, *A, 0],
]


def judged(net_of: NetOf, found: list[list[float]], params: str = "") -> list[list[float]]:
    net = net_of(
        "DetectionEvaluate", f"1x1x{len(found)}x7", f"1x1x{len(OBJECTS)}x8",
        params=f"detection_evaluate_param {{ num_classes: 3 {params} }}",
    )  # fmt: skip
    objects = torch.tensor(OBJECTS)[None, None]
    top = net(a=torch.tensor(found)[None, None], b=objects)["top0"]
    rows: list[list[float]] = [[round(x, 6) for x in row] for row in top[0, 0].tolist()]
    return rows


COUNTS = [[-1, 1, 2, -1, -1], [-1, 2, 1, -1, -1]]


def test_the_best_detection_of_each_object_is_right(net_of: NetOf) -> None:
    found = [
        [0, 1, 0.5, *B],  # a second of A
        [0, 1, 0.75, *A],
        [0, 1, 0.25, *C],
        [0, 2, 0.75, *A],  # no object of this label
        [1, 2, 0.5, *B],  # overlaps enough
        [2, 1, 0.5, *A],  # no object in this picture
    ]
    assert judged(net_of, found) == [
        *COUNTS,
        [0, 1, 0.75, 1, 0],
        [0, 1, 0.5, 0, 1],
        [0, 1, 0.25, 1, 0],
        [0, 2, 0.75, 0, 1],
        [1, 2, 0.5, 1, 0],
        [2, 1, 0.5, 0, 1],
    ]


def test_overlap_must_reach_the_threshold(net_of: NetOf) -> None:
    found = [[1, 2, 0.5, *B]]
    assert judged(net_of, found, "overlap_threshold: 0.59")[-1] == [1, 2, 0.5, 1, 0]
    assert judged(net_of, found, "overlap_threshold: 0.61")[-1] == [1, 2, 0.5, 0, 1]


def test_difficult_objects_can_be_left_out(net_of: NetOf) -> None:
    found = [[0, 1, 0.5, *C], [0, 1, 0.25, *C], [0, 1, 0.75, *A]]
    assert judged(net_of, found, "evaluate_difficult_gt: false") == [
        [-1, 1, 1, -1, -1],
        [-1, 2, 1, -1, -1],
        [0, 1, 0.75, 1, 0],
        [0, 1, 0.5, 0, 0],
        [0, 1, 0.25, 0, 0],
    ]


def test_rows_of_no_detection_are_left_out(net_of: NetOf) -> None:
    assert judged(net_of, [[0, *[-1.0] * 6]]) == COUNTS


def test_what_is_no_object_is_told(net_of: NetOf, error_of: ErrorOf) -> None:
    params = "detection_evaluate_param { num_classes: 3 }"
    net = net_of("DetectionEvaluate", "1x1x1x7", "1x1x1x8", params=params)
    with pytest.raises(LayerError, match="there is an object of label 0, which is the background"):
        net(a=torch.zeros(1, 1, 1, 7), b=torch.zeros(1, 1, 1, 8))
    assert error_of("DetectionEvaluate", "1x1x1x7", "1x8", params=params) == (
        'bottom: layer "op": bottom 1 must hold objects, 1x1xGx8, found 1x8'
    )
    assert error_of("DetectionEvaluate", "1x7", "1x1x1x8", params=params) == (
        'bottom: layer "op": bottom 0 must hold detections, 1x1xMx7, found 1x7'
    )
