"""Triton: what a lane takes when it begins a ray, and what it leaves behind. One ray a lane.

Symbols as in the package docstring.
"""

import triton
import triton.language as tl

from .reference import DEPTH_ERROR as _DEPTH_ERROR

DEPTH_ERROR = tl.constexpr(_DEPTH_ERROR)


@triton.jit
def load_ray(
    origins, directions, jitter, ray, mask, box_x, box_y, box_z, voxel, HAS_JITTER: tl.constexpr
):
    """Origin and direction in voxels, unit direction, and jitter of rays [B].

    A ray that is no numbers stands still at the origin: it has no samples, but NaN without weight
    would stay NaN.
    """
    at = ray.to(tl.int64) * 3
    vx = tl.load(directions + at, mask=mask, other=1.0)
    vy = tl.load(directions + at + 1, mask=mask, other=0.0)
    vz = tl.load(directions + at + 2, mask=mask, other=0.0)
    ox = (tl.load(origins + at, mask=mask, other=0.0) - box_x) / voxel
    oy = (tl.load(origins + at + 1, mask=mask, other=0.0) - box_y) / voxel
    oz = (tl.load(origins + at + 2, mask=mask, other=0.0) - box_z) / voxel
    sane = tl.abs(ox) + tl.abs(oy) + tl.abs(oz) + tl.abs(vx) + tl.abs(vy) + tl.abs(vz) < 1e30
    vx, vy, vz = tl.where(sane, vx, 0.0), tl.where(sane, vy, 0.0), tl.where(sane, vz, 0.0)
    ox, oy, oz = tl.where(sane, ox, 0.0), tl.where(sane, oy, 0.0), tl.where(sane, oz, 0.0)
    shift = tl.full(ray.shape, 0.5, tl.float32)
    if HAS_JITTER:
        shift = tl.load(jitter + ray, mask=mask, other=0.5)
    return ox, oy, oz, vx, vy, vz, shift


@triton.jit
def write_rays(
    colors,
    depths,
    opacities,
    last,
    optical,
    backgrounds,
    back_stride,
    ray,
    mask,
    red,
    green,
    blue,
    depth,
    opacity,
    k_last,
    before,
    HAS_BACK: tl.constexpr,
    SAVE: tl.constexpr,
):
    """Pixels of rays that have ended, and what the backward needs of them."""
    at = ray.to(tl.int64) * 3
    if HAS_BACK:
        back = ray.to(tl.int64) * back_stride
        through = 1.0 - opacity
        red += through * tl.load(backgrounds + back, mask=mask, other=0.0)
        green += through * tl.load(backgrounds + back + 1, mask=mask, other=0.0)
        blue += through * tl.load(backgrounds + back + 2, mask=mask, other=0.0)
    tl.store(colors + at, red, mask=mask)
    tl.store(colors + at + 1, green, mask=mask)
    tl.store(colors + at + 2, blue, mask=mask)
    tl.store(depths + ray, depth, mask=mask)
    tl.store(opacities + ray, opacity, mask=mask)
    if SAVE:
        tl.store(last + ray, k_last, mask=mask)
        tl.store(optical + ray, before, mask=mask)


@triton.jit
def upstream(pixels, seen, given, ray, mask, FIT: tl.constexpr, DEPTH: tl.constexpr):
    """dL/dcolor, dL/ddepth and dL/dopacity of rays [B]; with FIT those of the squared error.

    DEPTH: with that of the depths also.
    """
    colors, targets, scale, squared = pixels
    depths, depth_targets, depth_weight = seen
    g_colors, g_depths, g_opacities = given
    at = ray.to(tl.int64) * 3
    if FIT:
        red = tl.load(colors + at, mask=mask, other=0.0)
        green = tl.load(colors + at + 1, mask=mask, other=0.0)
        blue = tl.load(colors + at + 2, mask=mask, other=0.0)
        red -= tl.load(targets + at, mask=mask, other=0.0)
        green -= tl.load(targets + at + 1, mask=mask, other=0.0)
        blue -= tl.load(targets + at + 2, mask=mask, other=0.0)
        tl.store(squared + ray, red * red + green * green + blue * blue, mask=mask)
        double = 2.0 * scale
        none = 0.0 * red
        along = none
        if DEPTH:
            known = tl.load(depth_targets + ray, mask=mask, other=0.0)
            wanted = tl.where(known > 0.0, known, 1.0)
            error = tl.load(depths + ray, mask=mask, other=0.0) / wanted - 1.0
            error = tl.minimum(tl.maximum(error, -DEPTH_ERROR), DEPTH_ERROR)
            along = tl.where(known > 0.0, double * depth_weight * error / wanted, 0.0)
        return double * red, double * green, double * blue, along, none
    else:
        red = tl.load(g_colors + at, mask=mask, other=0.0)
        green = tl.load(g_colors + at + 1, mask=mask, other=0.0)
        blue = tl.load(g_colors + at + 2, mask=mask, other=0.0)
        along = tl.load(g_depths + ray, mask=mask, other=0.0)
        cover = tl.load(g_opacities + ray, mask=mask, other=0.0)
        return red, green, blue, along, cover


@triton.jit
def add_ray(grad_rays, row, mask, go, gd, voxel):
    """Add gradients (x, y, z) [B] of origins and directions, for voxels, to `grad_rays`."""
    at = grad_rays + row.to(tl.int64) * 6
    tl.atomic_add(at, go[0] / voxel, mask=mask, sem="relaxed")
    tl.atomic_add(at + 1, go[1] / voxel, mask=mask, sem="relaxed")
    tl.atomic_add(at + 2, go[2] / voxel, mask=mask, sem="relaxed")
    tl.atomic_add(at + 3, gd[0] / voxel, mask=mask, sem="relaxed")
    tl.atomic_add(at + 4, gd[1] / voxel, mask=mask, sem="relaxed")
    tl.atomic_add(at + 5, gd[2] / voxel, mask=mask, sem="relaxed")
