"""Figures along what they depend on: the lines of a plot, and how cost grows along them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from .figure import Figure

LABELS = {"s": "{items} a second", "B": "bytes", "dB": "dB"}


@dataclass(frozen=True)
class Curve:
    """Attributes:
    suite, name, axis: the suite's, and what runs along x.
    label: of y.
    lines: figures by what tells the lines apart, in the order of x.
    """

    suite: str
    name: str
    axis: str
    label: str
    lines: dict[str, list[Figure]]


def curves(figures: Iterable[Figure]) -> list[Curve]:
    """All curves of the figures that are points of one, in order of appearance."""
    groups: dict[tuple[str, str], list[Figure]] = {}
    for figure in figures:
        if figure.curve is not None and figure.value is not None:
            groups.setdefault((figure.suite, figure.curve), []).append(figure)
    return [_curve(suite, name, points) for (suite, name), points in groups.items()]


def _curve(suite: str, name: str, points: list[Figure]) -> Curve:
    lines: dict[tuple[str, ...], list[Figure]] = {}
    for point in sorted(points, key=lambda p: p.x):
        lines.setdefault(point.line[2:], []).append(point)
    # only what differs from line to line needs to be said
    differing = [i for i in range(4) if len({key[i] for key in lines}) > 1]
    named = {
        ", ".join(key[i] + (" threads" if i == 3 else "") for i in differing): line
        for key, line in lines.items()
    }
    label = LABELS[points[0].unit].format(items=points[0].items)
    return Curve(suite, name, points[0].axis, label, named)


def span(point: Figure) -> tuple[float, float, float]:
    """Low end, middle and high end of a point: items a second of what is timed, else its value."""
    if point.unit != "s":
        return point.low, point.value, point.high
    work = point.throughput * point.value
    return work / point.high, point.throughput, work / point.low


def growth(line: list[Figure]) -> float | None:
    """The exponent p for which seconds or bytes grow as x^p, by least squares of the logarithms.

    None for a line of less than two places, and of quality, which is no cost.
    """
    points = [p for p in line if p.unit != "dB" and p.value > 0 and p.x > 0]
    x, y = [math.log(p.x) for p in points], [math.log(p.value) for p in points]
    if len(set(x)) < 2:
        return None
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    above = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return above / sum((a - mean_x) ** 2 for a in x)
