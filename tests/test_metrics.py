"""PSNR and SSIM: known values, masks, degenerate input."""

import math

import pytest
import torch
from skimage.metrics import structural_similarity

from nerfkit import metrics


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(24, 31, 3, generator=generator)
    noise = 0.1 * torch.randn(24, 31, 3, generator=generator)
    return (truth + noise).clamp(0, 1), truth


def test_psnr_of_a_constant_error():
    truth = torch.full((4, 5, 3), 0.5)
    assert metrics.psnr(truth + 0.1, truth) == pytest.approx(20, abs=1e-5)  # 2e-6 seen
    assert metrics.psnr(truth, truth) == 100.0


def test_masked_pixels_count_neither_in_psnr_nor_in_ssim(pair):
    image, truth = pair
    mask = torch.ones(24, 31, dtype=torch.bool)
    mask[5:12, 20:] = False
    spoilt = image.clone()
    spoilt[~mask] = 1 - truth[~mask]
    assert metrics.psnr(spoilt, truth, mask) == metrics.psnr(image, truth, mask)
    assert metrics.ssim(spoilt, truth, mask) == metrics.ssim(image, truth, mask)
    assert metrics.psnr(spoilt, truth) < metrics.psnr(image, truth)
    whole = torch.ones_like(mask)
    assert metrics.psnr(image, truth, whole) == pytest.approx(metrics.psnr(image, truth))
    assert metrics.ssim(image, truth, whole) == pytest.approx(metrics.ssim(image, truth))


def test_ssim_is_the_mean_over_whole_windows(pair):
    image, truth = (x.double().numpy() for x in pair)
    wanted = structural_similarity(image, truth, **metrics.SSIM_SETTINGS)
    assert metrics.ssim(*pair) == pytest.approx(wanted, abs=1e-12)  # 1e-16 seen
    assert metrics.ssim(pair[1], pair[1]) == pytest.approx(1)


def test_ssim_window_by_hand():
    """One 11 x 11 window, computed from the definition with an explicit Gaussian."""
    generator = torch.Generator().manual_seed(1)
    image, truth = torch.rand(2, 11, 11, 3, generator=generator, dtype=torch.float64)
    offset = torch.arange(-5.0, 6, dtype=torch.float64)
    line = torch.exp(-(offset**2) / (2 * 1.5**2))
    window = (line[:, None] * line / line.sum() ** 2)[..., None]
    mean_x, mean_y = ((window * v).sum((0, 1)) for v in (image, truth))
    var_x, var_y = ((window * v * v).sum((0, 1)) - v_mean**2 for v, v_mean in (
        (image, mean_x), (truth, mean_y)))  # fmt: skip
    cov = (window * image * truth).sum((0, 1)) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    by_hand = ((2 * mean_x * mean_y + c1) * (2 * cov + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    )
    assert metrics.ssim(image, truth) == pytest.approx(
        by_hand.mean().item(), abs=1e-12
    )  # 3e-16 seen


def test_nothing_to_measure_is_nan(pair):
    nothing = torch.zeros(24, 31, dtype=torch.bool)
    assert math.isnan(metrics.psnr(*pair, nothing))
    assert math.isnan(metrics.ssim(*pair, nothing))
    assert math.isnan(metrics.ssim(torch.zeros(8, 40, 3), torch.zeros(8, 40, 3)))


def test_lpips_is_absent_with_a_reason_or_measures(pair, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    measure, note = metrics.load_lpips()
    assert measure is None and note
