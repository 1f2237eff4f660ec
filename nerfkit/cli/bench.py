"""`nerfkit bench`: how fast this installation is on this machine, and whether it became slower."""

import dataclasses
from pathlib import Path
from typing import Annotated

from tyro.conf import arg


def bench(
    suite: str = "all",
    json: Annotated[Path | None, arg(metavar="FILE")] = None,
    plots: Annotated[Path | None, arg(metavar="DIR")] = None,
    data: Annotated[Path | None, arg(metavar="DATA")] = None,
    seconds: float | None = None,
    quick: bool = False,
    reference_run: bool = False,
    compare: Annotated[tuple[Path, Path] | None, arg(metavar="BEFORE AFTER")] = None,
) -> None:
    """Measure speed, or compare two measurements.

    Args:
        suite: ops, fit, render, sr, memory, scaling, or all of them.
        json: write every figure, with hardware, versions and commit, to this file.
        plots: write a picture of every curve to this folder; needs matplotlib.
        data: posed images for fit and render, in place of a built-in scene.
        seconds: time to spend on each figure; 0.7 by default.
        quick: tiny sizes and few repeats, to see that everything runs; the figures mean little.
        reference_run: compare every kernel with the reference first; measure nothing if one is
            wrong.
        compare: two files of --json; a verdict on each figure, and exit code 1 if one is proven to
            be worse. --json writes the verdicts.
    """
    from nerfkit import bench as benchmark
    from nerfkit.errors import NerfkitError

    if compare is not None:
        if benchmark.compare_files(*compare, json):
            raise SystemExit(1)
        return
    if seconds is not None and not seconds >= 0:
        raise NerfkitError(f"--seconds: want a number from 0 on, got {seconds}")
    effort = benchmark.QUICK if quick else benchmark.FULL
    if seconds is not None:
        effort = dataclasses.replace(effort, seconds=seconds)
    benchmark.bench(suite, json, plots, data, effort, reference_run)
