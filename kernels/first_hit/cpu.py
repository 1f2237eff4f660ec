"""C++ first_hit. Shapes as in the package docstring."""

import torch

from nerfkit.kernels import _native

from .occupancy import Occupancy


def first_hit(
    origins: torch.Tensor, directions: torch.Tensor, occupancy: Occupancy, step: float
) -> torch.Tensor:
    """Same function as the reference, float32 only."""
    for name, tensor in (("origins", origins), ("directions", directions)):
        if tensor.dtype != torch.float32:
            raise ValueError(f"`{name}` must be float32 on backend 'cpu', got {tensor.dtype}")
    t = torch.empty(len(origins))
    _native.call(
        "nk_first_hit",
        *(origins.contiguous(), directions.contiguous(), len(origins), occupancy.words),
        *(occupancy.resolution, torch.tensor(occupancy.box_min), occupancy.voxel, step, t),
    )
    return t
