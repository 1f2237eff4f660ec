"""What a machine can do at best, by torch: the rates that every figure is held against.

| ceiling | what is timed | unit |
|---|---|---|
| sgemm | product of two square float32 matrices, 2 n^3 operations | FLOP/s |
| bf16 | the same in bfloat16, which the kernels of a GPU multiply in | FLOP/s |
| memcpy | a copy; bytes read and bytes written both count | B/s |
| gather | random records of 64 bytes from a table far larger than the caches | 1/s |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .threads import threads
from .timing import Timing, in_turns

SMALLEST_GEMM, LARGEST_GEMM, LARGEST_GEMM_GPU = 128, 1024, 8192  # edges
COPY_BYTES = 256 << 20
GATHER_ROWS, GATHERED = 1 << 22, 1 << 19
UNITS = {"sgemm": "FLOP/s", "bf16": "FLOP/s", "memcpy": "B/s", "gather": "1/s"}


@dataclass(frozen=True)
class Rate:
    """Median and quartiles, a second."""

    median: float
    low: float
    high: float
    unit: str

    @staticmethod
    def of(work: float, timing: Timing, unit: str) -> Rate:
        return Rate(work / timing.median, work / timing.high, work / timing.low, unit)


Rates = dict[str, Rate]


class Ceilings:
    """Of one device, for as many threads as are asked about, measured when first they are.

    Args:
        place: the device.
        budget: seconds for each rate.
    """

    def __init__(self, place: torch.device, budget: float) -> None:
        self.place, self.budget = place, budget
        self.seen: dict[int, Rates] = {}

    def at(self, count: int) -> Rates:
        """Rates of `count` threads."""
        if count not in self.seen:
            with threads(count):
                self.seen[count] = measure(self.place, self.budget)
        return self.seen[count]


def measure(place: torch.device, budget: float) -> Rates:
    """Rates of this moment, with torch's threads."""
    # not zeros: those that were never written share one page, which is always in the cache
    source = torch.ones(COPY_BYTES // 4, device=place)
    target = torch.ones_like(source)
    table = source[: GATHER_ROWS * 16].view(GATHER_ROWS, 16)
    at = torch.randint(GATHER_ROWS, (GATHERED,), generator=torch.Generator().manual_seed(0))
    at = at.to(place)
    gathered = torch.empty(GATHERED, 16, device=place)
    work: dict[str, float] = {"memcpy": 2 * COPY_BYTES, "gather": GATHERED}
    ways: dict[str, Callable[[Any], Any]] = {
        "memcpy": lambda _: target.copy_(source),
        "gather": lambda _: torch.index_select(table, 0, at, out=gathered),
    }
    for name, dtype in (("sgemm", torch.float32), ("bf16", torch.bfloat16)):
        a = _largest_operand(dtype, place, budget / 8)
        work[name] = 2 * len(a) ** 3
        ways[name] = lambda _, a=a: a @ a
    timings = in_turns(ways, prepare=lambda: None, budget=budget)
    return {name: Rate.of(work[name], timings[name], unit) for name, unit in UNITS.items()}


def _largest_operand(dtype: torch.dtype, place: torch.device, seconds: float) -> Tensor:
    """A square matrix, as large as a product may be in `seconds`: bfloat16 is slow on some CPUs."""
    edge = SMALLEST_GEMM
    largest = LARGEST_GEMM_GPU if place.type == "cuda" else LARGEST_GEMM
    while True:
        a = torch.rand(edge, edge, device=place).to(dtype)
        took = in_turns({"": lambda _, a=a: a @ a}, lambda: None, 0.0, fewest=2)[""].low
        if edge == largest or 8 * took > seconds:
            return a
        edge *= 2
