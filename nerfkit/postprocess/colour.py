"""BT.601 luma and chroma as MATLAB's `rgb2ycbcr` scales them: Y in 16..235, Cb and Cr in 16..240.

R, G, B are sRGB values in 0..1; Y, Cb, Cr are divided by 255.
"""

import numpy as np
import torch
from torch import Tensor

# Rows Y, Cb, Cr of MATLAB's table, in 0..255 units of the output for R, G, B in 0..1.
TO_YCBCR = np.array(
    [[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]]
)
OFFSET = np.array([16.0, 128.0, 128.0])
FROM_YCBCR = np.linalg.inv(TO_YCBCR / 255)


def luma(rgb: Tensor) -> Tensor:
    """[..., 3] R, G, B in 0..1 -> [...] Y in 16/255 .. 235/255."""
    return rgb @ torch.from_numpy(TO_YCBCR[0] / 255).to(rgb) + 16 / 255


def rgb_to_ycbcr(rgb: Tensor) -> Tensor:
    """[N, 3, H, W] R, G, B in 0..1 -> Y, Cb, Cr."""
    matrix = torch.from_numpy(TO_YCBCR / 255).to(rgb)
    offset = torch.from_numpy(OFFSET / 255).to(rgb)
    return torch.einsum("oc,nchw->nohw", matrix, rgb) + offset[:, None, None]


def ycbcr_to_rgb(ycbcr: Tensor) -> Tensor:
    """The inverse of `rgb_to_ycbcr`; not clamped."""
    matrix = torch.from_numpy(FROM_YCBCR).to(ycbcr)
    offset = torch.from_numpy(OFFSET / 255).to(ycbcr)
    return torch.einsum("oc,nchw->nohw", matrix, ycbcr - offset[:, None, None])
