"""Training by a solver's definition: optimisers, learning-rate policies, the loop, snapshots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torrefy.plugins.hookspecs import hookimpl

if TYPE_CHECKING:
    from torrefy.train.callbacks import Callback
    from torrefy.train.optimisers import SolverOptimizer
    from torrefy.train.policies import Policy

# The imports stand in the functions: the schema asks for the callbacks' fields, without torch.


@hookimpl
def torrefy_solvers() -> list[type[SolverOptimizer]]:
    """The built-in solver types."""
    from torrefy.train.optimisers import BUILT_IN

    return list(BUILT_IN)


@hookimpl
def torrefy_lr_policies() -> list[Policy]:
    """The built-in policies."""
    from torrefy.train.policies import BUILT_IN

    return list(BUILT_IN)


@hookimpl
def torrefy_train_callbacks() -> list[type[Callback]]:
    """The built-in callbacks."""
    from torrefy.train.adjust import AdjustVariable
    from torrefy.train.best import CheckpointBest, EarlyStopping
    from torrefy.train.keep import KeepLast
    from torrefy.train.run import RunFolder
    from torrefy.train.tensorboard import TensorBoard

    return [AdjustVariable, CheckpointBest, EarlyStopping, KeepLast, RunFolder, TensorBoard]
