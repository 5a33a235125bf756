"""The solver: a definition, a net, and the loop that trains it as Caffe does."""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from google.protobuf.message import Message
from torch import Tensor

from torrefy.errors import TorrefyError, WeightsError
from torrefy.net.net import Net, find_device
from torrefy.net.stored import read_weights
from torrefy.schema import Definition
from torrefy.train import debug, display, nets, snapshots
from torrefy.train.definition import Plan, read_solver
from torrefy.train.execution import Execution
from torrefy.train.feed import Batch, Feed, Peeked
from torrefy.train.learned import Learned, learned_blobs, param_groups
from torrefy.train.optimisers import SolverOptimizer
from torrefy.train.policies import Progress, learning_rate
from torrefy.train.random import Randomness
from torrefy.train.scores import averages
from torrefy.weights.copy import copy_weights, match_weights

Feeding = Feed | Iterable[Batch]
"""Where batches come from: a `Feed`, or any iterable of batches."""

_log = logging.getLogger("torrefy.train")


class Solver:
    """Trains a net by a solver's definition.

    All of SolverParameter counts, but for a few fields that `notes` tells of. Paths in the text
    are relative to the working folder, as Caffe's. What Caffe logs goes, line by line as Caffe
    words it, to `log`: the logger "torrefy.train" unless something else is put there.

    Example:
        solver = torrefy.Solver("solver.prototxt", weights="pretrained.caffemodel", device="cuda")
        losses = solver.step(100)
        solver.solve()
        solver.net.save("trained.caffemodel")
    """

    def __init__(
        self,
        solver: str | Path | Definition | Message,
        weights: str | Path | Sequence[str | Path] | None = None,
        resume: str | Path | None = None,
        device: str | torch.device = "cpu",
        *,
        feeds: Feeding | None = None,
        test_feeds: Feeding | Sequence[Feeding] | None = None,
        loading: Mapping[str, Any] | None = None,
        allow_python: Collection[str] = (),
        precision: str = "fp32",
        compile: bool = False,  # noqa: A002 (torch's word for it)
        channels_last: bool = False,
        deterministic: bool = False,
    ) -> None:
        """Build the nets, and load weights or a snapshot.

        Args:
            solver: a prototxt's path, a definition read before, or a SolverParameter.
            weights: files of weights to begin from, in place of the field `weights`. Layers that
                they have nothing for keep their fillers' values, as in Caffe; `notes` says which.
            resume: a solverstate, Caffe's or ours, or a folder whose newest one is meant.
            device: where the nets are: "cpu", "cuda", "cuda:1".
            feeds: what the train net gets in place of what its data layers name: a `Feed`, or
                an iterable of batches (dicts by blob, or tuples in the order of the inputs) that
                can be run through again and again, as a list or a torch DataLoader.
            test_feeds: the same for the test nets: one for all, or a list with one for each.
            loading: how data layers are read, as `torrefy.data.loader.Loader` takes it: workers,
                bad ("fail" or "skip").
            allow_python: as for `torrefy.load_net`.
            precision: "fp32", "bf16" or "fp16": what passes are computed in, as far as torch's
                autocast goes; params and what counts in the loss stay in fp32.
            compile: whether torch.compile makes one program of each net, at its first pass.
            channels_last: whether pictures lie in memory with their channels last.
            deterministic: whether a second run gives the same bits, on a GPU too.

        Raises:
            DefinitionError: the solver or a net is wrong; with all that is wrong with it.
            WeightsError: a file can't be read, or does not fit.
            DataError: the data of a net can't be read.
            TorrefyError: nothing in the net learns, or there is no such device or precision.
        """
        self.plan: Plan = read_solver(solver)
        """The solver's definition, and the policy and type that it asks for."""
        self.parameter: Any = self.plan.parameter
        self.notes: list[str] = list(self.plan.notes)
        """What was read over, which layers got no weights: what the user may want to know."""
        self.log: Callable[[str], None] = _log.info
        """Gets each line that Caffe would log."""
        self.after_update: Callable[[], None] = _nothing
        """Called after each update: where progress is shown."""
        self.device = find_device(device)
        self.execution = Execution(self.device, precision, compile, channels_last, deterministic)
        """How passes are run."""
        self._scaler = self.execution.scaler()
        self.scores: list[dict[str, Tensor]] = []
        """What the last test gave, for each test net: every output, averaged over its batches."""
        self.last_snapshot: Path | None = None
        """The solverstate that was written last."""
        self._progress = Progress()
        self._losses: deque[Tensor] = deque(maxlen=max(1, self.parameter.average_loss))
        self._stopping = False
        self._snapshot_wanted = False
        self._shown = time.monotonic(), 0
        if weights is not None and resume is not None:
            raise TorrefyError(
                "weights and resume are both given",
                hint="A snapshot has its own weights: give one of them.",
            )
        given = self.parameter.random_seed
        self.seed: int = given if given >= 0 else int(torch.randint(1 << 31, ()))
        """Of everything random: first values, data, Dropout. Drawn from torch's random numbers
        where the solver gives none."""
        self._random = Randomness(self.seed, self.device)
        self._loading = {"pin": self.device.type == "cuda", **(loading or {})}
        with self._random:
            self._build(feeds, test_feeds, allow_python)
        if resume is not None:
            self.restore(resume)
        else:
            self._load(self.parameter.weights if weights is None else weights)

    def _build(
        self,
        feeds: Feeding | None,
        test_feeds: Feeding | Sequence[Feeding] | None,
        allow_python: Collection[str],
    ) -> None:
        """Make the nets and the optimiser."""
        device, seed = self.device, self.seed
        trained, tested = nets.train_net(self.plan.definition), nets.test_nets(self.plan.definition)
        self.feed = trained.feed(feeds, seed, self._loading)
        self.net: Net = trained.compile(self.feed.shapes(), device, seed, allow_python)
        """The net that is trained, in phase train."""
        nets.refuse_if_idle(self.net)
        self.feed.expect_labels(self.net)
        self.test_feeds: list[Peeked] = []
        self.test_nets: list[Net] = []
        """The nets that are tested; their params are those of `net`."""
        for declared, given in zip(tested, _each(test_feeds, len(tested)), strict=True):
            feed = declared.feed(given, seed, self._loading)
            tester = declared.compile(feed.shapes(), device, seed, allow_python)
            nets.share_weights(self.net, tester)
            feed.expect_labels(tester)
            self.test_feeds.append(feed)
            self.test_nets.append(tester)
        self._pass, *self._test_passes = map(self.execution.prepare, (self.net, *self.test_nets))
        if self.execution.compile:
            self.notes.append("each net is compiled at its first pass, which takes a while")
        self.learned: list[Learned] = learned_blobs(self.net)
        """The blobs that a solverstate keeps a history of, in its order."""
        self.optimizer: SolverOptimizer = self.plan.optimizer(param_groups(self.learned))

    # --- What it is at ---

    @property
    def iteration(self) -> int:
        """How many updates were made."""
        return self._progress.iteration

    @property
    def stopped(self) -> bool:
        """Whether `stop` ended the last `step` or `solve`."""
        return self._stopping

    @property
    def lr(self) -> float:
        """The rate of the next update, before lr_mult."""
        return learning_rate(self.plan.policy, self.parameter, copy.copy(self._progress))

    @property
    def smoothed_loss(self) -> float:
        """The mean of the last `average_loss` losses; NaN before the first."""
        if not self._losses:
            return math.nan
        return float(torch.stack(list(self._losses)).mean())

    # --- The loop ---

    def step(self, iterations: int = 1) -> list[float]:
        """Make some updates, with the tests, lines and snapshots that are due on the way.

        Returns:
            The loss of each iteration before its update, averaged over iter_size passes. They
            are fewer than `iterations` where `stop` was called.

        Raises:
            TorrefyError: the rate is no finite number.
        """
        with self._running():
            losses = list(self._run(iterations))
        return torch.stack(losses).tolist() if losses else []

    def solve(self) -> None:
        """Train to max_iter, then snapshot (unless snapshot_after_train says no) and test.

        After `stop` it ends at once, with a snapshot too.
        """
        parameter = self.parameter
        with self._running():
            for _ in self._run(parameter.max_iter - self.iteration):
                pass
            due = not parameter.snapshot or self.iteration % parameter.snapshot
            if parameter.snapshot_after_train and due:
                self.snapshot()
            if not self._stopping:
                self._finish()
        self.close()

    def close(self) -> None:
        """End the processes that read data; what needs them starts them again."""
        for feed in (self.feed, *self.test_feeds):
            feed.close()

    def _finish(self) -> None:
        """The last line and test of a training that came to its end."""
        parameter = self.parameter
        if parameter.display and not self.iteration % parameter.display:
            with torch.no_grad():
                loss, tops = self._forward()
            self._losses.append(loss)
            self._tell_loss(tops)
        if parameter.test_interval and not self.iteration % parameter.test_interval:
            self._test_all()

    def stop(self) -> None:
        """End `step` or `solve` after the present iteration. A signal handler may call it."""
        self._stopping = True

    def request_snapshot(self) -> None:
        """Snapshot after the present iteration. A signal handler may call it."""
        self._snapshot_wanted = True

    def _run(self, iterations: int) -> Iterator[Tensor]:
        """Iterations, each loss as a tensor on the device: it is waited for where it is read."""
        parameter = self.parameter
        self._stopping = False
        self._losses.clear()
        self._shown = time.monotonic(), self.iteration
        for _ in range(iterations):
            interval = parameter.test_interval
            first = self.iteration or parameter.test_initialization
            if interval and not self.iteration % interval and first:
                self._test_all()
                if self._stopping:
                    return
            loss, tops = self._backward()
            self._losses.append(loss)
            shows = parameter.display and not self.iteration % parameter.display
            if shows:
                self._tell_loss(tops)
            rate = self._update()
            if shows:
                self.log(display.rate_line(self.iteration - 1, rate))
            due = parameter.snapshot and not self.iteration % parameter.snapshot
            if due or self._snapshot_wanted:
                self.snapshot()
            self.after_update()
            yield loss
            if self._stopping:
                return

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        """What passes are made in: random numbers of our own, and torch's flags as asked for."""
        with self._random, self.execution.running():
            yield

    def _forward(self) -> tuple[Tensor, dict[str, Tensor]]:
        tops = self._pass(next(self.feed))
        return self.net.loss(tops), tops

    def _backward(self) -> tuple[Tensor, dict[str, Tensor]]:
        """The passes of one iteration; gradients are summed."""
        self.optimizer.zero_grad(set_to_none=True)
        total: Tensor | None = None
        tops: dict[str, Tensor] = {}
        for _ in range(self.parameter.iter_size):
            watched = self._watched() if self._debugs else None
            if watched is None:
                loss, tops = self._forward()
            else:
                tops = watched.tops
                loss = self.net.loss(tops)
                self._log_all(watched.forward_lines())
            if loss.requires_grad:
                self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            if watched is not None:
                self._log_all(watched.backward_lines())
            total = loss.detach() if total is None else total + loss.detach()
        if total is None:
            raise TorrefyError("iter_size is below 1")
        passes = self.parameter.iter_size
        return (total / passes if passes > 1 else total), tops

    def _watched(self) -> debug.Watched:
        """A pass that `debug_info` tells of: uncompiled, since every value is kept."""
        batch = next(self.feed)
        fed = {name: self.execution.place(batch[name]) for name in self.net.graph.inputs}
        with self.execution.autocast():
            return debug.Watched(self.net, fed)

    def _update(self) -> float:
        """The optimiser's step at the rate of the day, which is returned."""
        rate = learning_rate(self.plan.policy, self.parameter, self._progress)
        if not math.isfinite(rate):
            raise TorrefyError(
                f"the learning rate of iteration {self.iteration} is {rate}",
                place=self.plan.definition.place("lr_policy"),
            )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
            group["iteration"] = self.iteration  # of fp16's updates some are passed over
            for param in group["params"]:
                if param.grad is None:  # under no loss: decayed all the same, as in Caffe
                    param.grad = torch.zeros_like(param)
        before = [one.blob.detach().clone() for one in self.learned] if self._debugs else []
        self._scaler.step(self.optimizer)
        self._scaler.update()
        self._log_all(debug.update_lines(self.learned, before) if self._debugs else ())
        self._progress.iteration += 1
        return rate

    def _tell_loss(self, tops: Mapping[str, Tensor]) -> None:
        now = time.monotonic()
        speed = now - self._shown[0], self.iteration - self._shown[1]
        self._shown = now, self.iteration
        self.log(display.iteration_line(self.iteration, self.smoothed_loss, speed))
        self._log_all(display.output_lines("Train", tops, self.net.loss_weights))

    @property
    def _debugs(self) -> bool:
        return bool(self.parameter.debug_info)

    def _log_all(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.log(line)

    # --- Tests ---

    def test(self) -> list[dict[str, Tensor]]:
        """Run every test net over test_iter batches of its data.

        Returns:
            For each net its outputs by blob, averaged over the batches; with test_compute_loss
            also, as "loss", the weighted sum of those that count in the loss, where no blob is
            called so. `scores` keeps it.
        """
        self._stopping = False
        with self._running():
            self._test_all()
        return self.scores

    def _test_all(self) -> None:
        """Test every net; what `stop` interrupts leaves the scores, and is done anew later."""
        feeds, random = [feed.state_dict() for feed in self.test_feeds], self._random.state()
        found = []
        for index in range(len(self.test_nets)):
            scores = self._test(index)
            if scores is None:
                with contextlib.suppress(TorrefyError):  # an iterator can't go back
                    for feed, where in zip(self.test_feeds, feeds, strict=True):
                        feed.load_state_dict(where)
                self._random.restore(random)
                return
            found.append(scores)
        self.scores = found

    def _test(self, index: int) -> dict[str, Tensor] | None:
        self.log(f"Iteration {self.iteration}, Testing net (#{index})")
        net, feed = self.test_nets[index], self.test_feeds[index]
        nets.share_weights(self.net, net)  # statistics, too, wherever they have moved to
        count, with_loss = self.parameter.test_iter[index], self.parameter.test_compute_loss
        forward = self._test_passes[index]
        scores = averages(
            net, forward, feed, count, with_loss=with_loss, stopped=lambda: self._stopping
        )
        if scores is not None:
            self._log_all(display.output_lines("Test", scores, net.loss_weights))
        return scores

    # --- Snapshots ---

    def snapshot(self) -> Path:
        """Write `PREFIX_iter_N.caffemodel` and `.solverstate`, or the same with `.h5`.

        Beside them `PREFIX_iter_N.torrefy.safetensors` keeps where the data and the random
        numbers are, so that a resumed run goes on as if it had not been broken off.

        Returns:
            The solverstate's path.

        Raises:
            WeightsError: a file can't be written.
        """
        self._snapshot_wanted = False
        kept = self.optimizer.history(one.blob for one in self.learned)
        shapes = [tuple(one.blob.shape) for one in self.learned] * len(self.optimizer.histories)
        history = tuple(
            np.zeros(shape, np.float32) if blob is None else blob.float().cpu().numpy()
            for blob, shape in zip(kept, shapes, strict=True)
        )
        progress = self._progress
        state = snapshots.SolverState(progress.iteration, progress.current_step, history)
        path = snapshots.write_snapshot(
            self.plan.snapshot_prefix,
            self.net,
            state,
            self._extra(),
            self.plan.snapshot_format,
        )
        self.last_snapshot = path
        self.log(f"Snapshotting solver state to {path}")
        return path

    def restore(self, path: str | Path) -> None:
        """Go on where a snapshot was made: of ours exactly there; of Caffe's as Caffe does.

        Args:
            path: a solverstate, or a folder whose newest one is meant.

        Raises:
            WeightsError: a file can't be read, or is of another net or type of solver. Nothing
                has changed then.
        """
        state = snapshots.read_state(snapshots.find_state(path))
        snapshots.check_history(
            state,
            [
                (f'blob {one.index} of layer "{one.layer}"', tuple(one.blob.shape))
                for _ in self.optimizer.histories
                for one in self.learned
            ],
        )
        match = match_weights(self.net, read_weights(snapshots.weights_of(state)))
        extra = snapshots.read_extra(state)
        match.copy()
        history = [torch.from_numpy(np.array(blob, np.float32)) for blob in state.history]
        self.optimizer.restore([one.blob for one in self.learned], history, state.iteration)
        self._progress = Progress(state.iteration, state.current_step)
        if extra is None:
            self.notes.append(
                f"{state.source}: nothing tells where the data were, so they begin anew, as in "
                "Caffe"
            )
            return
        told = extra.facts.get("feeds", ())
        with self._random:
            for feed, where in zip((self.feed, *self.test_feeds), told, strict=False):
                feed.load_state_dict(where)
            self._random.restore(extra.tensors)
        if scale := extra.facts.get("scaler"):
            self._scaler.load_state_dict(scale)

    def _extra(self) -> snapshots.Extra:
        feeds = [feed.state_dict() for feed in (self.feed, *self.test_feeds)]
        facts = {"feeds": feeds, "scaler": self._scaler.state_dict()}
        return snapshots.Extra(self._random.state(), json.loads(json.dumps(facts)))

    # --- Making it ---

    def _load(self, weights: str | Path | Iterable[str | Path]) -> None:
        """Copy weights into the net, as Caffe's option -weights: what is missing stays new."""
        given = [weights] if isinstance(weights, (str, Path)) else list(weights)
        files = [
            part.strip()
            for one in given
            for part in ([str(one)] if Path(one).exists() else str(one).split(","))
        ]
        for file in files:
            stored = read_weights(file)
            report = copy_weights(self.net, stored, fresh=["*"])
            if not report.copied:
                raise WeightsError(f"{file} has nothing for any layer of the net")
            for tester in self.test_nets:  # they may have layers of their own
                copy_weights(tester, stored, fresh=["*"])
            self.notes.append(f"{file}: {report}")


def _nothing() -> None:
    """Do nothing."""


def _each(feeds: Feeding | Sequence[Feeding] | None, count: int) -> Sequence[Feeding | None]:
    """What feeds each test net."""
    if feeds is None:
        return [None] * count
    if count == 1 and not (isinstance(feeds, (list, tuple)) and len(feeds) == 1):
        return [feeds]  # type: ignore[list-item]
    given = list(feeds) if isinstance(feeds, (list, tuple)) else [feeds]
    if len(given) != count:
        raise TorrefyError(f"{count} test nets, but {len(given)} test_feeds: give one for each")
    return given  # type: ignore[return-value]
