"""Rays in boxes and voxels: where they meet them, and frames of a scene without a network.

The subject's octree is a thin shell; R rays.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from nerfkit.bench.case import Case
from nerfkit.bench.subject import DENSITY_BIAS, DENSITY_SCALE, RADIUS, STEEPNESS, Subject
from nerfkit.device import CPU
from nerfkit.fields.baked import BakedColors, BakedField, BakedShape
from nerfkit.kernels.baked_render import Layout, render_baked
from nerfkit.kernels.baked_render.grid import DETAIL, RECORD
from nerfkit.kernels.first_hit import first_hit
from nerfkit.kernels.octree_traverse import octree_traverse
from nerfkit.kernels.ray_box import ray_box
from nerfkit.kernels.ray_pieces import ray_pieces
from nerfkit.octree import morton_decode

SMALL_DEPTH = 5
LOWEST, PER_UNIT = -40.0, 2e-3  # raw densities of the baked ball: lowest, and a count of its bytes


def march(subject: Subject, both: dict[str, Tensor]) -> Iterator[Case]:
    """Of all R rays; of a sixteenth through a tree, for the reference tries all its voxels."""
    octree, n_rays = subject.octree, len(both["origins"])
    low, high = octree.box_min, octree.box_min + octree.size
    yield Case(
        *("ray_box", "ray_box", f"{n_rays} rays", n_rays, "rays", both),
        lambda b, origins, directions: ray_box(origins, directions, low, high, backend=b),
    )

    def lengths(b: str, origins: Tensor, directions: Tensor) -> Tensor:
        """Of all pieces of a ray: one of no length may be there or not."""
        pieces = ray_pieces(origins, directions, (0.0, 0.0, 0.0), RADIUS / 2, 0.0, backend=b)
        total = torch.zeros(n_rays, device=origins.device)
        return total.index_add_(0, pieces.owners(), pieces.rows[:, 6])

    yield Case(*("ray_pieces", "ray_pieces", f"{n_rays} rays", n_rays, "rays", both), lengths)
    yield Case(
        *("first_hit", "first_hit", f"{n_rays} rays, {octree.resolution}^3"),
        *(n_rays, "rays", both),
        lambda b, origins, directions: first_hit(
            origins, directions, subject.grid, octree.voxel, backend=b
        ),
    )
    small = Subject.ball(SMALL_DEPTH, n_levels=1).to(subject.place).octree
    children, _ = small.children()
    few = {name: values[: max(4, n_rays // 16)] for name, values in both.items()}
    n_few = len(few["origins"])
    yield Case(
        *("octree_traverse", "octree_traverse", f"{n_few} rays, {small.resolution}^3"),
        *(n_few, "rays", few),
        lambda b, origins, directions: tuple(
            octree_traverse(
                *(origins, directions, children, small.box_min, small.size, small.depth),
                backend=b,
            )
        ),
    )


def baked(subject: Subject, both: dict[str, Tensor]) -> Iterator[Case]:
    """The ball baked, in colours that mean nothing."""
    octree, n_rays = subject.octree, len(both["origins"])
    field = _bake(subject)

    def run(b: str, origins: Tensor, directions: Tensor) -> tuple[Tensor, ...]:
        return tuple(render_baked(origins, directions, field.grid, **field.sampling(), backend=b))

    yield Case(
        *("baked_render", "render_baked", f"{n_rays} rays, {octree.resolution}^3"),
        *(n_rays, "rays", both, run),
    )


def _bake(subject: Subject) -> BakedField:
    octree = subject.octree.to(CPU)
    generator = torch.Generator().manual_seed(7)
    layout = Layout.of(octree)
    points = octree.box_min + morton_decode(layout.codes) * octree.voxel
    raw = (RADIUS - points.norm(dim=1)) / octree.voxel * STEEPNESS
    density = ((raw - LOWEST) / PER_UNIT).round().clamp(0, 32767).to(torch.int16)

    def stored(rows: int, columns: int) -> Tensor:
        shape = rows, columns
        return torch.randint(256, shape, generator=generator, dtype=torch.uint8)

    def levels(columns: int, lowest: float) -> Tensor:
        """Of bytes that span as far above zero as `lowest` lies below."""
        pair = torch.tensor([[lowest], [-2 * lowest / 255]])
        return pair.expand(2, columns).contiguous()

    colors = BakedColors(
        *(stored(len(layout.codes), RECORD), levels(RECORD, -0.2)),
        *(stored(len(layout.details), DETAIL), levels(DETAIL, -0.1)),
    )
    shape = BakedShape(DENSITY_SCALE, DENSITY_BIAS, (LOWEST, PER_UNIT), 1.0, 0.0)
    return BakedField(shape, octree, layout, density, colors).to(subject.place)
