"""The blur from the spectrum of y alone: maximum marginal likelihood within a family of kernels.

Photographs have spectra close to A / f^(2 alpha), alpha near 1. Blurred by k, reduced s times and
with noise, the expected periodogram of y is D(f) = A fold(S |H_k|^2) + noise; the likelihood of
the observed one, P(f), is that of a stationary Gaussian (Whittle 1953),

    -log p(y | k) = sum_f log D(f) + P(f) / D(f).

x is integrated out, not estimated: the joint maximum over x and k prefers no blur, the marginal one
does not (Levin et al. 2009, doi 10.1109/CVPR.2009.5206815). Phases are ignored, so that only
kernels that equal their mirror image can be told, as those of all families here do.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import scipy.optimize
import torch
from torch import Tensor

from nerfkit.postprocess.blur.forward import transfer_function
from nerfkit.postprocess.blur.kernels import (
    SIZE,
    disk_kernel,
    gaussian_from_log_covariance,
    motion_kernel,
)
from nerfkit.postprocess.blur.wiener import LOWEST, fold

SymmetricFamily = Literal["round", "gaussian", "motion", "disk"]

TILE = 48  # pixels of y: periodograms of tiles are averaged (Welch 1967)
QUANTISATION = 1e-6  # variance of rounding to 8 bits, about 1 / (12 255^2)
# Prior of alpha. Of four tried, the one that errs least on ten blurred images of T91 and BSDS400:
# sigma is off by 9 % at x2, 5.5 % at x4. (Their own slopes, unblurred, are 1.26 +- 0.26.)
ALPHA, ALPHA_SPREAD = 1.1, 0.12
# Photographs have directions of their own: on ten of T91 and BSDS400 at x2 an oblong kernel was
# likelier than the true round one by up to 110 (once 332); where the truth was oblong, by over 400.
DIRECTION = 200.0
SIGMAS = (0.25, 5.0)  # of the search, pixels of x


@dataclass(frozen=True)
class SpectralFit:
    """The likeliest kernel of a family.

    Attributes:
        kernel: [size, size].
        energy: minus the logarithm of its likelihood, as of one tile, plus half the logarithm of
            the number of frequencies for each parameter (Schwarz); smaller is better.
    """

    kernel: Tensor
    energy: float


def periodogram(images: Sequence[Tensor], tile: int = TILE) -> Tensor:
    """Mean squared spectrum of windowed tiles of y [h, w]: [tile, tile], in FFT order."""
    line = torch.hann_window(tile, periodic=True)
    window = line[:, None] * line
    window = window / window.square().mean().sqrt()
    total, count = torch.zeros(tile, tile), 0
    for image in images:
        if min(image.shape) < tile:
            raise ValueError(f"images must be at least {tile} pixels a side, got {image.shape}")
        tiles = image.unfold(0, tile, tile // 2).unfold(1, tile, tile // 2).reshape(-1, tile, tile)
        tiles = tiles - tiles.mean((-2, -1), keepdim=True)
        total += (torch.fft.fft2(tiles * window).abs().square() / tile**2).sum(0)
        count += len(tiles)
    return total / count


def spectral_fit(
    images: Sequence[Tensor],
    scale: int,
    family: SymmetricFamily = "round",
    size: int = SIZE,
    stretch: tuple[float, float] = (0.0, 0.0),
) -> SpectralFit:
    """The kernel of `family` under which the images' spectra are likeliest.

    Args:
        images: luma of y, [h, w] each, at least TILE pixels a side.
        family: "round" Gaussians, any "gaussian", straight "motion" or a "disk".
        stretch: (a, b) of `gaussian_from_log_covariance`, given to the "round" ones: then they
            are oblong, and only their width is looked for.
    """
    observed = periodogram(images)
    side = TILE * scale
    fy = torch.fft.fftfreq(side)
    squared = fy[:, None].square() + fy.square() + LOWEST**2
    # the window smears the lowest frequencies, which say nothing about blur anyway
    low = torch.fft.fftfreq(TILE).abs()
    used = torch.maximum(low[:, None], low) > 2.5 / TILE
    seen = observed[used].double()
    kernel_of, starts = _family(family, scale, size, stretch)

    def folded(alpha: float, shape: np.ndarray) -> Tensor:
        power = transfer_function(kernel_of(shape), scale, side, side).abs().square()
        return fold(power * squared**-alpha, scale)[used].double()

    def energy(parameters: np.ndarray) -> float:
        log_amplitude, alpha = parameters[:2].tolist()
        expected = math.exp(log_amplitude) * folded(alpha, parameters[2:]) + QUANTISATION
        # summed as over one tile: tiles overlap, and images are less random than the model
        likelihood = float((expected.log() + seen / expected).sum())
        return likelihood + 0.5 * ((alpha - ALPHA) / ALPHA_SPREAD) ** 2

    def start(shape: np.ndarray) -> np.ndarray:
        # of sums: a ratio at every frequency would be endless where a motion has its zeros
        amplitude = float(seen.sum() / folded(ALPHA, shape).sum())
        return np.array([math.log(amplitude), ALPHA, *shape])

    best = min((start(shape) for shape in starts), key=energy)
    options = {"xatol": 1e-3, "fatol": 1e-3, "maxiter": 400}
    found = scipy.optimize.minimize(energy, best, method="Nelder-Mead", options=options)
    freedom = 0.5 * len(starts[0]) * math.log(len(seen))
    return SpectralFit(kernel_of(found.x[2:]), float(found.fun) + freedom)


def spectral_best(
    images: Sequence[Tensor], scale: int, size: int = SIZE
) -> tuple[SymmetricFamily, SpectralFit]:
    """The likeliest family and its fit; directions count only beyond DIRECTION."""
    fits = {
        family: spectral_fit(images, scale, family, size) for family in get_args(SymmetricFamily)
    }

    def energy(family: SymmetricFamily) -> float:
        return fits[family].energy + (DIRECTION if family in ("gaussian", "motion") else 0)

    best = min(fits, key=energy)
    return best, fits[best]


def spectral_gaussian(images: Sequence[Tensor], scale: int, size: int = SIZE) -> Tensor:
    """The likeliest round Gaussian [size, size]; see `spectral_fit`."""
    return spectral_fit(images, scale, "round", size).kernel


def _family(
    family: SymmetricFamily, scale: int, size: int, stretch: tuple[float, float]
) -> tuple[Callable[[np.ndarray], Tensor], np.ndarray]:
    """(parameters -> kernel, parameters to try first [N, P])."""
    low, high = (2 * math.log(sigma) for sigma in SIGMAS)
    widths = 2 * np.log(scale * np.array([0.15, 0.3, 0.45, 0.65, 0.9]))
    if family == "round":
        return (
            lambda p: gaussian_from_log_covariance(_row(np.clip(p[0], low, high), *stretch), size)[
                0
            ],
            widths[:, None],
        )
    if family == "gaussian":
        ways = np.linspace(0, 2 * math.pi, 4, endpoint=False)
        starts = [(m, r * np.cos(w), r * np.sin(w)) for m in widths for r in (0, 0.8) for w in ways]
        return (
            lambda p: gaussian_from_log_covariance(
                _row(np.clip(p[0], low, high), *np.clip(p[1:], -1.5, 1.5)), size
            )[0],
            np.array(starts),
        )
    if family == "motion":
        angles = np.linspace(0, math.pi, 12, endpoint=False)
        lengths = np.linspace(2, 0.9 * size, 8)
        return (
            lambda p: motion_kernel(*_row(np.clip(p[0], 1, size), p[1])[0], size),
            np.array([(length, angle) for length in lengths for angle in angles]),
        )
    return (
        lambda p: disk_kernel(_row(np.clip(p[0], 0.3, size / 2))[0, 0], size),
        np.linspace(0.5, size / 2.5, 14)[:, None],
    )


def _row(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float32)
