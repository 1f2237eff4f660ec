"""Peers side by side: quality after the same time, rays a second, seconds a frame.

    python -m benchmarks.peers DATA [--seconds 60] [--downscale 8] [--views 1] [--json FILE]

Each peer is given `--seconds` from the first line of its own code to its last step, then renders
the same test views. Peers that cannot run here are listed as absent.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from nerfkit import device, info, metrics
from nerfkit.bench.ceilings import Ceilings
from nerfkit.bench.tables import console
from nerfkit.bench.timing import synchronise
from nerfkit.errors import NerfkitError

from . import PEERS
from .peer import Fit, Peer
from .task import Task


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.peers", description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each fit")
    parser.add_argument("--downscale", type=int, default=8, help="reduce the images so many times")
    parser.add_argument("--views", type=int, default=1, help="test views")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    place = device.best()
    task = Task.load(options.data, options.downscale, options.views, place)
    rates = Ceilings(place, budget=0.2).at(torch.get_num_threads())
    rows = [beside(peer, task, options.seconds) for peer in PEERS]
    result = {
        "data": str(options.data),
        "seconds": options.seconds,
        "resolution": list(task.test_images[0].shape[:2]),
        "n_views": len(task.test_images),
        "peers": rows,
        "ceilings": {name: asdict(rate) for name, rate in rates.items()},
        "versions": info.versions(),
        "hardware": {**info.hardware(), "device": place.type},
    }
    show(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


def beside(peer: Peer, task: Task, seconds: float) -> dict[str, Any]:
    """A peer's figures; only its name and the reason where it is absent."""
    why = peer.absent(task.place)
    if why is not None:
        return {"name": peer.name, "absent": why}
    if task.place.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    began = time.monotonic()
    try:
        fitted = peer.fit(task, began + seconds)
    except ImportError as error:  # it is there, but something that it needs is not
        return {"name": peer.name, "absent": f"cannot be imported: {error}"}
    synchronise()
    taken = time.monotonic() - began
    return {
        "name": peer.name,
        "absent": None,
        "fit_seconds": taken,
        "steps": fitted.steps,
        "rays_per_second": fitted.rays / taken,
        **judged(fitted, task),
        "peak_bytes": torch.cuda.max_memory_allocated() if task.place.type == "cuda" else None,
    }


def judged(fitted: Fit, task: Task) -> dict[str, float]:
    """Mean PSNR and median seconds a frame over the test views."""
    quality, seconds = [], []
    for view, truth in enumerate(task.test_images):
        rays, places = task.test_rays(view)
        began = time.perf_counter()
        colours = fitted.render(rays.origins, rays.directions)
        synchronise()
        seconds.append(time.perf_counter() - began)
        image = torch.empty(truth.shape)
        image.view(-1, 3)[places] = colours.float().cpu()
        quality.append(metrics.psnr(image.clamp(0, 1), truth))
    return {
        "psnr": statistics.fmean(quality),
        "seconds_per_frame": statistics.median(seconds),
    }


def show(result: dict[str, Any]) -> None:
    """A table for a reader."""
    height, width = result["resolution"]
    table = Table(title=f"{result['data']}, {width}x{height}, {result['seconds']:g} s each")
    for heading in ("peer", "PSNR dB", "steps", "rays a second", "s a frame"):
        table.add_column(heading, justify="left" if heading == "peer" else "right")
    for row in result["peers"]:
        if row["absent"] is not None:
            table.add_row(row["name"], f"absent: {row['absent']}", "", "", "")
            continue
        table.add_row(
            row["name"],
            f"{row['psnr']:.2f}",
            str(row["steps"]),
            f"{row['rays_per_second']:,.0f}",
            f"{row['seconds_per_frame']:.3f}",
        )
    console().print(table)


if __name__ == "__main__":
    try:
        main()
    except NerfkitError as error:
        sys.exit(str(error))
