"""A baked file beside the run it came from: quality, seconds a frame, size.

    python benchmarks/baked.py RUN BAKED [--nerf NERF_RUN] [--views 25] [--json FILE]

Test views are rendered by the run and by the baked file in turns. With --nerf, a fit of `--preset
nerf`, some rays of one view are rendered by the paper's sampling of its networks as well, and its
seconds a frame follow from seconds a ray.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch
from rich.console import Console
from side_by_side import print_table, side_by_side

from nerfkit.errors import NerfkitError
from nerfkit.fields.nerf import NerfField
from nerfkit.run import Run

NERF_RAYS = 4096


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("baked", type=Path)
    parser.add_argument("--nerf", type=Path, help="a fit of --preset nerf")
    parser.add_argument("--views", type=int, default=25, help="test views, evenly spaced")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    runs = {"run": Run.load(options.run), "baked": Run.load(options.baked)}
    result = {
        **side_by_side(runs, options.views),
        "baked_megabytes": options.baked.stat().st_size / 1e6,
    }
    if options.nerf:
        height, width = result["resolution"]
        result["unguided_nerf_seconds_per_frame"] = nerf_seconds_per_ray(options.nerf) * (
            height * width
        )
    show(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


def nerf_seconds_per_ray(folder: Path) -> float:
    """Of the paper's sampling, 64 + 128 samples, over rays spread over a training view."""
    run = Run.load(folder)
    if not isinstance(run.field, NerfField):
        raise NerfkitError(f"{folder}: want a run of --preset nerf")
    field = run.field.unguided()
    rays = run.train_cameras.image_rays(0)
    some = torch.linspace(0, len(rays.origins) - 1, NERF_RAYS).long()
    began = time.perf_counter()
    field.render(rays.origins[some], rays.directions[some], torch.ones(3))
    return (time.perf_counter() - began) / NERF_RAYS


def show(result: dict) -> None:
    """For a reader."""
    print_table(result)
    console = Console()
    console.print(f"{result['baked_megabytes']:.1f} MB")
    if "unguided_nerf_seconds_per_frame" in result:
        nerf = result["unguided_nerf_seconds_per_frame"]
        times = nerf / result["baked"]["seconds_per_frame"]
        console.print(f"unguided NeRF: {nerf:.0f} s a frame, {times:.0f}x as long as the baked")


if __name__ == "__main__":
    try:
        main()
    except NerfkitError as error:
        sys.exit(str(error))
