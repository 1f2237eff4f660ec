"""How a sharp image becomes the low-resolution one a camera stores: blur, reduce, noise, JPEG.

y = JPEG((x * k)↓s + n), the order of DAN's settings (arXiv:2010.02631, equation 1) with the
compression last. Images are uint8 [H, W, 3] or [H, W]; standard deviations of blur are in pixels
of the high resolution, of noise in grey levels. The same seed gives the same image.
"""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from nerfkit.postprocess.blur.kernels import gaussian_kernel
from nerfkit.postprocess.resize import imresize

Span = tuple[float, float]


@dataclass(frozen=True)
class Degradation:
    """Ranges that each image's degradation is drawn from; a range of one value is fixed."""

    scale: int = 2
    """Of the reduction; 1 keeps the size."""
    blur: Span | None = None
    """Standard deviation of the Gaussian along its two axes."""
    isotropic: bool = True
    """Both axes alike; otherwise drawn apart, and the angle too."""
    kernel: np.ndarray | None = None
    """[side, side] to blur with in place of a Gaussian (see `blur.kernels`)."""
    noise: Span | None = None
    """Standard deviation of white Gaussian noise, of each channel alike."""
    jpeg: tuple[int, int] | None = None
    """Quality, 1 to 95."""


def blur(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Correlate every channel; beyond the border the image is mirrored about its edge pixel."""
    stack = kernel[..., None] if image.ndim == 3 else kernel
    return ndimage.correlate(image.astype(np.float64), stack, mode="mirror")


def compress(image: np.ndarray, quality: int) -> np.ndarray:
    """uint8 through JPEG and back."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    with Image.open(file) as decoded:
        return np.array(decoded)


def degrade(
    image: np.ndarray, ranges: Degradation, seed: int | list[int]
) -> tuple[np.ndarray, dict[str, Any]]:
    """Make the low-resolution image of a sharp one.

    Without blur and noise this is exactly `imresize` of the 8-bit image.

    Returns:
        uint8 image of ceil(side / scale) pixels, and what was drawn: "kernel" [side, side],
        "noise" (standard deviation), "jpeg" (quality), as far as they apply.
    """
    random = np.random.default_rng(seed)
    drawn: dict[str, Any] = {}
    out = image
    if ranges.kernel is not None:
        drawn["kernel"] = ranges.kernel
    elif ranges.blur is not None:
        first = random.uniform(*ranges.blur)
        second = first if ranges.isotropic else random.uniform(*ranges.blur)
        angle = 0.0 if ranges.isotropic else random.uniform(0, np.pi)
        drawn["kernel"] = gaussian_kernel(first, second, angle).numpy()
    if "kernel" in drawn:
        out = blur(out, drawn["kernel"])
    if ranges.scale != 1:
        out = imresize(out, 1 / ranges.scale)
    if ranges.noise is not None:
        drawn["noise"] = random.uniform(*ranges.noise)
        out = out + random.normal(0, drawn["noise"], out.shape)
    if out.dtype != np.uint8:
        out = np.floor(np.clip(out, 0, 255) + 0.5).astype(np.uint8)
    if ranges.jpeg is not None:
        drawn["jpeg"] = int(random.integers(ranges.jpeg[0], ranges.jpeg[1] + 1))
        out = compress(out, drawn["jpeg"])
    return out, drawn
