"""Blind kernel estimation without any training.

The alternation of arXiv 2010.02631, equation 2, over x and k:

    x_i     = argmin_x |y - (x * k_i) reduced|^2 + noise |grad x - g|^2,  g = strong gradients of x
    k_{i+1} = argmin_k |grad y - (grad x_i * k) reduced|^2 + phi(k)

The x-step keeps gradients above a threshold and flattens the others (half-quadratic splitting of
an l0 prior, Xu, Lu, Xu, Jia 2011 and Pan et al. 2014); the threshold falls from turn to turn.

Left to itself the alternation shrinks the kernel, turn by turn, down to no blur: restored edges are
never quite as sharp as the true ones (Levin et al. 2009, doi 10.1109/CVPR.2009.5206815, show it of
any joint maximum). What it finds well is the kernel's direction and ratio of axes. So phi leaves
those two to the edges, and sets the width by maximum marginal likelihood, with x integrated out
(`blur.spectral`). For families that spectra tell completely, and by default, the marginal
likelihood answers alone.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from nerfkit.postprocess.blur.kernels import SIZE
from nerfkit.postprocess.blur.pairs import KernelSystem
from nerfkit.postprocess.blur.priors import fit_gaussian
from nerfkit.postprocess.blur.spectral import spectral_best, spectral_fit
from nerfkit.postprocess.blur.wiener import wiener_restore

BlindFamily = Literal["round", "gaussian", "motion", "disk", "edges"]

TURNS = 4
SPLITS = 4  # rounds of flattening and restoring in one x-step
STRONG, WEAK = 0.10, 0.03  # gradients kept in the first and in the last turn, 0..1 a pixel
STIFFNESS = (0.02, 0.3)  # pull towards the flattened image, first and last split
WIDEST_RATIO = 4.0  # of a Gaussian's axes


def estimate_blind(
    images: Sequence[Tensor],
    scale: int,
    family: BlindFamily | None = None,
    size: int = SIZE,
) -> tuple[BlindFamily, Tensor]:
    """The kernel [size, size] that blurred `images`, the same for all, and its family.

    Args:
        images: luma of y, [h, w] each in 0..1, at least 48 pixels a side.
        scale: by which they were reduced; 1 for blur alone.
        family: what k may be: by spectra round, gaussian, motion or disk, the likeliest of them
            where left out; "edges" for a Gaussian by the alternation.
    """
    if family == "edges":
        return family, alternate(images, scale, size=size)
    if family is None:
        family, fit = spectral_best(images, scale, size)
        return family, fit.kernel
    return family, spectral_fit(images, scale, family, size).kernel


def alternate(images: Sequence[Tensor], scale: int, turns: int = TURNS, size: int = SIZE) -> Tensor:
    """A Gaussian kernel [size, size] by turns of x and k; k_0 is the likeliest round one."""
    kernel = spectral_fit(images, scale, "round", size).kernel
    for turn in range(turns):
        threshold = STRONG * (WEAK / STRONG) ** (turn / max(1, turns - 1))
        system = KernelSystem(scale, size)
        for y in images:
            add_gradients(system, sparse_restore(y, kernel, scale, threshold), y)
        found = fit_gaussian(system).parameters
        ratio = found["sigma_long"] / max(found["sigma_short"], 1e-3)
        log_ratio = math.log(min(ratio, WIDEST_RATIO))
        way = 2 * found["angle"]
        stretch = (log_ratio * math.cos(way), log_ratio * math.sin(way))
        kernel = spectral_fit(images, scale, "round", size, stretch).kernel
    return kernel


def sparse_restore(y: Tensor, kernel: Tensor, scale: int, threshold: float) -> Tensor:
    """x-step: y [h, w] -> [s h, s w], flat but for gradients above `threshold`."""
    image = y[None, None]
    x = wiener_restore(image, kernel, scale)
    first, last = STIFFNESS
    for split in range(SPLITS):
        flat = flatten(x, threshold)
        stiffness = first * (last / first) ** (split / (SPLITS - 1))
        x = wiener_restore(image, kernel, scale, noise=stiffness, guess=flat)
    return flatten(x, threshold)[0, 0]


def flatten(x: Tensor, threshold: float) -> Tensor:
    """argmin_z |grad z - g|^2 with g = grad x where |grad x| > threshold, else 0.

    Poisson's equation with mirrored edges, solved by a Fourier transform of the mirrored image.
    """
    height, width = x.shape[-2:]
    whole = torch.cat([x, x.flip(-1)], dim=-1)
    whole = torch.cat([whole, whole.flip(-2)], dim=-2)
    dx = whole.roll(-1, -1) - whole
    dy = whole.roll(-1, -2) - whole
    strong = (dx.square() + dy.square()).sqrt() > threshold
    dx, dy = dx * strong, dy * strong
    divergence = dx - dx.roll(1, -1) + dy - dy.roll(1, -2)
    wx = 2 - 2 * torch.cos(2 * torch.pi * torch.fft.fftfreq(2 * width))
    wy = 2 - 2 * torch.cos(2 * torch.pi * torch.fft.fftfreq(2 * height))
    eigenvalues = (wx + wy[:, None]).to(x)
    eigenvalues[0, 0] = 1
    spectrum = -torch.fft.fft2(divergence) / eigenvalues
    spectrum[..., 0, 0] = torch.fft.fft2(whole)[..., 0, 0]
    return torch.fft.ifft2(spectrum).real[..., :height, :width]


def add_gradients(system: KernelSystem, x: Tensor, y: Tensor) -> None:
    """Equations for differences of neighbouring pixels of y, across and down."""
    s = system.scale
    system.add(x[:, s:] - x[:, :-s], y[:, 1:] - y[:, :-1])
    system.add(x[s:] - x[:-s], y[1:] - y[:-1])
