"""Traps in solvers: fields whose default is 0, and momentum where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from torrefy.lint.rule import Finding, SolverSubject, rule

READS = {
    "exp": ("gamma",),
    "inv": ("gamma", "power"),
    "multistep": ("gamma", "stepvalue"),
    "poly": ("power",),
    "sigmoid": ("gamma",),
    "step": ("gamma",),
}
"""What each lr_policy reads that may be left out, save for base_lr and max_iter. What may not
(stepsize) the policy itself refuses to be without, in `torrefy.train.policies`."""


@rule("T301", "policy-without-numbers", solver=True)
def policy_without_numbers(solver: SolverSubject) -> Iterator[Finding]:
    """A learning-rate policy without the numbers that it reads: they are 0.

    Without gamma, step, multistep and exp train at rate 0 from the first step on; without
    power, poly and inv stay at base_lr. (Source: Caffe's sgd_solver.cpp; none of these fields
    has a default.)
    """
    message = solver.message
    for name in READS.get(message.lr_policy, ()):
        field = message.DESCRIPTOR.fields_by_name[name]
        given = len(message.stepvalue) if field.is_repeated else message.HasField(name)
        if not given:
            yield Finding(
                f'lr_policy "{message.lr_policy}" reads {name}, which is not given and so is 0',
                f"Give {name}.", ("lr_policy",),
            )  # fmt: skip


@rule("T302", "no-rate", solver=True)
def no_rate(solver: SolverSubject) -> Iterator[Finding]:
    """Without base_lr or max_iter nothing is learned: both are 0."""
    for name, so in (("base_lr", "nothing is learned"), ("max_iter", "solve makes no step")):
        if not solver.message.HasField(name):
            yield Finding(f"{name} is not given and so is 0: {so}", f"Give {name}.")


@rule("T303", "adam-without-momentum", solver=True)
def adam_without_momentum(solver: SolverSubject) -> Iterator[Finding]:
    """Adam and AdaDelta without momentum: their first decay is 0.

    Adam's beta1 is the field momentum, which has no default; the paper's is 0.9. (Source:
    Caffe's adam_solver.cpp.)
    """
    message = solver.message
    if message.type in ("Adam", "AdaDelta") and not message.HasField("momentum"):
        usual = {"Adam": 0.9, "AdaDelta": 0.95}[message.type]
        yield Finding(
            f"{message.type} without momentum has a first decay of 0", f"Give momentum: {usual}.",
            ("type",),
        )  # fmt: skip


@rule("T304", "momentum-refused", solver=True)
def momentum_refused(solver: SolverSubject) -> Iterator[Finding]:
    """AdaGrad and RMSProp take no momentum; Caffe stops when it is given.

    (Source: Caffe's sgd_solvers.hpp.)
    """
    message = solver.message
    if message.type in ("AdaGrad", "RMSProp") and message.momentum:
        yield Finding(
            f"{message.type} takes no momentum, and Caffe refuses it", "Leave it out.",
            ("momentum",),
        )  # fmt: skip


@rule("T305", "nowhere-to-snapshot", solver=True)
def nowhere_to_snapshot(solver: SolverSubject) -> Iterator[Finding]:
    """The folder of snapshot_prefix does not exist; the first snapshot ends the training.

    Paths are relative to the folder that training is started in.
    """
    prefix = solver.message.snapshot_prefix
    if prefix and not Path(prefix).parent.is_dir():
        yield Finding(
            f"there is no folder {Path(prefix).parent}", "Make it, or start where it is.",
            ("snapshot_prefix",),
        )  # fmt: skip


@rule("T306", "never-tested", solver=True)
def never_tested(solver: SolverSubject) -> Iterator[Finding]:
    """With test_interval but without test_iter nothing is tested.

    Each test_iter stands for a test net; Caffe makes none where there is none. (Source: Caffe's
    Solver::InitTestNets.)
    """
    message = solver.message
    if message.test_interval and not message.test_iter:
        yield Finding(
            "test_interval is given, but no test_iter: nothing is tested", "Give test_iter.",
            ("test_interval",),
        )  # fmt: skip
