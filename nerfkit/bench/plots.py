"""A picture of every curve, by matplotlib, which comes with `pip install 'nerfkit[plot]'`."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from nerfkit.errors import NerfkitError

from .curves import Curve, span

INCHES, DOTS_AN_INCH = (6.4, 4.0), 120


def check(folder: Path) -> None:
    """Make the folder; NerfkitError if that cannot be, or there is no matplotlib."""
    if importlib.util.find_spec("matplotlib") is None:
        raise NerfkitError("--plots: needs matplotlib; pip install 'nerfkit[plot]'")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NerfkitError(f"--plots {folder}: cannot be made: {error.strerror}") from error


def draw(curve: Curve, folder: Path) -> Path:
    """Write SUITE-NAME.png: medians as lines, quartiles as bars."""
    from matplotlib.figure import Figure as Picture

    picture = Picture(INCHES, dpi=DOTS_AN_INCH, layout="constrained")
    axes = picture.add_subplot(
        title=f"{curve.suite}: {curve.name}", xlabel=curve.axis, ylabel=curve.label
    )
    for label, points in curve.lines.items():
        spans = [span(p) for p in points]
        bars = [[y - low for low, y, _ in spans], [high - y for _, y, high in spans]]
        axes.errorbar(
            [p.x for p in points],
            [y for _, y, _ in spans],
            bars,
            marker="o",
            capsize=3,
            label=label,
        )
    axes.set_xscale("log")
    if next(iter(curve.lines.values()))[0].unit != "dB":
        axes.set_yscale("log")
    if len(curve.lines) > 1:
        axes.legend(fontsize="small")
    axes.grid(alpha=0.3)
    name = re.sub(r"[^a-z0-9]+", "-", f"{curve.suite} {curve.name}".lower()).strip("-")
    path = folder / f"{name}.png"
    picture.savefig(path)
    return path
