"""Total variation of the density: what few photographs leave open, as a blank wall, is made smooth.

    weight * mean over pairs of neighbouring vertices of (d_i - d_j)^2,   d: raw, summed over levels

as in Plenoxels (2112.05131, eq. 3, without the root), on pairs within bricks of 4x4x4 vertices. The
coarse levels, which get their part of every gradient, tie the bricks together.
"""

from torch import Tensor

from nerfkit.fields.vertices import Vertices

EVERY = 16  # bricks: one of so many a step, another one at the next
SIDE = 4


def add_variation_gradient(
    gradient: Tensor, summed: Tensor, vertices: Vertices, weight: float, number: int
) -> None:
    """Add that of the variation to `gradient` [V] at the finest vertices.

    Args:
        summed: [V] raw densities summed over the levels.
        number: of the step, which decides on the bricks.
    """
    start = int(vertices.level_start()[-2]) + number % EVERY
    shape = (-1, SIDE, SIDE, SIDE)
    bricks = summed.view(shape)[start::EVERY]
    if not len(bricks):
        return
    total = gradient.view(shape)[start::EVERY]
    n_pairs = len(bricks) * 3 * (SIDE - 1) * SIDE * SIDE
    for axis in (1, 2, 3):
        pull = bricks.diff(dim=axis).mul_(2 * weight / n_pairs)
        total.narrow(axis, 1, SIDE - 1).add_(pull)
        total.narrow(axis, 0, SIDE - 1).sub_(pull)
