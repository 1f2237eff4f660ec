"""The Triton kernel of baked scenes. One ray a lane; a lane whose ray has ended takes the next.

A round of a program's loop is that of `fused_render`: idle lanes take rays from a global counter;
every lane marches up to INNER points and waits at the first sample that has a colour; then what is
stored round the waiting ones is added up, 32 values a ray, which the harmonics of its direction are
applied to once, at its end (`gpu_colors.py`). Symbols as in the package docstring and in `grid.py`.
"""

import triton
import triton.language as tl

from nerfkit.kernels.fused_render.gpu_forward import load_ray
from nerfkit.kernels.fused_render.gpu_march import lattice_range, locate, thickness
from nerfkit.kernels.shared.triton_math import one_minus_exp

from .gpu_colors import (
    COMPARE,
    RENDER,
    ROW,
    SCATTER,
    at_corner,
    derivatives,
    finish,
    look_up,
    share_of,
)

__all__ = ["COMPARE", "RENDER", "SCATTER", "march_kernel"]


@triton.jit
def _exit(o, d, low, high):
    """Distance to the face by which a ray leaves low .. high, along one axis."""
    parallel = tl.abs(d) < 1e-12
    face = tl.where(d > 0.0, high, low).to(tl.float32)
    return tl.where(parallel, 1e30, (face - o) / tl.where(parallel, 1.0, d))


@triton.jit
def _beyond(o, v, voxel, cell, distance, k, step):
    """The first k that may lie beyond an empty voxel or, `distance` > 0, the empty blocks round it.

    A hair less than the face says, so that a point on the face is looked at itself.
    """
    t = tl.full(k.shape, 1e30, tl.float32)
    for axis in tl.static_range(3):
        block = cell[axis] >> 2
        low = tl.where(distance > 0, (block - distance + 1) * 4, cell[axis])
        high = tl.where(distance > 0, (block + distance) * 4, cell[axis] + 1)
        t = tl.minimum(t, _exit(o[axis], v[axis] / voxel, low, high))
    jump = tl.minimum(tl.maximum(t / step - 0.501, -1.0), 1e9)
    return tl.maximum(jump.to(tl.int32) + 1, k + 1)


@triton.jit
def _inside(p, cell):
    """Where in its voxel a point is, 0 .. 1."""
    x, y, z = cell
    return p[0] - x.to(tl.float32), p[1] - y.to(tl.float32), p[2] - z.to(tl.float32)


RUNTIME = [
    *("n_rays", "back_stride", "resolution", "box_x", "box_y", "box_z", "voxel", "step", "near"),
    *("far", "optical_stop", "weight_min", "density_scale", "density_bias", "raw_low", "raw_step"),
]


@triton.jit(do_not_specialize=RUNTIME)
def march_kernel(
    # rays
    origins,
    directions,
    backgrounds,
    back_stride,
    n_rays,
    # scene
    places,
    distances,
    words,  # as pairs of int32
    density,
    ranks,
    first,
    first_brick,
    records,  # bytes; or values [V, 24] float32 with `rows`
    rows,
    levels,
    bricks,  # bytes; or values [F, 8] float32 with `detail_rows`
    detail_rows,
    detail_levels,
    resolution,
    # results
    colors,
    depths,
    opacities,
    max_weights,
    targets,
    losses,
    changes,  # [R, 3]
    grads,  # [V, 24]
    touched,
    detail_grads,  # [F, 8]
    detail_touched,
    counter,
    # settings
    box_x,
    box_y,
    box_z,
    voxel,
    step,
    near,
    far,
    optical_stop,
    weight_min,
    density_scale,
    density_bias,
    raw_low,
    raw_step,
    MODE: tl.constexpr,
    HAS_MAX: tl.constexpr,
    BLOCK: tl.constexpr,
    INNER: tl.constexpr,
    FILL: tl.constexpr,
    REGEN: tl.constexpr,
):
    n_blocks = (resolution + 3) // 4
    zero = tl.zeros([BLOCK], tl.float32)
    none = tl.zeros([BLOCK], tl.int32)
    ray, k, k_end = none - 1, none, none
    alive, waiting = none > 0, none > 0
    ox, oy, oz, vx, vy, vz, t_out = zero, zero, zero, zero, zero, zero, zero
    depth, opacity, thick, total, t_wait, w_wait = zero, zero, zero, zero, zero, zero
    s_0, s_1 = tl.zeros([BLOCK, 8], tl.float32), tl.zeros([BLOCK, 8], tl.float32)
    s_2, s_3 = tl.zeros([BLOCK, 8], tl.float32), tl.zeros([BLOCK, 8], tl.float32)
    n_idle = tl.full([], BLOCK, tl.int32)
    left = tl.full([], 1, tl.int32)
    working = tl.full([], 1, tl.int32)
    half = tl.full([BLOCK], 0.5, tl.float32)

    while working > 0:
        if (n_idle >= REGEN) & ((left > 0) | (n_idle == BLOCK)):
            idle = ~(alive | waiting)
            ended = idle & (ray >= 0)
            if MODE != SCATTER:
                v = vx, vy, vz
                red, green, blue, share, behind = finish(
                    (s_0, s_1, s_2, s_3), total, opacity, v, levels, detail_levels, MODE == RENDER
                )
                back, at = ray.to(tl.int64) * back_stride, ray.to(tl.int64) * 3
                red += behind * tl.load(backgrounds + back, mask=ended, other=0.0)
                green += behind * tl.load(backgrounds + back + 1, mask=ended, other=0.0)
                blue += behind * tl.load(backgrounds + back + 2, mask=ended, other=0.0)
                if MODE == RENDER:
                    tl.store(colors + at, red, mask=ended)
                    tl.store(colors + at + 1, green, mask=ended)
                    tl.store(colors + at + 2, blue, mask=ended)
                    tl.store(depths + ray, depth, mask=ended)
                    tl.store(opacities + ray, opacity, mask=ended)
                else:
                    red -= tl.load(targets + at, mask=ended, other=0.0)
                    green -= tl.load(targets + at + 1, mask=ended, other=0.0)
                    blue -= tl.load(targets + at + 2, mask=ended, other=0.0)
                    tl.store(losses + ray, red * red + green * green + blue * blue, mask=ended)
                    tl.store(changes + at, 2.0 * share * red, mask=ended)
                    tl.store(changes + at + 1, 2.0 * share * green, mask=ended)
                    tl.store(changes + at + 2, 2.0 * share * blue, mask=ended)
            base = tl.atomic_add(counter, n_idle, sem="relaxed")
            fresh = base + tl.cumsum(idle.to(tl.int32), 0) - 1
            fresh = tl.where(fresh < n_rays, fresh, -1)
            ray = tl.where(idle, fresh, ray)
            begun = idle & (fresh >= 0)
            left = tl.where(base + n_idle < n_rays, 1, 0)
            nox, noy, noz, nvx, nvy, nvz, _shift = load_ray(
                origins, directions, origins, fresh, begun, box_x, box_y, box_z, voxel, False
            )
            start, end, out = lattice_range(
                (nox, noy, noz), (nvx, nvy, nvz), voxel, half, step, near, far, resolution
            )
            ox, oy = tl.where(begun, nox, ox), tl.where(begun, noy, oy)
            oz, vx = tl.where(begun, noz, oz), tl.where(begun, nvx, vx)
            vy, vz = tl.where(begun, nvy, vy), tl.where(begun, nvz, vz)
            t_out, k = tl.where(begun, out, t_out), tl.where(begun, start, k)
            k_end, depth = tl.where(begun, end, k_end), tl.where(begun, 0.0, depth)
            opacity, thick = tl.where(begun, 0.0, opacity), tl.where(begun, 0.0, thick)
            total = tl.where(begun, 0.0, total)
            if MODE == SCATTER:
                at = fresh.to(tl.int64) * 3
                red = tl.load(changes + at, mask=begun, other=0.0)
                green = tl.load(changes + at + 1, mask=begun, other=0.0)
                blue = tl.load(changes + at + 2, mask=begun, other=0.0)
                octets, v = (s_0, s_1, s_2, s_3), (vx, vy, vz)
                s_0, s_1, s_2, s_3 = derivatives(octets, red, green, blue, v, begun)
            else:
                new = begun[:, None]
                s_0, s_1 = tl.where(new, 0.0, s_0), tl.where(new, 0.0, s_1)
                s_2, s_3 = tl.where(new, 0.0, s_2), tl.where(new, 0.0, s_3)
            alive = alive | (begun & (thick <= optical_stop))

        for _ in range(INNER):
            t = (k.to(tl.float32) + 0.5) * step
            alive = alive & (waiting | ((k < k_end) & (t < t_out)))
            going = alive & ~waiting
            o, v = (ox, oy, oz), (vx, vy, vz)
            p, cell = locate(o, v, voxel, t, resolution)
            flat = ((cell[2] >> 2) * n_blocks + (cell[1] >> 2)) * n_blocks + (cell[0] >> 2)
            distance = tl.load(distances + flat, mask=going, other=1).to(tl.int32)
            stored = going & (distance == 0)
            block = tl.load(places + flat, mask=stored, other=0)
            inner = (cell[0] & 3) + 4 * (cell[1] & 3) + 16 * (cell[2] & 3)
            bits = tl.load(words + (block * 2 + (inner >> 5)), mask=stored, other=0)
            sample = stored & (((bits >> (inner & 31)) & 1) == 1)
            raw = tl.zeros([BLOCK], tl.float32)
            f = _inside(p, cell)
            for c in tl.static_range(8):
                at = density + block.to(tl.int64) * ROW + at_corner(cell, c)
                raw += share_of(f, c) * tl.load(at, mask=sample, other=0).to(tl.float32)
            tau, _slope = thickness(raw_low + raw_step * raw, density_scale, density_bias, step)
            weight = tl.where(sample, tl.exp(-thick) * one_minus_exp(tau), 0.0)
            depth += weight * t
            opacity += weight
            thick = tl.where(sample, thick + tau, thick)
            # what is left is not seen to pass
            rest = tl.where(sample & (thick > optical_stop), tl.exp(-thick), 0.0)
            depth += rest * t
            opacity += rest
            if HAS_MAX:
                at = max_weights + block.to(tl.int64) * 64 + inner
                known = tl.load(at, mask=sample, other=0.0)
                tl.atomic_max(at, weight, mask=sample & (weight > known), sem="relaxed")
            colored = sample & (weight > weight_min)
            waiting = waiting | colored
            t_wait, w_wait = tl.where(colored, t, t_wait), tl.where(colored, weight, w_wait)
            beyond = _beyond(o, v, voxel, cell, distance, k, step)
            k = tl.where(sample, k + 1, tl.where(going, beyond, k))
            alive = alive & (thick <= optical_stop)

        # three counts in one reduction: lanes that wait, that can march, and that are idle
        marching = alive & ~waiting
        code = tl.sum(waiting.to(tl.int32) + (marching.to(tl.int32) << 10), 0)
        n_waiting, n_marching = code & 1023, code >> 10
        n_idle = BLOCK - n_waiting - n_marching
        if (n_waiting >= FILL) | ((n_marching == 0) & (n_waiting > 0)):
            p, cell = locate((ox, oy, oz), (vx, vy, vz), voxel, t_wait, resolution)
            flat = ((cell[2] >> 2) * n_blocks + (cell[1] >> 2)) * n_blocks + (cell[0] >> 2)
            block = tl.load(places + flat, mask=waiting, other=0)
            inner = (cell[0] & 3) + 4 * (cell[1] & 3) + 16 * (cell[2] & 3)
            s_0, s_1, s_2, s_3 = look_up(
                (s_0, s_1, s_2, s_3), _inside(p, cell), cell, block, inner, w_wait, waiting,
                words, first_brick, ranks, first, records, rows, grads, touched,
                bricks, detail_rows, detail_grads, detail_touched, MODE,
            )  # fmt: skip
            total = tl.where(waiting, total + w_wait, total)
            waiting = none > 0
            n_idle = BLOCK - tl.sum(alive.to(tl.int32), 0)
        # a last round writes the rays that ended when none was left to take
        unwritten = tl.max(tl.where(ray >= 0, 1, 0), 0)
        working = tl.where((n_idle < BLOCK) | (left > 0) | (unwritten > 0), 1, 0)
