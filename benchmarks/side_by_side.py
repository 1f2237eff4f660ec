"""Two ways to render the same test views, in turns: quality and seconds a frame."""

import statistics
import time

import torch
from rich.console import Console
from rich.table import Table

from nerfkit import info, metrics
from nerfkit.data import load_dataset
from nerfkit.evaluate import background_colour, composite
from nerfkit.run import Run


def side_by_side(runs: dict[str, Run], n_views: int) -> dict:
    """Render evenly spaced test views by a "run" and by another in turns.

    Args:
        runs: {"run": the fitted run, NAME: what is measured beside it}.
        n_views: at most so many.

    Returns:
        JSON-ready: of each its mean PSNR and median seconds a frame; "faster", the median over
        views of the run's seconds over the other's; on what it was measured.
    """
    config = runs["run"].config
    dataset = load_dataset(config["data"], downscale=config["downscale"])
    views = dataset.splits["test"].tolist()
    views = views[:: max(1, len(views) // n_views)][:n_views]
    colour = background_colour(config["background"])
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for each in runs.values():  # warm up
        each.render(dataset.cameras[views[0]], ["rgb"])
    for view in views:
        truth = composite(dataset.images[view], colour)
        for name, each in runs.items():
            began = time.perf_counter()
            image = each.render(dataset.cameras[view], ["rgb"])["rgb"].cpu()
            seconds = time.perf_counter() - began
            seen[name].append((metrics.psnr(image.clamp(0, 1), truth), seconds))
    return {
        name: {
            "psnr": statistics.fmean(psnr for psnr, _ in frames),
            "seconds_per_frame": statistics.median(seconds for _, seconds in frames),
        }
        for name, frames in seen.items()
    } | {
        "faster": statistics.median(
            slow / fast for (_, slow), (_, fast) in zip(*seen.values(), strict=True)
        ),
        "resolution": list(truth.shape[:2]),
        "n_views": len(views),
        "threads": torch.get_num_threads(),
        "versions": info.versions(),
        "hardware": info.hardware(),
    }


def print_table(result: dict) -> None:
    """What `side_by_side` returned, for a reader."""
    console = Console()
    table = Table("", "PSNR dB", "s a frame", "frames a second")
    rows = {name: row for name, row in result.items() if isinstance(row, dict) and "psnr" in row}
    for name, row in rows.items():
        table.add_row(
            name,
            f"{row['psnr']:.2f}",
            f"{row['seconds_per_frame']:.4f}",
            f"{1 / row['seconds_per_frame']:.1f}",
        )
    console.print(table)
    console.print(f"{list(rows)[1]}: {result['faster']:.2f}x as fast as the run")
