"""C++ octree_traverse. Shapes as in the package docstring."""

import math

import torch

from nerfkit.kernels import _native

FAR_AWAY = 1e30  # stands for infinity, which the compiled code does not know


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
    """Same function as the reference, float32 only."""
    for name, tensor in (("origins", origins), ("directions", directions), ("box_min", box_min)):
        if tensor.dtype != torch.float32:
            raise ValueError(f"`{name}` must be float32 on backend 'cpu', got {tensor.dtype}")
    n = origins.shape[0]
    cube = torch.tensor([*box_min.tolist(), size], dtype=torch.float64)
    common = (
        origins.contiguous(),
        directions.contiguous(),
        children.contiguous(),
        children.shape[0],
        cube,
        depth,
        float(near),
        float(min(far, FAR_AWAY)),
    )
    counts = torch.empty(n, dtype=torch.int64)
    most = max_leaves_per_ray or 2**62
    _native.call("nk_octree_traverse", *common, most, n, counts, None, None, None, None)
    ends = counts.cumsum(0)
    packed_info = torch.stack([ends - counts, counts], dim=1)
    total = int(ends[-1]) if n else 0
    node_ids = torch.empty(total, dtype=torch.int64)
    t_starts = torch.empty(total, dtype=torch.float32)
    t_ends = torch.empty_like(t_starts)
    _native.call(
        "nk_octree_traverse", *common, most, n, None, packed_info, node_ids, t_starts, t_ends
    )
    return packed_info, node_ids, t_starts, t_ends
