"""How far an estimated kernel is from the true one.

The usual figure, 10 log10(1 / MSE), flatters: kernels sum to one and are mostly zero, so that the
mean kernel of a whole test set scores about 50 dB. Here the peak is the largest entry of the true
kernel, centroids are aligned first (a shift of the kernel is a shift of the image, nothing a blind
method can know), and `mean_kernel_floor` gives the score that knowing nothing earns.
"""

import math

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from nerfkit.postprocess.blur.kernels import offsets

LARGEST_PSNR = 100.0  # an exact kernel has infinite PSNR, which JSON cannot hold
NO_SHIFT = 0.02  # pixels: below it, interpolating would cost more than the shift does


def centroid(kernel: Tensor) -> tuple[float, float]:
    """(x, y) of the centre of mass, pixels from the middle entry."""
    dx, dy = offsets(kernel.shape[-1])
    weights = (kernel / kernel.sum()).double()
    return float((weights * dx).sum()), float((weights * dy).sum())


def shifted(kernel: Tensor, x: float, y: float) -> Tensor:
    """The kernel moved by (x, y) pixels, cubic splines between them, of sum one again."""
    if max(abs(x), abs(y)) < NO_SHIFT:
        return kernel
    moved = ndimage.shift(kernel.double().numpy(), (y, x), order=3, mode="constant")
    moved = torch.from_numpy(np.maximum(moved, 0)).to(kernel)
    return moved / moved.sum()


def kernel_psnr(kernel: Tensor, truth: Tensor) -> float:
    """dB of `kernel` [size, size] against `truth` of the same size; at most 100."""
    if kernel.shape != truth.shape:
        raise ValueError(
            f"`kernel` must have the shape of `truth`, {tuple(truth.shape)}, "
            f"got {tuple(kernel.shape)}"
        )
    (x, y), (true_x, true_y) = centroid(kernel), centroid(truth)
    aligned = shifted(kernel, true_x - x, true_y - y)
    error = (aligned.double() - truth.double()).square().mean().sqrt() / truth.double().max()
    return min(LARGEST_PSNR, -20 * math.log10(max(error.item(), 1e-10)))


def mean_kernel_floor(truths: Tensor) -> list[float]:
    """PSNR of the mean of `truths` [N, size, size] against each: the floor to beat.

    The mean of the very kernels tested is the best constant answer there is, in squared error.
    """
    mean = truths.mean(0)
    return [kernel_psnr(mean, truth) for truth in truths]


def width_of(kernel: Tensor) -> float:
    """Standard deviation in pixels, averaged over directions: sqrt(trace of covariance / 2)."""
    dx, dy = offsets(kernel.shape[-1])
    x, y = centroid(kernel)
    weights = (kernel / kernel.sum()).double()
    return math.sqrt(max(0.0, float((weights * ((dx - x) ** 2 + (dy - y) ** 2)).sum()) / 2))
