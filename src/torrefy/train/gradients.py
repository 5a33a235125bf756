"""The gradients of several processes, averaged while the backward pass goes on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from torrefy.train.distributed import Processes

BUCKET = 25 << 20
"""Bytes of gradients that are sent at once, as torch's DistributedDataParallel does."""


class Gradients:
    """The mean of gradients over all processes.

    Params lie in buckets, the last ones first, as a backward pass gives their gradients. A bucket
    is sent as soon as its gradients and all earlier buckets are there, so in one order everywhere,
    whatever each process computes; the rest of the pass goes on meanwhile. What has no gradient
    counts as zeros. torch's DistributedDataParallel would be told at its making which params get
    gradients, or would warn; a net of Caffe's may have some that get none.
    """

    def __init__(self, params: Iterable[Tensor], processes: Processes, *, early: bool) -> None:
        """Take params.

        Args:
            params: those that learn.
            processes: whose gradients are averaged.
            early: whether buckets are sent during the pass (Caffe's layer_wise_reduce), or all
                after it.
        """
        self._processes = processes
        self._buckets = list(_buckets(list({id(p): p for p in params}.values())[::-1]))
        self._bucket_of = {id(p): i for i, bucket in enumerate(self._buckets) for p in bucket}
        self._missing: list[int] = []
        self._sent: list[tuple[Tensor, dist.Work]] = []
        self._sends = False
        if early and processes.world > 1:
            for bucket in self._buckets:
                for param in bucket:
                    hooked: Any = param
                    hooked.register_post_accumulate_grad_hook(self._arrived)

    def begin(self) -> None:
        """The backward pass comes after which the gradients are complete."""
        self._missing = [len(bucket) for bucket in self._buckets]
        self._sent.clear()
        self._sends = True

    def _arrived(self, param: Tensor) -> None:
        if not self._sends:
            return
        self._missing[self._bucket_of[id(param)]] -= 1
        while len(self._sent) < len(self._buckets) and self._missing[len(self._sent)] <= 0:
            self._send(self._buckets[len(self._sent)])

    def _send(self, bucket: Sequence[Tensor]) -> None:
        grads = [p.grad for p in bucket if p.grad is not None]
        flat = torch.cat([grad.detach().reshape(-1) for grad in grads])
        self._add(flat)

    def _add(self, flat: Tensor) -> None:
        flat.div_(self._processes.world)
        self._sent.append((flat, self._processes.send(flat)))

    def finish(self, loss: Tensor) -> Tensor:
        """Give each param the mean of its gradients.

        Args:
            loss: this process's.

        Returns:
            The mean of the losses.
        """
        self._sends = False
        for bucket in self._buckets[len(self._sent) :]:
            for param in bucket:
                if param.grad is None:
                    param.grad = torch.zeros_like(param)
            self._send(bucket)
        self._add(loss.detach().clone().reshape(1))
        for _, work in self._sent:
            self._processes.receive(work)
        for bucket, (flat, _) in zip(self._buckets, self._sent, strict=False):
            grads = [p.grad for p in bucket if p.grad is not None]
            means = torch.split(flat, [grad.numel() for grad in grads])
            shaped = [mean.view(grad.shape) for mean, grad in zip(means, grads, strict=True)]
            torch._foreach_copy_(grads, shaped)
        return self._sent.pop()[0].reshape(loss.shape)


def _buckets(params: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Params in runs of one type, about as many bytes each."""
    bucket: list[Tensor] = []
    size = 0
    for param in params:
        if bucket and (size >= BUCKET or param.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(param)
        size += param.numel() * param.element_size()
    if bucket:
        yield bucket
