"""The networks that come with nerfkit on standard images, and a frame of video through them.

    python benchmarks/sr.py [FOLDER ...] [--frame 1920x1080] [--json FILE]

PSNR of luma in dB, rounded to 8 bits, without a border of `scale` pixels, of images reduced by
MATLAB's bicubic filter, beside plain bicubic enlargement. A frame's seconds are the median of
three; its memory is the peak of a process that does nothing else.
"""

import argparse
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from nerfkit import info
from nerfkit.errors import NerfkitError
from nerfkit.files import write_json
from nerfkit.metrics import psnr
from nerfkit.postprocess.colour import luma
from nerfkit.postprocess.degrade import Degradation
from nerfkit.postprocess.models import WEIGHTS, load_network
from nerfkit.postprocess.pairs import make_pair
from nerfkit.postprocess.pictures import image_files, read_rgb
from nerfkit.postprocess.resize import imresize
from nerfkit.postprocess.upscale import Upscaler

MEASURED = 3  # frames timed, after one to warm up


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="*", help="of sharp images")
    parser.add_argument("--frame", default="1920x1080", metavar="WxH", help="size of the frame")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    width, height = map(int, options.frame.split("x"))
    networks = []
    for path in sorted(WEIGHTS.glob("*.safetensors")):
        row = {"network": path.stem, "scale": load_network(path).scale}
        row["parameters"] = sum(p.numel() for p in load_network(path).parameters())
        for folder in options.folders:
            row[folder.name] = scores(path, folder)
        networks.append(row | in_new_process(path, height, width))
    show(networks)
    if options.json:
        result = {"frame": [width, height], "networks": networks}
        result |= {"threads": torch.get_num_threads(), "versions": info.versions()}
        write_json(options.json, result | {"hardware": info.hardware()})


def scores(path: Path, folder: Path) -> dict[str, float]:
    """Mean PSNR over the images of a folder."""
    network = load_network(path)
    scale = network.scale
    methods: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "psnr": Upscaler(network).frame,
        "bicubic": lambda low: imresize(low, scale),
    }
    found: dict[str, list[float]] = {name: [] for name in methods}
    for file in image_files([folder]):
        pair = make_pair(read_rgb(file), Degradation(scale), [0])
        truth = rounded_luma(pair.high, scale)
        for name, method in methods.items():
            found[name].append(psnr(rounded_luma(method(pair.low), scale), truth))
    return {name: statistics.fmean(values) for name, values in found.items()}


def rounded_luma(pixels: np.ndarray, border: int) -> torch.Tensor:
    """uint8 [H, W, 3] -> luma in 0..1 of 8 bits, without the border."""
    inside = torch.from_numpy(pixels[border:-border, border:-border] / 255)
    return (luma(inside) * 255).round() / 255


def in_new_process(path: Path, height: int, width: int) -> dict[str, float]:
    """Seconds and megabytes of one frame."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(frame, (path, height, width))


def frame(path: Path, height: int, width: int) -> dict[str, float]:
    """What `in_new_process` returns, of this process."""
    enlarge = Upscaler(load_network(path)).frame
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    seconds = []
    for _ in range(1 + MEASURED):
        began = time.perf_counter()
        enlarge(pixels)
        seconds.append(time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts KiB
    return {"seconds_per_frame": statistics.median(seconds[1:]), "peak_mebibytes": peak}


def show(networks: list[dict]) -> None:
    """For a reader."""
    folders = [key for key, value in networks[0].items() if isinstance(value, dict)]
    table = Table("network", "parameters", *folders, "s a frame", "MiB")
    for row in networks:
        both = [f"{row[name]['psnr']:.2f} (bicubic {row[name]['bicubic']:.2f})" for name in folders]
        cost = [f"{row['seconds_per_frame']:.2f}", f"{row['peak_mebibytes']:.0f}"]
        table.add_row(row["network"], str(row["parameters"]), *both, *cost)
    Console().print(table)


if __name__ == "__main__":
    try:
        main()
    except NerfkitError as error:
        sys.exit(str(error))
