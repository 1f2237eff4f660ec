"""Where rays first meet occupied space, on the lattice of the fused renderer.

Symbols: R rays o + t d with unit d, t in world units; S lattice points t = (k + 1/2) step.
"""

import torch

from nerfkit.kernels import _backend

from .occupancy import Occupancy

__all__ = ["Occupancy", "first_hit"]


def first_hit(
    origins: torch.Tensor,
    directions: torch.Tensor,
    occupancy: Occupancy,
    step: float,
    *,
    backend: str | None = None,
) -> torch.Tensor:
    """Distance of each ray's first lattice point in an occupied voxel.

    With the step a render will use this says exactly which rays it would shade (without jitter).
    Not differentiable.

    Args:
        origins, directions: [R, 3], world axes; directions of unit length (not checked).
        occupancy: the voxels; a `RenderGrid` is one too.
        step: distance between lattice points.

    Returns:
        [R] t >= 0, +inf where nothing is hit.

    Raises:
        ValueError: wrong shapes, a step that is not positive, or an unknown backend.
    """
    check_rays(origins, directions)
    if not step > 0:
        raise ValueError(f"`step` must be positive, got {step}")
    chosen = _backend.choose("first_hit", origins, backend)
    if chosen == "cpu":
        from . import cpu as implementation
    elif chosen == "gpu":
        from . import gpu as implementation
    else:
        from . import reference as implementation
    with torch.no_grad():
        return implementation.first_hit(origins, directions, occupancy, float(step))


def check_rays(origins: torch.Tensor, directions: torch.Tensor) -> None:
    """Raise ValueError unless both are [R, 3]."""
    for name, rays in (("origins", origins), ("directions", directions)):
        if rays.dim() != 2 or rays.shape[1] != 3 or rays.shape[0] != origins.shape[0]:
            raise ValueError(
                f"`{name}` must have shape (R, 3) with R = {origins.shape[0]}, "
                f"got {tuple(rays.shape)}"
            )
