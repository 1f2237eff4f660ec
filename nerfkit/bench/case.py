"""One thing to measure on every backend that has it: check the results, then take the times."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from nerfkit.kernels import _backend, _native

from .timing import Timing, in_turns

# Relative error (sum of the differences over sum of the reference, absolute values) of a right
# result. Both sides are float32: one sample of a hundred thousand may count as the next voxel's, or
# have a ReLU at zero take the other side, which a norm of squares would make much of (1.6e-3 where
# this is 6e-5). Worst measured 6e-5.
TOLERANCE = 1e-3
# Networks multiply numbers of 11 bits on a GPU.
GPU_TOLERANCE = 5e-3
NETWORKS = ("fused_render", "fused_mlp", "nerf_mlp", "fastnerf_mlp", "nsvf_mlp")


@dataclass(frozen=True)
class Case:
    """An operation at one size.

    Attributes:
        op: the kernel's folder.
        name, size: of the row, for the reader.
        items, unit: what the throughput counts.
        inputs: tensors by name, given to `run` as keywords.
        run: (backend, **inputs) -> tensors.
        wanted: inputs that the backward pass gives gradients of; none: forward alone.
        fresh: inputs that `run` changes, copied before each call.
        flops: float operations of the whole call, where a matrix product is the work; of a forward
            pass where there is a backward one.
        traffic: bytes that `run` cannot avoid to move; by default its inputs and outputs. None for
            tables that are looked up at few places.
        gathers: look-ups of 64 bytes in a table, in a forward pass.
        backends: limits which are measured.
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
    traffic: float | None = math.nan
    gathers: float = 0.0
    backends: tuple[str, ...] = field(default=_backend.BACKENDS)

    def available(self) -> list[str]:
        """Backends to measure, the reference first."""
        device = next(iter(self.inputs.values())).device
        # Triton's interpreter, where it is on, is no backend to time.
        names = [b for b in self.backends if b != "gpu" or device.type == "cuda"]
        return [b for b in names if _backend.has(self.op, b, device)]


@dataclass(frozen=True)
class Row:
    """A measurement; shares and ratios are None where they mean nothing, times where it failed."""

    suite: str
    op: str
    name: str
    size: str
    backend: str
    direction: str
    threads: int
    seconds: float | None
    spread: float | None
    repeats: int
    throughput: float | None  # items a second
    unit: str
    error: float | None  # relative, against the reference
    ratio_to_reference: float | None
    share_of_memcpy: float | None
    share_of_sgemm: float | None
    share_of_gather: float | None
    failed: bool

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Torch and the C++ kernels on `count` threads."""
    before = torch.get_num_threads(), _native.num_threads()
    torch.set_num_threads(count)
    _native.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        _native.set_num_threads(before[1])


def measure(
    suite: str, case: Case, ceilings: dict[str, float], budget: float, count: int
) -> list[Row]:
    """Rows of a case: forward, and forward + backward where it has gradients.

    Args:
        budget: seconds for each row.
        count: threads.
    """
    rows = []
    for direction in ("forward", "forward+backward") if case.wanted else ("forward",):
        backward = direction != "forward"
        names = case.available()
        upstream = _upstream(case) if backward else []
        # threads that share gradients without locks may lose a few: one is exact
        with threads(1):
            results = {b: _tensors(_call(case, b, upstream, _copies(case))) for b in names}
        errors = {b: _error(results[b], results[names[0]]) for b in names}
        moved = _bytes(case, results[names[0]], backward)
        right = [b for b in names if errors[b] <= tolerance(case.op, b)]
        with threads(count):
            timings = in_turns(
                {b: lambda x, b=b, upstream=upstream: _call(case, b, upstream, x) for b in right},
                lambda: _copies(case),
                budget,
            )
        for b in names:
            rows.append(_row(suite, case, b, direction, count, timings, errors[b], moved, ceilings))
    return rows


def tolerance(op: str, backend: str) -> float:
    """Largest relative error of a right result."""
    return GPU_TOLERANCE if backend == "gpu" and op in NETWORKS else TOLERANCE


def _row(
    suite: str,
    case: Case,
    backend: str,
    direction: str,
    count: int,
    timings: dict[str, Timing],
    error: float,
    moved: float | None,
    ceilings: dict[str, float],
) -> Row:
    timing, base = timings.get(backend), timings.get("reference")
    seconds = timing.median if timing else None
    # a backward pass does two matrix products, and two look-ups, for one
    factor = 1 if direction == "forward" else 3

    def share(work: float | None, rate: float) -> float | None:
        return work / seconds / rate if seconds and work else None

    return Row(
        *(suite, case.op, case.name, case.size, backend, direction, count),
        seconds=seconds,
        spread=timing.spread if timing else None,
        repeats=timing.repeats if timing else 0,
        throughput=case.items / seconds if seconds else None,
        unit=case.unit,
        error=error if math.isfinite(error) else None,
        ratio_to_reference=base.median / seconds if seconds and base else None,
        share_of_memcpy=share(moved, ceilings["memcpy_gbs"] * 1e9),
        share_of_sgemm=share(factor * case.flops, ceilings["sgemm_gflops"] * 1e9),
        share_of_gather=share(factor * case.gathers, ceilings["gather_mrows"] * 1e6),
        failed=timing is None,
    )


def _copies(case: Case) -> dict[str, Tensor]:
    return {k: v.clone() if k in case.fresh else v for k, v in case.inputs.items()}


def _upstream(case: Case) -> list[Tensor]:
    """A random gradient for each output."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        outputs = _tensors(case.run("reference", **_copies(case)))
    return [torch.randn(t.shape, generator=generator).to(t) for t in outputs]


def _call(case: Case, backend: str, upstream: list[Tensor], inputs: dict[str, Tensor]) -> Any:
    """The outputs; with `upstream` gradients of them, the gradients of the wanted inputs."""
    if not upstream:
        with torch.no_grad():
            return case.run(backend, **inputs)
    leaves = {k: inputs[k].detach().requires_grad_() for k in case.wanted}
    outputs = _tensors(case.run(backend, **{**inputs, **leaves}))
    pairs = [(o, u) for o, u in zip(outputs, upstream, strict=True) if o.requires_grad]
    return torch.autograd.grad([o for o, _ in pairs], list(leaves.values()), [u for _, u in pairs])


def _tensors(result: Any) -> list[Tensor]:
    if isinstance(result, Tensor):
        return [result]
    return [t for part in result for t in _tensors(part)] if isinstance(result, tuple) else []


def _error(got: list[Tensor], want: list[Tensor]) -> float:
    """Worst relative error of the outputs; infinity if they cannot be compared."""
    if [t.shape for t in got] != [t.shape for t in want]:
        return math.inf
    worst = 0.0
    for g, w in zip(got, want, strict=True):
        finite = torch.isfinite(w)
        if not torch.equal(finite, torch.isfinite(g)):
            return math.inf
        g, w = g[finite].double(), w[finite].double()
        total = w.abs().sum().clamp_min(1e-30)
        worst = max(worst, float((g - w).abs().sum() / total))
    return worst


def _bytes(case: Case, results: list[Tensor], backward: bool) -> float | None:
    """The least traffic: inputs read once and results written once; twice there and back."""
    if case.traffic is None or not math.isnan(case.traffic):
        return case.traffic
    tensors = [*case.inputs.values(), *results]
    return sum(t.numel() * t.element_size() for t in tensors) * (2 if backward else 1)
