"""Blind kernel estimation without any training: alternate over x and k (arXiv 2010.02631, eq. 2).

    x_i     = argmin_x |y - (x * k_i) reduced|^2 + noise |grad x - g|^2,  g = strong gradients of x
    k_{i+1} = argmin_k |grad y - (grad x_i * k) reduced|^2 + phi(k)

The x-step keeps gradients above a threshold and flattens the others (half-quadratic splitting of
an l0 prior, Xu, Lu, Xu, Jia 2011 and Pan et al. 2014): edges come out sharper than any blur made
them, which is what keeps the alternation from the trivial answer, no blur. The threshold falls
from one turn to the next. phi is a family of `blur.priors`. k_0 is the spectral guess.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from nerfkit.postprocess.blur.kernels import SIZE
from nerfkit.postprocess.blur.measure import centroid, shifted
from nerfkit.postprocess.blur.pairs import KernelSystem
from nerfkit.postprocess.blur.priors import FITS, KernelFit, Shape
from nerfkit.postprocess.blur.spectral import spectral_gaussian
from nerfkit.postprocess.blur.wiener import wiener_restore

TURNS = 8
SPLITS = 4  # rounds of flattening and restoring in one x-step
STRONG, WEAK = 0.10, 0.03  # gradients kept in the first and in the last turn, 0..1 a pixel
STIFFNESS = (0.02, 0.3)  # pull towards the flattened image, first and last split


def estimate_blind(
    images: Sequence[Tensor],
    scale: int,
    family: Shape = "gaussian",
    turns: int = TURNS,
    size: int = SIZE,
    start: Tensor | None = None,
) -> KernelFit:
    """The kernel that blurred `images`, the same for all.

    Args:
        images: luma of y, [h, w] each in 0..1, at least 48 pixels a side.
        scale: by which they were reduced; 1 for blur alone.
        family: what k may be.
        turns: of the alternation.
        start: k_0 [size, size]; the spectral guess where left out.
    """
    kernel = spectral_gaussian(images, scale, size=size) if start is None else start
    fit = None
    for turn in range(turns):
        along = turn / max(1, turns - 1)
        threshold = STRONG * (WEAK / STRONG) ** along
        system = KernelSystem(scale, size)
        for y in images:
            add_gradients(system, sparse_restore(y, kernel, scale, threshold), y)
        fit = FITS[family](system)
        x, y = centroid(fit.kernel)
        kernel = shifted(fit.kernel, -x, -y)
    return KernelFit(fit.shape, kernel, fit.parameters, fit.residual_rms, fit.criterion)


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
