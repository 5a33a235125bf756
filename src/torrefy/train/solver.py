"""The solver: a definition, a net, and the loop that trains it as Caffe does."""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import math
import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from google.protobuf.message import Message
from torch import Tensor

from torrefy.errors import TorrefyError, WeightsError
from torrefy.layers.normalization import BatchNorm
from torrefy.net.net import Net, find_device
from torrefy.net.stored import read_weights
from torrefy.schema import Definition
from torrefy.train import debug, display, nets, snapshots
from torrefy.train.callbacks import Callback, Callbacks, read_callbacks
from torrefy.train.definition import Plan, read_solver
from torrefy.train.distributed import Processes, join
from torrefy.train.divergence import LossWatch
from torrefy.train.execution import Execution
from torrefy.train.feed import Batch, Feed, Peeked
from torrefy.train.gradients import Gradients
from torrefy.train.history import History
from torrefy.train.learned import Learned, learned_blobs, param_groups, statistics
from torrefy.train.meter import Meter, batch_rows
from torrefy.train.optimisers import SolverOptimizer
from torrefy.train.policies import Progress, learning_rate
from torrefy.train.random import Randomness
from torrefy.train.run import RunFolder
from torrefy.train.scores import averages
from torrefy.weights.copy import copy_weights, match_weights

Feeding = Feed | Iterable[Batch]
"""Where batches come from: a `Feed`, or any iterable of batches."""

_log = logging.getLogger("torrefy.train")


class Solver:
    """Trains a net by a solver's definition.

    All of SolverParameter counts, but for a few fields that `notes` tells of. Paths in the text
    are relative to the working folder, as Caffe's. What Caffe logs goes, line by line as Caffe
    words it, to the logger "torrefy.train" and to the callbacks' `on_log`.

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
        callbacks: Iterable[Callback] = (),
        run: str | Path | None = None,
        check_loss: bool = True,
        sync_batch_norm: bool = False,
        processes: Processes | None = None,
        allow_python: Collection[str] = (),
        precision: str = "fp32",
        compile: bool = False,  # noqa: A002 (torch's word for it)
        channels_last: bool = False,
        deterministic: bool = False,
    ) -> None:
        """Build the nets, and load weights or a snapshot.

        Where torchrun has started several processes (docs/training.md), each makes a Solver and
        calls the same methods. The batches are then as many as the processes: each gets every
        world-th, gradients and losses are averaged, and the first process writes the files.

        Args:
            solver: a prototxt's path, a definition read before, or a SolverParameter.
            weights: files of weights to begin from, in place of the field `weights`. Layers that
                they have nothing for keep their fillers' values, as in Caffe; `notes` says which.
            resume: a solverstate, Caffe's or ours, or a folder whose newest one is meant.
            device: where the nets are: "cpu", "cuda", "cuda:1". Of several processes each takes
                a GPU of its own.
            feeds: what the train net gets in place of what its data layers name: a `Feed`, or
                an iterable of batches (dicts by blob, or tuples in the order of the inputs) that
                can be run through again and again, as a list or a torch DataLoader. Of several
                processes each gives its own, but for `Arrays`, which are divided.
            test_feeds: the same for the test nets: one for all, or a list with one for each.
            loading: how data layers are read, as `torrefy.data.loader.Loader` takes it: workers,
                bad ("fail" or "skip").
            callbacks: who is told what happens, after those that the text names.
            run: a folder for the run, that `torrefy.train.run.RunFolder` keeps; snapshots are
                written to it, too, in place of the folder in `snapshot_prefix`. None: no folder.
            check_loss: whether a training whose loss is no number, explodes or has saturated
                ends with an error that says where it began.
            sync_batch_norm: whether BatchNorm takes the statistics of a training's batch over all
                processes; else each normalises by its own, as in Caffe.
            processes: those that train together, where `torrefy.train.distributed.join` has met
                them before, in place of `device`.
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
            TorrefyError: nothing in the net learns, or there is no such device or precision; or
                the processes can't meet.
        """
        self.processes = join(device) if processes is None else processes
        """Those that train together."""
        self.plan: Plan = read_solver(solver, run)
        """The solver's definition, and the policy and type that it asks for."""
        self.parameter: Any = self.plan.parameter
        self.notes: list[str] = list(self.plan.notes)
        """What was read over, which layers got no weights: what the user may want to know."""
        told = [*read_callbacks(self.plan.definition), *callbacks]
        self.callbacks = Callbacks(told, self.processes.leads)
        """Who is told what happens."""
        self.run_folder = Path(f"{self.plan.snapshot_prefix}.run" if run is None else run)
        """Where what belongs to the run is kept, if anything is."""
        if run is not None and not any(type(one) is RunFolder for one in self.callbacks.all):
            self.callbacks.all.insert(0, RunFolder())
        self.history = History()
        """What was trained and tested so far, a row at each display and each test."""
        self.device = find_device(self.processes.device)
        self.execution = Execution(self.device, precision, compile, channels_last, deterministic)
        """How passes are run."""
        self._scaler = self.execution.scaler()
        self.scores: list[dict[str, Tensor]] = []
        """What the last test gave, for each test net: every output, averaged over its batches."""
        self.last_snapshot: Path | None = None
        """The solverstate that was written last."""
        self.resumed: Path | None = None
        """The solverstate that it goes on from."""
        self._progress = Progress()
        self._losses: deque[Tensor] = deque(maxlen=max(1, self.parameter.average_loss))
        self._stopping = False
        self._finished = ""
        self._stop_wanted = False
        self._snapshot_wanted = False
        self._shown = time.monotonic(), 0
        self._watch = LossWatch(self.device, self.processes.break_up) if check_loss else None
        self._meter = Meter()
        self._gradients: Gradients | None = None
        if weights is not None and resume is not None:
            raise TorrefyError(
                "weights and resume are both given",
                hint="A snapshot has its own weights: give one of them.",
            )
        given = self.parameter.random_seed
        self.seed: int = self.processes.first(
            given if given >= 0 else int(torch.randint(1 << 31, ()))
        )
        """Of everything random: first values, data, Dropout. Drawn from torch's random numbers
        where the solver gives none. Of several processes each draws Dropout by its own seed: this
        and its rank."""
        self._random = Randomness(self.seed + self.processes.rank, self.device)
        self._loading = {
            "pin": self.device.type == "cuda",
            "rank": self.processes.rank,
            "world": self.processes.world,
            **(loading or {}),
        }
        with self._random:
            self._build(feeds, test_feeds, allow_python)
        if self.processes.together:
            self._come_together(sync_batch_norm)
        kept = self.processes.kept_snapshot(self.snapshot_prefix)
        if kept is not None:
            self.notes.append(f"started anew after a process had ended: goes on from {kept}")
            resume = kept
        if resume is not None:
            self.restore(resume)
        else:
            self._load(self.parameter.weights if weights is None else weights)
        self._be_as_the_first()

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

    def _come_together(self, sync_batch_norm: bool) -> None:
        """Prepare for a training by several processes."""
        rows = batch_rows(self.net)
        passes = self.parameter.iter_size
        each = f"{passes} x {rows}" if passes > 1 else str(rows)
        world = self.processes.world
        self.notes.append(
            f"{world} processes: {world} x {each} = {world * passes * rows} rows a step"
        )
        # What BatchNorm sends amid a pass must not come between buckets in another order.
        early = self.parameter.layer_wise_reduce and not sync_batch_norm
        params = [one.blob for one in self.learned if one.learns]
        self._gradients = Gradients(params, self.processes, early=early)
        if sync_batch_norm:
            for layer in self.net.layers.values():
                if isinstance(layer, BatchNorm):
                    layer.across = self.processes.sum

    def _be_as_the_first(self) -> None:
        """Take params and statistics of the first process, wherever this one's came from."""
        nets = (self.net, *self.test_nets)
        blobs = [blob for net in nets for blob in (*net.parameters(), *statistics(net))]
        self.processes.copy({id(blob): blob for blob in blobs}.values())

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
    def finished(self) -> str:
        """Why `finish` ended the last `step` or `solve` before max_iter; empty: it did not."""
        return self._finished

    @property
    def snapshot_prefix(self) -> str:
        """What the names of snapshots begin with."""
        return self.plan.snapshot_prefix

    @property
    def definitions(self) -> list[Definition]:
        """The texts that are trained by: the solver's, then each net's once."""
        nets = [net.graph.definition for net in (self.net, *self.test_nets)]
        by_file = {one.source.file: one for one in (self.plan.definition, *nets)}
        return list(by_file.values())

    @property
    def leads(self) -> bool:
        """Whether this process writes the files: of several the first."""
        return self.processes.leads

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
            DivergedError: the loss is no number, has exploded or saturated.
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
            if not self._stopping:
                self.callbacks.tell("on_last_update", self)
                self._be_as_the_first()  # a callback may have read weights
            due = not parameter.snapshot or self.iteration % parameter.snapshot
            if parameter.snapshot_after_train and due:
                self.snapshot()
            if not self._stopping:
                self._finish()
            self._add_row()
        self.callbacks.tell("on_train_end", self)
        self.close()

    def close(self) -> None:
        """End the processes that read data; what needs them starts them again."""
        for feed in (self.feed, *self.test_feeds):
            feed.close()

    def _finish(self) -> None:
        """The last line and test of a training that came to its end."""
        parameter = self.parameter
        if self._finished:
            self.log(f"Ending at iteration {self.iteration}: {self._finished}")
        if parameter.display and not self.iteration % parameter.display:
            with torch.no_grad():
                loss, tops = self._forward()
            self._losses.append(loss)
            self._tell_loss(tops)
        if parameter.test_interval and not self.iteration % parameter.test_interval:
            self._test_all()

    def stop(self) -> None:
        """End `step` or `solve` after the present iteration. A signal handler may call it.

        Of several processes it is enough that one is told so, here as for `finish` and
        `request_snapshot`.
        """
        self._stop_wanted = True

    def finish(self, reason: str) -> None:
        """End `step` or `solve` after the present iteration as if it had come to max_iter.

        Args:
            reason: told to the user: "no test was better than that of iteration 900".
        """
        self._finished = reason

    def request_snapshot(self) -> None:
        """Snapshot after the present iteration. A signal handler may call it."""
        self._snapshot_wanted = True

    def _run(self, iterations: int) -> Iterator[Tensor]:
        """Iterations, each loss as a tensor on the device: it is waited for where it is read."""
        parameter = self.parameter
        self._stopping = self._stop_wanted = False
        self._finished = ""
        self._losses.clear()
        self._shown = time.monotonic(), self.iteration
        self.callbacks.tell("on_train_begin", self)
        self._meter.begin(self)
        for _ in range(iterations):
            interval = parameter.test_interval
            first = self.iteration or parameter.test_initialization
            tests = interval and not self.iteration % interval and first
            if tests:
                self._test_all()
                if self._ends():
                    return
            loss, tops = self._backward()
            self._losses.append(loss)
            self._meter.count(loss)
            shows = parameter.display and not self.iteration % parameter.display
            if shows:
                self._tell_loss(tops)
            rate = self._update()
            if shows:
                self.log(display.rate_line(self.iteration - 1, rate))
                if not tests:  # whose row tells the loss so far
                    self._add_row()
            if parameter.snapshot and not self.iteration % parameter.snapshot:
                with self._meter.pause():
                    self.snapshot()
            self.callbacks.tell("on_update", self, loss)
            ends = self._ends()
            yield loss
            if ends:
                return

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        """What passes are made in: random numbers of our own, and torch's flags as asked for."""
        with self._random, self.execution.running():
            yield

    def _ends(self) -> bool:
        """Whether the training ends here; all processes say the same, and snapshot if one is to."""
        stops, finishes, snapshots = self.processes.any(
            self._stop_wanted, bool(self._finished), self._snapshot_wanted
        )
        if snapshots:
            with self._meter.pause():
                self.snapshot()
        self._stopping = stops
        if finishes and not self._finished:
            self._finished = "another process has ended it"
        return stops or finishes

    def _batch(self) -> dict[str, Tensor]:
        """The next inputs, on the device."""
        batch = next(self.feed)
        return {name: self.execution.place(batch[name]) for name in self.net.graph.inputs}

    def _forward(self) -> tuple[Tensor, dict[str, Tensor]]:
        tops = self._pass(next(self.feed))
        return self.net.loss(tops), tops

    def _backward(self) -> tuple[Tensor, dict[str, Tensor]]:
        """The passes of one iteration; gradients are summed."""
        self.optimizer.zero_grad(set_to_none=True)
        total: Tensor | None = None
        tops: dict[str, Tensor] = {}
        batch: dict[str, Tensor] = {}
        for left in reversed(range(self.parameter.iter_size)):
            batch = self._batch()
            watched = self._watched(batch) if self._debugs else None
            if watched is None:
                tops = self._pass(batch)
                loss = self.net.loss(tops)
            else:
                tops = watched.tops
                loss = self.net.loss(tops)
                self._log_all(watched.forward_lines())
            if self._gradients is not None and not left:
                self._gradients.begin()
            if loss.requires_grad:
                self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            if self.device.type == "cuda":
                self.feed.prefetch(self.execution.place)
            if watched is not None:
                self._log_all(watched.backward_lines())
            total = loss.detach() if total is None else total + loss.detach()
        if total is None:
            raise TorrefyError("iter_size is below 1")
        passes = self.parameter.iter_size
        total = total / passes if passes > 1 else total
        if self._watch is not None:
            self._watch.look(self.net, total, batch, self.iteration)
        if self._gradients is not None:
            total = self._gradients.finish(total)
        return total, tops

    def _watched(self, batch: dict[str, Tensor]) -> debug.Watched:
        """A pass that `debug_info` tells of: uncompiled, since every value is kept."""
        with self.execution.autocast():
            return debug.Watched(self.net, batch)

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
        self.callbacks.tell("on_gradients_ready", self)
        before = [one.blob.detach().clone() for one in self.learned] if self._debugs else []
        self._scaler.step(self.optimizer)
        self._scaler.update()
        self._log_all(debug.update_lines(self.learned, before) if self._debugs else ())
        self._progress.iteration += 1
        return float(self.optimizer.param_groups[0]["lr"])

    def _tell_loss(self, tops: Mapping[str, Tensor]) -> None:
        now = time.monotonic()
        speed = now - self._shown[0], self.iteration - self._shown[1]
        self._shown = now, self.iteration
        self.log(display.iteration_line(self.iteration, self.smoothed_loss, speed))
        self._log_all(display.output_lines("Train", tops, self.net.loss_weights))

    @property
    def _debugs(self) -> bool:
        return bool(self.parameter.debug_info)

    def log(self, line: str) -> None:
        """Say a line, as Caffe logs it: to the logger, and to the callbacks."""
        if self.leads:
            _log.info(line)
        self.callbacks.tell("on_log", self, line)

    def _log_all(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.log(line)

    def _add_row(self, scores: Sequence[Mapping[str, Tensor]] = ()) -> None:
        """Add what is known now to the history, if anything is."""
        row = self._meter.row(self, scores)
        if row is not None:
            with self._meter.pause():
                self.callbacks.tell("on_row", self, self.history.add(row))

    # --- Tests ---

    def test(self) -> list[dict[str, Tensor]]:
        """Run every test net over test_iter batches of its data.

        Returns:
            For each net its outputs by blob, averaged over the batches; with test_compute_loss
            also, as "loss", the weighted sum of those that count in the loss, where no blob is
            called so. `scores` keeps it.
        """
        self._stop_wanted = False
        self._test_all()
        return self.scores

    def _test_all(self) -> None:
        """Test every net; what `stop` interrupts leaves the scores, and is done anew later."""
        feeds, random = [feed.state_dict() for feed in self.test_feeds], self._random.state()
        found = []
        with self._running(), self._meter.pause():
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
        self._add_row(self.scores)
        with self._meter.pause():
            self.callbacks.tell("on_test", self)

    def _interrupted(self) -> bool:
        """Whether a test ends here. Of several processes none can leave the others alone in it."""
        return self._stop_wanted and not self.processes.together

    def _test(self, index: int) -> dict[str, Tensor] | None:
        self.log(f"Iteration {self.iteration}, Testing net (#{index})")
        net, feed = self.test_nets[index], self.test_feeds[index]
        nets.share_weights(self.net, net)  # statistics, too, wherever they have moved to
        count, with_loss = self.parameter.test_iter[index], self.parameter.test_compute_loss
        self.processes.copy(statistics(net))
        scores = averages(
            net, self._test_passes[index], feed, count, with_loss=with_loss,
            processes=self.processes, stopped=self._interrupted,
        )  # fmt: skip
        if scores is not None:
            self._log_all(display.output_lines("Test", scores, net.loss_weights))
        return scores

    # --- Snapshots ---

    def snapshot(self) -> Path:
        """Write `PREFIX_iter_N.caffemodel` and `.solverstate`, or the same with `.h5`.

        Beside them `PREFIX_iter_N.torrefy.safetensors` keeps where the data and the random
        numbers are, so that a resumed run goes on as if it had not been broken off. Of several
        processes the first writes, and keeps where all are.

        Returns:
            The solverstate's path.

        Raises:
            WeightsError: a file can't be written.
        """
        self._snapshot_wanted = False
        extra = self._extra()
        prefix, ending = self.plan.snapshot_prefix, self.plan.snapshot_format
        path = snapshots.paths(prefix, self.iteration, ending)[1]
        if self.leads:
            self._write_snapshot(extra)
            self.processes.keep_snapshot(prefix, str(path))
        self.processes.wait()
        self.last_snapshot = path
        self.log(f"Snapshotting solver state to {path}")
        self.callbacks.tell("on_snapshot", self, path)
        return path

    def _write_snapshot(self, extra: snapshots.Extra) -> None:
        kept = self.optimizer.history(one.blob for one in self.learned)
        shapes = [tuple(one.blob.shape) for one in self.learned] * len(self.optimizer.histories)
        history = tuple(
            np.zeros(shape, np.float32) if blob is None else blob.float().cpu().numpy()
            for blob, shape in zip(kept, shapes, strict=True)
        )
        progress = self._progress
        state = snapshots.SolverState(progress.iteration, progress.current_step, history)
        snapshots.write_snapshot(
            self.plan.snapshot_prefix, self.net, state, extra, self.plan.snapshot_format
        )

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
        self.resumed = Path(state.source)
        if extra is None:
            self.notes.append(
                f"{state.source}: nothing tells where the data were, so they begin anew, as in "
                "Caffe"
            )
            return
        self.callbacks.load_state_dict(extra.facts.get("callbacks", ()))
        told, random, note = self.processes.unpack(extra.facts, extra.tensors)
        if note:
            self.notes.append(f"{state.source}: {note}")
        with self._random:
            for feed, where in zip((self.feed, *self.test_feeds), told, strict=False):
                feed.load_state_dict(where)
            self._random.restore(random)
        if scale := extra.facts.get("scaler"):
            self._scaler.load_state_dict(scale)

    def _extra(self) -> snapshots.Extra:
        feeds = [feed.state_dict() for feed in (self.feed, *self.test_feeds)]
        facts, tensors = self.processes.pack(feeds, self._random.state())
        facts["callbacks"] = self.callbacks.state_dict()
        facts["scaler"] = self._scaler.state_dict()
        return snapshots.Extra(tensors, json.loads(json.dumps(facts)))

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
