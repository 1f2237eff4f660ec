"""Torch reference of octree_traverse: every ray against every leaf, then a sort. The contract.

Shapes as in the package docstring; L leaves.
"""

import math

import torch

PARALLEL = 1e-20  # direction components below this count as zero
PAIRS_AT_ONCE = 1 << 20


def leaf_cells(children: torch.Tensor, depth: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Node [L] and integer cell coordinates [L, 3] of every leaf."""
    nodes = torch.zeros(min(1, len(children)), dtype=torch.int64, device=children.device)
    cells = torch.zeros(len(nodes), 3, dtype=torch.int64, device=children.device)
    octants = torch.tensor([[c & 1, c >> 1 & 1, c >> 2] for c in range(8)], device=children.device)
    for _ in range(depth):
        below = children[nodes].long()  # [n, 8]
        cells = (2 * cells[:, None] + octants)[below >= 0]
        nodes = below[below >= 0]
    return nodes, cells


def octree_traverse(
    origins: torch.Tensor,  # [R, 3]
    directions: torch.Tensor,  # [R, 3]
    children: torch.Tensor,  # [n_nodes, 8]
    box_min: torch.Tensor,  # [3]
    size: float,
    depth: int,
    *,
    near: float = 0.0,
    far: float = math.inf,
    max_leaves_per_ray: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Face i of an axis is at box_min + i * size / 2**depth; slab test of every leaf."""
    nodes, cells = leaf_cells(children, depth)
    edge = size / 2**depth
    low = box_min + cells.to(box_min.dtype) * edge  # [L, 3]
    high = box_min + (cells + 1).to(box_min.dtype) * edge
    found: list[tuple[torch.Tensor, ...]] = []
    rays_at_once = max(1, PAIRS_AT_ONCE // max(1, len(nodes)))
    for first in range(0, len(origins), rays_at_once):
        o = origins[first : first + rays_at_once, None]  # [r, 1, 3]
        d = directions[first : first + rays_at_once, None]
        parallel = d.abs() < PARALLEL
        safe = torch.where(parallel, torch.ones_like(d), d)
        t_0 = (low - o) / safe  # [r, L, 3]
        t_1 = (high - o) / safe
        owner = torch.floor((o.double() - box_min.double()) / edge).long()
        inside = (~parallel | (owner == cells)).all(dim=-1)
        enter = torch.where(parallel, -torch.inf, torch.minimum(t_0, t_1)).amax(dim=-1)
        leave = torch.where(parallel, torch.inf, torch.maximum(t_0, t_1)).amin(dim=-1)
        enter, leave = enter.clamp(min=near), leave.clamp(max=far)
        enter = torch.where(inside & (enter < leave), enter, torch.inf)
        enter, order = enter.sort(dim=1)
        keep = torch.isfinite(enter)
        if max_leaves_per_ray is not None:
            keep[:, max_leaves_per_ray:] = False
        leave = leave.gather(1, order)
        found.append((keep.sum(dim=1), nodes[order][keep], enter[keep], leave[keep]))
    if not found:
        empty = origins.new_zeros(0)
        return nodes.new_zeros(0, 2), nodes.new_zeros(0), empty, empty
    counts, node_ids, t_starts, t_ends = (torch.cat(parts) for parts in zip(*found, strict=True))
    packed_info = torch.stack([counts.cumsum(0) - counts, counts], dim=1)
    return packed_info, node_ids, t_starts, t_ends
