"""C++ photo_details. Shapes as in the package."""

from collections.abc import Sequence

import torch

from nerfkit.kernels import _native


def photo_details(
    photos: Sequence[torch.Tensor],
    positions: torch.Tensor,
    hints: torch.Tensor,
    enlarged: torch.Tensor,
) -> torch.Tensor:
    """Same function as the reference, float32 only."""
    for name, tensor in (("positions", positions), ("hints", hints), ("enlarged", enlarged)):
        if tensor.dtype != torch.float32:
            raise ValueError(f"`{name}` must be float32 on backend 'cpu', got {tensor.dtype}")
    k, height, width, n_hints = hints.shape
    cell = enlarged.shape[-1]
    out = torch.empty(k, height, width, cell + n_hints)
    enlarged = enlarged.contiguous()
    for photo, where, hint, detail in zip(photos, positions, hints, out, strict=True):
        _native.call(
            "nk_photo_details",
            photo.contiguous(),
            photo.shape[0],
            photo.shape[1],
            where.contiguous(),
            hint.contiguous(),
            n_hints,
            enlarged,
            height,
            width,
            round((cell / 3) ** 0.5),
            detail,
        )
    return out
