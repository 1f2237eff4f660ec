"""Bicubic resizing as MATLAB's `imresize` does it: the convention of super-resolution benchmarks.

Down-sampling is antialiased: the kernel is stretched by 1 / scale (Keys 1981, a = -1/2). Output
pixel u (1-based) lies at u / scale + (1 - 1 / scale) / 2 in input pixels, so the outer edges of
both images coincide; beyond the border the image is mirrored with its edge pixel repeated. Arrays
are [H, W] or [H, W, C].
"""

import functools
import math

import numpy as np
import torch
from torch import Tensor


def cubic(x: np.ndarray) -> np.ndarray:
    """Keys' cubic convolution kernel with a = -1/2, support [-2, 2]."""
    x = np.abs(x)
    inner = 1.5 * x**3 - 2.5 * x**2 + 1
    outer = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, inner, np.where(x <= 2, outer, 0.0))


@functools.lru_cache(maxsize=64)
def contributions(
    size: int, out_size: int, scale: float, antialias: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Which input pixels make each output pixel: (weights, indices), both [out_size, taps].

    Follows `contributions` of MATLAB's imresize.m; weights are fp64 and sum to one.
    """
    shrink = scale if antialias and scale < 1 else 1.0
    width = 4.0 / shrink
    centres = np.arange(1, out_size + 1) / scale + 0.5 * (1 - 1 / scale)
    left = np.floor(centres - width / 2)
    taps = math.ceil(width) + 2
    positions = left[:, None] + np.arange(taps)
    weights = shrink * cubic(shrink * (centres[:, None] - positions))
    weights /= weights.sum(1, keepdims=True)
    mirror = np.concatenate([np.arange(size), np.arange(size - 1, -1, -1)])
    indices = mirror[np.mod(positions.astype(np.int64) - 1, mirror.size)]
    used = np.any(weights != 0, axis=0)
    return weights[:, used], indices[:, used]


def imresize(
    image: np.ndarray,
    scale: float | None = None,
    size: tuple[int, int] | None = None,
    antialias: bool = True,
) -> np.ndarray:
    """`imresize(image, scale)` of MATLAB, bicubic.

    Args:
        image: uint8 or uint16, or floating point of any range, [H, W] or [H, W, C].
        scale: Factor of both sides; the output has ceil(side * scale) pixels.
        size: Instead of `scale`, the (height, width) of the output.
        antialias: Stretch the kernel when shrinking.

    Returns:
        The dtype of `image`. Integers are rounded and clipped after each of the two passes, as
        MATLAB does; floating point is neither.

    Raises:
        ValueError: not exactly one of `scale` and `size`.
    """
    if (scale is None) == (size is None):
        raise ValueError(f"want one of `scale` and `size`, got {scale!r} and {size!r}")
    height, width = image.shape[:2]
    if size is None:
        size = (math.ceil(height * scale), math.ceil(width * scale))
        scales = (scale, scale)
    else:
        scales = (size[0] / height, size[1] / width)
    # MATLAB goes along the side that shrinks most first
    for axis in sorted((0, 1), key=lambda i: scales[i]):
        image = _along(image, axis, size[axis], scales[axis], antialias)
    return image


def _along(
    image: np.ndarray, axis: int, out_size: int, scale: float, antialias: bool
) -> np.ndarray:
    if image.shape[axis] == out_size and scale == 1:
        return image
    weights, indices = contributions(image.shape[axis], out_size, scale, antialias)
    precision = image.dtype if image.dtype == np.float32 else np.float64
    ones = (1,) * (image.ndim - axis - 1)
    out = 0.0
    for tap in range(weights.shape[1]):
        weight = weights[:, tap].astype(precision).reshape(-1, *ones)
        out = out + weight * image.take(indices[:, tap], axis)
    if np.issubdtype(image.dtype, np.integer):
        out = np.floor(np.clip(out, 0, np.iinfo(image.dtype).max) + 0.5)
    return out.astype(image.dtype)


@functools.lru_cache(maxsize=8)
def upscale_taps(scale: int) -> Tensor:
    """Bicubic enlargement as a convolution: fp32 [scale², 1, 5, 5] for `pixel_shuffle`.

    Channel i * scale + j makes the output pixels at row i, column j of each block; away from the
    border it equals `imresize(image, scale)`.
    """
    weights, indices = contributions(11, 11 * scale, float(scale))
    line = np.zeros((scale, 5))
    for phase in range(scale):  # the block of input pixel 5, far from both borders
        for weight, index in zip(
            weights[5 * scale + phase], indices[5 * scale + phase], strict=True
        ):
            if weight:
                line[phase, index - 3] += weight
    taps = np.einsum("iy,jx->ijyx", line, line).reshape(scale * scale, 1, 5, 5)
    return torch.from_numpy(taps).float()


def mirror(x: Tensor, before: int, after: int, dim: int) -> Tensor:
    """Pad one dimension by mirroring, the edge pixel repeated, as imresize does."""
    size = x.shape[dim]
    around = torch.arange(-before, size + after, device=x.device) % (2 * size)
    return x.index_select(dim, torch.where(around < size, around, 2 * size - 1 - around))
