"""The forward model and its closed-form inverse."""

import pytest
import torch
from scipy import ndimage

from nerfkit.postprocess.blur import forward
from nerfkit.postprocess.blur.kernels import delta_kernel, gaussian_kernel
from nerfkit.postprocess.blur.wiener import image_spectrum, wiener_restore


def image(height: int, width: int, seed: int = 0) -> torch.Tensor:
    """[1, 1, height, width]: smooth noise with a photograph's spectrum, about 0..1."""
    white = torch.randn(height, width, generator=torch.Generator().manual_seed(seed))
    x = torch.fft.ifft2(torch.fft.fft2(white) * image_spectrum(height, width).sqrt()).real
    return (0.5 + 0.15 * (x - x.mean()) / x.std())[None, None]


def test_blur_is_a_correlation_mirrored_at_the_edges():
    x = torch.rand(2, 3, 24, 20)
    kernels = torch.rand(2, 5, 5)
    out = forward.blur(x, kernels)
    wanted = ndimage.correlate(x[1, 2].numpy(), kernels[1].numpy(), mode="mirror")
    torch.testing.assert_close(out[1, 2], torch.from_numpy(wanted))


# Weights of MATLAB's imresize at 1/2: the cubic at odd quarters, stretched twice.
def test_bicubic_taps_are_matlabs():
    first, taps = forward.bicubic_taps(2)
    assert first == -3
    wanted = torch.tensor([-3, -9, 29, 111, 111, 29, -9, -3]) / 256
    torch.testing.assert_close(taps, wanted)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_downscale_keeps_straight_lines(scale):
    ramp = torch.arange(24 * scale, dtype=torch.float32).expand(1, 1, 24 * scale, -1)
    out = forward.bicubic_downscale(ramp, scale)
    centres = scale * torch.arange(24) + (scale - 1) / 2
    # two pixels at the edges see the mirrored ramp
    torch.testing.assert_close(out[0, 0, 5, 2:-2], centres[2:-2], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_transfer_function_is_the_forward_model(scale):
    side = 40 * scale
    x = torch.rand(1, 1, side, side)
    kernel = torch.rand(21, 21)
    kernel /= kernel.sum()
    response = forward.transfer_function(kernel, scale, side, side)
    periodic = torch.fft.ifft2(response * torch.fft.fft2(x)).real[..., ::scale, ::scale]
    inner = slice(14, -14)
    torch.testing.assert_close(
        periodic[..., inner, inner],
        forward.degrade(x, kernel, scale)[..., inner, inner],
        rtol=0,
        atol=3e-6,  # worst 5e-7
    )


@pytest.mark.parametrize("scale", [2, 4])
def test_wiener_beats_assuming_no_blur(scale):
    x = image(48 * scale, 40 * scale)
    kernel = gaussian_kernel(0.7 * scale)
    y = forward.degrade(x, kernel, scale)
    error = (wiener_restore(y, kernel, scale) - x).square().mean().sqrt()
    ignorant = (wiener_restore(y, delta_kernel(), scale) - x).square().mean().sqrt()
    assert error < 0.9 * ignorant  # 0.83: phases are random, there are no edges to gain


def test_wiener_minimises_its_objective():
    # a gradient of zero, at the answer, of |y - A x|^2 / s^2 ... on a periodic image
    scale, side = 2, 32
    kernel = gaussian_kernel(1.2, size=9)
    response = forward.transfer_function(kernel, scale, side, side)
    prior = image_spectrum(side, side)
    y = image(side // scale, side // scale, seed=3)
    z = image(side, side, seed=4)
    noise = 0.02
    from nerfkit.postprocess.blur.wiener import fold

    residual = torch.fft.fft2(y) - fold(response * torch.fft.fft2(z), scale)
    ratio = residual / (fold(prior * response.abs().square(), scale) + noise)
    change = torch.fft.ifft2(prior * response.conj() * ratio.repeat(1, 1, scale, scale)).real
    x = (z + change).requires_grad_(True)
    image_of_x = torch.fft.ifft2(response * torch.fft.fft2(x)).real[..., ::scale, ::scale]
    data = (y - image_of_x).square().sum()
    weighted = torch.fft.fft2(x - z).abs().square() / prior
    # the fold averages: noise is counted against the mean over aliases, hence s^2
    penalty = noise * scale**2 * weighted.mean() / scale**2
    (gradient,) = torch.autograd.grad(data + penalty, x)
    assert gradient.abs().max() < 1e-4 * data.detach().sqrt()
