"""Kernel families, their measure and their files."""

import math

import numpy as np
import pytest
import scipy.io
import torch

from nerfkit.errors import NerfkitError
from nerfkit.postprocess.blur import kernels
from nerfkit.postprocess.blur.kernel_files import load_kernel, save_kernel
from nerfkit.postprocess.blur.measure import (
    centroid,
    kernel_psnr,
    mean_kernel_floor,
    shifted,
    width_of,
)


@pytest.mark.parametrize("family", ["isotropic", "anisotropic", "motion", "disk"])
def test_random_kernels_are_kernels(family):
    drawn = kernels.random_kernels(family, 40, 4, torch.Generator().manual_seed(0))
    assert drawn.shape == (40, 21, 21)
    assert (drawn >= 0).all()
    torch.testing.assert_close(drawn.sum((1, 2)), torch.ones(40))
    for kernel in drawn:
        assert max(map(abs, centroid(kernel))) < 1e-4  # largest 2e-6
    assert drawn.std(0).max() > 1e-3  # not all the same


def test_gaussian_has_the_covariance_asked_for():
    kernel = kernels.gaussian_kernel(3.0, 1.5, 0.5, size=41)
    dx, dy = kernels.offsets(41)
    measured = [float((kernel * a).sum()) for a in (dx * dx, dx * dy, dy * dy)]
    c, s = math.cos(0.5), math.sin(0.5)
    wanted = [9 * c * c + 2.25 * s * s, (9 - 2.25) * c * s, 9 * s * s + 2.25 * c * c]
    assert measured == pytest.approx(wanted, abs=1e-3)  # largest 5e-6


def test_log_covariance_is_the_gaussian():
    sigma_long, sigma_short, angle = 2.5, 1.0, torch.tensor(0.7)
    m = torch.tensor(sigma_long * sigma_short).log()
    q = torch.tensor(sigma_long / sigma_short).log()
    shape = torch.stack([m, q * torch.cos(2 * angle), q * torch.sin(2 * angle)])[None]
    kernel = kernels.gaussian_from_log_covariance(shape)[0]
    torch.testing.assert_close(kernel, kernels.gaussian_kernel(sigma_long, sigma_short, angle))


def test_horizontal_motion_is_a_line():
    kernel = kernels.motion_kernel(5.0, 0.0, size=9)
    wanted = torch.zeros(9, 9)
    wanted[4, 2:7] = 0.2
    torch.testing.assert_close(kernel, wanted)


def test_disk_has_its_width():
    # a uniform disk of radius r has a variance of r^2 / 4 along each axis
    assert width_of(kernels.disk_kernel(6.0)) == pytest.approx(3.0, rel=0.02)  # 0.7 %


def test_psnr_uses_the_peak_and_ignores_shifts():
    truth = kernels.gaussian_kernel(2.0)
    off = truth + 0.01 * truth.max()
    assert kernel_psnr(off, truth) == pytest.approx(40.0, abs=0.2)  # 1 % of the peak
    moved = shifted(truth, 0.4, -0.3)
    assert centroid(moved) == pytest.approx((0.4, -0.3), abs=1e-3)
    assert kernel_psnr(moved, truth) > 50  # 66; unaligned 27
    assert kernel_psnr(truth, truth) == 100.0


def test_floor_is_beaten_by_a_tenth_of_sigma():
    truths = kernels.gaussian8(2)
    floor = sum(mean_kernel_floor(truths)) / 8
    wider = kernels.gaussian_kernel(1.1 * torch.linspace(0.8, 1.6, 8))
    near = [kernel_psnr(wider[i], truths[i]) for i in range(8)]
    assert sum(near) / 8 > floor


@pytest.mark.parametrize(("suffix", "tolerance"), [("npy", 0), ("mat", 0), ("png", 1e-5)])
def test_files_round_trip(tmp_path, suffix, tolerance):
    kernel = kernels.gaussian_kernel(2.0, 1.0, 0.3)
    path = tmp_path / f"kernel.{suffix}"
    save_kernel(path, kernel)
    torch.testing.assert_close(load_kernel(path), kernel, rtol=1e-6, atol=tolerance)
    if suffix == "mat":
        assert scipy.io.loadmat(path)["Kernel"].shape == (21, 21)


def test_bad_files_are_named(tmp_path):
    with pytest.raises(NerfkitError, match=r"kernel\.txt: want a kernel file"):
        save_kernel(tmp_path / "kernel.txt", kernels.delta_kernel())
    np.save(tmp_path / "even.npy", np.ones((4, 4)))
    with pytest.raises(NerfkitError, match=r"even\.npy.*odd sides"):
        load_kernel(tmp_path / "even.npy")
    scipy.io.savemat(tmp_path / "other.mat", {"k": np.ones((3, 3))})
    with pytest.raises(NerfkitError, match="no variable 'Kernel'"):
        load_kernel(tmp_path / "other.mat")
    with pytest.raises(NerfkitError, match=r"absent\.npy"):
        load_kernel(tmp_path / "absent.npy")
