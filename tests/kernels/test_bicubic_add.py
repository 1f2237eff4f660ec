"""bicubic_add: C++ against the reference and MATLAB's filter, odd sizes, wrong arguments."""

import numpy as np
import pytest
import torch

from nerfkit.kernels.bicubic_add import bicubic_add
from nerfkit.postprocess.resize import imresize


def make(height, width, scale=2, channels=3, deviation=0.1):
    generator = torch.Generator().manual_seed(height + 7 * width)
    pixels = torch.randint(256, (height, width, channels), generator=generator, dtype=torch.uint8)
    residual = deviation * torch.randn(scale * height, scale * width, generator=generator)
    return pixels, residual


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (1, 6), (7, 1), (2, 3), (67, 41)])
def test_forward(size, scale):
    inputs = make(*size, scale)
    found, truth = (bicubic_add(*inputs, backend=b).int() for b in ("cpu", "reference"))
    assert found.shape == (scale * size[0], scale * size[1], 3)
    # sums in another order may round to the other side: measured 0 of 240,729 values
    assert (found - truth).abs().max() <= 1 and (found != truth).float().mean() < 1e-3


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_without_residual_it_is_imresize(channels):
    pixels, residual = make(23, 18, 3, channels, deviation=0)
    found = bicubic_add(pixels, residual, backend="cpu").double().numpy()
    truth = imresize(pixels.numpy().astype(float), 3).clip(0, 255)  # of bytes it rounds in between
    assert np.abs(found - truth).max() < 0.5 + 1e-4  # measured 0.4993


def test_non_contiguous():
    pixels, residual = make(9, 14)
    strided = pixels.permute(2, 0, 1).contiguous().permute(1, 2, 0), residual.T.contiguous().T
    assert not any(x.is_contiguous() for x in strided)
    assert torch.equal(
        bicubic_add(*strided, backend="cpu"), bicubic_add(pixels, residual, backend="cpu")
    )


def test_wrong_arguments():
    pixels, residual = make(4, 5)
    with pytest.raises(ValueError, match="`pixels` must be uint8"):
        bicubic_add(pixels.float(), residual)
    with pytest.raises(ValueError, match="`residual`"):
        bicubic_add(pixels, residual[:-1])
    with pytest.raises(ValueError, match="`residual`"):
        bicubic_add(pixels, residual.double())
    with pytest.raises(ValueError, match="empty"):
        bicubic_add(pixels[:0], residual[:0])
