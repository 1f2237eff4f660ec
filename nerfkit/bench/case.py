"""One thing to measure, with its inputs, on every backend that has it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nerfkit.kernels import _backend

from .work import Work

KERNELS = _backend.BACKENDS


@dataclass(frozen=True)
class Case:
    """An operation at one size.

    Attributes:
        op: the kernel's folder; another name for what is not a kernel.
        name, size: of the figures, for the reader.
        items, unit: what the throughput counts.
        inputs: tensors by name, given to `run` as keywords.
        run: (backend, **inputs) -> tensors.
        wanted: inputs that the backward pass gives gradients of; none: forward alone.
        fresh: inputs that `run` changes, copied before each call.
        flops: float operations of the call's matrix products; of a forward pass where there is a
            backward one.
        traffic: bytes that `run` cannot avoid to move; by default its inputs and outputs. Given for
            tables that are looked up at few places.
        gathers: different records of 64 bytes looked up in a table, in a forward pass.
        backends: which are measured if they can run, the one that the others must agree with first.
        half: backends that multiply matrices in 16 bits.
        curve, axis, x: the curve, what runs along it and where on it this is; by default those of
            `name`, `unit` and `items`.
    """

    op: str
    name: str
    size: str
    items: int
    unit: str
    inputs: dict[str, Tensor]
    run: Callable[..., Any]
    wanted: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()
    flops: float = 0.0
    traffic: float = math.nan
    gathers: float = 0.0
    backends: tuple[str, ...] = KERNELS
    half: tuple[str, ...] = ("gpu",)
    curve: str | None = None
    axis: str | None = None
    x: float | None = None

    @property
    def place(self) -> torch.device:
        """Where the inputs are."""
        return next(iter(self.inputs.values())).device

    def available(self) -> list[str]:
        """Backends that can run on the inputs' device, in their order."""
        # Triton's interpreter, where it is on, is no backend to time
        names = [b for b in self.backends if b != "gpu" or self.place.type == "cuda"]
        return [b for b in names if b not in KERNELS or _backend.has(self.op, b, self.place)]

    def directions(self) -> tuple[str, ...]:
        """forward, and forward with backward where there are gradients."""
        return ("forward", "forward+backward") if self.wanted else ("forward",)

    def copies(self) -> dict[str, Tensor]:
        """The inputs, those that `run` changes copied."""
        return {k: v.clone() if k in self.fresh else v for k, v in self.inputs.items()}

    def upstream(self) -> list[Tensor]:
        """A random gradient for each output."""
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            outputs = tensors(self.run(self.available()[0], **self.copies()))
        return [torch.randn(t.shape, generator=generator).to(t) for t in outputs]

    def call(self, backend: str, upstream: list[Tensor], inputs: dict[str, Tensor]) -> Any:
        """The outputs; with `upstream` gradients of them, the gradients of the wanted inputs."""
        if not upstream:
            with torch.no_grad():
                return self.run(backend, **inputs)
        leaves = {k: inputs[k].detach().requires_grad_() for k in self.wanted}
        outputs = tensors(self.run(backend, **{**inputs, **leaves}))
        pairs = [(o, u) for o, u in zip(outputs, upstream, strict=True) if o.requires_grad]
        return torch.autograd.grad(
            [o for o, _ in pairs], list(leaves.values()), [u for _, u in pairs]
        )

    def work(self, results: list[Tensor], direction: str) -> Work:
        """The least of a call that returns `results`.

        A backward pass does two matrix products and two look-ups for one, and moves as much again.
        """
        moved = self.traffic
        if math.isnan(moved):
            moved = sum(t.numel() * t.element_size() for t in [*self.inputs.values(), *results])
        if direction == "forward":
            return Work(moved, self.flops, self.gathers)
        return Work(2 * moved, 3 * self.flops, 3 * self.gathers)


def tensors(result: Any) -> list[Tensor]:
    """Those in what a case's `run` returns."""
    if isinstance(result, Tensor):
        return [result]
    return [t for part in result for t in tensors(part)] if isinstance(result, tuple) else []
