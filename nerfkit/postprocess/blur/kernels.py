"""Families of blur kernels: Gaussian (round and oblong), motion, disk.

A kernel is [..., size, size], non-negative, of sum 1, `size` odd; entry (row i, column j) weighs
the pixel (i - size // 2, j - size // 2) away: y[p] = sum_d k[d] x[p + d], a correlation, as in
the code and the kernel files of super-resolution (KernelGAN, DAN). Lengths are pixels of the
sharp image; angles are radians from the +X axis (to the right) towards +Y (downwards).
"""

import math
from typing import Literal, get_args

import torch
from torch import Tensor

Family = Literal["isotropic", "anisotropic", "motion", "disk"]
SIZE = 21  # side of the kernels of IKC (arXiv 1904.03377), DAN and all that follow them


def offsets(size: int) -> tuple[Tensor, Tensor]:
    """(dx, dy), each [size, size] float32: where each entry of a kernel looks, in pixels."""
    if size < 1 or size % 2 == 0:
        raise ValueError(f"`size` must be odd and positive, got {size}")
    steps = torch.arange(size, dtype=torch.float32) - size // 2
    dy, dx = torch.meshgrid(steps, steps, indexing="ij")
    return dx, dy


def delta_kernel(size: int = SIZE) -> Tensor:
    """[size, size]: no blur at all."""
    kernel = torch.zeros(size, size)
    kernel[size // 2, size // 2] = 1
    return kernel


def gaussian_kernel(
    sigma_x: Tensor | float,
    sigma_y: Tensor | float | None = None,
    angle: Tensor | float = 0.0,
    size: int = SIZE,
) -> Tensor:
    """exp(-r^T C^-1 r / 2), normalised, C = R(angle) diag(sigma_x^2, sigma_y^2) R(angle)^T.

    Args:
        sigma_x: [...] standard deviation along the axis at `angle`.
        sigma_y: [...] across it; equal to sigma_x where left out.
        angle: [...] radians.

    Returns:
        [..., size, size]; differentiable in all three.
    """
    sigma_x = torch.as_tensor(sigma_x)
    along, across = _rotated(angle, size)
    sigma_y = sigma_x if sigma_y is None else torch.as_tensor(sigma_y)
    exponent = (along / sigma_x[..., None, None]).square() + (
        across / sigma_y[..., None, None]
    ).square()
    return _softmax(-0.5 * exponent)


def gaussian_from_log_covariance(shape: Tensor, size: int = SIZE) -> Tensor:
    """Gaussian kernels of covariance C = exp [[m + a, b], [b, m - a]], a matrix exponential.

    Any (m, a, b) is a covariance, and any covariance has one (m, a, b): no angle that jumps.

    Args:
        shape: [B, 3] (m, a, b); m = 2 log sigma for a round one.

    Returns:
        [B, size, size].
    """
    m, a, b = shape.clamp(-6, 6).unbind(-1)
    q = (a.square() + b.square() + 1e-12).sqrt()
    even = torch.exp(-m) * torch.cosh(q)
    odd = torch.exp(-m) * torch.sinh(q) / q
    dx, dy = (d.to(shape) for d in offsets(size))
    return _softmax(
        -0.5
        * (
            (even - odd * a)[:, None, None] * dx.square()
            + (even + odd * a)[:, None, None] * dy.square()
            - 2 * (odd * b)[:, None, None] * dx * dy
        )
    )


def motion_kernel(length: Tensor | float, angle: Tensor | float, size: int = SIZE) -> Tensor:
    """A straight line of that length through the centre, one pixel thick, soft at the edges.

    An entry weighs 1 - its distance from the segment, where that is positive: MATLAB's
    fspecial('motion').

    Args:
        length: [...] pixels.
        angle: [...] radians.
    """
    along, across = _rotated(angle, size)
    beyond = (
        along.abs() - 0.5 * (torch.as_tensor(length)[..., None, None] - 1).clamp_min(0)
    ).relu()
    return _normalised((1 - (beyond.square() + across.square()).sqrt()).relu())


def disk_kernel(radius: Tensor | float, size: int = SIZE) -> Tensor:
    """A disk, the blur of a lens out of focus; pixels on the rim weigh what lies inside.

    Args:
        radius: [...] pixels.
    """
    dx, dy = offsets(size)
    distance = (dx.square() + dy.square()).sqrt()
    return _normalised((torch.as_tensor(radius)[..., None, None] + 0.5 - distance).clamp(0, 1))


def random_kernels(
    family: Family,
    count: int,
    scale: int,
    generator: torch.Generator,
    size: int = SIZE,
) -> Tensor:
    """Kernels as the blind super-resolution literature draws them.

    Isotropic: sigma uniform in 0.2 .. scale (IKC, arXiv 1904.03377). Anisotropic: both sigmas in
    0.6 .. 1 + scale, any angle (DAN's setting 2, arXiv 2010.02631). Motion: length 3 .. 3 scale +
    5, any angle. Disk: radius 0.5 .. 1.5 scale.

    Returns:
        [count, size, size].
    """

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    if family == "isotropic":
        return gaussian_kernel(uniform(0.2, scale), size=size)
    if family == "anisotropic":
        first, second = uniform(0.6, 1 + scale), uniform(0.6, 1 + scale)
        return gaussian_kernel(first, second, uniform(0, math.pi), size)
    if family == "motion":
        return motion_kernel(uniform(3, 3 * scale + 5), uniform(0, math.pi), size)
    if family == "disk":
        return disk_kernel(uniform(0.5, 1.5 * scale), size)
    raise ValueError(f"`family` must be one of {get_args(Family)}, got {family!r}")


def gaussian8(scale: int, size: int = SIZE) -> Tensor:
    """The eight round kernels of the Gaussian8 test (IKC, arXiv 1904.03377): [8, size, size].

    Sigmas evenly spaced over 0.8-1.6 (x2), 1.35-2.4 (x3), 1.8-3.2 (x4).
    """
    spans = {2: (0.8, 1.6), 3: (1.35, 2.4), 4: (1.8, 3.2)}
    if scale not in spans:
        raise ValueError(f"`scale` must be one of {tuple(spans)}, got {scale}")
    return gaussian_kernel(torch.linspace(*spans[scale], 8), size=size)


def _rotated(angle: Tensor | float, size: int) -> tuple[Tensor, Tensor]:
    """Offsets along and across an axis at `angle` [...]; each [..., size, size]."""
    dx, dy = offsets(size)
    angle = torch.as_tensor(angle)[..., None, None]
    cos, sin = torch.cos(angle), torch.sin(angle)
    return cos * dx + sin * dy, cos * dy - sin * dx


def _normalised(kernel: Tensor) -> Tensor:
    return kernel / kernel.sum((-2, -1), keepdim=True)


def _softmax(exponent: Tensor) -> Tensor:
    """Unlike exp and a division, safe where all but the centre underflows."""
    return torch.softmax(exponent.flatten(-2), dim=-1).unflatten(-1, exponent.shape[-2:])
