"""The phases of a finetuning: what learns in each, at which rates, and how one is run."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torrefy.data.examples import Examples
from torrefy.data.preprocess import Preprocessor
from torrefy.errors import DataError, TorrefyError, did_you_mean
from torrefy.finetune.frozen import Frozen, freeze
from torrefy.finetune.graft import LABEL, Frontier, Graft, frontier, input_layer
from torrefy.finetune.options import Options
from torrefy.finetune.pictures import data_layer, load
from torrefy.finetune.rate import find_rate
from torrefy.net.net import Net
from torrefy.net.stored import StoredLayer, StoredNet, read_weights, write_weights
from torrefy.schema import new_message, read_text, write_text
from torrefy.train.best import EarlyStopping
from torrefy.train.callbacks import Callback
from torrefy.train.feed import Arrays
from torrefy.train.keep import KeepLast
from torrefy.train.solver import Solver
from torrefy.weights.copy import copy_weights
from torrefy.weights.files import replacing
from torrefy.weights.load import load_net, read_net

MOST_KEPT = 2 << 30
"""Bytes of features that are kept on disk; a phase that would need more reads pictures."""
HEAD_RATE = 10.0
"""The head's rate where the backbone learns, as a factor of the backbone's: Caffe's habit."""
HEAD_UPDATES = 600


@dataclass(frozen=True)
class Phase:
    """What learns, and how."""

    name: str
    layers: tuple[str, ...]
    """The backbone's layers that learn; the head does in each."""
    rates: dict[str, float]
    """The lr_mult of each."""
    epochs: int
    batch: int
    lr: float
    augment: str
    """What is done to pictures; "none" or "flip" where features are kept."""

    @property
    def what(self) -> str:
        """What learns, in words."""
        if not self.layers:
            return "the head"
        return f"the head and {len(self.layers)} layers from {self.layers[0]} on"


def plan(graft: Graft, options: Options, pictures: int, augment: str) -> list[Phase]:
    """The phases that options ask for.

    Args:
        graft: the net.
        options: the options.
        pictures: how many are learned from.
        augment: what is done to pictures where the backbone learns.

    Raises:
        TorrefyError: there is no layer of the name that is to be unfrozen.
    """
    mirrors = augment != "none"
    batch = options.batch or min(64, max(1, pictures // 4))
    per_epoch = math.ceil(pictures * (1 + mirrors) / batch)
    epochs = options.head_epochs or max(20, math.ceil(HEAD_UPDATES / per_epoch))
    kept = "flip" if mirrors else "none"
    phases = [Phase("1-head", (), {}, epochs, batch, options.head_lr, kept)]
    layers = graft.learned()
    if options.unfreeze == "none" or not layers:
        return phases
    if options.unfreeze == "half":
        layers = layers[len(layers) // 2 :]
    elif options.unfreeze != "all":
        if options.unfreeze not in layers:
            hint = did_you_mean(options.unfreeze, layers) or f"There are {', '.join(layers[-6:])}."
            raise TorrefyError(
                f'the backbone has no layer "{options.unfreeze}" that could learn', hint=hint
            )
        layers = layers[layers.index(options.unfreeze) :]
    batch = options.batch or min(32, max(1, pictures // 8))
    epochs = options.epochs or (10 if pictures <= 500 else 5 if pictures <= 5000 else 3)
    places = [i / max(1, len(layers) - 1) for i in range(len(layers))]
    rates = {
        name: options.discriminative ** (1 - place)
        for name, place in zip(layers, places, strict=True)
    }
    for step in range(1, options.gradual + 1):
        own = layers[len(layers) - math.ceil(len(layers) * step / options.gradual) :]
        part = f"-{step}of{options.gradual}" if options.gradual > 1 else ""
        name = f"{step + 1}-{options.unfreeze}{part}"
        phases.append(
            Phase(
                name.replace("/", "_"), tuple(own), {one: rates[one] for one in own}, epochs,
                batch, options.lr, augment,
            )
        )  # fmt: skip
    return phases


@dataclass
class Work:
    """What all phases have in common."""

    graft: Graft
    options: Options
    preprocessor: Preprocessor
    train: Examples
    val: Examples
    folder: Path
    callbacks: Callable[[Phase], Iterable[Callback]]
    told: Callable[[str, int, int], None]
    """Told what is at work, how many pictures are done and how many there are."""
    targets: Callable[[Examples], NDArray[np.float32]]
    """The targets as the head's label takes them."""
    class_weight: tuple[float, ...] = ()
    tables: tuple[str, str] = ("", "")
    """Where the pictures that are learned from, and those held out, are listed."""
    tests: bool = True
    """Whether it is tested meanwhile on those held out."""
    bad: dict[str, str] = field(default_factory=dict)
    """Pictures that could not be read, where they are named, and what is wrong with each."""

    def pass_over(self, error: TorrefyError) -> None:
        """Leave out a picture that can't be read; or raise its error, if none may be left out."""
        problem = error.problems[0]
        if self.options.bad_images == "fail":
            hint = (
                problem.hint or "Mend or remove it, or leave out such pictures: --bad-images skip."
            )
            raise DataError(replace(problem, hint=hint))
        self.bad[str(problem.place)] = problem.message

    def adjusted(self, net: Any) -> Any:
        """A definition with the losses as the options ask for."""
        for spec in net.layer:
            if spec.type == "SoftmaxWithLoss":
                if self.class_weight:
                    spec.loss_param.class_weight.extend(self.class_weight)
                if self.options.smoothing:
                    spec.loss_param.label_smoothing = self.options.smoothing
        return net

    def head_layers(self, net: Net) -> list[str]:
        """The head's layers that have params, of a net that is trained."""
        backbone = {spec.name for spec in self.graft.backbone}
        return [k for k, layer in net.layers.items() if layer.declared and k not in backbone]


def run(work: Work, phase: Phase, weights: Path) -> Path:
    """Run a phase.

    Args:
        work: the finetuning.
        phase: what learns.
        weights: those of the whole net to begin from; the head's may be missing.

    Returns:
        The file of the whole net's weights that it ended with, in the phase's folder.

    Raises:
        KeyboardInterrupt: it was stopped; what is done is kept.
        TorrefyError: it can't be run, or its loss was no number.
    """
    folder = work.folder / phase.name
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / "learned.caffemodel"
    if done.exists():
        return done
    keeps = work.options.cache and phase.augment in ("none", "flip")
    solver = _of_features(work, phase, weights, folder) if keeps else None
    if solver is None:
        solver = _of_pictures(work, phase, weights, folder)
    try:
        solver.solve()
    finally:
        solver.close()
    if solver.stopped:
        raise KeyboardInterrupt
    definition, _ = work.graft.answers()
    whole = load_net(definition, None, seed=work.options.seed)
    start = folder / "start.caffemodel"
    copy_weights(whole, read_weights(start if start.exists() else weights), fresh=["*"])
    copy_weights(whole, solver.net.stored(), fresh=["*"])
    whole.save(done)
    for snapshot in folder.glob("snap*"):
        snapshot.unlink()
    return done


def _of_features(work: Work, phase: Phase, weights: Path, folder: Path) -> Solver | None:
    """The solver of what lies behind the frozen part, fed with its features; None: it can't be."""
    graft, blob = work.graft, work.preprocessor.blob
    shape = graft.net.inputs[graft.input]
    label = input_layer(LABEL, _rows(phase.batch, work.targets(work.train)))
    data = [input_layer(blob, (phase.batch, *shape[1:])), label]
    text = work.adjusted(graft.trains(data, phase.rates, HEAD_RATE if phase.layers else 1.0))
    whole = load_net(text, phase="train", seed=0)
    cut = frontier(whole.graph, blob, [*phase.layers, *work.head_layers(whole)])
    if cut is None:
        return None
    definition, _ = graft.answers()
    net = load_net(definition, weights, device=work.options.device, fresh=["*"], seed=0)
    if not all(value in net.shapes for value in cut.fixed):
        return None
    versions = 2 if phase.augment == "flip" else 1
    size = sum(math.prod(net.shapes[value][1:]) for value in cut.fixed)
    if 4 * size * (versions * len(work.train) + len(work.val)) > MOST_KEPT:
        return None
    key = f"{_digest(weights)} {work.preprocessor.to_text()}"
    values = dict(zip(cut.fixed, cut.blobs, strict=True))

    def kept(examples: Examples, part: str, mirrored: bool) -> Frozen:
        frozen = freeze(
            net, values, examples, work.preprocessor, work.folder / "features" / phase.name / part,
            mirrored=mirrored, bad=work.pass_over, key=key,
            progress=lambda done: work.told(f"features, {part}", done, len(examples)),
        )  # fmt: skip
        work.bad.update(frozen.bad)  # those that an earlier run found, too
        return frozen

    train, val = kept(work.train, "train", versions == 2), kept(work.val, "val", False)
    start = _with_statistics(work, whole, weights, folder, train.arrays)
    net_file = folder / "train_val.prototxt"
    _write(net_file, _behind(text, cut, train, label, phase.batch), "The head on kept features")
    feeds = _fed(train, work.targets(work.train.take(train.rows)))
    test = _fed(val, work.targets(work.val.take(val.rows)))
    rows = len(feeds[LABEL])
    return _solver(
        work, phase, folder, net_file, start,
        feed=Arrays(feeds, phase.batch, shuffle=True, seed=work.options.seed),
        test_feed=Arrays(test, phase.batch),
        per_epoch=math.ceil(rows / phase.batch), tests=math.ceil(len(test[LABEL]) / phase.batch),
    )  # fmt: skip


def _behind(text: Any, cut: Frontier, frozen: Frozen, label: Any, batch: int) -> Any:
    """The definition of what lies behind a cut."""
    net = new_message("caffe.NetParameter")
    net.name = text.name
    for blob, array in frozen.arrays.items():
        net.layer.append(input_layer(blob, (batch, *array.shape[1:]), f"features/{blob}"))
    net.layer.append(label)
    inputs = {"Input"}
    net.layer.extend(s for s in text.layer if s.name not in cut.before and s.type not in inputs)
    return net


def _fed(frozen: Frozen, targets: NDArray[np.float32]) -> dict[str, Any]:
    """Features and targets, as often as there are versions."""
    labels = np.concatenate([targets] * frozen.versions).astype(np.float32)
    return {**frozen.arrays, LABEL: labels}


def _rows(batch: int, targets: NDArray[np.float32]) -> tuple[int, ...]:
    return (batch, *targets.shape[1:])


def _with_statistics(
    work: Work, net: Net, weights: Path, folder: Path, arrays: Mapping[str, NDArray[np.float32]]
) -> Path:
    """The weights to begin from, with what the head's fixed layers say of the data.

    That is the mean and variance of the features, in the BatchNorm "standard", and those of
    targets that are numbers, in the Scales "targets" and "units".
    """
    stored = read_weights(weights)
    known = {layer.name for layer in stored.layers}
    name, found = work.graft.standard, []
    bottom = net.layers[name].spec.bottom[0] if name in net.layers else ""
    if name not in known and bottom in arrays:
        rows = arrays[bottom].reshape(*arrays[bottom].shape[:2], -1)
        mean = rows.mean((0, 2), dtype=np.float64).astype(np.float32)
        spread = rows.var((0, 2), dtype=np.float64).astype(np.float32)
        # A number that is nearly always the same would count as much as any other.
        spread += 1e-3 * float(spread.mean())
        found.append(StoredLayer(name, "BatchNorm", (mean, spread, np.ones(1, np.float32))))
    scales = [name.replace("standard", own) for own in ("targets", "units")]
    if scales[0] in net.layers and scales[0] not in known:
        targets = work.targets(work.train)
        mean, deviation = targets.mean(0), np.maximum(targets.std(0), 1e-6)
        found.append(StoredLayer(scales[0], "Scale", (1 / deviation, -mean / deviation)))
        if scales[1] not in known:
            found.append(StoredLayer(scales[1], "Scale", (deviation, mean)))
    if not found:
        return weights
    start = folder / "start.caffemodel"
    write_weights(start, StoredNet(stored.name, (*stored.layers, *found)))
    return start


def _standard_of(work: Work, net: Net, weights: Path) -> Mapping[str, NDArray[np.float32]]:
    """The features that the head's BatchNorm reads, where its statistics are not known yet."""
    name = work.graft.standard
    if name not in net.layers or name in {layer.name for layer in read_weights(weights).layers}:
        return {}
    definition, _ = work.graft.answers()
    whole = load_net(definition, weights, device=work.options.device, fresh=["*"], seed=0)
    (value,) = next(node.bottoms for node in whole.graph.nodes if node.name == name)
    blob = net.layers[name].spec.bottom[0]
    frozen = freeze(
        whole, {value: blob}, work.train, work.preprocessor, work.folder / "features" / "standard",
        mirrored=False, bad=work.pass_over, key=_digest(weights),
        progress=lambda done: work.told("features, for their mean", done, len(work.train)),
    )  # fmt: skip
    return frozen.arrays


def _of_pictures(work: Work, phase: Phase, weights: Path, folder: Path) -> Solver:
    """The solver of the whole net, fed with pictures."""
    options = work.options
    seen = work.preprocessor
    specs = [
        data_layer(seen, work.tables[0], phase.batch, train=True, augment=phase.augment),
        data_layer(seen, work.tables[1], min(phase.batch, len(work.val)), train=False),
    ]
    head_rate = HEAD_RATE if phase.layers else 1.0
    text = work.adjusted(work.graft.trains(specs, phase.rates, head_rate))
    net_file = folder / "train_val.prototxt"
    _write(net_file, text, "The whole net on pictures")
    shape = (phase.batch, *work.graft.net.inputs[work.graft.input][1:])
    label = _rows(phase.batch, work.targets(work.train))
    whole = load_net(text, phase="train", shapes={seen.blob: shape, LABEL: label}, seed=0)
    start = _with_statistics(work, whole, weights, folder, _standard_of(work, whole, weights))
    parts = (work.train, "train"), (work.val, "test")
    feeds = [
        load(
            spec, examples, name, seed=options.seed, bad=options.bad_images, workers=options.workers
        )
        for spec, (examples, name) in zip(specs, parts, strict=True)
    ]
    sizes = [spec.image_data_param.batch_size for spec in specs]
    return _solver(
        work, phase, folder, net_file, start, feed=feeds[0], test_feed=feeds[1],
        per_epoch=math.ceil(len(work.train) / sizes[0]),
        tests=math.ceil(len(work.val) / sizes[1]),
    )  # fmt: skip


def _solver(
    work: Work,
    phase: Phase,
    folder: Path,
    net_file: Path,
    weights: Path,
    *,
    feed: Any,
    test_feed: Any,
    per_epoch: int,
    tests: int,
) -> Solver:
    """The solver of a phase; its text is written beside the net's."""
    options = work.options
    test_feed = test_feed if work.tests else None
    text = new_message("caffe.SolverParameter")
    text.net = str(net_file)
    text.type = "SGD" if phase.layers else "AdamW"
    text.base_lr = phase.lr
    text.lr_policy = "cosine"
    text.momentum = 0.9
    text.weight_decay = 1e-4 if phase.layers else 3.0
    if not phase.layers:
        text.momentum2 = 0.999
    text.max_iter = phase.epochs * per_epoch
    if work.tests:
        text.test_iter.append(tests)
        text.test_interval = per_epoch * max(1, phase.epochs // 50)
        text.test_initialization = False
    text.snapshot = per_epoch if phase.layers else 0
    text.snapshot_prefix = str(folder / "snap")
    text.snapshot_after_train = False
    text.random_seed = options.seed
    stored = {layer.name for layer in read_weights(weights).layers if layer.blobs}
    if stored & {spec.name for spec in read_net(net_file).message.layer}:
        text.weights.append(str(weights))
    solver_file = folder / "solver.prototxt"
    comment = f"{phase.what} learns"
    _write(solver_file, text, comment)
    resume = folder if any(folder.glob("snap_iter_*.solverstate*")) else None
    asked: dict[str, Any] = {
        "device": options.device,
        "precision": options.precision,
        "channels_last": options.channels_last,
    }
    if options.find_lr and resume is None:
        where = feed.state_dict()
        found = find_rate(
            Solver(solver_file, feeds=feed, test_feeds=test_feed, check_loss=False, **asked)
        )
        feed.load_state_dict(where)
        found.write(folder)
        text.base_lr = found.rate
        _write(solver_file, text, comment)
    elif options.find_lr:
        text.base_lr = read_text(solver_file, "caffe.SolverParameter").message.base_lr
    made = Solver(
        solver_file, resume=resume, feeds=feed, test_feeds=test_feed, run=folder, **asked
    )  # fmt: skip
    if options.patience and work.tests:
        metric = next((one for one in made.test_nets[0].outputs if one.endswith("accuracy")), "")
        made.callbacks.all.append(EarlyStopping(blob=metric, patience=options.patience))
    made.callbacks.all.extend([KeepLast(snapshots=1), *work.callbacks(phase)])
    return made


def _write(path: Path, message: Any, comment: str) -> None:
    with replacing(path) as file:
        file.write(f"# {comment}.\n\n{write_text(message)}".encode())


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
