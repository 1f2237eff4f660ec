"""From a case to its figures: check the results, then take the times."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from . import gate
from .case import Case
from .ceilings import Rates
from .figure import Figure
from .threads import threads
from .timing import Timing, in_turns
from .work import Work


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
        with threads(count):
            timings = in_turns(
                {b: lambda x, b=b, upstream=upstream: case.call(b, upstream, x) for b in right},
                case.copies,
                *(budget, fewest),
            )
        work = case.work(results, direction)
        first = timings[checks[0].backend]  # agrees with itself
        for check in checks:
            timing = timings.get(check.backend)
            what = (suite, case.name, case.size, check.backend, direction, count)
            rest = _of(case, timing, first, work, rates, check.backend) if timing else NOT_TIMED
            yield Figure(*what, **rest, error=check.error, wrong=not check.right)


NOT_TIMED = {"unit": "s", "value": None, "low": None, "high": None, "repeats": 0}


def _of(
    case: Case, timing: Timing, first: Timing, work: Work, rates: Rates, backend: str
) -> dict[str, Any]:
    bound = work.bound(rates, backend in case.half)
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
