"""Kernels of a known family, fitted to the equations of `blur.pairs`; and the choice among them.

Where y is noisy, 441 free entries follow the noise; a Gaussian has three numbers, a motion two, a
disk one. Which family describes the data is decided by Schwarz's criterion (BIC),
n log(RSS / n) + parameters log n, with the free solution's effective parameters.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.optimize
import torch
from torch import Tensor

from nerfkit.postprocess.blur.kernels import (
    disk_kernel,
    gaussian_from_log_covariance,
    motion_kernel,
)
from nerfkit.postprocess.blur.pairs import KernelSystem, solve_free

Shape = Literal["gaussian", "motion", "disk", "free"]


@dataclass(frozen=True)
class KernelFit:
    """A kernel and where it comes from.

    Attributes:
        shape: its family.
        kernel: [size, size].
        parameters: the family's own, by name; pixels and radians.
        residual_rms: of the pixels of y, in 0..1.
        criterion: Schwarz's; smaller is better.
    """

    shape: Shape
    kernel: Tensor
    parameters: dict[str, float]
    residual_rms: float
    criterion: float


def fit_gaussian(system: KernelSystem) -> KernelFit:
    """Any oblong Gaussian: start from the best round one, then three numbers."""
    log_variance = 2 * torch.linspace(math.log(0.2), math.log(system.size / 4), 40)
    starts = torch.stack([log_variance, *torch.zeros(2, 40)], dim=1)
    shape, kernel = _fit(system, lambda p: gaussian_from_log_covariance(p, system.size), starts)
    m, a, b = shape
    stretch = math.hypot(a, b)
    parameters = {
        "sigma_long": math.exp((m + stretch) / 2),
        "sigma_short": math.exp((m - stretch) / 2),
        "angle": 0.5 * math.atan2(b, a) % math.pi,
    }
    return _scored(system, "gaussian", kernel, parameters, 3)


def fit_motion(system: KernelSystem) -> KernelFit:
    """A straight line of any length and direction."""
    lengths = torch.arange(2.0, system.size, 1.5)
    angles = torch.arange(24) * math.pi / 24
    starts = torch.cartesian_prod(lengths, angles)
    (length, angle), kernel = _fit(
        system, lambda p: motion_kernel(p[:, 0].clamp(1, system.size), p[:, 1], system.size), starts
    )
    parameters = {"length": min(max(1.0, length), system.size), "angle": angle % math.pi}
    return _scored(system, "motion", kernel, parameters, 2)


def fit_disk(system: KernelSystem) -> KernelFit:
    """A disk of any radius."""
    starts = torch.linspace(0.3, system.size / 2, 40)[:, None]
    (radius,), kernel = _fit(
        system, lambda p: disk_kernel(p[:, 0].clamp_min(0.3), system.size), starts
    )
    return _scored(system, "disk", kernel, {"radius": max(0.3, radius)}, 1)


def fit_free(system: KernelSystem) -> KernelFit:
    """No family: `solve_free`, scored by its effective parameters."""
    free = solve_free(system)
    return _scored(system, "free", free.kernel, {"smoothing": free.smoothing}, free.freedom)


FITS: dict[Shape, Callable[[KernelSystem], KernelFit]] = {
    "gaussian": fit_gaussian,
    "motion": fit_motion,
    "disk": fit_disk,
    "free": fit_free,
}


def fit_best(system: KernelSystem) -> KernelFit:
    """The fit of smallest criterion over all families."""
    return min((fit(system) for fit in FITS.values()), key=lambda fit: fit.criterion)


def _fit(
    system: KernelSystem, kernels: Callable[[Tensor], Tensor], starts: Tensor
) -> tuple[list[float], Tensor]:
    """Best of `starts` [N, P], improved by Nelder and Mead's simplex: (parameters, kernel).

    A simplex and not a gradient: the families have kinks, and an evaluation costs a millisecond.
    """
    best = starts[system.residual(kernels(starts)).argmin()].numpy().astype(float)

    def loss(parameters: np.ndarray) -> float:
        candidate = torch.tensor(parameters, dtype=torch.float32)[None]
        return float(system.residual(kernels(candidate))[0])

    options = {"xatol": 1e-4, "fatol": 1e-12 * system.energy, "maxiter": 400}
    found = scipy.optimize.minimize(loss, best, method="Nelder-Mead", options=options).x
    return found.tolist(), kernels(torch.tensor(found, dtype=torch.float32)[None])[0]


def _scored(
    system: KernelSystem, shape: Shape, kernel: Tensor, parameters: dict[str, float], freedom: float
) -> KernelFit:
    mean_square = max(float(system.residual(kernel)), 0.0) / system.count
    criterion = system.count * math.log(mean_square + 1e-300) + freedom * math.log(system.count)
    return KernelFit(shape, kernel, parameters, math.sqrt(mean_square), criterion)
