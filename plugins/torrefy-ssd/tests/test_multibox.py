"""MultiBoxLoss: losses and gradients worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from math import log

import pytest
import torch
from torrefy.errors import LayerError
from torrefy.net.net import Net

NetOf = Callable[..., Net]
ErrorOf = Callable[..., str]

A = [0.0, 0.0, 0.4, 0.4]
B = [0.1, 0.0, 0.5, 0.4]  # overlaps A by 0.12 / 0.2 = 0.6
C = [0.6, 0.6, 0.8, 0.8]
D = [0.0, 0.6, 0.2, 0.8]
PRIORS = torch.tensor([[A + B + C + D, [0.1] * 16]])
OBJECT = [0, 1, 0, *A, 0]
"""Of picture 0, label 1, where prior A lies."""

LN3 = log(3)
SCORES = [
    [0, LN3],  # A: background 1/4, class 1 3/4
    [0, 0],  # B: 1/2 each
    [0, 0],  # C
    [0, LN3],  # D
]
# As background C costs ln 2, D ln 4; as class 1 A costs ln(4/3), B ln 2.
LOCATIONS = [
    [0.5, 0, 0, 0],  # A: what is wanted is 0
    [1, 0, -1, 0],  # B: wanted is (A − B) / 0.1 = (−1, 0, −1, 0)
    [9, 9, 9, 9],
    [9, 9, 9, 9],
]
LOSS_A, LOSS_B = 0.125, 1.5  # 0.5² / 2, and |1 + 1| − 1/2


def run(
    net_of: NetOf,
    params: str = "",
    objects: list[list[float]] | None = None,
    locations: list[list[float]] | None = None,
    scores: list[list[float]] | None = None,
    extra: str = "",
    batch: int = 1,
) -> tuple[float, torch.Tensor, torch.Tensor]:
    """The loss, and its gradients towards locations and scores, by prior."""
    rows = torch.tensor([OBJECT] if objects is None else objects, dtype=torch.float32)
    loc = torch.tensor(locations or LOCATIONS, dtype=torch.float32).reshape(batch, -1)
    conf = torch.tensor(scores or SCORES, dtype=torch.float32).reshape(batch, -1)
    classes = conf.shape[1] // 4
    net = net_of(
        "MultiBoxLoss",
        *("x".join(map(str, x.shape)) for x in (loc, conf, PRIORS, rows[None, None])),
        params=f"multibox_loss_param {{ num_classes: {classes} {params} }} {extra}",
        phase="train",
    )
    assert net.outputs == {"top0": ()}
    loc.requires_grad_()
    conf.requires_grad_()
    top = net(a=loc, b=conf, c=PRIORS, d=rows[None, None])["top0"]
    top.backward()
    assert loc.grad is not None
    assert conf.grad is not None
    return top.item(), loc.grad.reshape(-1, 4), conf.grad.reshape(-1, classes)


def test_matches_and_the_worst_negatives_are_averaged(net_of: NetOf) -> None:
    # A and B match; int(2 · 0.5) = 1 negative, D with ln 4.
    loss, loc, conf = run(net_of, "neg_pos_ratio: 0.5")
    expected = (LOSS_A + LOSS_B + log(4 / 3) + log(2) + log(4)) / 2
    assert loss == pytest.approx(expected)
    # Halves of: 0.5; the sign of 1 + 1; nothing of others.
    torch.testing.assert_close(
        loc, torch.tensor([[0.25, 0, 0, 0], [0.5, 0, 0, 0], [0.0] * 4, [0.0] * 4])
    )
    # Halves of the probabilities, less 1 at the label.
    torch.testing.assert_close(
        conf, torch.tensor([[0.125, -0.125], [0.25, -0.25], [0, 0], [-0.375, 0.375]])
    )


def test_locations_have_their_weight(net_of: NetOf) -> None:
    loss, loc, _ = run(net_of, "neg_pos_ratio: 0 loc_weight: 4")
    assert loss == pytest.approx((4 * (LOSS_A + LOSS_B) + log(4 / 3) + log(2)) / 2)
    torch.testing.assert_close(loc[:2, 0], torch.tensor([1.0, 2.0]))


def test_l2_is_half_the_square(net_of: NetOf) -> None:
    loss, loc, _ = run(net_of, "neg_pos_ratio: 0 loc_loss_type: L2")
    assert loss == pytest.approx((0.125 + 2 + log(4 / 3) + log(2)) / 2)
    torch.testing.assert_close(loc[:2, 0], torch.tensor([0.25, 1.0]))


def test_bipartite_matches_one_prior_an_object(net_of: NetOf) -> None:
    # A alone matches. B overlaps the object by 0.6, so that it is no negative; C and D are.
    loss, _, conf = run(net_of, "match_type: BIPARTITE")
    assert loss == pytest.approx(LOSS_A + log(4 / 3) + log(2) + log(4))
    assert not conf[1].any()
    # With a higher bound B is the worst but one: as background it costs ln 2, and stands before C.
    loss, _, conf = run(net_of, "match_type: BIPARTITE neg_overlap: 0.7 neg_pos_ratio: 2")
    assert loss == pytest.approx(LOSS_A + log(4 / 3) + log(4) + log(2))
    assert not conf[2].any()


def test_overlap_must_reach_the_threshold(net_of: NetOf) -> None:
    loss, _, _ = run(net_of, "overlap_threshold: 0.61 neg_pos_ratio: 0")
    assert loss == pytest.approx(LOSS_A + log(4 / 3))


@pytest.mark.parametrize("mining", ["mining_type: NONE", "do_neg_mining: false"])
def test_without_mining_all_scores_count(net_of: NetOf, mining: str) -> None:
    loss, _, _ = run(net_of, mining)
    scores = log(4 / 3) + log(2) + log(2) + log(4)
    assert loss == pytest.approx((LOSS_A + LOSS_B + scores) / 2)


def test_hard_examples_are_the_largest_losses_of_both_kinds(net_of: NetOf) -> None:
    # A ln(4/3) + 0.125 = 0.41, B ln 2 + 1.5 = 2.19, C ln 2 = 0.69, D ln 4 = 1.39: B and D. A is
    # no match any more.
    loss, loc, conf = run(net_of, "mining_type: HARD_EXAMPLE sample_size: 2")
    assert loss == pytest.approx(LOSS_B + log(2) + log(4))
    assert loc[:, 0].tolist() == [0, 1, 0, 0]
    assert conf.any(1).tolist() == [False, True, False, True]


@pytest.mark.parametrize(
    ("nms", "chosen"),
    [
        # A overlaps B, which is worse, by 0.6.
        ("nms_threshold: 0.5 top_k: 4", [False, True, True, True]),
        ("nms_threshold: 0.7 top_k: 4", [True, True, True, True]),
        # Two at most: B, D.
        ("nms_threshold: 0.5 top_k: 2", [False, True, False, True]),
        ("nms_threshold: 0.5 top_k: -1", [False, True, True, True]),
        # As in Caffe none without top_k.
        ("nms_threshold: 0.5", [False, False, False, False]),
    ],
)
def test_hard_examples_can_be_kept_apart(net_of: NetOf, nms: str, chosen: list[bool]) -> None:
    params = "mining_type: HARD_EXAMPLE use_prior_for_nms: true nms_param { " + nms + " }"
    _, _, conf = run(net_of, params)
    assert conf.any(1).tolist() == chosen


def test_predictions_can_be_kept_apart_too(net_of: NetOf) -> None:
    # Decoded: A, and B moved by −0.1 at both ends to where A is; C and D far outside.
    locations = [[0.0] * 4, [-1, 0, -1, 0], [30.0] * 4, [60.0] * 4]
    params = "mining_type: HARD_EXAMPLE nms_param { nms_threshold: 0.9 top_k: 4 }"
    _, _, conf = run(net_of, params, locations=locations)
    assert conf.any(1).tolist() == [False, True, True, True]


def test_logistic_is_a_loss_for_each_class(net_of: NetOf) -> None:
    # A: background not, at 0: ln 2; class 1, at ln 3: ln(4/3). B: ln 2 twice.
    # Negatives: C ln 2 twice; D: background, at 0: ln 2; class 1 not, at ln 3: ln 4. D is worse.
    params = "conf_loss_type: LOGISTIC neg_pos_ratio: 0.5"
    loss, _, conf = run(net_of, params)
    scores = (log(2) + log(4 / 3)) + 2 * log(2) + (log(2) + log(4))
    assert loss == pytest.approx((LOSS_A + LOSS_B + scores) / 2)
    torch.testing.assert_close(
        conf, torch.tensor([[0.25, -0.125], [0.25, -0.25], [0, 0], [-0.25, 0.375]])
    )
    # Without mining a prior without an object has no target at all, not even the background.
    loss, _, conf = run(net_of, "conf_loss_type: LOGISTIC mining_type: NONE")
    torch.testing.assert_close(conf[3], torch.tensor([0.25, 0.375]))


@pytest.mark.parametrize(
    ("mode", "number"),
    [
        ("normalization: VALID", 2),
        ("normalization: FULL", 4),
        ("normalization: BATCH_SIZE", 1),
        ("normalization: NONE", 1),
        ("normalize: false", 1),
    ],
)
def test_the_sum_is_divided_as_loss_param_says(net_of: NetOf, mode: str, number: int) -> None:
    loss, _, _ = run(net_of, "neg_pos_ratio: 0", extra=f"loss_param {{ {mode} }}")
    assert loss == pytest.approx((LOSS_A + LOSS_B + log(4 / 3) + log(2)) / number)


@pytest.mark.parametrize(
    "objects",
    [
        [[-1.0] * 8],
        [[1, *OBJECT[1:]]],  # of a picture that isn't there
    ],
)
def test_without_objects_the_loss_is_0(net_of: NetOf, objects: list[list[float]]) -> None:
    loss, loc, conf = run(net_of, objects=objects)
    assert loss == 0
    assert not loc.any()
    assert not conf.any()
    # Without mining all is background: ln 4, ln 2, ln 2, ln 4 over 1.
    assert run(net_of, "mining_type: NONE", objects=objects)[0] == pytest.approx(log(64))


def test_pictures_without_objects_cost_nothing(net_of: NetOf) -> None:
    loss, _, conf = run(
        net_of, "neg_pos_ratio: 0.5", locations=LOCATIONS * 2, scores=SCORES * 2, batch=2,
        objects=[[1, *OBJECT[1:]]],
    )  # fmt: skip
    assert loss == pytest.approx((LOSS_A + LOSS_B + log(4 / 3) + log(2) + log(4)) / 2)
    assert not conf[:4].any()


def test_difficult_objects_can_be_left_out(net_of: NetOf) -> None:
    objects = [[*OBJECT[:7], 1]]
    assert run(net_of, "neg_pos_ratio: 0", objects=objects)[0] > 0
    assert run(net_of, "neg_pos_ratio: 0 use_difficult_gt: false", objects=objects)[0] == 0


def test_variances_can_be_in_the_targets(net_of: NetOf) -> None:
    # The numbers are then 0.1 of the others, and are divided by the variance for the loss.
    locations = [[0.1 * x for x in row] for row in LOCATIONS]
    loss, loc, _ = run(
        net_of, "neg_pos_ratio: 0 encode_variance_in_target: true", locations=locations
    )
    assert loss == pytest.approx((LOSS_A + LOSS_B + log(4 / 3) + log(2)) / 2)
    torch.testing.assert_close(loc[:2, 0], torch.tensor([2.5, 5.0]))


def test_center_size_is_encoded_as_the_paper_says(net_of: NetOf) -> None:
    # The object is C moved by half its width and twice as wide: targets 0.5 / 0.1 and
    # ln 2 / 0.1. It overlaps C by 0.04 / 0.08.
    box = [0.6, 0.6, 1.0, 0.8]
    zeros = [[0.0] * 4] * 4
    loss, loc, _ = run(
        net_of, "code_type: CENTER_SIZE neg_pos_ratio: 0", objects=[[0, 1, 0, *box, 0]],
        locations=zeros,
    )  # fmt: skip
    assert loss == pytest.approx((5 - 0.5) + (10 * log(2) - 0.5) + log(2), rel=1e-5)
    assert loc[2].tolist() == [-1, 0, -1, 0]


def test_predictions_can_be_matched_instead_of_priors(net_of: NetOf) -> None:
    # D is predicted where the object is, 0.6 higher; the others are far from it.
    locations = [[30.0] * 4, [30.0] * 4, [30.0] * 4, [0, -6, 2, -4]]
    loss, _, conf = run(
        net_of, "use_prior_for_matching: false neg_pos_ratio: 0", locations=locations
    )
    # What is wanted of D is that very number.
    assert loss == pytest.approx(log(4 / 3), abs=1e-5)
    assert conf.any(1).tolist() == [False, False, False, True]


def test_coordinates_outside_the_picture_can_be_left_out(net_of: NetOf) -> None:
    objects = [[0, 1, 0, *A, 0]]
    # Decoded: A with xmin at −0.05, the other numbers as wanted but ymax.
    locations = [[-0.5, 0, 0, 0.5], *[[30.0] * 4] * 3]
    params = "use_prior_for_matching: false neg_pos_ratio: 0 bp_inside: true"
    loss, loc, _ = run(net_of, params, objects=objects, locations=locations)
    assert loss == pytest.approx(0.125 + log(4 / 3))
    torch.testing.assert_close(loc[0], torch.tensor([0, 0, 0, 0.5]))


def test_boxes_over_the_border_can_be_ignored(net_of: NetOf) -> None:
    # The prediction of A crosses the border, B is at the object.
    locations = [[-1, 0, 0, 0], [-1, 0, -1, 0], *[[30.0] * 4] * 2]
    params = "use_prior_for_matching: false ignore_cross_boundary_bbox: true neg_pos_ratio: 0"
    loss, _, conf = run(net_of, params, locations=locations)
    assert loss == pytest.approx(log(2), abs=1e-5)
    assert conf.any(1).tolist() == [False, True, False, False]
    # What is ignored is no negative, either; C and D cross the border, too.
    assert run(net_of, params.replace("ratio: 0", "ratio: 9"), locations=locations)[0] == loss


def test_objects_can_be_one_class(net_of: NetOf) -> None:
    params = "map_object_to_agnostic: true neg_pos_ratio: 0"
    loss, _, _ = run(net_of, params, objects=[[0, 17, 0, *A, 0]])
    assert loss == pytest.approx((LOSS_A + LOSS_B + log(4 / 3) + log(2)) / 2)


@pytest.mark.parametrize("prior", ["true", "false"])
def test_each_class_can_have_a_box_of_its_own(net_of: NetOf, prior: str) -> None:
    # Numbers by prior and class (background, 1); only those of class 1 count.
    locations = [
        [7, 7, 7, 7, *row] for row in ([0.5, 0, 0, 0], [1, 0, -1, 0], [9.0] * 4, [9.0] * 4)
    ]
    params = f"share_location: false mining_type: NONE use_prior_for_matching: {prior}"
    loss, loc, _ = run(net_of, params, locations=locations)
    scores = log(4 / 3) + log(2) + log(2) + log(4)
    if prior == "true":
        assert loss == pytest.approx((LOSS_A + LOSS_B + scores) / 2)
        torch.testing.assert_close(loc[[1, 3], 0], torch.tensor([0.25, 0.5]))
        assert not loc[::2].any()
    else:
        # A is predicted from 0.05 on: 0.35 / 0.4 of the object. B from 0.2 to 0.4: 0.5 of it.
        assert loss == pytest.approx((LOSS_A + LOSS_B + scores) / 2)


def test_a_prior_can_match_an_object_of_each_class(net_of: NetOf) -> None:
    # Objects of classes 1 and 2 where A is: A and B match both, with two boxes each.
    objects = [[0, 1, 0, *A, 0], [0, 2, 0, *A, 0]]
    params = "share_location: false mining_type: NONE use_prior_for_matching: false"
    locations = [[0.0] * 12] * 4
    scores = [[0, 0, log(2)], *[[0.0] * 3] * 3]
    # B wants (−1, 0, −1, 0) twice: twice 1. A is taken for class 2, the last: 1/2 of (1, 1, 2).
    loss, _, _ = run(net_of, params, objects, locations, scores)
    assert loss == pytest.approx((2 + log(2) + 3 * log(3)) / 4)
    # LOGISTIC wants both classes of A and B: of A ln 2 twice, and ln(3/2) for 2/3.
    params += " conf_loss_type: LOGISTIC"
    loss, _, conf = run(net_of, params, objects, locations, scores)
    assert loss == pytest.approx((2 + 2 * log(2) + log(3 / 2) + 9 * log(2)) / 4)
    torch.testing.assert_close(conf[1], torch.tensor([0.5, -0.5, -0.5]) / 4)


def test_a_loss_that_is_not_propagated_does_not_count(net_of: NetOf) -> None:
    objects = torch.tensor([[[OBJECT]]])
    arguments = {
        "a": torch.tensor([LOCATIONS]).flatten(1), "b": torch.tensor([SCORES]).flatten(1),
        "c": PRIORS, "d": objects,
    }  # fmt: skip
    down = "propagate_down: {} propagate_down: {} propagate_down: false propagate_down: false"
    for flags, expected in (
        (("true", "false"), (LOSS_A + LOSS_B) / 2),
        (("false", "true"), (log(4 / 3) + log(2)) / 2),
    ):
        params = "multibox_loss_param { num_classes: 2 neg_pos_ratio: 0 } " + down.format(*flags)
        net = net_of(
            "MultiBoxLoss", "1x16", "1x8", "1x2x16", "1x1x1x8", phase="train", params=params
        )  # fmt: skip
        assert net(**arguments)["top0"].item() == pytest.approx(expected)


def test_a_detector_learns_a_box(net_of: NetOf) -> None:
    net = net_of(
        "MultiBoxLoss", "1x16", "1x8", "1x2x16", "1x1x1x8", phase="train",
        params="multibox_loss_param { num_classes: 2 code_type: CENTER_SIZE }",
    )  # fmt: skip
    loc = torch.zeros(1, 16, requires_grad=True)
    conf = torch.zeros(1, 8, requires_grad=True)
    rows = torch.tensor([[[[0, 1, 0, 0.05, 0.05, 0.5, 0.5, 0]]]])
    optimizer = torch.optim.SGD([loc, conf], lr=0.5)
    for _ in range(100):
        optimizer.zero_grad()
        loss = net(a=loc, b=conf, c=PRIORS, d=rows)["top0"]
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ([[0, 0, 0, *A, 0]], "there is an object of label 0, which is the background"),
        ([[0, 2, 0, *A, 0]], "there is an object of label 2, which is none of 2 classes"),
        (
            [[0, 1, 0, 0.5, 0.5, 0.5, 0.75, 0]],
            "there is an object of no width or no height: 0.5, 0.5, 0.5, 0.75",
        ),
    ],
)
def test_objects_that_can_not_be_are_told(
    net_of: NetOf, objects: list[list[float]], message: str
) -> None:
    with pytest.raises(LayerError) as error:
        run(net_of, "code_type: CENTER_SIZE", objects=objects)
    assert str(error.value) == f'layer "op": {message}'


@pytest.mark.parametrize(
    ("params", "word", "message"),
    [
        (
            "",
            "multibox_loss_param",
            "num_classes is missing. Give multibox_loss_param { num_classes: … }.",
        ),
        (
            "num_classes: 2 do_neg_mining: true mining_type: NONE",
            "do_neg_mining",
            "do_neg_mining: true contradicts mining_type: NONE. Leave it out.",
        ),
        (
            "num_classes: 2 share_location: false",
            "share_location",
            "mining_type MAX_NEGATIVE needs share_location: true",
        ),
        (
            "num_classes: 2 background_label_id: 2",
            "background_label_id",
            "background_label_id 2 is none of 2 classes, which SOFTMAX needs",
        ),
        (
            "num_classes: 3 map_object_to_agnostic: true",
            "num_classes",
            "map_object_to_agnostic needs num_classes: 2, found 3",
        ),
        (
            "num_classes: 3",
            "bottom",
            "bottom 1 of 1x8 has 8 numbers a picture, but 4 priors take 12: 3 for each prior",
        ),
    ],
)
def test_wrong_parameters_are_told(error_of: ErrorOf, params: str, word: str, message: str) -> None:
    found = error_of(
        "MultiBoxLoss", "1x16", "1x8", "1x2x16", "1x1x1x8",
        params=f"multibox_loss_param {{ {params} }}",
    )  # fmt: skip
    assert found == f'{word}: layer "op": {message}'


def test_objects_have_8_numbers(error_of: ErrorOf) -> None:
    params = "multibox_loss_param { num_classes: 2 }"
    assert error_of("MultiBoxLoss", "1x16", "1x8", "1x2x16", "1x1x8", params=params) == (
        'bottom: layer "op": bottom 3 must hold objects, 1x1xGx8, found 1x1x8'
    )
