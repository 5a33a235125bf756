"""Caffe's solvers as torch optimisers, by Caffe's updates to the letter."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, overload

import torch
from torch import Tensor

from torrefy.errors import TorrefyError, did_you_mean
from torrefy.plugins import Named, cached, named

REGULARISATIONS = ("L2", "L1")
"""What `regularization_type` can be."""

SMALLEST = 1e-7
"""A rate above it is exact to 32 bits when it is taken from 1 and the rest from 1 again."""


class SolverOptimizer(torch.optim.Optimizer):
    """What the solvers have in common: everything before the update itself.

    A step does to the gradients g, in place and in Caffe's order (`SGDSolver::ApplyUpdate`):

    1. clip: where their L2 norm over all params is above `clip_gradients`, they are scaled to it;
    2. normalise: g ← g / iter_size, since iter_size passes added theirs up;
    3. regularise: g ← g + λ w (L2) or g + λ sign(w) (L1), λ being weight_decay · decay_mult;

    then the type's update with the rate r = lr · lr_mult. Afterwards `p.grad` may hold anything
    between the gradient and what was made of it. A param without a gradient is passed over, as
    torch does; Caffe would decay it, and so `torrefy.Solver` gives it a gradient of zeros.

    It works alone, under any loop and with torch's schedulers. Param groups can have `lr`,
    `lr_mult`, `decay_mult` and whatever the type adds; clipping is over all groups. The work is
    done by `torch._foreach` operations: a few kernels for all params.

    A subclass gives `type_name`, `histories` and `update`, and is returned by the hook
    `torrefy_solvers` where it is a plugin's.

    Example:
        optimiser = SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=0.0005)
        optimiser.zero_grad()
        net.loss(net(data=x, label=y)).backward()
        optimiser.step()
    """

    type_name: ClassVar[str] = ""
    """The solver's `type` in the text."""
    histories: ClassVar[tuple[str, ...]] = ("history",)
    """What is kept for each param, in the order of a solverstate: all params' first, then all
    params' second."""

    def __init__(
        self,
        params: Any,
        lr: float,
        *,
        weight_decay: float = 0.0,
        regularization_type: str = "L2",
        clip_gradients: float = -1.0,
        iter_size: int = 1,
        lr_mult: float = 1.0,
        decay_mult: float = 1.0,
        **more: Any,
    ) -> None:
        """Take params or groups of them, as torch's optimisers do.

        Args:
            params: tensors, names and tensors, or dicts of groups.
            lr: the rate (Caffe's base_lr).
            weight_decay: the strength of regularisation, before decay_mult.
            regularization_type: "L2" or "L1".
            clip_gradients: the largest L2 norm of all gradients together; below 0: no limit.
            iter_size: how many backward passes are summed in the gradients.
            lr_mult: factor of the rate.
            decay_mult: factor of weight_decay.
            more: what a subclass adds to the groups.

        Raises:
            TorrefyError: regularization_type is unknown, or iter_size below 1.
        """
        if regularization_type not in REGULARISATIONS:
            raise TorrefyError(
                f'there is no regularization_type "{regularization_type}"',
                hint=did_you_mean(regularization_type, REGULARISATIONS) or "It is L2 or L1.",
            )
        if iter_size < 1:
            raise TorrefyError(f"iter_size must be 1 or more, found {iter_size}")
        self.clip_gradients = clip_gradients
        self.iter_size = iter_size
        defaults = {
            "lr": lr,
            "lr_mult": lr_mult,
            "decay_mult": decay_mult,
            "weight_decay": weight_decay,
            "regularization_type": regularization_type,
            **more,
        }
        super().__init__(params, defaults)

    @classmethod
    def options(cls, parameter: Any) -> dict[str, Any]:
        """The arguments that a SolverParameter gives. A subclass adds its own.

        Raises:
            TorrefyError: the solver refuses a field.
        """
        return {
            "lr": parameter.base_lr,
            "weight_decay": parameter.weight_decay,
            "regularization_type": parameter.regularization_type,
            "clip_gradients": parameter.clip_gradients,
            "iter_size": parameter.iter_size,
        }

    def update(
        self,
        group: dict[str, Any],
        rate: float,
        params: list[Tensor],
        grads: list[Tensor],
        *kept: list[Tensor],
    ) -> None:
        """Change a group's params by their regularised gradients, and what is kept of them.

        Args:
            group: the param group.
            rate: lr · lr_mult.
            params: those that have a gradient.
            grads: theirs; they may be overwritten.
            kept: for each of `histories` the params' tensors.
        """
        raise NotImplementedError

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Clip, normalise, regularise and update.

        Args:
            closure: computes the loss anew; its value is returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        groups = []
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                groups.append((group, params, [p.grad for p in params if p.grad is not None]))
        self.clip([grad for _, _, grads in groups for grad in grads])
        for group, params, grads in groups:
            if self.iter_size > 1:
                torch._foreach_mul_(grads, 1.0 / self.iter_size)
            self.regularise(group, params, grads)
            states = [self._kept(p) for p in params]
            kept = [[state[name] for state in states] for name in self.histories]
            group["iteration"] = group.get("iteration", 0) + 1
            self.update(group, group["lr"] * group["lr_mult"], params, grads, *kept)
        return loss

    def clip(self, grads: list[Tensor]) -> None:
        """Scale gradients down to `clip_gradients` where their common L2 norm is above it."""
        if self.clip_gradients < 0 or not grads:
            return
        norms = torch._foreach_norm(grads)
        norm = torch.linalg.vector_norm(torch.stack([n.to(norms[0].device) for n in norms]))
        # On the device, so that a GPU isn't waited for; a NaN clips nothing, as in Caffe.
        scale = torch.where(norm > self.clip_gradients, self.clip_gradients / norm, 1.0)
        torch._foreach_mul_(grads, scale)

    def regularise(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> None:
        """Add the decay of the params to their gradients."""
        decay = group["weight_decay"] * group["decay_mult"]
        if not decay:
            return
        if group["regularization_type"] == "L1":
            torch._foreach_add_(grads, torch._foreach_sign(params), alpha=decay)
        else:
            torch._foreach_add_(grads, params, alpha=decay)

    def _kept(self, param: Tensor) -> dict[str, Tensor]:
        """What is kept of a param: zeros at first."""
        state: dict[str, Tensor] = self.state[param]
        for name in self.histories:
            if name not in state:
                state[name] = torch.zeros_like(param)
        return state

    def history(self, params: Iterable[Tensor]) -> list[Tensor | None]:
        """What is kept of params in the order of Caffe's solverstate; None for zeros.

        Args:
            params: in the net's order. One that never had a gradient has nothing.
        """
        ordered = list(params)
        return [
            self.state[p].get(name) if p in self.state else None
            for name in self.histories
            for p in ordered
        ]

    @torch.no_grad()
    def restore(self, params: Iterable[Tensor], history: Sequence[Tensor], iteration: int) -> None:
        """Take up what was kept, in the order of `history`, after a number of steps."""
        ordered = list(params)
        mine = {p for group in self.param_groups for p in group["params"]}
        for i, values in enumerate(history):
            name, p = self.histories[i // len(ordered)], ordered[i % len(ordered)]
            if p in mine:
                self._kept(p)[name].copy_(values.view_as(p))
        for group in self.param_groups:
            group["iteration"] = iteration


class SGD(SolverOptimizer):
    """h ← μ h + r g; w ← w − h.

    As Caffe's SGDSolver; the history holds the rate, so a rate that drops slows only what is
    added from then on. (torch.optim.SGD keeps μ h + g and multiplies by the rate of the day: the
    same only while the rate is constant.)
    """

    type_name = "SGD"

    def __init__(self, params: Any, lr: float, *, momentum: float = 0.0, **options: Any) -> None:
        """Take the momentum μ too; the rest is `SolverOptimizer`'s."""
        super().__init__(params, lr, momentum=momentum, **options)

    @classmethod
    def options(cls, parameter: Any) -> dict[str, Any]:
        """With `momentum`."""
        return {**super().options(parameter), "momentum": parameter.momentum}

    def update(
        self,
        group: dict[str, Any],
        rate: float,
        params: list[Tensor],
        grads: list[Tensor],
        *kept: list[Tensor],
    ) -> None:
        """Update."""
        (history,) = kept
        if self._fuses(group, params):
            # torch's b ← μ b + (1 − dampening) (g + λ w); w ← w − lr b, with r for 1 − dampening
            # and 1 for lr, is Caffe's update in one pass over memory.
            torch._fused_sgd_(
                params, grads, history, momentum=group["momentum"], dampening=1 - rate, lr=1.0,
                weight_decay=group["weight_decay"] * group["decay_mult"], nesterov=False,
                maximize=False, is_first_step=False,
            )  # fmt: skip
            return
        torch._foreach_mul_(history, group["momentum"])
        torch._foreach_add_(history, grads, alpha=rate)
        torch._foreach_sub_(params, history)

    def regularise(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> None:
        """Add the decay, but where the update adds it itself."""
        if not self._fuses(group, params):
            super().regularise(group, params, grads)

    def _fuses(self, group: dict[str, Any], params: list[Tensor]) -> bool:
        """Whether the update is one operation (benchmarks/train.py tells what for)."""
        first = params[0]
        return (
            type(self) is SGD
            and group["momentum"] != 0
            and group["regularization_type"] == "L2"
            and abs(group["lr"] * group["lr_mult"]) > SMALLEST  # else 1 − r would lose digits
            and first.device.type in ("cpu", "cuda")
            and first.dtype in (torch.float32, torch.float64)
            and all(p.dtype == first.dtype and p.device == first.device for p in params)
        )


class Nesterov(SGD):
    """h' ← μ h + r g; w ← w − ((1 + μ) h' − μ h).

    As Caffe's NesterovSolver (Nesterov 1983; Sutskever et al. 2013); the history holds the rate.
    """

    type_name = "Nesterov"

    def update(
        self,
        group: dict[str, Any],
        rate: float,
        params: list[Tensor],
        grads: list[Tensor],
        *kept: list[Tensor],
    ) -> None:
        """Update."""
        (history,) = kept
        momentum = group["momentum"]
        step = torch._foreach_mul(history, -momentum)
        torch._foreach_mul_(history, momentum)
        torch._foreach_add_(history, grads, alpha=rate)
        torch._foreach_add_(step, history, alpha=1 + momentum)
        torch._foreach_sub_(params, step)


class _WithoutMomentum(SolverOptimizer):
    """A solver that refuses momentum and reads delta."""

    def __init__(self, params: Any, lr: float, *, delta: float = 1e-8, **options: Any) -> None:
        """Take δ too, which keeps the divisor above 0; the rest is `SolverOptimizer`'s."""
        super().__init__(params, lr, delta=delta, **options)

    @classmethod
    def options(cls, parameter: Any) -> dict[str, Any]:
        """With `delta`, and without `momentum`."""
        if parameter.momentum:
            raise TorrefyError(
                f"{cls.type_name} takes no momentum, found {parameter.momentum:g}",
                hint="Leave it out.",
            )
        return {**super().options(parameter), "delta": parameter.delta}


class AdaGrad(_WithoutMomentum):
    """h ← h + g²; w ← w − r g / (√h + δ).

    As Caffe's AdaGradSolver (Duchi et al. 2011).
    """

    type_name = "AdaGrad"

    def update(
        self,
        group: dict[str, Any],
        rate: float,
        params: list[Tensor],
        grads: list[Tensor],
        *kept: list[Tensor],
    ) -> None:
        """Update."""
        (history,) = kept
        torch._foreach_addcmul_(history, grads, grads)
        divisor = torch._foreach_sqrt(history)
        torch._foreach_add_(divisor, group["delta"])
        torch._foreach_addcdiv_(params, grads, divisor, value=-rate)


class RMSProp(_WithoutMomentum):
    """h ← ρ h + (1 − ρ) g²; w ← w − r g / (√h + δ).

    As Caffe's RMSPropSolver (Tieleman and Hinton 2012); ρ is rms_decay, 0.99.
    """

    type_name = "RMSProp"

    def __init__(self, params: Any, lr: float, *, rms_decay: float = 0.99, **options: Any) -> None:
        """Take ρ too; the rest is `AdaGrad`'s."""
        super().__init__(params, lr, rms_decay=rms_decay, **options)

    @classmethod
    def options(cls, parameter: Any) -> dict[str, Any]:
        """With `rms_decay`."""
        return {**super().options(parameter), "rms_decay": parameter.rms_decay}

    def update(
        self,
        group: dict[str, Any],
        rate: float,
        params: list[Tensor],
        grads: list[Tensor],
        *kept: list[Tensor],
    ) -> None:
        """Update."""
        (history,) = kept
        torch._foreach_mul_(history, group["rms_decay"])
        torch._foreach_addcmul_(history, grads, grads, value=1 - group["rms_decay"])
        divisor = torch._foreach_sqrt(history)
        torch._foreach_add_(divisor, group["delta"])
        torch._foreach_addcdiv_(params, grads, divisor, value=-rate)


class AdaDelta(SolverOptimizer):
    """h ← μ h + (1 − μ) g²; u = g √((k + δ) / (h + δ)); k ← μ k + (1 − μ) u²; w ← w − r u.

    As Caffe's AdaDeltaSolver (Zeiler 2012, arXiv:1212.5701), with a rate; μ, the paper's ρ, is
    the solver's momentum, and without one nothing is averaged.
    """

    type_name = "AdaDelta"
    histories = ("history", "update_history")

    def __init__(
        self, params: Any, lr: float, *, momentum: float = 0.0, delta: float = 1e-8, **options: Any
    ) -> None:
        """Take μ and δ too; the rest is `SolverOptimizer`'s."""
        super().__init__(params, lr, momentum=momentum, delta=delta, **options)

    @classmethod
    def options(cls, parameter: Any) -> dict[str, Any]:
        """With `momentum` and `delta`."""
        own = {"momentum": parameter.momentum, "delta": parameter.delta}
        return {**super().options(parameter), **own}

    def update(
        self,
        group: dict[str, Any],
        rate: float,
        params: list[Tensor],
        grads: list[Tensor],
        *kept: list[Tensor],
    ) -> None:
        """Update."""
        history, updates = kept
        momentum, delta = group["momentum"], group["delta"]
        torch._foreach_mul_(history, momentum)
        torch._foreach_addcmul_(history, grads, grads, value=1 - momentum)
        ratio = torch._foreach_add(updates, delta)
        torch._foreach_div_(ratio, torch._foreach_add(history, delta))
        torch._foreach_sqrt_(ratio)
        torch._foreach_mul_(grads, ratio)
        torch._foreach_mul_(updates, momentum)
        torch._foreach_addcmul_(updates, grads, grads, value=1 - momentum)
        torch._foreach_add_(params, grads, alpha=-rate)


class Adam(SolverOptimizer):
    """m ← β₁ m + (1 − β₁) g; v ← β₂ v + (1 − β₂) g²; w ← w − r √(1 − β₂ᵗ)/(1 − β₁ᵗ) m / (√v + δ).

    As Caffe's AdamSolver (Kingma and Ba 2014, arXiv:1412.6980, the order at the end of section
    2, with δ for ε̂): δ stands outside the correction, where torch.optim.Adam has it inside, and
    decay is part of g. β₁ is the solver's momentum, 0 where it is not given; β₂ is momentum2,
    0.999.
    """

    type_name = "Adam"
    histories = ("mean", "variance")

    def __init__(
        self,
        params: Any,
        lr: float,
        *,
        momentum: float = 0.0,
        momentum2: float = 0.999,
        delta: float = 1e-8,
        **options: Any,
    ) -> None:
        """Take β₁, β₂ and δ too; the rest is `SolverOptimizer`'s."""
        super().__init__(params, lr, momentum=momentum, momentum2=momentum2, delta=delta, **options)

    @classmethod
    def options(cls, parameter: Any) -> dict[str, Any]:
        """With `momentum`, `momentum2` and `delta`."""
        names = ("momentum", "momentum2", "delta")
        return {**super().options(parameter), **{name: getattr(parameter, name) for name in names}}

    def update(
        self,
        group: dict[str, Any],
        rate: float,
        params: list[Tensor],
        grads: list[Tensor],
        *kept: list[Tensor],
    ) -> None:
        """Update."""
        mean, variance = kept
        first, second, time = group["momentum"], group["momentum2"], group["iteration"]
        correction = math.sqrt(1 - second**time) / (1 - first**time)
        torch._foreach_mul_(mean, first)
        torch._foreach_add_(mean, grads, alpha=1 - first)
        torch._foreach_mul_(variance, second)
        torch._foreach_addcmul_(variance, grads, grads, value=1 - second)
        divisor = torch._foreach_sqrt(variance)
        torch._foreach_add_(divisor, group["delta"])
        torch._foreach_addcdiv_(params, mean, divisor, value=-rate * correction)


class AdamW(Adam):
    """Adam whose decay is no part of the gradient: w ← w − r λ w, then Adam's update.

    Not of Caffe (Loshchilov and Hutter 2019, arXiv:1711.05101). λ is weight_decay · decay_mult.
    """

    type_name = "AdamW"

    @classmethod
    def options(cls, parameter: Any) -> dict[str, Any]:
        """Adam's; the decay is L2's alone."""
        if parameter.regularization_type != "L2":
            raise TorrefyError("AdamW decays the weights themselves; it takes no L1")
        return super().options(parameter)

    def regularise(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> None:
        """Decay the params themselves."""
        decay = group["weight_decay"] * group["decay_mult"]
        if decay:
            torch._foreach_mul_(params, 1 - group["lr"] * group["lr_mult"] * decay)


BUILT_IN = (SGD, Nesterov, AdaGrad, RMSProp, AdaDelta, Adam, AdamW)
"""Caffe's six, and what came later."""


@cached
def solver_types() -> Named:
    """Every optimiser that there is, by the solver's `type`."""
    return named("torrefy_solvers", "type_name", "solver type")
