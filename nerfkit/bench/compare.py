"""Two results side by side: what became worse, what better, and what noise does not let one say.

Times, bytes and, for quality, mean squared errors are costs: less is better. The ratio of two costs
has a range, from the quartiles of both. On the same hardware a figure counts as worse, or better,
only where it is so both as it was measured and relative to the pace of the machine, the pieces of
its ceiling that ran in turns with it: a busy machine slows these down as well, and slow pieces
alone prove nothing. Where the pieces were much slower than the fastest ones of either run, other
programs took turns too, and no difference is proven. On different hardware only what is relative
to the pace means anything.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nerfkit.errors import NerfkitError
from nerfkit.files import read_json

from .figure import Figure

MARGIN = 0.1  # of the median's change: runs differ by more than repeats within a run do
BUSY = 1.25  # times the fastest pieces: shared machines measured 1 to 4
HARDWARE = ("processor", "machine", "cores", "cuda")
REGRESSIONS = ("worse", "wrong")


@dataclass(frozen=True)
class Verdict:
    """On one figure.

    Attributes:
        verdict: worse, better; same, no further apart than MARGIN; unclear, further apart but
            within the noise; wrong, no longer right; added, gone.
        ratio, low, high: of the costs, the second over the first, and its range.
    """

    figure: tuple[str, ...]
    verdict: str
    ratio: float | None = None
    low: float | None = None
    high: float | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Result:
    """A file that `nerfkit bench --json` wrote: hardware, figures, and the fastest pieces' pace."""

    hardware: dict[str, Any]
    figures: dict[tuple[str, ...], Figure]
    fastest: dict[tuple[str, int], float]

    @staticmethod
    def read(path: Path) -> Result:
        """NerfkitError if it is no such file."""
        values = read_json(path)
        try:
            suites = values["suites"].values()
            figures = [Figure.of(f) for suite in suites for f in suite["figures"]]
            hardware = {key: values["hardware"][key] for key in HARDWARE}
        except (KeyError, TypeError, AttributeError) as error:
            raise NerfkitError(
                f"{path}: not a result of this version's nerfkit bench --json ({error!r}); "
                "measure again"
            ) from error
        return Result.of(hardware, figures)

    @staticmethod
    def of(hardware: dict[str, Any], figures: list[Figure]) -> Result:
        """Of figures measured on some hardware."""
        fastest: dict[tuple[str, int], float] = {}
        for figure in figures:
            if figure.pace:
                key = figure.pace["of"], figure.threads
                fastest[key] = min(figure.pace["low"], fastest.get(key, math.inf))
        return Result(hardware, {f.identity: f for f in figures}, fastest)

    def slowdown(self, figure: Figure, other: Result) -> float:
        """How much slower than the fastest, here or on the same hardware there, its pieces were."""
        if not figure.pace:
            return 1.0
        key = figure.pace["of"], figure.threads
        known = [self, other] if self.hardware == other.hardware else [self]
        return figure.pace["median"] / min(result.fastest.get(key, math.inf) for result in known)


def compare(before: Result, after: Result) -> list[Verdict]:
    """A verdict on every figure of either."""
    verdicts = []
    for identity, new in after.figures.items():
        old = before.figures.get(identity)
        if new.wrong:
            verdicts.append(Verdict(identity, "wrong"))
        elif old is None or old.wrong:
            verdicts.append(Verdict(identity, "added"))
        else:
            slowdown = max(before.slowdown(old, after), after.slowdown(new, before))
            same_hardware = before.hardware == after.hardware
            verdicts.append(_verdict(old, new, same_hardware, slowdown > BUSY))
    gone = before.figures.keys() - after.figures.keys()
    return [*verdicts, *(Verdict(identity, "gone") for identity in sorted(gone))]


def _verdict(old: Figure, new: Figure, same_hardware: bool, busy: bool) -> Verdict:
    (a_low, a, a_high), (b_low, b, b_high) = _costs(old), _costs(new)
    ratios = [(b_low / a_high, b / a, b_high / a_low)]
    first, second = old.pace, new.pace
    if old.unit == "s" and first and second and first["of"] == second["of"]:
        drift = (
            first["low"] / second["high"],
            first["median"] / second["median"],
            first["high"] / second["low"],
        )
        relative = tuple(r * d for r, d in zip(ratios[0], drift, strict=True))
        ratios = [*ratios, relative] if same_hardware else [relative]
    elif not same_hardware and old.unit != "B":
        return Verdict(new.identity, "unclear", b / a)
    low, high = min(r[0] for r in ratios), max(r[2] for r in ratios)
    ratio = min((r[1] for r in ratios), key=lambda r: max(r, 1 / r))
    if 1 / (1 + MARGIN) <= ratio <= 1 + MARGIN:
        verdict = "same"
    elif busy:
        verdict = "unclear"
    elif low > 1:
        verdict = "worse"
    elif high < 1:
        verdict = "better"
    else:
        verdict = "unclear"
    return Verdict(new.identity, verdict, ratio, low, high)


def _costs(figure: Figure) -> tuple[float, float, float]:
    """Low, middle and high cost."""
    values = figure.low, figure.value, figure.high
    if figure.unit == "dB":
        values = tuple(10 ** (-value / 10) for value in reversed(values))
    return tuple(max(value, 1e-12) for value in values)


def counts(verdicts: list[Verdict]) -> dict[str, int]:
    """How many there are of each kind."""
    return dict(Counter(v.verdict for v in verdicts))


def regressed(verdicts: list[Verdict]) -> bool:
    """Whether something is proven to be slower, or gives wrong results."""
    return any(v.verdict in REGRESSIONS for v in verdicts)
