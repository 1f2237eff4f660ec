"""Where rays enter and leave an axis-aligned box.

Symbols: R rays, origins o, unit directions d; t is the distance along a ray, in scene units.
"""

import torch

from nerfkit.kernels import _backend


def ray_box(
    origins: torch.Tensor,
    directions: torch.Tensor,
    box_min: torch.Tensor,
    box_max: torch.Tensor,
    *,
    near: float = 0.0,
    backend: str | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The interval (t_near, t_far) of each ray inside the box, cut at `near`.

    A ray hits where `t_near < t_far`; a miss is the empty interval t_near = t_far = near. A ray
    that starts inside has t_near = near. A direction component below 1e-20 in magnitude counts as
    zero: such a ray is inside that slab where box_min <= o < box_max. Not differentiable.

    Args:
        origins, directions: [R, 3], world axes.
        box_min, box_max: [3].
        near: smallest t, finite.

    Returns:
        t_near, t_far: [R] each.

    Raises:
        ValueError: wrong shapes, or an unknown backend.
    """
    for name, rays in (("origins", origins), ("directions", directions)):
        if rays.dim() != 2 or rays.shape[1] != 3 or rays.shape[0] != origins.shape[0]:
            raise ValueError(
                f"`{name}` must have shape (R, 3) with R = {origins.shape[0]}, "
                f"got {tuple(rays.shape)}"
            )
    for name, corner in (("box_min", box_min), ("box_max", box_max)):
        if corner.shape != (3,):
            raise ValueError(f"`{name}` must have shape (3,), got {tuple(corner.shape)}")
    chosen = _backend.choose("ray_box", origins, backend)
    if chosen == "cpu":
        from nerfkit.kernels.ray_box import cpu as implementation
    elif chosen == "gpu":
        from nerfkit.kernels.ray_box import gpu as implementation
    else:
        from nerfkit.kernels.ray_box import reference as implementation
    with torch.no_grad():
        return implementation.ray_box(origins, directions, box_min, box_max, near=near)
