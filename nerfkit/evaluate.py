"""Measure a fitted scene against views it was not fitted on.

Protocol, stated in the result too: the float render, clamped to 0..1, against the truth (8
bits / 255 or 16 bits / 65535; RGBA composited in float on the run's background); PSNR of each view,
then their mean.
"""

import datetime
import math
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from nerfkit import info, metrics
from nerfkit.cameras import Cameras
from nerfkit.colormap import to_uint8
from nerfkit.data import Dataset, load_dataset
from nerfkit.data.images import full_value
from nerfkit.errors import NerfkitError
from nerfkit.files import read_json
from nerfkit.frames import write_png

if TYPE_CHECKING:
    from nerfkit.run import Run

BACKGROUNDS = {"white": (1.0, 1.0, 1.0), "black": (0.0, 0.0, 0.0)}
PROTOCOL = (
    "float render clamped to 0..1 against the truth of 8 or 16 bits; PSNR and SSIM per view, then "
    "the mean"
)
TIMING = "wall time of rendering one view to an RGB tensor, after one view to warm up"


def evaluate(
    run: "Run",
    split: str = "test",
    images: Path | None = None,
    align: bool = False,
    exposed: bool = False,
) -> dict:
    """Render every view of a split and compare it with its photograph.

    Args:
        run: the fitted scene; its data set is loaded again at the resolution it was fitted at.
        split: name of the split.
        images: folder to save the renders in, as PNG named like the photographs.
        align: let each camera find the place where its photograph fits best before measuring, as is
            usual for scenes fitted with refined poses (2104.06405); the default field alone.
        exposed: show each view as bright as the training photographs next to it, and not as all of
            them in the mean; what is measured against is not looked at.

    Returns:
        JSON-ready data: psnr, ssim, lpips (means over views), seconds_per_frame (median),
        seconds_per_frame_mean, n_views, per_view, split, resolution, background, and how and on
        what it was measured. Values that do not exist are None.

    Raises:
        NerfkitError: the data set cannot be read or has no views in the split.
    """
    downscale = run.config.get("downscale", 1)
    dataset = load_dataset(Path(run.config["data"]), downscale=downscale, splits=(split,))
    views = dataset.splits[split].tolist()
    background = run.config.get("background", "black")
    colour = background_colour(background)
    lpips, lpips_note = metrics.load_lpips()
    _seconds_to_render(run, dataset.cameras[views[0]])
    aligner = _aligner(run) if align else None
    exposure = _exposure(run) if exposed else None
    per_view = []
    for view in track(views, "rendering", console=Console(file=sys.stderr), transient=True):
        truth = composite(dataset.images[view], colour)
        camera = dataset.cameras[view]
        if aligner is not None:
            camera = aligner.align(camera, truth, colour)
        image, seconds = _seconds_to_render(run, camera)
        if exposure is not None:
            gain, offset = exposure.predicted(run.train_cameras, camera)
            image = (image * gain + offset).clamp(0, 1)
        mask = _mask(dataset, view)
        per_view.append(
            {
                "name": dataset.names[view],
                "psnr": _or_none(metrics.psnr(image, truth, mask)),
                "ssim": _or_none(metrics.ssim(image, truth, mask)),
                "lpips": lpips(image, truth) if lpips else None,
                "seconds": seconds,
            }
        )
        if images is not None:
            _save(images, dataset.names[view], image)
    seconds = [view["seconds"] for view in per_view]
    sizes = {f"{image.shape[1]}x{image.shape[0]}" for image in dataset.images}
    return {
        "psnr": _mean(per_view, "psnr"),
        "ssim": _mean(per_view, "ssim"),
        "lpips": _mean(per_view, "lpips"),
        "seconds_per_frame": statistics.median(seconds),
        "seconds_per_frame_mean": statistics.fmean(seconds),
        "n_views": len(views),
        "split": split,
        "resolution": sorted(sizes),
        "downscale": downscale,
        "background": background,
        "aligned": align,
        "exposed": exposed,
        "masked": any(_mask(dataset, view) is not None for view in views),
        "run": str(run.folder),
        "data": str(run.config["data"]),
        "iteration": run.iteration,
        "protocol": PROTOCOL,
        "ssim_settings": metrics.SSIM_SETTINGS,
        "lpips_note": lpips_note,
        "timing": TIMING,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "versions": info.versions(),
        "hardware": info.hardware(),
        "per_view": per_view,
    }


def background_colour(background: object) -> Tensor:
    """RGB [3] of a run's background: "white", "black" or three numbers in 0..1."""
    value = BACKGROUNDS.get(background, background) if isinstance(background, str) else background
    if (
        isinstance(value, list | tuple)
        and len(value) == 3
        and all(isinstance(each, int | float) and 0 <= each <= 1 for each in value)
    ):
        return torch.tensor(value, dtype=torch.float32)
    raise NerfkitError(f"background: want white, black or three numbers, got {background!r}")


def composite(image: Tensor, background: Tensor) -> Tensor:
    """[H, W, 3 or 4] of 8 or 16 bits -> float [H, W, 3] in 0..1, alpha over `background` [3]."""
    image = image.float() / full_value(image)
    if image.shape[-1] == 3:
        return image
    return image[..., :3] * image[..., 3:] + background * (1 - image[..., 3:])


def print_table(result: dict) -> None:
    """Print what `evaluate` returned, for a reader, on standard output."""
    table = Table(title=f"{result['run']}, {result['split']} views, {result['resolution'][0]}")
    for heading in ("view", "PSNR dB", "SSIM", "LPIPS", "seconds"):
        table.add_column(heading, justify="left" if heading == "view" else "right")
    mean = {**result, "name": f"mean of {result['n_views']}", "seconds": None}
    for view in (*result["per_view"], mean):
        if view is mean:
            table.add_section()
        table.add_row(
            str(view["name"]),
            _shown(view["psnr"], 2),
            _shown(view["ssim"], 4),
            _shown(view["lpips"], 4),
            _shown(view["seconds"] or result["seconds_per_frame_mean"], 3),
        )
    console = Console(file=sys.stdout)
    console.print(table)
    console.print(
        f"{result['seconds_per_frame']:.3f} s a frame (median), background {result['background']}"
        + (", ignored pixels left out" if result["masked"] else "")
    )
    if result["lpips"] is None:
        console.print(f"no LPIPS: {result['lpips_note']}")


def _aligner(run: "Run"):
    from nerfkit.fields.fast import FastField
    from nerfkit.training.poses import Aligner

    if not isinstance(run.field, FastField):
        raise NerfkitError(f"--align: {run.folder} is no run of the preset fast")
    return Aligner(run.field)


def _exposure(run: "Run"):
    from nerfkit.training.exposure import Exposure

    path = run.folder / "exposures.json"
    if not path.is_file():
        raise NerfkitError(f"--exposed: {path} is missing: the run has one exposure for all views")
    exposure = Exposure(len(run.train_cameras))
    try:
        exposure.recall(read_json(path))
    except (KeyError, TypeError, ValueError) as error:
        raise NerfkitError(f"{path}: not what nerfkit fit writes ({error!r})") from error
    return exposure


def _seconds_to_render(run: "Run", camera: Cameras) -> tuple[Tensor, float]:
    start = time.perf_counter()
    rgb = run.render(camera, ["rgb"])["rgb"]
    if rgb.is_cuda:
        torch.cuda.synchronize(rgb.device)
    seconds = time.perf_counter() - start
    return rgb.detach().float().cpu().clamp(0, 1), seconds


def _mask(dataset: Dataset, view: int) -> Tensor | None:
    mask = dataset.masks[view]
    return None if mask is None else mask > 0


def _save(folder: Path, name: str, image: Tensor) -> None:
    path = folder / Path(name).with_suffix(".png")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(path, to_uint8(image))


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def _mean(per_view: list[dict], key: str) -> float | None:
    values = [view[key] for view in per_view if view[key] is not None]
    return statistics.fmean(values) if values else None


def _shown(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
