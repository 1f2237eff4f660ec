"""photo_details and bicubic_add: Triton against the reference."""

import pytest
import torch
from closeness import assert_close
from on_device import DEVICE
from test_bicubic_add import make as picture
from test_photo_details import make as photographed

from nerfkit.kernels.bicubic_add import bicubic_add
from nerfkit.kernels.photo_details import photo_details

pytest.importorskip("triton")


def details(photos, *others, backend="gpu"):
    """On the device of the tests."""
    photos = [photo.to(DEVICE) for photo in photos]
    return photo_details(photos, *(x.to(DEVICE) for x in others), backend=backend).cpu()


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(0, 5), (1, 1), (1, 6), (6, 1), (13, 9)])
def test_photo_details(size, scale):
    inputs = photographed(*size, scale=scale, n_hints=1 + scale)
    want = photo_details(*inputs, backend="reference")
    # Worst measured, interpreted: 1.2e-7; a card fuses products and sums, as C++ does (6.3e-6).
    assert_close("details", details(*inputs), want, rel=5e-6, abs=3e-5)


@pytest.mark.parametrize("photo", [(2, 2), (2, 9)])
def test_smallest_photographs_and_many_hints(photo):
    inputs = photographed(7, 5, photo=photo, n_hints=70)
    want = photo_details(*inputs, backend="reference")
    assert_close("details", details(*inputs), want, rel=1e-6, abs=5e-6)  # measured 1.2e-7


def test_photo_details_of_no_sources_and_far_positions():
    nothing = torch.empty(0, 4, 5, 2), torch.empty(0, 4, 5, 3), torch.rand(4, 5, 3)
    assert details([], *nothing).shape == (0, 4, 5, 6)
    inputs = photographed(2, 2, sources=1)
    inputs[1][:] = 1e6
    want = photo_details(*inputs, backend="reference")
    assert_close("details", details(*inputs), want, rel=1e-6, abs=1e-6)


def test_photo_details_of_what_is_not_contiguous_or_single():
    photos, positions, hints, enlarged = photographed(9, 8)
    strided = [
        [photo.transpose(0, 1).contiguous().transpose(0, 1) for photo in photos],
        positions.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1),
        hints.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1),
        enlarged.permute(2, 0, 1).contiguous().permute(1, 2, 0),
    ]
    assert torch.equal(details(*strided), details(photos, positions, hints, enlarged))
    with pytest.raises(ValueError, match="positions must be float32"):
        details(photos, positions.double(), hints, enlarged)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (1, 6), (7, 1), (2, 3), (27, 21)])
@pytest.mark.parametrize("channels", [1, 3])
def test_bicubic_add(size, scale, channels):
    inputs = picture(*size, scale, channels)
    got = bicubic_add(*(x.to(DEVICE) for x in inputs), backend="gpu").cpu().int()
    want = bicubic_add(*inputs, backend="reference").int()
    # sums in another order may round to the other side: measured 0 of 50,388 values
    assert got.shape == want.shape
    assert (got - want).abs().max() <= 1 and (got != want).float().mean() < 1e-3


def test_bicubic_add_of_what_is_not_contiguous():
    pixels, residual = (x.to(DEVICE) for x in picture(9, 14))
    strided = pixels.permute(2, 0, 1).contiguous().permute(1, 2, 0), residual.T.contiguous().T
    want = bicubic_add(pixels, residual, backend="gpu")
    assert torch.equal(bicubic_add(*strided, backend="gpu"), want)
