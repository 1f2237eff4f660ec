"""One entry for every way to a kernel: from a run, from sharp pairs, from images alone.

Kernels are those of `blur.kernels`; images are read as luma.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from nerfkit.data import load_dataset
from nerfkit.errors import NerfkitError
from nerfkit.evaluate import background_colour, composite
from nerfkit.postprocess.blur.blind import BlindFamily, estimate_blind
from nerfkit.postprocess.blur.forward import degrade
from nerfkit.postprocess.blur.kernels import SIZE
from nerfkit.postprocess.blur.measure import width_of
from nerfkit.postprocess.blur.pairs import KernelSystem
from nerfkit.postprocess.blur.priors import FITS, KernelFit, Shape, fit_best
from nerfkit.postprocess.blur.spectral import TILE
from nerfkit.postprocess.blur.train import load_network
from nerfkit.postprocess.blur.wiener import wiener_restore
from nerfkit.postprocess.colour import luma
from nerfkit.postprocess.pictures import read_luma

if TYPE_CHECKING:
    from nerfkit.run import Run

Method = Literal["pairs", "spectrum", "alternation", "network"]


@dataclass(frozen=True)
class KernelReport:
    """A kernel and what is known of it.

    Attributes:
        kernel: [size, size].
        method: "pairs" (sharp counterparts), "spectrum" or "alternation" (blind) or "network".
        shape: family: round, gaussian, motion, disk, edges (see `blur.blind`) or free.
        parameters: of the family; none of a blind estimate.
        scale: by which the images were reduced.
        views: images used.
        width: standard deviation of the kernel, pixels of the sharp image.
        residual_rms: with sharp counterparts, |y - (x * k) reduced|; blind, the same with x
            restored from y. 0..1.
    """

    kernel: Tensor
    method: Method
    shape: Shape | BlindFamily
    parameters: dict[str, float]
    scale: int
    views: int
    width: float
    residual_rms: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, the kernel as nested lists."""
        return asdict(self) | {"kernel": self.kernel.tolist()}


def kernel_of_pairs(
    sharp: Sequence[Path], blurred: Sequence[Path], scale: int, shape: Shape | None = None
) -> KernelReport:
    """From images and their sharp counterparts, pooled.

    Args:
        sharp: as many files as `blurred`, in the same order, `scale` times as large.
        shape: family to fit; the likeliest of all where left out.

    Raises:
        NerfkitError: numbers or sizes do not match.
    """
    if len(sharp) != len(blurred):
        raise NerfkitError(
            f"--sharp: want one sharp image for each of {len(blurred)}, got {len(sharp)}"
        )
    system = KernelSystem(scale)
    for sharp_path, path in zip(sharp, blurred, strict=True):
        x, y = read_luma(sharp_path), read_luma(path)
        if tuple(x.shape) != tuple(n * scale for n in y.shape):
            raise NerfkitError(
                f"{sharp_path}: want {y.shape[1] * scale}x{y.shape[0] * scale} pixels, {scale} "
                f"times {path}, got {x.shape[1]}x{x.shape[0]}; give the right --scale"
            )
        _add(system, x, y, path)
    return _report(system, _fit(system, shape), len(blurred))


def kernel_of_run(
    run: "Run", scale: int = 1, views: int = 8, shape: Shape | None = None
) -> KernelReport:
    """The blur of a run: how its renders at training views are softer than the photographs.

    Super-resolution that is trained on this kernel sees what the run will give it. Only training
    views are used.

    Args:
        scale: photographs are taken `scale` times as fine as the run was fitted at, which the
            run's own downscale must allow.
        views: at most so many, evenly spaced.
    """
    downscale = run.config.get("downscale", 1)
    if downscale % scale:
        raise NerfkitError(
            f"--scale: the run was fitted at 1/{downscale} of its photographs' size; "
            f"want a divisor of {downscale}, got {scale}"
        )
    root = Path(run.config["data"])
    dataset = load_dataset(root, downscale=downscale, splits=("train",), load_images=False)
    photographs = load_dataset(root, downscale=downscale // scale, splits=("train",)).images
    colour = background_colour(run.config.get("background", "black"))
    chosen = torch.linspace(0, len(dataset) - 1, min(views, len(dataset))).round().int().tolist()
    system = KernelSystem(scale)
    for view in chosen:
        render = run.render(dataset.cameras[view], ["rgb"])["rgb"].detach().float().cpu()
        y = luma(render.clamp(0, 1))
        x = luma(composite(photographs[view], colour))
        height, width = (min(n, m // scale) for n, m in zip(y.shape, x.shape, strict=True))
        y, x = y[:height, :width], x[: height * scale, : width * scale]
        _add(system, x, y, dataset.names[view])
    return _report(system, _fit(system, shape), len(chosen))


def kernel_of_images(
    images: Sequence[Path],
    scale: int,
    shape: BlindFamily | None = None,
    network: Path | None = None,
) -> KernelReport:
    """Blind, one kernel for all images: from spectra or, where one is given, by a trained network.

    Args:
        shape: family, without a network; the likeliest where left out.
        network: file of `blur.train`; without one, spectra and alternation answer.
    """
    observed = [read_luma(path) for path in images]
    for path, y in zip(images, observed, strict=True):
        if min(y.shape) < TILE:
            raise NerfkitError(
                f"{path}: want at least {TILE} pixels a side, got {y.shape[1]}x{y.shape[0]}"
            )
    if network is None:
        shape, kernel = estimate_blind(observed, scale, shape)
        method: Method = "alternation" if shape == "edges" else "spectrum"
    else:
        model = load_network(network)
        if model.scale != scale:
            raise NerfkitError(f"{network}: trained for --scale {model.scale}, got {scale}")
        kernel = torch.stack([model(y[None, None])[1][0] for y in observed]).mean(0)
        shape, method = "free", "network"
    residual = torch.cat([_residual(y, kernel, scale).flatten() for y in observed])
    return KernelReport(
        kernel=kernel,
        method=method,
        shape=shape,
        parameters={},
        scale=scale,
        views=len(images),
        width=width_of(kernel),
        residual_rms=residual.square().mean().sqrt().item(),
    )


def _add(system: KernelSystem, sharp: Tensor, blurred: Tensor, name: object) -> None:
    try:
        system.add(sharp, blurred)
    except ValueError as error:
        raise NerfkitError(f"{name}: {error}") from error


def _fit(system: KernelSystem, shape: Shape | None) -> KernelFit:
    return fit_best(system) if shape is None else FITS[shape](system)


def _report(system: KernelSystem, fit: KernelFit, views: int) -> KernelReport:
    return KernelReport(
        kernel=fit.kernel,
        method="pairs",
        shape=fit.shape,
        parameters=fit.parameters,
        scale=system.scale,
        views=views,
        width=width_of(fit.kernel),
        residual_rms=fit.residual_rms,
    )


def _residual(y: Tensor, kernel: Tensor, scale: int) -> Tensor:
    """y - (x * k) reduced for the x restored with k, away from the edges."""
    x = wiener_restore(y[None, None], kernel, scale)
    border = SIZE // (2 * scale) + 2
    inner = slice(border, -border)
    return (y - degrade(x, kernel, scale)[0, 0])[inner, inner]
