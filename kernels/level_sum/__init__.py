"""Values of all levels of a voxel grid, summed at the vertices of each level; and the transpose.

Symbols: V vertices in storage (`nerfkit.fields.vertices.Vertices`), C = 1 or 16 channels a vertex.
"""

import itertools
from typing import TYPE_CHECKING

import torch

from nerfkit.kernels import _backend

if TYPE_CHECKING:  # kernels do not import the package's core
    from nerfkit.fields.vertices import Vertices
    from nerfkit.ranks import Team

CHANNELS = 16


def level_sum(
    values: torch.Tensor, vertices: "Vertices", *, backend: str | None = None
) -> torch.Tensor:
    """Each level's rows hold that level's values plus the interpolation of all coarser ones.

    One lookup at the finest level then equals the sum of the lookups at every level, at every point
    of an occupied voxel. Rows of stored bricks that are no corner of an occupied node get the
    interpolation of what is stored around them, zeros where nothing is, and mean nothing. Linear;
    the gradient is the transpose.

    Args:
        values: [V] or [V, 16]; the first 64 rows, the brick of zeros, are zero in the result.
        vertices: the storage; each level has twice the resolution of the one before.

    Returns:
        Same shape.

    Raises:
        ValueError: wrong shape, levels that do not double, or an unknown backend.
    """
    _check(values, vertices)
    return _implementation(values, backend).level_sum(values, vertices)


def level_sum_(
    values: torch.Tensor,
    vertices: "Vertices",
    *,
    transposed: bool = False,
    team: "Team | None" = None,
    backend: str | None = None,
) -> None:
    """`level_sum`, or its transpose, in place and outside autograd (for training loops).

    Args:
        values: contiguous, otherwise as in `level_sum`.
        transposed: gradients with respect to sums -> gradients with respect to values.
        team: ranks that share the memory of `values` and all call this: each has its part of the
            bricks (backends other than "cpu": one has all), and on return all are done.

    Raises:
        ValueError: as in `level_sum`, or `values` not contiguous.
    """
    _check(values, vertices)
    if not values.is_contiguous():
        raise ValueError("`values` must be contiguous to be changed in place")
    together = team is not None and team.local_size > 1
    with torch.no_grad():
        if together and _backend.choose("level_sum", values, backend) == "cpu":
            from .cpu_together import level_sum_together_

            level_sum_together_(values, vertices, transposed, team)
            return
        if not together or team.leads_node:
            _implementation(values, backend).level_sum_(values, vertices, transposed)
        if together:
            team.barrier()


def _check(values: torch.Tensor, vertices: "Vertices") -> None:
    v = len(vertices)
    if tuple(values.shape) not in ((v,), (v, CHANNELS)):
        raise ValueError(
            f"`values` must have shape ({v},) or ({v}, {CHANNELS}), got {tuple(values.shape)}"
        )
    levels = vertices.resolutions.tolist()
    if any(b != 2 * a for a, b in itertools.pairwise(levels)):
        raise ValueError(f"`vertices` must have levels that double in resolution, got {levels}")


def _implementation(values: torch.Tensor, backend: str | None):
    chosen = _backend.choose("level_sum", values, backend)
    if chosen == "cpu":
        from . import cpu as implementation
    elif chosen == "gpu":
        from . import gpu as implementation
    else:
        from . import reference as implementation
    return implementation
