"""What the octree saves NeRF, and how close its fit comes to bare matrix products.

    python benchmarks/nerf.py RUN [--views 5] [--json FILE]

RUN: a fit of `--preset nerf`. Its test views are rendered twice, in turns: as fitted, samples
guided by the octree, and by the paper's sampling of the whole cube, 64 stratified samples and 128
by importance on every ray, with the same two networks. Then whole steps of the same fit are timed
in turns with the bare matrix products of as many samples of its layers, forward and backward.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from nerfkit import info, metrics
from nerfkit.data import load_dataset
from nerfkit.device import CPU
from nerfkit.errors import NerfkitError
from nerfkit.evaluate import background_colour, composite
from nerfkit.fields.nerf import RENDER_STOP, NerfField
from nerfkit.kernels.fused_render import Rendered
from nerfkit.kernels.nerf_mlp import unpack
from nerfkit.run import Run
from nerfkit.threads import kernels_alone
from nerfkit.training import FitConfig
from nerfkit.training.checkpoint import load_learner
from nerfkit.training.pixels import Pixels

STEPS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--views", type=int, default=5, help="test views, evenly spaced")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    run = Run.load(options.run)
    if not isinstance(run.field, NerfField):
        sys.exit(f"{options.run}: want a run of --preset nerf")
    result = {
        "run": options.run.name,
        "guided": sampling(run, options.views),
        "training": training(options.run, run.config),
        "threads": torch.get_num_threads(),
        "versions": info.versions(),
        "hardware": info.hardware(),
    }
    show(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


class Counted:
    """A field that counts what its networks are asked."""

    def __init__(self, field: NerfField) -> None:
        self.field, self.device, self.n_samples = field, field.device, 0

    def render(
        self, origins: torch.Tensor, directions: torch.Tensor, background: torch.Tensor
    ) -> Rendered:
        with torch.no_grad():
            behind = background.expand(len(origins), 3)
            traced = self.field.trace(origins, directions, behind, RENDER_STOP)
        self.n_samples += traced.n_samples
        return Rendered(*traced.fine[:3])


def sampling(run: Run, n_views: int) -> dict:
    """PSNR, network evaluations a ray and seconds a frame of both samplings."""
    dataset = load_dataset(run.config["data"], downscale=run.config["downscale"])
    views = dataset.splits["test"].tolist()
    views = views[:: max(1, len(views) // n_views)][:n_views]
    colour = background_colour(run.config["background"])
    ways = {"octree": Counted(run.field), "whole cube": Counted(run.field.unguided())}
    seen: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ways}
    for view in views:
        truth = composite(dataset.images[view], colour)
        for name, field in ways.items():
            run.field, before = field, field.n_samples
            began = time.perf_counter()
            image = run.render(dataset.cameras[view], ["rgb"])["rgb"].clamp(0, 1)
            seconds = time.perf_counter() - began
            asked = (field.n_samples - before) / image[..., 0].numel()
            seen[name].append((metrics.psnr(image, truth), asked, seconds))
    return {
        name: {
            "psnr": statistics.fmean(psnr for psnr, _, _ in frames),
            "evaluations_per_ray": statistics.fmean(asked for _, asked, _ in frames),
            "seconds_per_frame": statistics.median(seconds for _, _, seconds in frames),
            "n_views": len(frames),
            "resolution": list(truth.shape[:2]),
        }
        for name, frames in seen.items()
    }


def training(folder: Path, settings: dict) -> dict:
    """Steps of the fit, and as many samples through the bare products of its layers."""
    config = FitConfig(data=Path(settings["data"]), output=folder).with_stored(settings)
    dataset = load_dataset(config.data, downscale=config.downscale)
    train = dataset.splits["train"]
    learner, state, _ = load_learner(folder, config, dataset.cameras[train], CPU)
    pixels = Pixels(dataset, train)
    pixels.keep_hit(learner.field.hits)
    generator = torch.Generator().manual_seed(0)
    sizes = learner.field.shape.network
    weights = [
        values
        for name, values in unpack(learner.field.fine, sizes).items()
        if name.endswith("weight")
    ]
    ours, bare, n_samples = [], [], []
    for i in range(STEPS + 1):
        with kernels_alone():
            began = time.perf_counter()
            n = learner.step(1.0, state.step + i + 1, pixels, generator).n_samples
            seconds = time.perf_counter() - began
        products = bare_seconds(weights, n)
        if i:  # the first warms up
            ours.append(seconds), bare.append(products), n_samples.append(n)
    flops = 6 * sum(w.numel() for w in weights)
    return {
        "samples_per_step": statistics.fmean(n_samples),
        "gflops": flops
        * statistics.median(n / s for n, s in zip(n_samples, ours, strict=True))
        / 1e9,
        "bare_gflops": flops
        * statistics.median(n / s for n, s in zip(n_samples, bare, strict=True))
        / 1e9,
        "share": statistics.median(b / o for b, o in zip(bare, ours, strict=True)),
    }


def bare_seconds(weights: list[torch.Tensor], n: int) -> float:
    """Of the products X W^T, G W and G^T X of all layers, for n samples."""
    total = 0.0
    for weight in weights:
        out, width = weight.shape
        x, g = torch.randn(n, width), torch.randn(n, out)
        began = time.perf_counter()
        torch.mm(x, weight.T)
        torch.mm(g, weight)
        torch.mm(g.T, x)
        total += time.perf_counter() - began
    return total


def show(result: dict) -> None:
    """Two tables for a reader."""
    console = Console()
    guided, whole = result["guided"]["octree"], result["guided"]["whole cube"]
    table = Table("sampling", "PSNR dB", "evaluations a ray", "s a frame")
    for name, row in result["guided"].items():
        table.add_row(
            name,
            f"{row['psnr']:.2f}",
            f"{row['evaluations_per_ray']:.1f}",
            f"{row['seconds_per_frame']:.3f}",
        )
    console.print(table)
    fewer = whole["evaluations_per_ray"] / guided["evaluations_per_ray"]
    faster = whole["seconds_per_frame"] / guided["seconds_per_frame"]
    console.print(f"{fewer:.1f}x fewer evaluations, {faster:.1f}x faster frames")
    steps = result["training"]
    console.print(
        f"training: {steps['gflops']:.0f} GFLOP/s, bare products {steps['bare_gflops']:.0f}, "
        f"{100 * steps['share']:.0f} %"
    )


if __name__ == "__main__":
    try:
        main()
    except NerfkitError as error:
        sys.exit(str(error))
