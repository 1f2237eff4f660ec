"""The Triton octree_traverse kernel. Shapes as in the package docstring; one ray a lane.

As in traverse.h a ray is mirrored so that it points to higher cells (`child ^ mirror` finds the
child), the t of a face is computed in double from its integer coordinate, and cells that share a
face share its t. There is no stack, which a lane could not index: each step goes down from the
root again, all lanes together, over nodes that stay in the cache. One launch counts, one fills.
"""

import math

import torch
import triton
import triton.language as tl

from nerfkit.kernels.shared.aot import Configuration
from nerfkit.kernels.shared.triton_launch import check_float32, launch

from .reference import PARALLEL as _PARALLEL

RAYS = 128
WARPS = 4
PARALLEL = tl.constexpr(_PARALLEL)
FAR_AWAY = 1e30  # stands for infinity


@triton.jit
def _axis(o, d, low, size, cells: tl.constexpr, BIT: tl.constexpr):
    """Mirrored origin in cells, t from a face to the next, fixed cell of a parallel ray, mirror.

    The last is -1 for rays that run past the cube in parallel.
    """
    edge = size / cells
    offset = o.to(tl.float64) - low
    d = d.to(tl.float64)
    parallel = tl.abs(d) < PARALLEL
    # floor(offset * cells / size), corrected for the rounding of the division
    scaled = offset * cells
    guess = scaled / size
    within = (guess > -1.0) & (guess < cells + 1.0)
    cell = tl.where(within, guess, 0.0).to(tl.int32)
    cell = tl.where(cell.to(tl.float64) * size > scaled, cell - 1, cell)
    cell = tl.where((cell + 1).to(tl.float64) * size <= scaled, cell + 1, cell)
    past = parallel & ((~within) | (cell < 0) | (cell >= cells))
    # offset / edge, and exactly an integer if it lies on a face
    from_low = offset / edge
    nearest = tl.floor(from_low + 0.5)
    from_low = tl.where(nearest * edge == offset, nearest, from_low)
    step = edge / tl.where(parallel, 1.0, d)
    back = (d < 0) & (~parallel)
    origin = tl.where(back, cells - from_low, from_low)
    origin = tl.where(parallel, -1.0, origin)
    step = tl.where(parallel, 1e300, tl.where(back, -step, step))
    mirror = tl.where(past, -1, tl.where(back, BIT, 0))
    return origin, step, tl.where(parallel & (~past), cell, 0), mirror


@triton.jit
def _face(origin, step, i):
    return (i.to(tl.float64) - origin) * step


@triton.jit
def _half_at(origin, step, fixed, t, low, half):
    """The bit of `half` to add to corner `low` of a cell so that its child there holds t."""
    return tl.where(_face(origin, step, low | half) <= t, half, fixed & half)


@triton.jit
def _top_bit(x):
    """Index of the highest bit of 0 < x < 2^24."""
    return (x.to(tl.float32).to(tl.int32, bitcast=True) >> 23) - 127


@triton.jit
def _kernel(
    origins,
    directions,
    children,
    n_nodes,
    box_min,
    size_of,  # [1] double
    near,
    far,
    most,
    n_rays,
    counts,  # written alone where given; else the outputs are
    packed_info,
    node_ids,
    t_starts,
    t_ends,
    DEPTH: tl.constexpr,
    RAYS: tl.constexpr,
):
    CELLS: tl.constexpr = 1 << DEPTH
    ray = tl.program_id(0).to(tl.int64) * RAYS + tl.arange(0, RAYS)
    exists = ray < n_rays
    size = tl.load(size_of)
    ox, sx, fixed_x, mirror_x = _axis(
        tl.load(origins + 3 * ray, mask=exists, other=0.0),
        tl.load(directions + 3 * ray, mask=exists, other=0.0),
        tl.load(box_min).to(tl.float64),
        size,
        CELLS,
        1,
    )
    oy, sy, fixed_y, mirror_y = _axis(
        tl.load(origins + 3 * ray + 1, mask=exists, other=0.0),
        tl.load(directions + 3 * ray + 1, mask=exists, other=0.0),
        tl.load(box_min + 1).to(tl.float64),
        size,
        CELLS,
        2,
    )
    oz, sz, fixed_z, mirror_z = _axis(
        tl.load(origins + 3 * ray + 2, mask=exists, other=0.0),
        tl.load(directions + 3 * ray + 2, mask=exists, other=0.0),
        tl.load(box_min + 2).to(tl.float64),
        size,
        CELLS,
        4,
    )
    mirror = tl.maximum(mirror_x, 0) | tl.maximum(mirror_y, 0) | tl.maximum(mirror_z, 0)
    alive = exists & (mirror_x >= 0) & (mirror_y >= 0) & (mirror_z >= 0)

    zero = tl.zeros([RAYS], tl.int32)
    t = tl.zeros([RAYS], tl.float64) + near
    leave = tl.zeros([RAYS], tl.float64) + far
    # A parallel axis has faces at 1e300 only: it neither enters nor leaves.
    t = tl.maximum(t, tl.where(sx < 1e299, _face(ox, sx, zero), t))
    t = tl.maximum(t, tl.where(sy < 1e299, _face(oy, sy, zero), t))
    t = tl.maximum(t, tl.where(sz < 1e299, _face(oz, sz, zero), t))
    leave = tl.minimum(leave, _face(ox, sx, zero + CELLS))
    leave = tl.minimum(leave, _face(oy, sy, zero + CELLS))
    leave = tl.minimum(leave, _face(oz, sz, zero + CELLS))
    alive = alive & (t < leave)

    out = tl.zeros([RAYS], tl.int64)
    if counts is None:
        out += tl.load(packed_info + 2 * ray, mask=exists, other=0)
    found = tl.zeros([RAYS], tl.int64)
    i, j, k = zero, zero, zero  # mirrored low corner of the cell, true down to `level`
    level = zero + DEPTH
    while tl.max(alive.to(tl.int32)) > 0:
        node = zero
        descending = alive
        exit, exit_x, exit_y, exit_z, edge = leave, leave, leave, leave, zero
        for down in range(DEPTH):
            below = DEPTH - 1 - down  # log2 of the children's edge
            half = zero + (1 << below)
            new = descending & (level > below)  # of this level nothing is known yet
            i = tl.where(new, i | _half_at(ox, sx, fixed_x, t, i, half), i)
            j = tl.where(new, j | _half_at(oy, sy, fixed_y, t, j, half), j)
            k = tl.where(new, k | _half_at(oz, sz, fixed_z, t, k, half), k)
            child = (i >> below & 1) | ((j >> below & 1) << 1) | ((k >> below & 1) << 2)
            at = children + node.to(tl.int64) * 8 + (child ^ mirror)
            id = tl.load(at, mask=descending, other=-1)
            x = _face(ox, sx, i + half)
            y = _face(oy, sy, j + half)
            z = _face(oz, sz, k + half)
            near_exit = tl.minimum(tl.minimum(x, y), z)
            exit = tl.where(descending, near_exit, exit)
            exit_x = tl.where(descending, x, exit_x)
            exit_y = tl.where(descending, y, exit_y)
            exit_z = tl.where(descending, z, exit_z)
            edge = tl.where(descending, half, edge)
            # Nodes that hold the last cell too were entered before.
            known = level < below
            descending = descending & (id >= 0) & (id < n_nodes) & (known | (t < near_exit))
            node = tl.where(descending, id, node)
        t_0 = t.to(tl.float32)
        t_1 = tl.minimum(exit, leave).to(tl.float32)
        hit = descending & (t_0 < t_1)  # all the way down
        if counts is None:
            tl.store(node_ids + out + found, node.to(tl.int64), mask=hit)
            tl.store(t_starts + out + found, t_0, mask=hit)
            tl.store(t_ends + out + found, t_1, mask=hit)
        found += hit.to(tl.int64)
        t = tl.where(alive, tl.maximum(t, exit), t)
        # Into the neighbour beyond each face that lies at the exit. The highest bit that changes
        # tells the level of the deepest node that holds both cells.
        to_i = i + tl.where(exit_x <= exit, edge, 0)
        to_j = j + tl.where(exit_y <= exit, edge, 0)
        to_k = k + tl.where(exit_z <= exit, edge, 0)
        changed = (i ^ to_i) | (j ^ to_j) | (k ^ to_k)
        alive = alive & (t < leave) & (found < most) & (changed > 0) & (changed < CELLS)
        level = tl.where(alive, _top_bit(tl.maximum(changed, 1)), level)
        keep = -(1 << level)
        i, j, k = to_i & keep, to_j & keep, to_k & keep
    if counts is not None:
        tl.store(counts + ray, found, mask=exists)


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
    check_float32(origins=origins, directions=directions, box_min=box_min)
    n, device = len(origins), origins.device
    common = (
        *(origins.contiguous(), directions.contiguous(), children.contiguous(), len(children)),
        *(box_min.contiguous(), torch.full((1,), size, dtype=torch.float64, device=device)),
        *(float(near), float(min(far, FAR_AWAY)), max_leaves_per_ray or 2**62, n),
    )
    constants = {"DEPTH": depth, "RAYS": RAYS, "num_warps": WARPS}
    programs = (triton.cdiv(n, RAYS) if len(children) else 0,)
    counts = torch.zeros(n, dtype=torch.int64, device=device)
    launch(_kernel, programs, *common, counts, None, None, None, None, **constants)
    ends = counts.cumsum(0)
    packed_info = torch.stack([ends - counts, counts], dim=1)
    total = int(ends[-1]) if n else 0
    node_ids = torch.empty(total, dtype=torch.int64, device=device)
    t_starts, t_ends = origins.new_empty(total), origins.new_empty(total)
    if total:
        results = packed_info, node_ids, t_starts, t_ends
        launch(_kernel, programs, *common, None, *results, **constants)
    return packed_info, node_ids, t_starts, t_ends


AOT = [
    Configuration(
        f"octree_traverse depth {depth} {name}",
        _kernel,
        f"*fp32 *fp32 *i32 i32 *fp32 *fp64 fp32 fp32 i64 i32 {outputs}",
        {"DEPTH": depth, "RAYS": RAYS},
        WARPS,
        max_registers=128,
    )
    for depth in (9,)
    for name, outputs in (
        ("count", "*i64 None None None None"),
        ("fill", "None *i64 *i64 *fp32 *fp32"),
    )
]
