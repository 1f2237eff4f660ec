"""Figures, ceilings, checks and verdicts as tables for a reader, on standard output."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

from . import compare
from .ceilings import Rates
from .curves import curves, growth
from .figure import Figure
from .gate import Check

PIPE_WIDTH = 180  # where no terminal says how wide it is
PREFIXES = ((1e12, "T "), (1e9, "G "), (1e6, "M "), (1e3, "k "))


def console() -> Console:
    out = Console(file=sys.stdout)
    if not out.is_terminal:
        out.width = PIPE_WIDTH
    return out


def print_suite(name: str, figures: list[Figure], ceilings: dict[int, Rates]) -> None:
    """The figures of one suite, how its costs grow, and the ceilings they are held against."""
    table = Table(title=f"suite {name}")
    for heading in ("what", "size", "pass", "backend"):
        table.add_column(heading)
    for heading in ("threads", "median", "quartiles", "throughput", "speed-up", "of ceiling"):
        table.add_column(heading, justify="right")
    for figure in figures:
        table.add_row(*_row(figure))
    out = console()
    out.print(table)
    for curve in curves(figures):
        for label, line in curve.lines.items():
            exponent = growth(line)
            if name == "scaling" and exponent is not None:
                which = f" ({label})" if label else ""
                out.print(f"{curve.name}{which}: cost grows as {curve.axis}^{exponent:.2f}")
    for count, rates in ceilings.items():
        shown = ", ".join(f"{key} {_scaled(r.median)}{r.unit}" for key, r in rates.items())
        out.print(f"this machine with {count} threads: {shown}")


def _row(figure: Figure) -> tuple[str, ...]:
    what = figure.name, figure.size, figure.direction, figure.backend, str(figure.threads)
    if figure.value is None:
        return (*what, "wrong", "", "", "", "")
    middle, low, high = (_value(v, figure.unit) for v in (figure.value, figure.low, figure.high))
    throughput = f"{_scaled(figure.throughput)}{figure.items}/s" if figure.throughput else "-"
    faster = f"{figure.speed_up:.2f}" if figure.speed_up is not None else "-"
    share = f"{figure.ceiling} {figure.share:.1%}" if figure.ceiling else "-"
    return (*what, middle, f"{low} .. {high}", throughput, faster, share)


def _value(value: float, unit: str) -> str:
    if unit == "s":
        return f"{value * 1e3:.3g} ms"
    return f"{value / 1e6:.1f} MB" if unit == "B" else f"{value:.2f} {unit}"


def _scaled(value: float) -> str:
    for factor, prefix in PREFIXES:
        if value >= factor:
            return f"{value / factor:.3g} {prefix}"
    return f"{value:.3g} "


def print_checks(checks: list[Check]) -> None:
    """The gate: every backend against the reference."""
    table = Table(title="right first: every kernel against the reference")
    for heading in ("what", "size", "pass", "backend", "worst tensor", "error", ""):
        table.add_column(heading)
    for check in checks:
        if check.backend != "reference":
            error = "-" if check.error is None else f"{check.error:.1e}"
            mark = "right" if check.right else f"WRONG, above {check.tolerance:g}"
            table.add_row(
                *(check.name, check.size, check.direction, check.backend, check.worst, error, mark)
            )
    console().print(table)


def print_verdicts(verdicts: list[compare.Verdict]) -> None:
    """What differs, and how many there are of each verdict."""
    table = Table(title="second against first; above 1 it costs more")
    for heading in ("figure", "ratio", "range", "verdict"):
        table.add_column(heading)
    for verdict in verdicts:
        if verdict.verdict != "same":
            ratio = "-" if verdict.ratio is None else f"{verdict.ratio:.2f}"
            ends = "-" if verdict.low is None else f"{verdict.low:.2f} .. {verdict.high:.2f}"
            name = ", ".join(part for part in verdict.figure if part)
            table.add_row(name, ratio, ends, verdict.verdict)
    out = console()
    if table.row_count:
        out.print(table)
    out.print(", ".join(f"{n} {kind}" for kind, n in compare.counts(verdicts).items()))
