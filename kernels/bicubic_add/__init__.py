"""A picture enlarged by MATLAB's bicubic filter, plus what a network adds to all its channels.

Symbols: H x W pixels of C channels, s the scale.
"""

import torch

from nerfkit.kernels import _backend

SCALES = (2, 3, 4)


def bicubic_add(
    pixels: torch.Tensor, residual: torch.Tensor, *, backend: str | None = None
) -> torch.Tensor:
    """round(enlarged + 255 residual), in bytes; borders are mirrored, as imresize does.

    Not differentiable.

    Args:
        pixels: uint8 [H, W, C].
        residual: float32 [s H, s W], s = 2, 3 or 4; 1 is white.

    Returns:
        uint8 [s H, s W, C].

    Raises:
        ValueError: wrong shapes or types, or an unknown backend.
    """
    if pixels.dim() != 3 or pixels.dtype != torch.uint8:
        raise ValueError(
            f"`pixels` must be uint8 (H, W, C), got {pixels.dtype} {tuple(pixels.shape)}"
        )
    height, width = pixels.shape[:2]
    wanted = [(s * height, s * width) for s in SCALES]
    if tuple(residual.shape) not in wanted or residual.dtype != torch.float32:
        raise ValueError(
            f"`residual` must be float32, 2, 3 or 4 times {(height, width)}, got "
            f"{residual.dtype} {tuple(residual.shape)}"
        )
    if pixels.numel() == 0:
        raise ValueError(f"`pixels` must not be empty, got {tuple(pixels.shape)}")
    with torch.no_grad():
        chosen = _backend.choose("bicubic_add", pixels, backend)
        if chosen == "cpu":
            from nerfkit.kernels.bicubic_add import cpu as implementation
        elif chosen == "gpu":
            from nerfkit.kernels.bicubic_add import gpu as implementation
        else:
            from nerfkit.kernels.bicubic_add import reference as implementation
        return implementation.bicubic_add(pixels, residual)
