"""How fast the machine is while something is measured: pieces of a ceiling, in turns with it.

Other programs come and go within a run. A figure that became slower while its piece did not is
another figure; where both did, the machine was busy.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import torch

from .timing import Timing, synchronise

SECONDS = 0.02  # of the pieces between two repeats: several time slices, so that neighbours count
SAMPLES = 5
GEMM, GEMM_GPU = 192, 2048
COPY, TABLE, ROWS = 1 << 23, 1 << 20, 1 << 14  # floats; records of 64 bytes in all and looked up


@functools.lru_cache(maxsize=8)
def piece(ceiling: str, place: torch.device) -> Callable[[], Any]:
    """One piece of a ceiling, always the same work."""
    if ceiling == "memcpy":
        source = torch.ones(COPY, device=place)
        target = torch.ones_like(source)
        return lambda: target.copy_(source)
    if ceiling == "gather":
        table = torch.ones(TABLE, 16, device=place)
        generator = torch.Generator().manual_seed(0)
        rows = torch.randint(TABLE, (ROWS,), generator=generator).to(place)
        return lambda: table.index_select(0, rows)
    edge = GEMM_GPU if place.type == "cuda" else GEMM
    a = torch.rand(edge, edge, device=place)
    a = a.bfloat16() if ceiling == "bf16" else a
    return lambda: a @ a


def repeated(one: Callable[[], Any], seconds: float) -> tuple[Callable[[Any], None], int]:
    """Pieces that together take about so many seconds, and how many they are."""
    one()
    synchronise()
    began = time.perf_counter()
    one()
    synchronise()
    count = max(1, round(seconds / max(time.perf_counter() - began, 1e-6)))

    def several(_: Any) -> None:
        for _ in range(count):
            one()

    return several, count


def sample(ceiling: str, place: torch.device, seconds: float) -> list[float]:
    """Seconds of one piece, a few times just now."""
    several, count = repeated(piece(ceiling, place), seconds)
    taken = []
    for _ in range(SAMPLES):
        began = time.perf_counter()
        several(None)
        synchronise()
        taken.append((time.perf_counter() - began) / count)
    return taken


def of(timing: Timing, ceiling: str, count: int = 1) -> dict[str, Any]:
    """What a figure keeps: seconds of one piece, where `timing` is that of `count`."""
    ends = {"median": timing.median, "low": timing.low, "high": timing.high}
    return {"of": ceiling, **{name: value / count for name, value in ends.items()}}
