"""Gaussian8: blind x2 and x4 with eight round kernels, PSNR-Y and kernel PSNR.

python benchmarks/blind_sr.py IMAGES --scale 2 [--network FILE] [--json FILE]

Each image is cropped to a multiple of the scale, blurred (edges mirrored), reduced by MATLAB's
bicubic filter and rounded to 8 bits a channel; PSNR is that of luma in 0..255, rounded, without a
border of `scale` pixels. Kernel PSNR has the true kernel's largest entry as its peak, centroids
aligned; its floor is the mean of the eight kernels. Methods:

- bicubic: plain enlargement;
- closed form, no blur: the Wiener filter told that there is no blur; and with the spectral guess,
  and with the true kernel;
- network, no blur: the same network told that there is no blur (a delta kernel);
- network, spectral: its Restorer with the spectral guess alone;
- network: Restorer and Estimator in turns; and with the true kernel.
"""

import argparse
import math
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from nerfkit import files
from nerfkit.postprocess.blur.forward import degrade
from nerfkit.postprocess.blur.kernels import delta_kernel, gaussian8
from nerfkit.postprocess.blur.measure import kernel_psnr, mean_kernel_floor
from nerfkit.postprocess.blur.spectral import spectral_gaussian
from nerfkit.postprocess.blur.train import load_network
from nerfkit.postprocess.blur.wiener import wiener_restore
from nerfkit.postprocess.colour import luma
from nerfkit.postprocess.pictures import image_files, read_rgb


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=Path)
    parser.add_argument("--scale", type=int, choices=(2, 3, 4), required=True)
    parser.add_argument("--network", type=Path)
    parser.add_argument("--kernels", type=int, nargs="*", default=list(range(8)))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    scale = arguments.scale
    truths = gaussian8(scale)
    floors = mean_kernel_floor(truths)
    methods = _methods(scale, arguments.network)
    rows = []
    for path in image_files([arguments.images]):
        for index in arguments.kernels:
            sharp, y = _observe(path, truths[index], scale)
            guess = spectral_gaussian([y[0, 0]], scale)
            for name, method in methods.items():
                x, kernel = method(y, guess[None], truths[index][None])
                row = {"image": path.stem, "kernel": index, "method": name}
                row["psnr"] = _psnr(x[0, 0], sharp, scale)
                if kernel is not None:
                    row["kernel_psnr"] = kernel_psnr(kernel[0], truths[index])
                    row["kernel_floor"] = floors[index]
                rows.append(row)
    summary = _summary(rows, methods)
    for line in summary:
        print(
            f"x{scale} {line['method']:28s} {line['psnr']:.2f} dB"
            + (
                f"   kernel {line['kernel_psnr']:.1f} dB, floor {line['kernel_floor']:.1f}"
                if "kernel_psnr" in line
                else ""
            )
        )
    if arguments.json is not None:
        files.write_json(arguments.json, {"scale": scale, "summary": summary, "rows": rows})


Method = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor | None]]


def _methods(scale: int, path: Path | None) -> dict[str, Method]:
    """name -> (y, guess, truth) -> (x, estimated kernel)."""
    nothing = delta_kernel()[None]
    methods: dict[str, Method] = {
        "bicubic": lambda y, guess, truth: (_enlarge(y, scale), None),
        "closed form, no blur": lambda y, guess, truth: (wiener_restore(y, nothing, scale), None),
        "closed form, spectral": lambda y, guess, truth: (wiener_restore(y, guess, scale), guess),
        "closed form, true kernel": lambda y, guess, truth: (wiener_restore(y, truth, scale), None),
    }
    if path is not None:
        network = load_network(path)
        methods |= {
            "network, no blur": lambda y, guess, truth: (network.restorer(y, nothing), None),
            "network, spectral": lambda y, guess, truth: (network.restorer(y, guess), guess),
            "network": lambda y, guess, truth: network(y, guess),
            "network, true kernel": lambda y, guess, truth: (network.restorer(y, truth), None),
        }
    return methods


def _observe(path: Path, kernel: Tensor, scale: int) -> tuple[Tensor, Tensor]:
    """(luma of the sharp image [H, W], of the observed one [1, 1, h, w])."""
    rgb = torch.from_numpy(read_rgb(path)).float() / 255
    height, width = (n // scale * scale for n in rgb.shape[:2])
    rgb = rgb[:height, :width]
    small = degrade(rgb.permute(2, 0, 1)[None], kernel, scale)
    small = (small.clamp(0, 1) * 255).round() / 255
    return luma(rgb), luma(small[0].permute(1, 2, 0))[None, None]


def _enlarge(y: Tensor, scale: int) -> Tensor:
    return torch.nn.functional.interpolate(
        y, scale_factor=scale, mode="bicubic", align_corners=False
    )


def _psnr(x: Tensor, truth: Tensor, border: int) -> float:
    inner = slice(border, -border)
    rounded = (x.clamp(0, 1) * 255).round()
    error = (rounded - (truth * 255).round())[inner, inner].double()
    return 20 * math.log10(255 / max(error.square().mean().sqrt().item(), 1e-4))


def _summary(rows: list[dict], methods: dict[str, Method]) -> list[dict]:
    lines = []
    for name in methods:
        mine = [row for row in rows if row["method"] == name]
        line = {"method": name, "psnr": statistics.fmean(row["psnr"] for row in mine)}
        for key in ("kernel_psnr", "kernel_floor"):
            if key in mine[0]:
                line[key] = statistics.fmean(row[key] for row in mine)
        lines.append(line)
    return lines


if __name__ == "__main__":
    main()
