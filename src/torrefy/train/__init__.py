"""Training by a solver's definition: optimisers, learning-rate policies, the loop, snapshots."""

from __future__ import annotations

from torrefy.plugins.hookspecs import hookimpl
from torrefy.train import optimisers, policies


@hookimpl
def torrefy_solvers() -> list[type[optimisers.SolverOptimizer]]:
    """The built-in solver types."""
    return list(optimisers.BUILT_IN)


@hookimpl
def torrefy_lr_policies() -> list[policies.Policy]:
    """The built-in policies."""
    return list(policies.BUILT_IN)
