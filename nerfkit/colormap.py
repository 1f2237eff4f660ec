"""Turn float images into 8-bit pictures.

Inputs are [H, W] or [H, W, 3] float tensors; outputs uint8 numpy arrays of shape [H, W, 3].
"""

import numpy as np
import torch

# Nine anchors of matplotlib's viridis (CC0): even in lightness, safe for the colour-blind.
_VIRIDIS = torch.tensor(
    [
        [0x44, 0x01, 0x54],
        [0x47, 0x2D, 0x7B],
        [0x3B, 0x52, 0x8B],
        [0x2C, 0x72, 0x8E],
        [0x21, 0x91, 0x8C],
        [0x28, 0xAE, 0x80],
        [0x5E, 0xC9, 0x62],
        [0xAD, 0xDC, 0x30],
        [0xFD, 0xE7, 0x25],
    ]
).div(255.0)


def to_uint8(image: torch.Tensor) -> np.ndarray:
    """Clamp to [0, 1], round to 8 bits, repeat a single channel thrice."""
    image = image.detach().float().cpu()
    if image.ndim == 2:
        image = image[..., None].expand(-1, -1, 3)
    return image.clamp(0, 1).mul(255).round().to(torch.uint8).contiguous().numpy()


def viridis(values: torch.Tensor) -> torch.Tensor:
    """Colours of values in [0, 1]: [...] -> [..., 3], dark violet to bright yellow."""
    position = values.float().clamp(0, 1) * (len(_VIRIDIS) - 1)
    lower = position.floor().long().clamp(max=len(_VIRIDIS) - 2)
    fraction = (position - lower)[..., None]
    return _VIRIDIS[lower] * (1 - fraction) + _VIRIDIS[lower + 1] * fraction


def depth_picture(
    depth: torch.Tensor, opacity: torch.Tensor, depth_range: tuple[float, float]
) -> np.ndarray:
    """Near is bright, far is dark, nothing there is black.

    Args:
        depth: [H, W] scene units.
        opacity: [H, W] in 0..1; fades silhouettes to black.
        depth_range: nearest and farthest depth that are told apart; the same for every frame of a
            video, or it flickers.
    """
    near, far = depth_range
    closeness = (far - depth.float()) / max(far - near, 1e-12)
    return to_uint8(viridis(closeness) * opacity.float().clamp(0, 1)[..., None])


def normal_picture(normal: torch.Tensor, opacity: torch.Tensor) -> np.ndarray:
    """World normals [H, W, 3] in -1..1 as colours: x red, y green, z blue; black where empty."""
    return to_uint8((normal.float() * 0.5 + 0.5) * opacity.float().clamp(0, 1)[..., None])
