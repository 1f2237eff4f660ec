"""Ordered traversal of a sparse octree: which leaves a ray crosses, front to back.

Symbols: R rays, origins o, unit directions d, t the distance along a ray; M (ray, leaf) crossings
of all rays together. The root cube has edge `size` at `box_min`; a leaf has edge size / 2**depth.
"""

import math
from typing import NamedTuple

import torch

from nerfkit.kernels import _backend

MAX_DEPTH = 21


class Traversal(NamedTuple):
    """Crossings of all rays, ray by ray, each ray's front to back."""

    packed_info: torch.Tensor  # [R, 2] int64: start and count in the M crossings
    node_ids: torch.Tensor  # [M] int64: leaf
    t_starts: torch.Tensor  # [M]
    t_ends: torch.Tensor  # [M]


def octree_traverse(
    origins: torch.Tensor,
    directions: torch.Tensor,
    children: torch.Tensor,
    box_min: torch.Tensor,
    size: float,
    depth: int,
    *,
    near: float = 0.0,
    far: float = math.inf,
    max_leaves_per_ray: int | None = None,
    backend: str | None = None,
) -> Traversal:
    """The leaves each ray crosses in (near, far), in order, with the interval inside each.

    Crossings of no length (t_end <= t_start) are dropped, so a ray through an edge or a corner sees
    only the leaves it passes through. Two crossed leaves that share a face share its t bit for bit.
    Cells are half-open: a ray with d_a = 0 (below 1e-20 in magnitude) lies in the cells with index
    floor((o_a - box_min_a) / leaf edge), so of two leaves one owns the rays in their common face.
    Not differentiable.

    Args:
        origins, directions: [R, 3], world axes.
        children: [n_nodes, 8] int32: a child's node, or -1. Node 0 is the root. Bit 0 of the column
            is the high half in x, bit 1 in y, bit 2 in z. Nodes at `depth` are leaves, their rows
            are not read; no node above `depth` is a leaf.
        box_min: [3], low corner of the root cube.
        size: edge of the root cube.
        depth: level of the leaves, root 0, at most 21.
        near, far: range of t.
        max_leaves_per_ray: keep only this many, the nearest.

    Raises:
        ValueError: wrong shapes, dtypes or ranges, or an unknown backend.
    """
    for name, rays in (("origins", origins), ("directions", directions)):
        if rays.dim() != 2 or rays.shape[1] != 3 or rays.shape[0] != origins.shape[0]:
            raise ValueError(
                f"`{name}` must have shape (R, 3) with R = {origins.shape[0]}, "
                f"got {tuple(rays.shape)}"
            )
    if children.dim() != 2 or children.shape[1] != 8 or children.dtype != torch.int32:
        raise ValueError(
            f"`children` must be int32 of shape (n_nodes, 8), got {children.dtype} "
            f"of shape {tuple(children.shape)}"
        )
    if box_min.shape != (3,):
        raise ValueError(f"`box_min` must have shape (3,), got {tuple(box_min.shape)}")
    if not size > 0 or not 0 <= depth <= MAX_DEPTH:
        raise ValueError(
            f"`size` must be positive and `depth` in [0, {MAX_DEPTH}], got {size} and {depth}"
        )
    if max_leaves_per_ray is not None and max_leaves_per_ray < 1:
        raise ValueError(f"`max_leaves_per_ray` must be at least 1, got {max_leaves_per_ray}")
    chosen = _backend.choose("octree_traverse", origins, backend)
    if chosen == "cpu":
        from nerfkit.kernels.octree_traverse import cpu as implementation
    elif chosen == "gpu":
        from nerfkit.kernels.octree_traverse import gpu as implementation
    else:
        from nerfkit.kernels.octree_traverse import reference as implementation
    with torch.no_grad():
        fields = implementation.octree_traverse(
            origins,
            directions,
            children,
            box_min,
            size,
            depth,
            near=near,
            far=far,
            max_leaves_per_ray=max_leaves_per_ray,
        )
    return Traversal(*fields)
