"""Triton: rays through NSVF's voxels and network in one kernel. One ray a lane.

A round of a program's loop: lanes whose rays have ended take new ones; every lane moves on to its
next sample, whose embedding is interpolated and encoded; and the network says the densities of the
tile. A sample that needs a colour leaves its features in a queue. When that holds a tile of them,
the colour layers run, for full tiles alone, and add what comes out to the pixels.

Activations go from layer to layer through memory of the program, a few hundred kB that are written
again and again and stay in the L2 cache: W units of BLOCK samples have no room in registers.

Symbols as in the package docstring; W, DW columns of a layer, X_WIDE and VIEW of the encodings, all
widened by zeros to what `shared/dense_layout.py` says.
"""

import triton
import triton.language as tl

from nerfkit.kernels.shared.triton_math import fixed_turns, one_minus_exp, sine_of

STEP = tl.constexpr(64)  # columns of a product that are added up at once
RESULT = tl.constexpr(16)  # columns of sigma and of rgb, the least a tl.dot takes


@triton.jit
def _add_product(acc, x, wide: tl.constexpr, weights, columns, WIDE: tl.constexpr):
    """acc plus rows x [BLOCK] (pointers to `wide` columns) times weights [wide, WIDE][columns]."""
    step = tl.arange(0, STEP)
    for i in range(0, wide, STEP):
        left = tl.load(x[:, None] + (i + step)[None, :])
        right = tl.load(weights + (i + step)[:, None] * WIDE + columns[None, :])
        acc = tl.dot(left, right, acc=acc, input_precision="tf32x3")
    return acc


@triton.jit
def _layer(x, wide: tl.constexpr, weights, biases, to, WIDE: tl.constexpr, OUT: tl.constexpr):
    """Rows `to` = relu(rows x * weights + biases)."""
    for o in range(0, WIDE, OUT):
        columns = o + tl.arange(0, OUT)
        acc = tl.zeros([x.shape[0], OUT], tl.float32) + tl.load(biases + columns)[None, :]
        acc = _add_product(acc, x, wide, weights, columns, WIDE)
        acc = tl.maximum(acc, 0.0).to(to.dtype.element_ty)
        tl.store(to[:, None] + columns[None, :], acc)
    tl.debug_barrier()


@triton.jit
def _first_color_layer(
    x, views, weights, biases, to, W: tl.constexpr, VIEW: tl.constexpr, OUT: tl.constexpr
):
    """`_layer` of features and, behind them, encoded directions."""
    for o in range(0, W, OUT):
        columns = o + tl.arange(0, OUT)
        acc = tl.zeros([x.shape[0], OUT], tl.float32) + tl.load(biases + columns)[None, :]
        acc = _add_product(acc, x, W, weights, columns, W)
        acc = _add_product(acc, views, VIEW, weights + W * W, columns, W)
        acc = tl.maximum(acc, 0.0).to(to.dtype.element_ty)
        tl.store(to[:, None] + columns[None, :], acc)
    tl.debug_barrier()


@triton.jit
def _result(x, wide: tl.constexpr, weights, biases):
    """Raw [BLOCK, RESULT] of rows x."""
    columns = tl.arange(0, RESULT)
    acc = tl.zeros([x.shape[0], RESULT], tl.float32) + tl.load(biases + columns)[None, :]
    return _add_product(acc, x, wide, weights, columns, RESULT)


@triton.jit
def _embed(
    table, corners, voxel, u, mask, x, E: tl.constexpr, PADDED: tl.constexpr, FREQ: tl.constexpr
):
    """Write the encoded embeddings of places u in voxels [BLOCK] to rows x."""
    column = tl.arange(0, PADDED)[None, :]
    inside = column < E
    total = tl.zeros([x.shape[0], PADDED], tl.float32)
    for c in tl.static_range(8):
        weight = u[0] if c & 1 else 1.0 - u[0]
        weight *= u[1] if (c >> 1) & 1 else 1.0 - u[1]
        weight *= u[2] if (c >> 2) & 1 else 1.0 - u[2]
        row = tl.load(corners + voxel * 8 + c, mask=mask, other=0).to(tl.int64) * E
        at = table + row[:, None] + column
        value = tl.load(at, mask=inside & mask[:, None], other=0.0).to(tl.float32)
        total += weight[:, None] * value
    to = x[:, None] + column
    kind = x.dtype.element_ty
    tl.store(to, total.to(kind), mask=inside)
    fixed = fixed_turns(total)
    for k in tl.static_range(FREQ):
        tl.store(to + (1 + 2 * k) * E, sine_of(fixed, k, 0).to(kind), mask=inside)
        tl.store(to + (2 + 2 * k) * E, sine_of(fixed, k, 1).to(kind), mask=inside)
    tl.debug_barrier()


# Values that change from scene to scene, or as a fit goes on: no new compilation for any of them.
RUNTIME = [
    *("n_rays", "box_x", "box_y", "box_z", "edge", "step"),
    *("density_scale", "dark", "weight_min"),
]


@triton.jit(do_not_specialize=RUNTIME)
def march_kernel(
    # rays and what they cross
    origins,
    directions,
    views,  # [R, VIEW] encoded directions
    first,
    count,
    low,
    lengths,
    ends,
    t_starts,
    leaves,
    where,  # [sum of the samples of all rays] places in stretches
    starts,  # [R] of each ray's samples among these
    n_rays,
    # field
    lows,
    corners,
    table,
    weights,
    biases,
    # room of the programs
    room,
    queue,
    queue_rays,
    queue_weights,
    # results
    colors,  # added to
    depths,
    opacities,
    kept,  # [R] samples
    kept_t,
    kept_steps,
    kept_voxels,
    kept_places,
    counter,
    asked,
    # settings
    box_x,
    box_y,
    box_z,
    edge,
    step,
    density_scale,
    dark,
    weight_min,
    RANDOM: tl.constexpr,
    SHADE: tl.constexpr,
    E: tl.constexpr,
    PADDED: tl.constexpr,
    FREQ: tl.constexpr,
    X_WIDE: tl.constexpr,
    W: tl.constexpr,
    DW: tl.constexpr,
    VIEW: tl.constexpr,
    N_FEATURE: tl.constexpr,
    N_COLOR: tl.constexpr,
    OUT: tl.constexpr,
    DOUT: tl.constexpr,
    BLOCK: tl.constexpr,
    REGEN: tl.constexpr,
):
    """With SHADE pixels (without background), else samples, `kept` of them a ray."""
    MOST: tl.constexpr = W if W > DW else DW
    ROW: tl.constexpr = X_WIDE + 2 * MOST
    lane = tl.arange(0, BLOCK)
    program = tl.program_id(0).to(tl.int64)
    x = room + program * BLOCK * ROW + lane * ROW
    queue += program * 2 * BLOCK * W
    queue_rays += program * 2 * BLOCK
    queue_weights += program * 2 * BLOCK

    none, zero = tl.zeros([BLOCK], tl.int32), tl.zeros([BLOCK], tl.float32)
    ray, n, n_kept, total = none - 1, none, none, none
    index, last = none.to(tl.int64), none.to(tl.int64)
    alive = none > 0
    ox, oy, oz, vx, vy, vz = zero, zero, zero, zero, zero, zero
    begin, length = zero.to(tl.float64), zero
    thick, through, depth, opacity = zero, zero, zero, zero
    seen = none
    n_queue = tl.full([], 0, tl.int32)
    n_idle = tl.full([], BLOCK, tl.int32)
    left = tl.full([], 1, tl.int32)
    working = tl.full([], 1, tl.int32)

    while working > 0:
        if (left > 0) & (n_idle >= REGEN):
            idle = ~alive
            ended = idle & (ray >= 0)
            tl.store(depths + ray, depth, mask=ended)
            tl.store(opacities + ray, opacity, mask=ended)
            tl.store(kept + ray, n_kept, mask=ended)
            base = tl.atomic_add(counter, n_idle, sem="relaxed")
            fresh = base + tl.cumsum(idle.to(tl.int32), 0) - 1
            begun = idle & (fresh < n_rays)
            left = tl.where(base + n_idle < n_rays, 1, 0)
            ray = tl.where(idle, tl.where(begun, fresh, -1), ray)
            at = ray.to(tl.int64) * 3
            vx = tl.where(begun, tl.load(directions + at, mask=begun, other=0.0), vx)
            vy = tl.where(begun, tl.load(directions + at + 1, mask=begun, other=0.0), vy)
            vz = tl.where(begun, tl.load(directions + at + 2, mask=begun, other=0.0), vz)
            ox = tl.where(begun, tl.load(origins + at, mask=begun, other=0.0), ox)
            oy = tl.where(begun, tl.load(origins + at + 1, mask=begun, other=0.0), oy)
            oz = tl.where(begun, tl.load(origins + at + 2, mask=begun, other=0.0), oz)
            length = tl.where(begun, tl.load(lengths + ray, mask=begun, other=0.0), length)
            begin = tl.where(begun, tl.load(low + ray, mask=begun, other=0.0), begin)
            new_first = tl.load(first + ray, mask=begun, other=0)
            new_count = tl.load(count + ray, mask=begun, other=0)
            index = tl.where(begun, new_first, index)
            last = tl.where(begun, new_first + new_count - 1, last)
            total = tl.where(begun, tl.ceil(length / step).to(tl.int32), total)
            n, n_kept = tl.where(begun, 0, n), tl.where(begun, 0, n_kept)
            thick, through = tl.where(begun, 0.0, thick), tl.where(begun, 0.0, through)
            depth, opacity = tl.where(begun, 0.0, depth), tl.where(begun, 0.0, opacity)
            alive = alive | (begun & (total > 0) & (dark > 0.0))
            n_idle = BLOCK - tl.sum(alive.to(tl.int32), 0)

        if n_idle < BLOCK:
            s = n.to(tl.float32) * step
            stretch = tl.minimum(tl.maximum(length - s, 0.0), step)
            part = zero + 0.5
            start = none.to(tl.int64)
            if RANDOM or not SHADE:
                start = tl.load(starts + ray, mask=alive, other=0)
            if RANDOM:
                part = tl.load(where + start + n, mask=alive, other=0.5)
            place = begin + (s + part * stretch).to(tl.float64)
            more = alive & (index < last)
            more = more & (tl.load(ends + index + 1, mask=more, other=0.0) <= place)
            moving = tl.sum(more.to(tl.int32), 0)
            while moving > 0:
                index += more.to(tl.int64)
                more = more & (index < last)
                more = more & (tl.load(ends + index + 1, mask=more, other=0.0) <= place)
                moving = tl.sum(more.to(tl.int32), 0)
            t = tl.load(t_starts + index, mask=alive, other=0.0)
            t += (place - tl.load(ends + index, mask=alive, other=0.0)).to(tl.float32)
            voxel = tl.load(leaves + index, mask=alive, other=0)
            ux = (ox + t * vx - box_x) / edge - tl.load(lows + voxel * 3, mask=alive, other=0.0)
            uy = (oy + t * vy - box_y) / edge - tl.load(lows + voxel * 3 + 1, mask=alive, other=0.0)
            uz = (oz + t * vz - box_z) / edge - tl.load(lows + voxel * 3 + 2, mask=alive, other=0.0)
            ux = tl.minimum(tl.maximum(ux, 0.0), 1.0)
            uy = tl.minimum(tl.maximum(uy, 0.0), 1.0)
            uz = tl.minimum(tl.maximum(uz, 0.0), 1.0)

            _embed(table, corners, voxel, (ux, uy, uz), alive, x, E, PADDED, FREQ)
            even, bias = x + X_WIDE, biases
            w = weights + X_WIDE * W
            _layer(x, X_WIDE, weights, bias, even, W, OUT)
            for i in range(N_FEATURE - 1):
                bias += W
                _layer(even + i % 2 * MOST, W, w, bias, even + (i + 1) % 2 * MOST, W, OUT)
                w += W * W
            a, b = even + (N_FEATURE - 1) % 2 * MOST, even + N_FEATURE % 2 * MOST
            bias += W
            _layer(a, W, w, bias, b, DW, DOUT)
            w, bias = w + W * DW, bias + DW
            raw = _result(b, DW, w, bias)
            channel = tl.arange(0, RESULT)[None, :]
            sigma = tl.sum(tl.where(channel == 0, raw, 0.0), 1)

            tau = tl.maximum(sigma, 0.0) * stretch * density_scale
            fresh_light = one_minus_exp(tau)
            wanted = alive & (tl.exp(-thick) * fresh_light > weight_min)
            thick = tl.where(alive, thick + tau, thick)
            weight = tl.where(wanted, tl.exp(-through) * fresh_light, 0.0)
            through = tl.where(wanted, through + tau, through)
            depth += weight * t
            opacity += weight
            seen += alive.to(tl.int32)
            if SHADE:
                slot = n_queue + tl.cumsum(wanted.to(tl.int32), 0) - 1
                to = queue + slot * W
                for o in range(0, W, STEP):
                    columns = o + tl.arange(0, STEP)
                    features = tl.load(a[:, None] + columns[None, :])
                    tl.store(to[:, None] + columns[None, :], features, mask=wanted[:, None])
                tl.store(queue_rays + slot, ray, mask=wanted)
                tl.store(queue_weights + slot, weight, mask=wanted)
                n_queue += tl.sum(wanted.to(tl.int32), 0)
                tl.debug_barrier()
            else:
                at = start + n_kept
                tl.store(kept_t + at, t, mask=wanted)
                tl.store(kept_steps + at, stretch, mask=wanted)
                tl.store(kept_voxels + at, voxel, mask=wanted)
                tl.store(kept_places + 3 * at, ux, mask=wanted)
                tl.store(kept_places + 3 * at + 1, uy, mask=wanted)
                tl.store(kept_places + 3 * at + 2, uz, mask=wanted)
            n_kept += wanted.to(tl.int32)
            n += alive.to(tl.int32)
            alive = alive & (n < total) & (thick < dark)
            n_idle = BLOCK - tl.sum(alive.to(tl.int32), 0)

        if SHADE:
            ending = (n_idle == BLOCK) & (left == 0) & (n_queue > 0)
            if (n_queue >= BLOCK) | ending:
                bottom = tl.maximum(n_queue - BLOCK, 0)
                slot = bottom + lane
                exists = slot < n_queue
                owner = tl.load(queue_rays + slot, mask=exists, other=0)
                weight = tl.load(queue_weights + slot, mask=exists, other=0.0)
                view = views + owner.to(tl.int64) * VIEW
                even = x + X_WIDE
                w = weights + X_WIDE * W + (N_FEATURE - 1) * W * W + W * DW + DW * RESULT
                bias = biases + N_FEATURE * W + DW + RESULT
                _first_color_layer(queue + slot * W, view, w, bias, even, W, VIEW, OUT)
                w, bias = w + (W + VIEW) * W, bias + W
                for i in range(N_COLOR - 1):
                    _layer(even + i % 2 * MOST, W, w, bias, even + (i + 1) % 2 * MOST, W, OUT)
                    w, bias = w + W * W, bias + W
                a = even + (N_COLOR - 1) % 2 * MOST
                rgb = tl.sigmoid(_result(a, W, w, bias)) * weight[:, None]
                channel = tl.arange(0, RESULT)[None, :]
                to = colors + owner.to(tl.int64)[:, None] * 3 + channel
                tl.atomic_add(to, rgb, mask=exists[:, None] & (channel < 3), sem="relaxed")
                n_queue = bottom
        working = tl.where((n_idle < BLOCK) | (left > 0) | (n_queue > 0), 1, 0)

    tl.store(depths + ray, depth, mask=ray >= 0)
    tl.store(opacities + ray, opacity, mask=ray >= 0)
    tl.store(kept + ray, n_kept, mask=ray >= 0)
    tl.atomic_add(asked, tl.sum(seen, 0).to(tl.int64), sem="relaxed")
