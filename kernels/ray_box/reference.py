"""Torch reference of ray_box: the contract. Shapes as in the package docstring."""

import torch

PARALLEL = 1e-20  # direction components below this count as zero


def ray_box(
    origins: torch.Tensor,  # [R, 3]
    directions: torch.Tensor,  # [R, 3]
    box_min: torch.Tensor,  # [3]
    box_max: torch.Tensor,  # [3]
    *,
    near: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor]:  # [R], [R]
    """Intersection of t >= near with three slabs from (box_min - o) / d to (box_max - o) / d."""
    parallel = directions.abs() < PARALLEL
    safe = torch.where(parallel, torch.ones_like(directions), directions)
    t_0, t_1 = (box_min - origins) / safe, (box_max - origins) / safe
    enter, leave = torch.minimum(t_0, t_1), torch.maximum(t_0, t_1)
    enter = torch.where(parallel, -torch.inf, enter).amax(dim=1).clamp(min=near)
    leave = torch.where(parallel, torch.inf, leave).amin(dim=1)
    inside = ~parallel | ((box_min <= origins) & (origins < box_max))
    hit = inside.all(dim=1) & (enter < leave)
    empty = torch.full_like(enter, near)
    return torch.where(hit, enter, empty), torch.where(hit, leave, empty)
