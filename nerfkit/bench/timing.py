"""Wall times of several ways to do the same thing, taken in turns. Times in seconds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

MOST = 200  # repeats


@dataclass(frozen=True)
class Timing:
    """Of one way: the median, the quartiles round it, and the repeats."""

    median: float
    low: float
    high: float
    repeats: int

    @staticmethod
    def of(seconds: list[float]) -> Timing:
        """From at least two measurements."""
        low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
        return Timing(median, low, high, len(seconds))


def in_turns(
    ways: Mapping[str, Callable[[Any], Any]],
    prepare: Callable[[], Any],
    budget: float,
    fewest: int = 3,
) -> dict[str, Timing]:
    """Time each of `ways` by name, A B A B ..., so that a noisy moment hits all alike.

    Args:
        ways: what is timed, given what `prepare` returns; each is called once before.
        prepare: makes the arguments anew, untimed.
        budget: seconds to spend on each way.
        fewest: repeats that every way has, whatever they take.
    """
    spent = dict.fromkeys(ways, 0.0)
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way(prepare())
    while due := [
        name
        for name in ways
        if len(taken[name]) < fewest or (spent[name] < budget and len(taken[name]) < MOST)
    ]:
        for name in due:
            arguments = prepare()
            synchronise()
            began = time.perf_counter()
            ways[name](arguments)
            synchronise()
            seconds = time.perf_counter() - began
            taken[name].append(seconds)
            spent[name] += seconds
    return {name: Timing.of(seconds) for name, seconds in taken.items()}


def synchronise() -> None:
    """Wait until a GPU has done what it was asked for; without one there is nothing to wait for."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
