"""Image quality: PSNR, SSIM, LPIPS.

Images are float tensors [H, W, 3] in 0..1 (values outside are clamped by the caller). A mask is
bool [H, W], True where a pixel counts.
"""

import importlib.metadata
import importlib.util
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

# A perfect image would have infinite PSNR, which JSON cannot hold.
LARGEST_PSNR = 100.0
# Wang et al. 2004: an 11x11 Gaussian window of sigma 1.5, biased covariance, K1 0.01, K2 0.03.
SSIM_SETTINGS = {
    "gaussian_weights": True,
    "sigma": 1.5,
    "use_sample_covariance": False,
    "data_range": 1.0,
    "channel_axis": -1,
}
SSIM_WINDOW = 11


def psnr(image: Tensor, truth: Tensor, mask: Tensor | None = None) -> float:
    """-10 log10 of the mean squared error over (unmasked) pixels and channels, in dB.

    At most 100. NaN where the mask leaves no pixel.
    """
    error = (image.double() - truth.double()).square()
    if mask is not None:
        error = error[mask]
    mse = error.mean().item() if error.numel() else math.nan
    return -10 * math.log10(max(mse, 10 ** (-LARGEST_PSNR / 10)))


def ssim(image: Tensor, truth: Tensor, mask: Tensor | None = None) -> float:
    """Structural similarity (Wang et al. 2004), averaged over channels and full windows.

    With a mask, ignored pixels of the image take the truth's values, and the average is over the
    windows centred on pixels that count. NaN where the image is smaller than a window or the mask
    leaves nothing.
    """
    if min(image.shape[:2]) < SSIM_WINDOW:
        return math.nan
    if mask is not None:
        image = torch.where(mask[..., None], image, truth)
    _, similarity = structural_similarity(
        image.double().numpy(), truth.double().numpy(), full=True, **SSIM_SETTINGS
    )
    border = SSIM_WINDOW // 2  # windows that hang over the edge do not count, as in skimage's mean
    inside = (slice(border, -border), slice(border, -border))
    similarity = similarity[inside].mean(-1)
    if mask is not None:
        similarity = similarity[mask.numpy()[inside]]
    return float(np.mean(similarity)) if similarity.size else math.nan


def load_lpips() -> tuple[Callable[[Tensor, Tensor], float] | None, str]:
    """LPIPS (VGG) if the package and its weights are on this machine; never downloads.

    Returns:
        (function of image and truth, what it is) or (None, why there is none).
    """
    if importlib.util.find_spec("lpips") is None:
        return None, "the package lpips is not installed"
    weights = Path(torch.hub.get_dir()) / "checkpoints" / "vgg16-397923af.pth"
    if not weights.exists():
        return None, f"the VGG weights are not at {weights} (nerfkit does not download them)"
    import lpips

    network = lpips.LPIPS(net="vgg", verbose=False).eval()

    def measure(image: Tensor, truth: Tensor) -> float:
        pair = [x.float().permute(2, 0, 1)[None] * 2 - 1 for x in (image, truth)]
        with torch.no_grad():
            return float(network(*pair))

    return measure, f"lpips {importlib.metadata.version('lpips')}, VGG, input -1..1"
