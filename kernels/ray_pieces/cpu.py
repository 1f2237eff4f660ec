"""C++ pieces of rays. Shapes as in the package docstring; float32 only, without gradients."""

import torch

from nerfkit.kernels import _native

from . import COLUMNS, Pieces


def ray_pieces(
    origins: torch.Tensor,
    directions: torch.Tensor,
    center: tuple[float, float, float],
    half: float,
    near: float,
) -> Pieces:
    """Same function as the reference."""
    for name, rays in (("origins", origins), ("directions", directions)):
        if rays.dtype != torch.float32:
            raise ValueError(f"`{name}` must be float32 on backend 'cpu', got {rays.dtype}")
        if rays.requires_grad and torch.is_grad_enabled():
            raise ValueError(
                f"`{name}` must not require gradients on backend 'cpu': detach it or use "
                "backend='reference'"
            )
    origins, directions = origins.contiguous(), directions.contiguous()
    cube = torch.tensor([*center, half, near], dtype=torch.float64)
    first = torch.zeros(len(origins) + 1, dtype=torch.int64)
    arguments = origins, directions, len(origins), cube, first
    _native.call("nk_ray_pieces", *arguments, None)
    torch.cumsum(first, 0, out=first)
    rows = torch.empty(int(first[-1]), COLUMNS)
    if len(rows):
        _native.call("nk_ray_pieces", *arguments, rows)
    return Pieces(rows, first)
