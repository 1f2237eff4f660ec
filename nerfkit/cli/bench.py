"""`nerfkit bench`: how fast this installation is on this machine."""

from pathlib import Path
from typing import Annotated

from tyro.conf import arg


def bench(
    suite: str = "all",
    json: Annotated[Path | None, arg(metavar="FILE")] = None,
    seconds: float = 0.7,
) -> None:
    """Measure speed.

    Args:
        suite: ops, fit, render, or all of them.
        json: write every figure, with hardware and versions, to this file.
        seconds: time to spend on each figure.
    """
    from nerfkit import bench as benchmark

    benchmark.bench(suite, json, seconds)
