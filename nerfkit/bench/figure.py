"""One measured number, with all that a reader needs to judge it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Figure:
    """Times are in s, memory in B, quality in dB. What means nothing for a figure is None.

    Attributes:
        suite, name, size, backend, direction, threads: what was measured; together its identity.
        unit: of value, low and high: s, B or dB.
        value, low, high: median and quartiles (of two measurements: the two); None where the result
            was wrong, for then nothing was timed.
        repeats: measurements.
        throughput, items: items a second, and what they are.
        error: against the first backend, relative.
        speed_up: over the first backend, the reference if that can run.
        ceiling, share: the ceiling that binds, and what part of it is reached.
        curve, axis, x: the curve that it is a point of, what runs along it, and where on it.
        pace: seconds of a piece of the ceiling `of`, run in turns with it: median, low and high.
        wrong: whether the result was off by more than is tolerated.
    """

    suite: str
    name: str
    size: str
    backend: str
    direction: str
    threads: int
    unit: str
    value: float | None
    low: float | None
    high: float | None
    repeats: int
    throughput: float | None = None
    items: str | None = None
    error: float | None = None
    speed_up: float | None = None
    ceiling: str | None = None
    share: float | None = None
    curve: str | None = None
    axis: str | None = None
    x: float | None = None
    pace: dict[str, Any] | None = None
    wrong: bool = False

    @property
    def identity(self) -> tuple[str, ...]:
        """What makes figures of two runs the same one."""
        return (*self.line, self.size, str(self.threads))

    @property
    def line(self) -> tuple[str, ...]:
        """What the points of one line of a curve have in common."""
        threads = "" if self.axis == "threads" else str(self.threads)
        return (self.suite, self.curve or "", self.name, self.backend, self.direction, threads)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def of(values: dict[str, Any]) -> Figure:
        """From `to_dict`; TypeError where something is missing or unknown."""
        unknown = set(values) - {f.name for f in fields(Figure)}
        if unknown:
            raise TypeError(f"unknown keys {sorted(unknown)}")
        return Figure(**values)
