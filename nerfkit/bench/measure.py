"""From a case to its figures: check the results, then take the times."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from . import gate, pace
from .case import Case
from .ceilings import Rates
from .figure import Figure
from .threads import threads
from .timing import Timing, in_turns


def measure(
    suite: str, case: Case, rates: Rates, budget: float, fewest: int, count: int
) -> Iterator[Figure]:
    """Figures of a case: forward, and forward + backward where it has gradients.

    Args:
        rates: what the machine can do with `count` threads.
        budget, fewest: seconds and least repeats of each figure.
    """
    for direction in case.directions():
        checks, results = gate.check(case, direction)
        upstream = case.upstream() if direction != "forward" else []
        right = [check.backend for check in checks if check.right]
        work = case.work(results, direction)
        bounds = {b: work.bound(rates, b in case.half) for b in right}
        last = bounds[right[-1]]
        ceiling = last[0] if last else "sgemm"
        ways = {b: lambda x, b=b, upstream=upstream: case.call(b, upstream, x) for b in right}
        with threads(count):
            one = pace.piece(ceiling, case.place)
            ways[PIECES], n_pieces = pace.repeated(one, min(pace.SECONDS, budget))
            timings = in_turns(ways, case.copies, budget, fewest)
        beside = pace.of(timings.pop(PIECES), ceiling, n_pieces)
        for check in checks:
            what = (suite, case.name, case.size, check.backend, direction, count)
            rest = NOT_TIMED
            if check.right:
                timing, first = timings[check.backend], timings[right[0]]
                rest = {**_of(case, timing, first, bounds[check.backend]), "pace": beside}
            yield Figure(*what, **rest, error=check.error, wrong=not check.right)


PIECES = ""  # the name, among the backends, of what is run in turns with them
NOT_TIMED = {"unit": "s", "value": None, "low": None, "high": None, "repeats": 0}


def _of(
    case: Case, timing: Timing, first: Timing, bound: tuple[str, float] | None
) -> dict[str, Any]:
    return {
        "unit": "s",
        "value": timing.median,
        "low": timing.low,
        "high": timing.high,
        "repeats": timing.repeats,
        "throughput": case.items / timing.median,
        "items": case.unit,
        "speed_up": first.median / timing.median,
        "ceiling": bound[0] if bound else None,
        "share": bound[1] / timing.median if bound else None,
        "curve": case.curve or case.name,
        "axis": case.axis or case.unit,
        "x": case.items if case.x is None else case.x,
    }
