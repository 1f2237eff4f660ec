"""Right before fast: results of every backend against the first one's, the torch reference.

The error of a tensor is the sum of the absolute differences over that of the reference's values.
Both sides are float32: one sample of a hundred thousand may count as the next voxel's, or have a
ReLU at zero take the other side, which a norm of squares would make much of (1.6e-3 where this is
6e-5).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from .case import Case, tensors
from .threads import threads

TOLERANCE = 1e-3  # worst measured 6e-5
HALF_TOLERANCE = 5e-3  # of matrix products of numbers with 11 bits


@dataclass(frozen=True)
class Check:
    """One backend of one case in one direction. `error` is None where there is nothing to compare:
    another number of tensors, other shapes, other places that are infinite."""

    op: str
    name: str
    size: str
    backend: str
    direction: str
    worst: str  # the output, or the input whose gradient it is
    error: float | None
    tolerance: float

    @property
    def right(self) -> bool:
        return self.error is not None and self.error <= self.tolerance

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "right": self.right}


def check(case: Case, direction: str) -> tuple[list[Check], list[Tensor]]:
    """Every backend of a case in one direction, and the results of the first."""
    names = case.available()
    upstream = case.upstream() if direction != "forward" else []
    # threads that share gradients without locks may lose a few: one is exact
    with threads(1):
        results = {b: tensors(case.call(b, upstream, case.copies())) for b in names}
    wanted = results[names[0]]
    checks = []
    for backend in names:
        errors = relative_errors(results[backend], wanted)
        labels = case.wanted if upstream else tuple(f"output {i}" for i in range(len(errors)))
        worst = max(range(len(errors)), key=errors.__getitem__) if errors else 0
        error = errors[worst] if errors else math.inf
        checks.append(
            Check(
                *(case.op, case.name, case.size, backend, direction),
                labels[worst] if errors else "outputs",
                error if math.isfinite(error) else None,
                HALF_TOLERANCE if backend in case.half and case.flops else TOLERANCE,
            )
        )
    return checks, wanted


def check_all(cases: Iterable[Case]) -> list[Check]:
    """Every backend of every case in every direction."""
    return [c for case in cases for way in case.directions() for c in check(case, way)[0]]


def relative_errors(got: list[Tensor], want: list[Tensor]) -> list[float]:
    """Of each tensor; infinite where they cannot be compared, none where their number differs."""
    if len(got) != len(want):
        return []
    return [_relative_error(g, w) for g, w in zip(got, want, strict=True)]


def _relative_error(got: Tensor, want: Tensor) -> float:
    if got.shape != want.shape:
        return math.inf
    finite = want.isfinite()
    if not finite.equal(got.isfinite()):
        return math.inf
    got, want = got[finite].double(), want[finite].double()
    return float((got - want).abs().sum() / want.abs().sum().clamp_min(1e-30))
