"""The forward model of blind super-resolution, y = (x * k) reduced s times, and its pieces.

x [B, C, H, W] is sharp, k [B, size, size] or [size, size] a kernel of `blur.kernels`, y [B, C,
H / s, W / s]. The reduction is MATLAB's antialiased bicubic one (imresize), which for a whole
factor s is one fixed filter taken at every s-th pixel: out[i] = sum_d taps[d] x[s i + d].
"""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from nerfkit.postprocess.resize import cubic, mirror


@functools.cache
def bicubic_taps(scale: int) -> tuple[int, Tensor]:
    """(first, taps): the weights of x[s i + first], x[s i + first + 1], ... in one dimension.

    Keys' cubic (a = -1/2) stretched `scale` times, as in MATLAB's imresize; scale 1: the identity.
    """
    if scale < 1:
        raise ValueError(f"`scale` must be a positive whole number, got {scale}")
    if scale == 1:
        return 0, torch.ones(1)
    centre = (scale - 1) / 2  # of output pixel 0, in input pixels
    first = -int(2 * scale - centre - 0.5)
    where = torch.arange(first, scale - first, dtype=torch.float64)
    taps = torch.from_numpy(cubic(((where - centre) / scale).numpy()))
    return first, (taps / taps.sum()).float()


def blur(x: Tensor, kernel: Tensor) -> Tensor:
    """Correlate each image with its kernel; edges are mirrored without repeating the edge pixel."""
    batch, channels, height, width = x.shape
    size = kernel.shape[-1]
    kernels = kernel.expand(batch, size, size).to(x.dtype)
    pad = size // 2
    planes = F.pad(x.transpose(0, 1), (pad, pad, pad, pad), mode="reflect")
    out = F.conv2d(planes, kernels[:, None], groups=batch)
    return out.reshape(channels, batch, height, width).transpose(0, 1)


def bicubic_downscale(x: Tensor, scale: int) -> Tensor:
    """MATLAB's imresize(x, 1 / scale) for a whole scale that divides height and width."""
    if x.shape[-1] % scale or x.shape[-2] % scale:
        raise ValueError(f"`x` must have sides that are multiples of {scale}, got {tuple(x.shape)}")
    if scale == 1:
        return x
    first, taps = bicubic_taps(scale)
    taps = taps.to(x)
    before, after = -first, len(taps) + first - scale
    planes = x.reshape(-1, 1, *x.shape[-2:])
    planes = F.conv2d(
        mirror(planes, before, after, 2), taps[:, None][None, None], stride=(scale, 1)
    )
    planes = F.conv2d(mirror(planes, before, after, 3), taps[None, None, None], stride=(1, scale))
    return planes.reshape(*x.shape[:-2], *planes.shape[-2:])


def degrade(x: Tensor, kernel: Tensor, scale: int) -> Tensor:
    """(x * kernel) reduced `scale` times: [B, C, H, W] -> [B, C, H / scale, W / scale]."""
    return bicubic_downscale(blur(x, kernel), scale)


def transfer_function(kernel: Tensor, scale: int, height: int, width: int) -> Tensor:
    """[..., height, width] complex H(f): with it, y = every scale-th pixel of ifft(H fft(x)).

    That is `degrade` of a periodic image of height x width (of x, not of y).
    """
    first, taps = bicubic_taps(scale)
    size = kernel.shape[-1]
    if min(height, width) < size + len(taps) - 1:
        raise ValueError(
            f"image of {height}x{width} is smaller than the filter, {size + len(taps) - 1} pixels"
        )
    reach = size // 2
    spectrum = torch.fft.fft2(_at_origin(kernel, height, width, -reach, -reach))
    for length, dim in ((height, -2), (width, -1)):
        line = torch.zeros(length).to(kernel)
        line[: len(taps)] = taps.to(kernel)
        response = torch.fft.fft(torch.roll(line, first))
        spectrum = spectrum * (response[:, None] if dim == -2 else response)
    return spectrum.conj()  # a correlation, not a convolution


def _at_origin(kernel: Tensor, height: int, width: int, top: int, left: int) -> Tensor:
    padded = F.pad(kernel, (0, width - kernel.shape[-1], 0, height - kernel.shape[-2]))
    return torch.roll(padded, (top, left), dims=(-2, -1))
