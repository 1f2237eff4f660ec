"""Two results side by side: what became slower, what faster, and what noise does not let one say.

Times, bytes and, for quality, mean squared errors are costs: less is better. The ratio of two costs
has a range, from the quartiles of both. On the same hardware a figure counts as slower, or faster,
only where it is so both as it was measured and relative to its ceiling, which was measured beside
it: a noisy hour slows the ceiling down as well, and a noisy ceiling alone proves nothing. On
different hardware only the latter means anything. So "worse" is slower, larger, or further from the
photographs.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nerfkit.errors import NerfkitError
from nerfkit.files import read_json

from .figure import Figure

MARGIN = 0.1  # of the median's change: runs differ by more than repeats within a run do
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
    """A file that `nerfkit bench --json` wrote: its hardware, figures, and ceilings by suite."""

    hardware: dict[str, Any]
    figures: dict[tuple[str, ...], Figure]
    ceilings: dict[str, dict[str, Any]]

    @staticmethod
    def read(path: Path) -> Result:
        """NerfkitError if it is no such file."""
        values = read_json(path)
        try:
            suites = values["suites"]
            figures = [Figure.of(f) for suite in suites.values() for f in suite["figures"]]
            ceilings = {name: suite["ceilings"] for name, suite in suites.items()}
            hardware = {key: values["hardware"][key] for key in HARDWARE}
        except (KeyError, TypeError, AttributeError) as error:
            raise NerfkitError(
                f"{path}: not a result of this version's nerfkit bench --json ({error!r}); "
                "measure again"
            ) from error
        return Result(hardware, {f.identity: f for f in figures}, ceilings)

    def rate(self, figure: Figure) -> dict[str, float] | None:
        """The ceiling that binds a figure."""
        rates = self.ceilings[figure.suite].get(str(figure.threads), {})
        return rates.get(figure.ceiling)


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
            verdicts.append(_verdict(old, new, before, after))
    gone = before.figures.keys() - after.figures.keys()
    return [*verdicts, *(Verdict(identity, "gone") for identity in sorted(gone))]


def _verdict(old: Figure, new: Figure, before: Result, after: Result) -> Verdict:
    (a_low, a, a_high), (b_low, b, b_high) = _costs(old), _costs(new)
    ratios = [(b_low / a_high, b / a, b_high / a_low)]
    first, second = before.rate(old), after.rate(new)
    same_hardware = before.hardware == after.hardware
    if first and second and old.ceiling == new.ceiling:
        drift = (
            second["low"] / first["high"],
            second["median"] / first["median"],
            second["high"] / first["low"],
        )
        relative = tuple(r * d for r, d in zip(ratios[0], drift, strict=True))
        ratios = [*ratios, relative] if same_hardware else [relative]
    elif not same_hardware and old.unit == "s":
        return Verdict(new.identity, "unclear", b / a)
    low, high = min(r[0] for r in ratios), max(r[2] for r in ratios)
    ratio = min((r[1] for r in ratios), key=lambda r: max(r, 1 / r))
    if 1 / (1 + MARGIN) <= ratio <= 1 + MARGIN:
        verdict = "same"
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
