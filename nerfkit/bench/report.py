"""`nerfkit bench`: run suites, print their rows, write them as JSON."""

import datetime
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from nerfkit import device, info
from nerfkit.errors import NerfkitError
from nerfkit.files import atomic_write, write_json
from nerfkit.kernels import _native

from . import ceilings, ops, scene
from .case import TOLERANCE, Case, Row, measure
from .subject import Subject

SECONDS = 0.7  # on each way to do a thing
N_RAYS, DEPTH = 8192, 7
FIT_RAYS, FIT_DEPTH, FIT_LEVELS = 24576, 8, 4  # of a step of a fit of 800x800 images
SIDE, VIEWS, STEPS = 200, 24, 300  # of the scene that is fitted
FRAMES = (100, 400, 800)
PIPE_WIDTH = 150  # of the tables where no terminal says how wide it is


def _ops() -> Iterator[tuple[Case, int]]:
    threads = _native.num_threads()
    place = device.best()
    for case in ops.cases(N_RAYS, DEPTH, place):
        inputs = {name: tensor.to(place) for name, tensor in case.inputs.items()}
        yield replace(case, inputs=inputs), threads
    subject = Subject.ball(FIT_DEPTH, FIT_LEVELS).to(place)
    for used in dict.fromkeys((threads, 1)):
        for case in ops.fused(subject, FIT_RAYS):
            yield case, used


def _fit() -> Iterator[tuple[Case, int]]:
    for case in scene.fit_cases(scene.fitted(SIDE, VIEWS, STEPS), N_RAYS):
        yield case, _native.num_threads()


def _render() -> Iterator[tuple[Case, int]]:
    for case in scene.render_cases(scene.fitted(SIDE, VIEWS, STEPS), FRAMES):
        yield case, _native.num_threads()


# name -> cases and the threads to run them on
SUITES: dict[str, Callable[[], Iterator[tuple[Case, int]]]] = {
    "ops": _ops,
    "fit": _fit,
    "render": _render,
}


def bench(suite: str = "all", json: Path | None = None, seconds: float = SECONDS) -> dict[str, Any]:
    """Measure, print, and write.

    Args:
        suite: one of SUITES, or all.
        json: file for everything measured; tried before anything is timed.
        seconds: to spend on each row.

    Returns:
        What is written: suite, date, commit, versions, hardware, ceilings, tolerance, rows.

    Raises:
        NerfkitError: an unknown suite, a file that cannot be written, or a backend whose results
            differ from the reference's; the file is written even then.
    """
    if suite != "all" and suite not in SUITES:
        raise NerfkitError(f"--suite {suite}: want one of all, {', '.join(SUITES)}")
    if json is not None and not json.exists():
        with atomic_write(json, "w") as file:
            file.write("{}\n")
    console = Console(file=sys.stderr)
    with console.status("what this machine can do"):
        limits = ceilings.measure(seconds, device.best())
    rows: list[Row] = []
    for name in SUITES if suite == "all" else [suite]:
        with console.status(f"suite {name}: preparing") as status:
            for case, threads in SUITES[name]():
                status.update(f"suite {name}: {case.name}, {case.size}, {threads} threads")
                rows += measure(name, case, limits, seconds, threads)
    result = {
        "suite": suite,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": _commit(),
        "versions": info.versions(),
        "hardware": info.hardware(),
        "ceilings": limits,
        "tolerance": TOLERANCE,
        "rows": [row.to_dict() for row in rows],
    }
    print_tables(rows, limits)
    if json is not None:
        write_json(json, result)
    wrong = sorted({f"{row.name} on {row.backend}" for row in rows if row.failed})
    if wrong:
        raise NerfkitError(
            f"results differ from the reference's by more than {TOLERANCE:g}, so they were not "
            f"timed: {', '.join(wrong)}"
        )
    return result


def print_tables(rows: list[Row], limits: dict[str, float]) -> None:
    """A table a suite, on standard output."""
    console = Console(file=sys.stdout)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    for suite in dict.fromkeys(row.suite for row in rows):
        table = Table(title=f"suite {suite}")
        for heading in ("what", "size", "pass", "backend"):
            table.add_column(heading)
        for heading in ("threads", "ms", "±", "throughput", "x reference", "share of"):
            table.add_column(heading, justify="right")
        for row in (r for r in rows if r.suite == suite):
            table.add_row(*_shown(row))
        console.print(table)
    console.print(
        f"this machine with {torch.get_num_threads()} threads: "
        f"sgemm {limits['sgemm_gflops']:.1f} GFLOP/s, memcpy {limits['memcpy_gbs']:.1f} GB/s "
        f"(read + written), gather of 64 bytes {limits['gather_mrows']:.1f} M/s"
    )


def _shown(row: Row) -> tuple[str, ...]:
    what = (row.name, row.size, row.direction, row.backend, str(row.threads))
    if row.failed:
        return (*what, "wrong", "", "", "", "")
    shares = {
        "memcpy": row.share_of_memcpy,
        "sgemm": row.share_of_sgemm,
        "gather": row.share_of_gather,
    }
    return (
        *what,
        f"{row.seconds * 1e3:.3g}",
        f"{row.spread / row.seconds:.0%}",
        _throughput(row.throughput, row.unit),
        f"{row.ratio_to_reference:.1f}" if row.ratio_to_reference else "-",
        ", ".join(f"{name} {share:.0%}" for name, share in shares.items() if share) or "-",
    )


def _throughput(value: float, unit: str) -> str:
    for factor, prefix in ((1e6, "M "), (1e3, "k ")):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}{unit}/s"
    return f"{value:.3g} {unit}/s"


def _commit() -> str | None:
    """The checkout's commit, if this runs from one."""
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
