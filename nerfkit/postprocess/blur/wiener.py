"""The x-step in closed form: the sharp image of least squared error under a Gaussian prior.

Images are taken as stationary Gaussian with the power spectrum of photographs, S(f) = 1 / (f^2 +
f0^2) up to a factor, and y = (x * k) reduced s times + white noise. Reduction folds the spectrum:
frequencies that differ by a multiple of 1/s become one. With H the transfer function of blur and
bicubic filter, F the fold (mean over the s^2 aliases) and noise the variance of y's noise over the
factor of S,

    x = z + ifft( S H* tile( (Y - F[H Z]) / (F[S |H|^2] + noise) ) ),

the minimiser of |y - (x * k) reduced|^2 + noise |(x - z)|^2_(1/S): the closed form of Zhao et al.
2016 (doi 10.1109/TIP.2016.2567075), with a prior that has a spectrum. It is the data step of USRNet
(arXiv 2003.10428). Everything is differentiable in y, z and k.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from nerfkit.postprocess.blur.forward import transfer_function

# Best of 1e-3, 3e-3, 1e-2, 3e-2 on ten 8-bit images of T91 and BSDS400, x2 and x4 (33.5, 28.4 dB).
NOISE = 1e-2
LOWEST = 1 / 256  # f0, cycles a pixel: larger structures than this are not punished less
PAD = 12  # pixels of y mirrored round it, so that the period of the FFT does not show


def wiener_restore(
    y: Tensor,
    kernel: Tensor,
    scale: int,
    noise: float = NOISE,
    guess: Tensor | None = None,
) -> Tensor:
    """The sharp image behind y [B, C, h, w]: [B, C, scale h, scale w].

    Args:
        kernel: [B, size, size] or [size, size].
        noise: variance of y's noise over the variance of an image's gradient per pixel, roughly;
            larger is smoother.
        guess: z, the image [B, C, scale h, scale w] to stay close to; flat grey where left out.
    """
    height, width = y.shape[-2:]
    size = kernel.shape[-1]
    pad = _padding(height, width, size, scale)
    mean = y.mean((-2, -1), keepdim=True)
    y = _extend(y - mean, pad)
    rows, columns = y.shape[-2] * scale, y.shape[-1] * scale
    kernels = kernel if kernel.dim() == 2 else kernel[:, None]
    response = transfer_function(kernels, scale, rows, columns)
    prior = image_spectrum(rows, columns).to(y)
    residual = torch.fft.fft2(y)
    if guess is not None:
        z = _extend(guess - mean, pad * scale)
        residual = residual - fold(response * torch.fft.fft2(z), scale)
    # F[S |H|^2] is the variance of y at that frequency if y = S-coloured noise through H
    ratio = residual / (fold(prior * response.abs().square(), scale) + noise)
    x = torch.fft.ifft2(prior * response.conj() * ratio.repeat(1, 1, scale, scale)).real
    if guess is not None:
        x = x + z
    inner = slice(pad * scale, -pad * scale or None)
    return x[..., inner, inner] + mean


def fold(spectrum: Tensor, scale: int) -> Tensor:
    """Spectrum of every scale-th pixel: [..., s h, s w] -> [..., h, w], the mean over aliases."""
    height, width = spectrum.shape[-2] // scale, spectrum.shape[-1] // scale
    return spectrum.reshape(*spectrum.shape[:-2], scale, height, scale, width).mean((-4, -2))


def image_spectrum(height: int, width: int) -> Tensor:
    """S(f) of photographs up to a factor, [height, width] in FFT order."""
    fy, fx = torch.fft.fftfreq(height), torch.fft.fftfreq(width)
    return 1 / (fy[:, None].square() + fx.square() + LOWEST**2)


def _padding(height: int, width: int, size: int, scale: int) -> int:
    """Enough that the filter fits, and no more than mirroring can give."""
    needed = max(PAD, -(-(size + 4 * scale - min(height, width) * scale) // (2 * scale)))
    if needed > min(height, width):
        raise ValueError(
            f"image of {height}x{width} is too small for a kernel of {size} at x{scale}"
        )
    return needed


def _extend(x: Tensor, pad: int) -> Tensor:
    return (
        F.pad(x, (pad, pad, pad, pad), mode="reflect")
        if pad < min(x.shape[-2:])
        else F.pad(x, (pad, pad, pad, pad), mode="replicate")
    )
