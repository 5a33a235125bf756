"""The solver: what each field does, what it tells, and what it refuses."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.train.conftest import NET, SOLVER
from torch.utils.data import DataLoader, TensorDataset

import torrefy
from torrefy.errors import TorrefyError
from torrefy.schema import new_message, parse_text
from torrefy.train.feed import ONE, Arrays, IterableFeed, Peeked
from torrefy.train.solver import Solver

Make = Callable[..., Solver]


def weights(solver: Solver) -> list[torch.Tensor]:
    return [blob.detach().clone() for blobs in solver.net.params.values() for blob in blobs]


def same(one: Solver, other: Solver) -> bool:
    pairs = zip(weights(one), weights(other), strict=True)
    return all(torch.equal(mine, theirs) for mine, theirs in pairs)


def test_a_solver_learns_and_tests_the_net_it_trains(make: Make) -> None:
    solver = make("test_iter: 2 test_interval: 10 snapshot_after_train: false")
    before = solver.test()[0]
    assert sorted(before) == ["accuracy", "loss"]
    solver.solve()
    assert solver.iteration == 30
    after = solver.scores[0]
    assert after["loss"] < before["loss"] / 2
    assert after["accuracy"] > 0.8
    assert solver.test_nets[0].params["ip1"][0] is solver.net.params["ip1"][0]
    assert torch.equal(
        solver.test_nets[0].params["norm"][0], solver.net.params["norm"][0]
    )  # statistics
    assert solver.lr == pytest.approx(0.1)
    assert not list(Path().glob("snap*"))


def test_torrefy_exports_it() -> None:
    assert torrefy.Solver is Solver


def test_the_same_seed_gives_the_same_bits_and_another_one_others(make: Make) -> None:
    one, again = make(), make()
    assert one.step(5) == again.step(5)
    assert same(one, again)
    other = make(text=SOLVER.replace("random_seed: 7", "random_seed: 8"))
    other.step(5)
    assert not same(one, other)


def test_it_says_what_caffe_logs(make: Make) -> None:
    solver = make("display: 2 average_loss: 2 test_iter: 1 test_interval: 2 max_iter: 4",
                  text=SOLVER.replace("max_iter: 30 ", ""))  # fmt: skip
    lines: list[str] = []
    solver.log = lines.append
    losses = solver.step(4)
    solver.solve()
    told = [line.split(" (")[0] + line.partition(")")[2] for line in lines if "iter/s" in line]
    assert told[0] == f"Iteration 2, loss = {(losses[1] + losses[2]) / 2:g}"
    assert [line for line in lines if "lr" in line] == [
        "Iteration 0, lr = 0.1", "Iteration 2, lr = 0.1",
    ]  # fmt: skip
    assert "    Train net output #0: loss = " + f"{losses[2]:g} (* 1 = {losses[2]:g} loss)" in lines
    assert lines[0] == "Iteration 0, Testing net (#0)"
    assert lines[1].startswith("    Test net output #0: loss = ")
    assert lines[2].startswith("    Test net output #1: accuracy = ")
    assert [line for line in lines if "Testing" in line] == [
        f"Iteration {i}, Testing net (#0)" for i in (0, 2, 4)
    ]
    assert "Snapshotting solver state to snap_iter_4.solverstate" in lines
    assert lines.index("Snapshotting solver state to snap_iter_4.solverstate") < lines.index(
        "Iteration 4, Testing net (#0)"
    )


def test_debug_info_tells_the_size_of_every_blob_diff_and_update(make: Make) -> None:
    solver = make("debug_info: true")
    lines: list[str] = []
    solver.log = lines.append
    old = solver.net.params["ip2"][0].detach().clone()
    losses = solver.step(1)
    new, diff = solver.net.params["ip2"][0].detach(), solver.net.params["ip2"][0].grad
    assert diff is not None
    told = dict(line.rsplit(": ", 1) for line in lines)
    expected = {
        "    [Forward] Layer loss, top blob loss data": losses[0],
        "    [Forward] Layer ip2, param blob 0 data": old.abs().mean().item(),
        "    [Backward] Layer ip2, param blob 0 diff": diff.abs().mean().item(),
        "    [Update] Layer ip2, param 0 data: " + f"{old.abs().mean().item():g}; diff":
            (old - new).abs().mean().item(),
    }  # fmt: skip
    for key, value in expected.items():
        assert float(told[key]) == pytest.approx(value, rel=1e-4)
    assert "    [Backward] Layer relu, bottom blob norm diff" in told
    assert "    [Backward] Layer ip1, bottom blob data diff" not in told
    assert "    [Backward] All net params (data, diff): L1 norm = (" in "\n".join(lines)
    plain = make()
    assert plain.step(1) == losses
    assert same(plain, solver)


def test_test_initialization_false_leaves_out_the_first_test(make: Make) -> None:
    solver = make("test_iter: 1 test_interval: 5 test_initialization: false")
    solver.step(5)
    assert solver.scores == []
    solver.step(1)
    assert solver.scores


def test_test_compute_loss_adds_the_weighted_loss(make: Make, folder: Path) -> None:
    net = NET.replace('top: "loss" }', 'top: "xent" loss_weight: 2 }')
    (folder / "net.prototxt").write_text(net)
    solver = make("test_iter: 1 test_interval: 5 test_compute_loss: true")
    scores = solver.test()[0]
    assert float(scores["loss"]) == pytest.approx(2 * float(scores["xent"]))


def test_test_nets_are_tested_in_caffes_order(make: Make, folder: Path) -> None:
    (folder / "other.prototxt").write_text(NET.replace('"small"', '"other"'))
    inline = NET.replace('"small"', '"inline"')
    solver = make(
        f'test_net: "other.prototxt" test_net_param {{ {inline} }} test_interval: 9 '
        "test_iter: 1 test_iter: 1 test_iter: 1 test_iter: 1 "
        'test_state {} test_state { stage: "x" } test_state {} test_state { level: 3 }'
    )
    assert [net.graph.name for net in solver.test_nets] == ["inline", "other", "small", "small"]
    states = [net.graph.state for net in solver.test_nets]
    assert [state.stages for state in states] == [(), ("x",), (), ()]
    assert [state.level for state in states] == [0, 0, 0, 3]
    assert len(solver.test()) == 4


@pytest.mark.parametrize("field", ["net_param", "train_net_param", "train_net"])
def test_a_net_is_named_in_four_ways(make: Make, field: str) -> None:
    given = 'train_net: "net.prototxt"' if field == "train_net" else f"{field} {{ {NET} }}"
    solver = make(text=SOLVER.replace('net: "net.prototxt"', given))
    solver.step(5)
    other = make()
    other.step(5)
    assert same(solver, other)


def test_train_state_chooses_layers(make: Make, folder: Path) -> None:
    net = NET.replace('name: "drop"', 'include { stage: "drop" } name: "drop"')
    (folder / "net.prototxt").write_text(net)
    assert "drop" not in make().net.layers
    assert "drop" in make('train_state { stage: "drop" }').net.layers


def test_iter_size_averages_gradients_over_passes(make: Make, folder: Path) -> None:
    plain = NET.replace(" shuffle: true", "")
    for name in ("norm", "drop"):
        start = plain.index(f'layer {{ name: "{name}"')
        plain = plain[:start] + plain[plain.index("layer", start + 5) :]
    plain = plain.replace('bottom: "norm"', 'bottom: "ip1"').replace('top: "norm"', 'top: "ip1"')
    (folder / "net.prototxt").write_text(plain)
    parts = make("iter_size: 5")
    (folder / "net.prototxt").write_text(plain.replace("batch_size: 4", "batch_size: 20"))
    whole = make()
    assert parts.step(4) == pytest.approx(whole.step(4), rel=1e-5)
    for one, other in zip(weights(parts), weights(whole), strict=True):
        torch.testing.assert_close(one, other)


def test_the_older_solver_type_is_read(make: Make) -> None:
    solver = make("solver_type: NESTEROV")
    assert type(solver.optimizer).__name__ == "Nesterov"


def test_a_param_under_no_loss_decays_as_in_caffe(make: Make, folder: Path) -> None:
    idle = """layer { name: "idle" type: "InnerProduct" bottom: "data" top: "idle"
      inner_product_param { num_output: 2 weight_filler { type: "constant" value: 1 } } }
      layer { name: "quiet" type: "Silence" bottom: "idle" }"""
    (folder / "net.prototxt").write_text(NET + idle)
    solver = make()
    solver.step(1)
    assert solver.net.params["idle"][0][0, 0].item() == pytest.approx(1 - 0.1 * 0.001)


def test_what_is_read_over_is_noted(make: Make) -> None:
    solver = make("solver_mode: GPU device_id: 1 snapshot_diff: true")
    assert solver.notes == [
        "solver.prototxt:4:14: solver_mode is read over: the device is chosen by the argument "
        "`device`",
        "solver.prototxt:4:29: device_id is read over: the device is chosen by the argument "
        "`device`",
        "solver.prototxt:4:46: snapshot_diff is read over: gradients are not written",
    ]


def test_what_is_left_out_and_so_is_0_is_noted(make: Make) -> None:
    text = SOLVER.replace("base_lr: 0.1", "").replace("max_iter: 30", "")
    assert make("test_interval: 5", text=text).notes == [
        "solver.prototxt:1:1: base_lr is not given and so is 0: nothing is learned",
        "solver.prototxt:1:1: max_iter is not given and so is 0: solve makes no step",
        "solver.prototxt:4:16: test_interval is given, but no test_iter: nothing is tested",
    ]


def test_weights_are_loaded_and_what_is_new_is_noted(make: Make, folder: Path) -> None:
    first = make()
    first.step(3)
    first.net.save("first.caffemodel")
    (folder / "net.prototxt").write_text(NET.replace('"ip2"', '"new"'))
    solver = make('weights: "first.caffemodel"')
    assert torch.equal(solver.net.params["ip1"][0], first.net.params["ip1"][0])
    assert solver.notes == [
        "first.caffemodel: 2 layers got their weights, 1 did not (new), 1 in the file are not in "
        "the net (ip2)"
    ]
    assert solver.iteration == 0
    second = make('weights: "nowhere.caffemodel"', weights="first.caffemodel")
    assert second.notes == solver.notes


def test_layers_that_only_a_test_net_has_get_weights_too(make: Make, folder: Path) -> None:
    extra = """layer { name: "more" type: "InnerProduct" bottom: "ip2" top: "more"
      inner_product_param { num_output: 2 weight_filler { type: "gaussian" std: 1 } }
      include { phase: TEST } }"""
    (folder / "net.prototxt").write_text(NET + extra)
    text = "test_iter: 1 test_interval: 5"
    first = make(text)
    first.test_nets[0].save("first.caffemodel")
    second = make(text, text=SOLVER.replace("random_seed: 7", "random_seed: 8"),
                  weights="first.caffemodel")  # fmt: skip
    mine, other = (solver.test_nets[0].params["more"][0] for solver in (first, second))
    assert torch.equal(mine, other)
    assert same(first, second)


def test_a_solver_can_be_a_message_or_a_definition(folder: Path) -> None:
    message = new_message("caffe.SolverParameter")
    message.net, message.base_lr, message.lr_policy = "net.prototxt", 0.1, "fixed"
    assert len(Solver(message).step(2)) == 2
    assert Solver(parse_text(SOLVER, "caffe.SolverParameter")).step(1)


def test_stop_ends_after_the_iteration_and_snapshots(make: Make) -> None:
    solver = make("display: 1")
    solver.log = lambda line: solver.stop() if line.startswith("Iteration 3,") else None
    solver.solve()
    assert solver.iteration == 4
    assert Path("snap_iter_4.solverstate").exists()
    solver.log = lambda line: None
    solver.solve()
    assert solver.iteration == 30


def test_stop_in_a_test_leaves_the_scores_before_it_and_the_test_is_made_anew(make: Make) -> None:
    more = "test_iter: 3 test_interval: 5 snapshot: 1000"
    whole = make(more)
    whole.step(6)
    wanted = whole.scores
    solver = make(more)
    solver.step(5)
    before = solver.scores
    passes = 0

    def stop(*_: object) -> None:
        nonlocal passes
        passes += 1
        solver.stop()

    hook = solver.test_nets[0].register_forward_hook(stop)
    assert solver.step(10) == []
    assert (passes, solver.iteration, solver.stopped) == (1, 5, True)
    assert solver.scores is before
    solver.snapshot()
    hook.remove()
    resumed = make(more, resume="snap_iter_5.solverstate")
    for going_on in (solver, resumed):
        assert len(going_on.step(1)) == 1
        assert going_on.scores == wanted
    solver.stop()
    assert solver.test()[0].keys() == wanted[0].keys()  # a stop of old stops no test of today


def test_a_requested_snapshot_is_made_once(make: Make) -> None:
    solver = make()
    solver.step(1)
    solver.request_snapshot()
    solver.step(2)
    assert [p.name for p in Path().glob("*.solverstate")] == ["snap_iter_2.solverstate"]


# --- What feeds it ---


def rows(count: int = 20) -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    return {"data": random.normal(size=(count, 5)), "label": np.arange(count) % 3}


def input_net(folder: Path) -> None:
    start = NET.index('layer { name: "ip1"')
    text = """layer { name: "data" type: "Input" top: "data" top: "label"
      input_param { shape { dim: 4 dim: 5 } shape { dim: 4 } } }"""
    net = NET[start : NET.index('layer { name: "drop"')] + NET[NET.index('layer { name: "ip2"') :]
    (folder / "net.prototxt").write_text(text + net)


@pytest.mark.parametrize("kind", ["dicts", "loader", "arrays"])
def test_batches_come_from_anywhere(make: Make, folder: Path, kind: str) -> None:
    input_net(folder)
    arrays = rows()
    data, label = (torch.from_numpy(arrays[name]) for name in ("data", "label"))
    feeds: Any = {
        "dicts": [{"data": arrays["data"], "label": arrays["label"], "name": "x"}],
        "loader": DataLoader(TensorDataset(data, label), batch_size=20),
        "arrays": Arrays(arrays, 20),
    }[kind]
    solver = make(feeds=feeds)
    reference = make(feeds=[(data.float(), label.float())])
    assert solver.step(3) == reference.step(3)
    assert solver.net.inputs == {"data": (20, 5), "label": (20,)}


def test_test_nets_are_fed_one_by_one_or_all_from_one(make: Make, folder: Path) -> None:
    input_net(folder)
    text = "test_iter: 1 test_iter: 2 test_interval: 5"
    solver = make(text, feeds=Arrays(rows(), 4), test_feeds=[Arrays(rows(), 4), [rows(8)]])
    assert len(solver.test()) == 2
    with pytest.raises(TorrefyError) as error:
        make(text, feeds=Arrays(rows(), 4), test_feeds=Arrays(rows(), 4))
    assert str(error.value) == "2 test nets, but 1 test_feeds: give one for each"


def test_arrays_go_on_over_the_end_of_an_epoch_and_shuffle_each_anew() -> None:
    feed = Arrays({"x": np.arange(5)}, 3)
    assert [next(feed)["x"].tolist() for _ in range(3)] == [[0, 1, 2], [3, 4, 0], [1, 2, 3]]
    shuffled = Arrays({"x": np.arange(50)}, 50, shuffle=True, seed=3)
    first, second = next(shuffled)["x"], next(shuffled)["x"]
    assert not torch.equal(first, second)
    assert torch.equal(first.sort()[0], second.sort()[0])
    again = Arrays({"x": np.arange(50)}, 50, shuffle=True, seed=3)
    again.load_state_dict({"row": 50})
    assert torch.equal(next(again)["x"], second)


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        (None, 'net.prototxt:1:1: layer "data": its type, Input, names no data. Give the batches '
         "as feeds, or as test_feeds."),
        ([], "what is given as feeds has no batches"),
        ([{"data": [[1.0] * 5]}], 'a batch has nothing for the input "label". It has data.'),
        ([[[1.0]]], "a batch has 1 arrays, but the net 2 inputs: data, label"),
        (iter([rows()]), "the batches given as feeds have come to an end. Give something that can "
         "be run through again, as a list or a DataLoader."),
        (5, f"feeds are batches one after another, found int. {ONE}"),
        ({"data": np.ones((4, 5))}, f"feeds are batches one after another, found dict. {ONE}"),
        ((np.ones((4, 5)), np.ones(4)), "a batch has 4 arrays, but the net 2 inputs: data, label. "
         + ONE),
        ([7], f"a batch is a dict or a tuple of arrays, found int. {ONE}"),
        ([(np.ones((4, 5)), None)], "a batch holds arrays of numbers, found NoneType"),
    ],
)  # fmt: skip
def test_feeds_that_do_not_fit_are_told(make: Make, folder: Path, feeds: Any, message: str) -> None:
    input_net(folder)
    with pytest.raises(TorrefyError) as error:
        make(feeds=feeds).step(2)
    assert str(error.value) == message


def test_arrays_that_do_not_fit_are_told() -> None:
    for arrays, size, message in (
        ({"x": [1, 2], "y": [1]}, 1, "arrays must have as many rows each, and some; found x: 2, "
         "y: 1"),
        ({"x": []}, 1, "arrays must have as many rows each, and some; found x: 0"),
        ({"x": [1]}, 0, "batch_size must be 1 or more, found 0"),
    ):  # fmt: skip
        with pytest.raises(TorrefyError) as error:
            Arrays(arrays, size)  # type: ignore[arg-type]
        assert str(error.value) == message


# --- What it refuses ---


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('net: "net.prototxt"', "", "solver.prototxt:1:1: the solver names no net. Give net: "
         '"train_val.prototxt", or one of net_param, train_net, train_net_param.'),
        ('net: "net.prototxt"', 'net: "net.prototxt" train_net: "net.prototxt"',
         "solver.prototxt:1:32: net and train_net are given: a solver trains one net"),
        ('"net.prototxt"', '"nett.prototxt"', "nett.prototxt: no such file. Did you mean "
         '"net.prototxt"?'),
        ("max_iter: 30", 'max_iter: 30 type: "Adamm"', 'solver.prototxt:3:20: there is no solver '
         'type "Adamm". Did you mean "Adam"?'),
        ("max_iter: 30", 'max_iter: 30 type: "RMSProp"', "solver.prototxt:3:20: RMSProp takes no "
         "momentum, found 0.9. Leave it out."),
        ("max_iter: 30", 'max_iter: 30 regularization_type: "L3"', "solver.prototxt:3:35: there is "
         'no regularization_type "L3". It is L2 or L1.'),
        ("max_iter: 30", "max_iter: 30 iter_size: 0", "solver.prototxt:3:25: iter_size must be 1 "
         "or more, found 0"),
        ("max_iter: 30", "max_iter: 30 display: -1", "solver.prototxt:3:23: display must be 0 or "
         "more, found -1"),
        ("max_iter: 30", "max_iter: 30 test_iter: 2", "solver.prototxt:3:25: there are test nets, "
         "but no test_interval. Give test_interval: the iterations between two tests."),
        ("max_iter: 30", 'max_iter: 30 test_net: "net.prototxt"', "solver.prototxt:3:24: 1 test "
         "nets, but 0 test_iter: give one for each"),
        ("max_iter: 30", "max_iter: 30 test_iter: 1 test_interval: 1 test_state {} test_state {}",
         "solver.prototxt:3:44: 1 test nets, but 2 test_state: give one for each, or none"),
        ('"snap"', '"gone/snap"', 'solver.prototxt:3:46: snapshots are to be written to "gone", '
         "which is no folder. Make it, or start where it is."),
        ('lr_policy: "fixed"', 'lr_policy: "step" type: "X" iter_size: 0', 'solver.prototxt:2:25: '
         'lr_policy "step" needs stepsize, which is missing. Give stepsize: …\n'
         'solver.prototxt:2:38: there is no solver type "X". There are SGD, Nesterov, AdaGrad, '
         'RMSProp, AdaDelta, Adam, AdamW.\n'
         "solver.prototxt:2:53: iter_size must be 1 or more, found 0"),
        ('lr_policy: "fixed"', 'lr_policy: "fix"', 'solver.prototxt:2:25: there is no lr_policy '
         '"fix". Did you mean "fixed"?'),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("bare")
def test_a_solver_that_is_wrong_is_told(make: Make, old: str, new: str, message: str) -> None:
    assert old in SOLVER
    with pytest.raises(TorrefyError) as error:
        make(text=SOLVER.replace(old, new))
    assert str(error.value) == message


def test_a_net_beside_the_solver_but_not_here_is_told(folder: Path) -> None:
    (folder / "models").mkdir()
    (folder / "net.prototxt").rename(folder / "models/net.prototxt")
    (folder / "models/solver.prototxt").write_text(SOLVER)
    with pytest.raises(TorrefyError) as error:
        Solver("models/solver.prototxt")
    assert str(error.value) == (
        'models/solver.prototxt:1:6: there is no file "net.prototxt" here, but beside the solver. '
        "As in Caffe, paths are relative to the folder that training starts in."
    )


def test_a_net_that_would_not_learn_is_told(make: Make, folder: Path) -> None:
    start = NET.index('layer { name: "loss"')
    quiet = NET[:start] + 'layer { name: "s" type: "Silence" bottom: "label" }'
    (folder / "net.prototxt").write_text(quiet)
    with pytest.raises(TorrefyError) as error:
        make()
    assert str(error.value) == (
        "the net has no loss in phase train, so nothing would be learned. Is its loss layer left "
        "out by an include rule?"
    )
    frozen = NET.replace("inner_product_param", "param { lr_mult: 0 } param { lr_mult: 0 } "
                         "inner_product_param")  # fmt: skip
    (folder / "net.prototxt").write_text(frozen)
    with pytest.raises(TorrefyError) as error:
        make()
    assert str(error.value) == "no layer of the net has a param with an lr_mult above 0"


def test_a_test_net_of_other_shapes_is_told(make: Make, folder: Path) -> None:
    (folder / "other.prototxt").write_text(NET.replace("num_output: 6", "num_output: 7"))
    with pytest.raises(TorrefyError) as error:
        make('test_net: "other.prototxt" test_iter: 1 test_interval: 5')
    assert str(error.value) == (
        'layer "ip1": its blobs in the test net (7x5, 7) are not those of the net that is trained '
        "(6x5, 6)"
    )


def test_weights_and_resume_exclude_each_other(make: Make) -> None:
    with pytest.raises(TorrefyError) as error:
        make(weights="a.caffemodel", resume="b.solverstate")
    assert str(error.value) == (
        "weights and resume are both given. A snapshot has its own weights: give one of them."
    )


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "cuda:99"])
def test_a_device_that_is_not_there_is_told(make: Make, device: str) -> None:
    with pytest.raises(TorrefyError, match=f'there is no device "{device}" here: .*Take "cpu"'):
        make(device=device)


def test_an_infinite_rate_is_told(make: Make) -> None:
    text = SOLVER.replace('lr_policy: "fixed"', 'lr_policy: "exp" gamma: 1e30')
    solver = make(text=text)
    assert math.isinf(solver.lr) is False
    with pytest.raises(TorrefyError) as error:
        solver.step(20)
    assert str(error.value) == "solver.prototxt:2:25: the learning rate of iteration 2 is inf"


def test_a_batch_that_is_taken_ahead_is_still_to_come(folder: Path) -> None:
    ahead = Peeked(IterableFeed([(torch.full((1,), float(i)),) for i in range(3)], ["x"]))
    plain = Peeked(IterableFeed([(torch.full((1,), float(i)),) for i in range(3)], ["x"]))
    for _ in range(5):
        ahead.prefetch(lambda array: array)
        assert ahead.state_dict() == plain.state_dict()
        assert torch.equal(next(ahead)["x"], next(plain)["x"])
    state = ahead.state_dict()
    ahead.prefetch(lambda array: array)
    ahead.load_state_dict(state)
    assert torch.equal(next(ahead)["x"], next(plain)["x"])


def test_what_is_wrong_with_a_batch_taken_ahead_is_told_when_it_is_asked_for() -> None:
    feed = Peeked(IterableFeed(iter([(torch.zeros(1),)]), ["x"]))
    next(feed)
    feed.prefetch(lambda array: array)
    with pytest.raises(TorrefyError, match="have come to an end"):
        next(feed)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_batch_is_on_the_gpu_before_it_is_asked_for() -> None:
    batches = [(torch.full((64, 1024), float(i)).pin_memory(),) for i in range(4)]
    feed = Peeked(IterableFeed(batches, ["x"]))
    for i in range(8):
        feed.prefetch(lambda array: array.to("cuda", non_blocking=True))
        x = next(feed)["x"]
        assert x.device.type == "cuda"
        assert (x == i % 4).all()
