"""A first guess of the blur from the spectrum of y alone: maximum marginal likelihood.

Photographs have spectra close to A / f^(2 alpha), alpha near 1. Blurred by k, reduced s times and
with noise, the expected periodogram of y is D(f) = A fold(S |H_k|^2) + noise; the likelihood of
the observed one, P(f), is that of a stationary Gaussian (Whittle 1953),

    -log p(y | k) = sum_f log D(f) + P(f) / D(f).

x is integrated out, not estimated: the joint maximum over x and k prefers no blur, the marginal one
does not (Levin et al. 2009, doi 10.1109/CVPR.2009.5206815). Phases are ignored, so that the
answer is the best *symmetric* kernel: here a Gaussian.
"""

import math
from collections.abc import Sequence

import numpy as np
import scipy.optimize
import torch
from torch import Tensor

from nerfkit.postprocess.blur.forward import transfer_function
from nerfkit.postprocess.blur.kernels import SIZE, gaussian_from_log_covariance
from nerfkit.postprocess.blur.wiener import LOWEST, fold

TILE = 48  # pixels of y: periodograms of tiles are averaged (Welch 1967)
QUANTISATION = 1e-6  # variance of rounding to 8 bits, about 1 / (12 255^2)
ALPHA, ALPHA_SPREAD = 1.1, 0.12  # of photographs: T91 and BSDS400, luma
STARTS = (0.15, 0.3, 0.45, 0.65, 0.9)  # sigmas tried first, of `scale` pixels
SIGMAS = (0.25, 5.0)  # of the search, pixels of x


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


def spectral_gaussian(
    images: Sequence[Tensor], scale: int, oblong: bool = False, size: int = SIZE
) -> Tensor:
    """The Gaussian kernel [size, size] under which the images' spectra are likeliest.

    Args:
        images: luma of y, [h, w] each, at least TILE pixels a side.
        oblong: also fit the ratio of axes and the angle.
    """
    observed = periodogram(images)
    side = TILE * scale
    fy = torch.fft.fftfreq(side)
    squared = fy[:, None].square() + fy.square() + LOWEST**2
    # the window smears the lowest frequencies, which say nothing about blur anyway
    low = torch.fft.fftfreq(TILE).abs()
    used = torch.maximum(low[:, None], low) > 2.5 / TILE
    seen = observed[used].double()

    def folded(alpha: float, *shape: float) -> Tensor:
        kernel = gaussian_from_log_covariance(torch.tensor([shape]), size)[0]
        power = transfer_function(kernel, scale, side, side).abs().square()
        return fold(power * squared**-alpha, scale)[used].double()

    def energy(parameters: np.ndarray) -> float:
        log_amplitude, alpha, m, *stretch = parameters.tolist()
        expected = math.exp(log_amplitude) * folded(alpha, m, *(stretch or (0.0, 0.0)))
        expected = expected + QUANTISATION
        # summed as over one tile: tiles overlap, and images are less random than the model
        likelihood = float((expected.log() + seen / expected).sum())
        prior = 0.5 * ((alpha - ALPHA) / ALPHA_SPREAD) ** 2
        outside = max(0.0, m - 2 * math.log(SIGMAS[1]), 2 * math.log(SIGMAS[0]) - m)
        return likelihood + prior + 1e3 * outside

    def start(sigma: float) -> np.ndarray:
        m = 2 * math.log(sigma)
        amplitude = float((seen / folded(ALPHA, m, 0.0, 0.0)).mean())
        return np.array([math.log(amplitude), ALPHA, m] + ([0.0, 0.0] if oblong else []))

    best = min((start(scale * share) for share in STARTS), key=energy)
    options = {"xatol": 1e-3, "fatol": 1e-3, "maxiter": 300}
    found = scipy.optimize.minimize(energy, best, method="Nelder-Mead", options=options).x
    shape = torch.tensor([[*found[2:], *([] if oblong else [0.0, 0.0])]], dtype=torch.float32)
    return gaussian_from_log_covariance(shape, size)[0]
