"""Values of a multi-level sparse voxel grid at points: trilinear interpolation, summed over levels.

Symbols: N points p in world units; V vertices of a `RenderGrid`, C = 1 or 16 channels a vertex.
"""

import torch

from nerfkit.kernels import _backend

from .grid import RenderGrid

__all__ = ["RenderGrid", "voxel_features"]

CHANNELS = 16


def voxel_features(
    points: torch.Tensor,
    grid: RenderGrid,
    values: torch.Tensor,
    *,
    backend: str | None = None,
) -> torch.Tensor:
    """f(p) = sum over the levels of the trilinear interpolation of their vertices' values.

    Differentiable in `values` and in `points` (the spatial gradient, once). Voxels are half-open;
    outside the occupied ones f is 0, and the jump there has no gradient. On `cpu` results do not
    depend on the number of threads. For values that hold the sum of the levels at the finest
    vertices (`level_sum`), pass `grid.finest()`.

    Args:
        points: [N, 3], world axes and units.
        values: [V], or [V, 16].

    Returns:
        [N], or [N, 16].

    Raises:
        ValueError: wrong shapes, or an unknown backend.
    """
    if points.dim() != 2 or points.shape[1] != 3:
        raise ValueError(f"`points` must have shape (N, 3), got {tuple(points.shape)}")
    v = grid.n_vertices
    if tuple(values.shape) not in ((v,), (v, CHANNELS)):
        raise ValueError(
            f"`values` must have shape ({v},) or ({v}, {CHANNELS}), got {tuple(values.shape)}"
        )
    chosen = _backend.choose("voxel_features", points, backend)
    if chosen == "cpu":
        from . import cpu as implementation
    elif chosen == "gpu":
        from . import gpu as implementation
    else:
        from . import reference as implementation
    return implementation.voxel_features(points, grid, values)
