"""`nerfkit bench`: run suites, print their figures, write them as JSON, draw their curves."""

from __future__ import annotations

import datetime
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from nerfkit import device, info
from nerfkit.errors import NerfkitError
from nerfkit.files import atomic_write, write_json

from . import compare, gate, ops, plots, tables
from .ceilings import Ceilings
from .context import Context
from .curves import curves, growth
from .effort import FULL, Effort
from .figure import Figure
from .passes import merged
from .suites import SUITES

GATE_RAYS, GATE_DEPTH = 256, 5  # of the cases of --reference-run: all code, little time


def bench(
    suite: str = "all",
    json: Path | None = None,
    plot_folder: Path | None = None,
    data: Path | None = None,
    effort: Effort = FULL,
    reference_run: bool = False,
) -> dict[str, Any]:
    """Measure, print, write and draw.

    Args:
        suite: one of SUITES, or all.
        json: file for everything measured; tried before anything is timed.
        plot_folder: for a picture of every curve.
        data: folder of posed images for the suites fit and render.
        effort: how much to measure.
        reference_run: first compare every kernel with the reference, and measure no speed if one
            is wrong.

    Returns:
        What is written: suite, date, commit, versions, hardware, effort, gate, and of each suite
        its ceilings, figures and growth.

    Raises:
        NerfkitError: an unknown suite, a file that cannot be written, no matplotlib, or a backend
            whose results differ from the reference's; the file is written even then.
    """
    if suite != "all" and suite not in SUITES:
        raise NerfkitError(f"--suite {suite}: want one of all, {', '.join(SUITES)}")
    if json is not None and not json.exists():
        with atomic_write(json, "w") as file:
            file.write("{}\n")
    if plot_folder is not None:
        plots.check(plot_folder)
    place = device.best()
    effort = effort.on(place)
    result: dict[str, Any] = {
        "suite": suite,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": _commit(),
        "versions": info.versions(),
        "hardware": {**info.hardware(), "device": place.type},
        "effort": asdict(effort),
        "gate": None,
        "suites": {},
    }
    wrong: list[str] = []
    stderr = Console(file=sys.stderr)
    if reference_run:
        with stderr.status("comparing every kernel with the reference"):
            checks = gate.check_all(ops.cases(GATE_RAYS, GATE_DEPTH, place))
        tables.print_checks(checks)
        wrong = sorted({f"{c.name} on {c.backend}" for c in checks if not c.right})
        result["gate"] = {"right": not wrong, "checks": [c.to_dict() for c in checks]}
    names = list(SUITES) if suite == "all" else [suite]
    with tempfile.TemporaryDirectory() as scratch:
        for name in [] if wrong else names:
            ceilings = Ceilings(place, effort.seconds)
            with stderr.status(f"suite {name}") as status:
                shared = (name, effort, place, ceilings, data, Path(scratch))
                figures = merged(
                    list(SUITES[name](Context(*shared, number, status.update)))
                    for number in range(effort.passes)
                )
            tables.print_suite(name, figures, ceilings.seen)
            for curve in curves(figures) if plot_folder is not None else []:
                plots.draw(curve, plot_folder)
            result["suites"][name] = _suite(figures, ceilings)
            wrong += sorted({f"{f.name} on {f.backend}" for f in figures if f.wrong})
            if json is not None:  # what a later suite's failure must not lose
                write_json(json, result)
    if json is not None:
        write_json(json, result)
    if wrong:
        refused = "no speed was measured" if not result["suites"] else "they were not timed"
        raise NerfkitError(
            f"results differ from the reference's by too much, so {refused}: {', '.join(wrong)}"
        )
    return result


def _suite(figures: list[Figure], ceilings: Ceilings) -> dict[str, Any]:
    exponents = {
        f"{curve.name}: {label}" if label else curve.name: growth(line)
        for curve in curves(figures)
        for label, line in curve.lines.items()
    }
    return {
        "ceilings": {
            str(count): {name: asdict(rate) for name, rate in rates.items()}
            for count, rates in ceilings.seen.items()
        },
        "figures": [figure.to_dict() for figure in figures],
        "growth": {name: value for name, value in exponents.items() if value is not None},
    }


def compare_files(before: Path, after: Path, json: Path | None = None) -> bool:
    """Print a verdict on every figure of two results; whether something became worse.

    Args:
        json: file for the verdicts.

    Raises:
        NerfkitError: a file is no result, or cannot be written.
    """
    verdicts = compare.compare(compare.Result.read(before), compare.Result.read(after))
    tables.print_verdicts(verdicts)
    if json is not None:
        write_json(json, {"before": str(before), "after": str(after)} | _listed(verdicts))
    return compare.regressed(verdicts)


def _listed(verdicts: list[compare.Verdict]) -> dict[str, Any]:
    return {
        "regressed": compare.regressed(verdicts),
        "counts": compare.counts(verdicts),
        "verdicts": [v.to_dict() for v in verdicts],
    }


def _commit() -> str | None:
    """The checkout's commit, if this runs from one and there is git."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return None
    try:
        described = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return described.stdout.strip()
