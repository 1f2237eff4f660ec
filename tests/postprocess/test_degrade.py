"""The degradation pipeline: exact where nothing is random, seeded where it is."""

import numpy as np
import pytest

from nerfkit.postprocess.degrade import Degradation, blur, degrade
from nerfkit.postprocess.resize import imresize

IMAGE = np.random.default_rng(0).integers(0, 256, (24, 36, 3), dtype=np.uint8)
ALL = Degradation(3, blur=(0.6, 3), isotropic=False, noise=(2, 9), jpeg=(40, 80))


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_reduction_alone_is_imresize(scale):
    out, drawn = degrade(IMAGE, Degradation(scale), seed=0)
    np.testing.assert_array_equal(out, IMAGE if scale == 1 else imresize(IMAGE, 1 / scale))
    assert drawn == {}


def test_seed_decides():
    first, drawn = degrade(IMAGE, ALL, seed=1)
    again, _ = degrade(IMAGE, ALL, seed=1)
    other, _ = degrade(IMAGE, ALL, seed=2)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any() and first.shape == (8, 12, 3) and first.dtype == np.uint8
    assert 2 <= drawn["noise"] <= 9 and 40 <= drawn["jpeg"] <= 80


def test_noise_has_the_deviation_drawn():
    grey = np.full((200, 200, 3), 128, np.uint8)
    out, _ = degrade(grey, Degradation(1, noise=(8, 8)), seed=0)
    error = out.astype(float) - 128
    assert abs(error.std() - 8) < 0.1  # measured 8.01: rounding adds 1/12 to the variance
    assert abs(np.corrcoef(error[..., 0].ravel(), error[..., 1].ravel())[0, 1]) < 0.02


def test_blur_correlates():
    image = np.zeros((9, 9))
    image[4, 4] = 1
    kernel = np.arange(9.0).reshape(3, 3)
    np.testing.assert_array_equal(blur(image, kernel)[3:6, 3:6], kernel[::-1, ::-1])


def test_a_kernel_of_ones_own_is_used():
    kernel = np.zeros((3, 3))
    kernel[1, 2] = 1  # looks one pixel to the right
    out, drawn = degrade(IMAGE, Degradation(1, blur=(1, 2), kernel=kernel), seed=0)
    np.testing.assert_array_equal(out[:, :-1], IMAGE[:, 1:])
    assert drawn["kernel"] is kernel
