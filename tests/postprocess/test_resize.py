"""MATLAB's imresize, against its definition written out pixel by pixel."""

import numpy as np
import pytest
import torch

from nerfkit.postprocess.networks import BicubicSkip
from nerfkit.postprocess.resize import cubic, imresize


def line_by_definition(values: np.ndarray, out_size: int, scale: float) -> np.ndarray:
    """One pass over a vector: sum of k(u - x) f(x), normalised, f mirrored without end."""
    stretch = min(scale, 1.0)
    period = np.concatenate([values, values[::-1]])
    out = []
    for i in range(out_size):
        centre = (i + 0.5) / scale - 0.5
        x = np.arange(np.floor(centre - 2 / stretch) - 1, centre + 2 / stretch + 2).astype(int)
        weights = cubic(stretch * (centre - x))
        out.append((weights * period[x % period.size]).sum() / weights.sum())
    return np.array(out)


@pytest.mark.parametrize("scale", [1 / 2, 1 / 3, 1 / 4, 2.0, 3.0, 0.6, 1.7])
def test_equals_the_definition(scale):
    values = np.random.default_rng(0).random((12, 1))
    out = imresize(values, scale)
    across = imresize(values.T, scale).T
    wanted = line_by_definition(values[:, 0], out.shape[0], scale)
    # the side of one pixel is resized too, to copies of itself; worst error measured 4e-16
    np.testing.assert_allclose(out, np.repeat(wanted[:, None], out.shape[1], 1), atol=1e-14)
    np.testing.assert_allclose(across, out, atol=1e-14)


def test_sizes_are_rounded_up_as_in_matlab():
    assert imresize(np.zeros((5, 7, 3)), 0.5).shape == (3, 4, 3)
    assert imresize(np.zeros((5, 7)), size=(9, 2)).shape == (9, 2)


def test_integers_are_rounded_after_each_pass():
    image = np.random.default_rng(1).integers(0, 256, (16, 16), dtype=np.uint8)

    def rounded(values):
        return np.floor(np.clip(values, 0, 255) + 0.5)

    columns = [line_by_definition(c, 8, 0.5) for c in image.T.astype(float)]
    rows = [line_by_definition(r, 8, 0.5) for r in rounded(np.array(columns).T)]
    np.testing.assert_array_equal(imresize(image, 0.5), rounded(np.array(rows)))
    # and that differs from rounding once, so the test can tell
    assert (imresize(image, 0.5) != rounded(imresize(image.astype(float), 0.5))).any()


def test_wants_one_of_scale_and_size():
    with pytest.raises(ValueError, match="one of `scale` and `size`"):
        imresize(np.zeros((4, 4)))


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("size", [(7, 9), (1, 1), (2, 1)])
def test_skip_is_imresize(scale, size):
    image = np.random.default_rng(2).random((*size, 2))
    out = BicubicSkip(scale)(torch.from_numpy(image).float().permute(2, 0, 1)[None])
    wanted = imresize(image, float(scale))
    # worst error measured 4e-7
    np.testing.assert_allclose(out[0].permute(1, 2, 0).numpy(), wanted, atol=2e-6)
