"""Several passes over one suite made into one: ranges that cover what changes from one to the next.

Within a pass repeats follow each other closely: they share the moment and where their memory lies.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from .figure import Figure


def merged(passes: Iterable[list[Figure]]) -> list[Figure]:
    """Each figure once, in the order of the first pass."""
    groups: dict[tuple[str, ...], list[Figure]] = {}
    for figures in passes:
        for figure in figures:
            groups.setdefault(figure.identity, []).append(figure)
    return [_merged(group) for group in groups.values()]


def _merged(group: list[Figure]) -> Figure:
    """The mean of the medians, from the lowest quartile to the highest; a wrong one if there is."""
    first = next((figure for figure in group if figure.wrong), group[0])
    if first.wrong or len(group) == 1:
        return first
    value = statistics.fmean(f.value for f in group)
    # rates follow from times
    part = group[0].value / value if first.unit == "s" else 1.0
    return replace(
        first,
        value=value,
        low=min(f.low for f in group),
        high=max(f.high for f in group),
        repeats=sum(f.repeats for f in group),
        throughput=None if first.throughput is None else first.throughput * part,
        share=None if first.share is None else first.share * part,
        speed_up=_mean(f.speed_up for f in group),
        error=None if first.error is None else max(f.error for f in group),
        x=_mean(f.x for f in group),
        pace=_pace([f.pace for f in group]),
    )


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _pace(paces: list[dict[str, Any] | None]) -> dict[str, Any] | None:
    """The slowest median: a pass beside other programs makes the figure one beside them."""
    if any(pace is None for pace in paces):
        return None
    return {
        "of": paces[0]["of"],
        "median": max(pace["median"] for pace in paces),
        "low": min(pace["low"] for pace in paces),
        "high": max(pace["high"] for pace in paces),
    }
