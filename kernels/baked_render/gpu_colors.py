"""Colours in the Triton kernel of baked scenes: what is stored round a sample, and a ray's pixel.

Symbols: B rays, one a lane; f = (x, y, z) the place [B] of a sample in its voxel, 0 .. 1; v = (x,
y, z) unit directions [B]. A ray adds up 24 values of records and 8 of details in four octets
[B, 8], the bytes of one 64-bit load each: a record's three, then the detail.
"""

import triton
import triton.language as tl

from nerfkit.kernels.fused_render.gpu_network import harmonics_of

from .grid import BANDS as _BANDS
from .grid import BRICK as _BRICK
from .grid import COLOURED as _COLOURED
from .grid import DETAIL as _DETAIL
from .grid import GREYS as _GREYS
from .grid import HARMONICS as _HARMONICS
from .grid import RECORD as _RECORD
from .grid import ROW as _ROW

BANDS, HARMONICS, COLOURED = tl.constexpr(_BANDS), tl.constexpr(_HARMONICS), tl.constexpr(_COLOURED)
GREYS, RECORD, DETAIL = tl.constexpr(_GREYS), tl.constexpr(_RECORD), tl.constexpr(_DETAIL)
BRICK, ROW = tl.constexpr(_BRICK), tl.constexpr(_ROW)
OCTETS = tl.constexpr(4)
GREY = tl.constexpr(3)  # the channel of a coefficient that all of RGB have
RENDER = tl.constexpr(0)  # pixels
COMPARE = tl.constexpr(1)  # errors, and by how much a ray's sums of RGB change them
SCATTER = tl.constexpr(2)  # that, times harmonics and the shares of samples, to the corners


@triton.jit
def share_of(f, c: tl.constexpr):
    """Trilinear weight of corner c."""
    x = f[0] if c & 1 else 1.0 - f[0]
    y = f[1] if (c >> 1) & 1 else 1.0 - f[1]
    z = f[2] if c >> 2 else 1.0 - f[2]
    return x * y * z


@triton.jit
def _share_at(f, c):
    """The same, of a corner known at run time."""
    i, j, k = c & 1, c >> 1 & 1, c >> 2
    x, y = (1 - i) + (2 * i - 1) * f[0], (1 - j) + (2 * j - 1) * f[1]
    return x * y * ((1 - k) + (2 * k - 1) * f[2])


@triton.jit
def at_corner(cell, c):
    """Number in its block of corner c of a voxel."""
    lowest = (cell[0] & 3) + 5 * (cell[1] & 3) + 25 * (cell[2] & 3)
    return lowest + ((c & 1) + 5 * (c >> 1 & 1) + 25 * (c >> 2))


@triton.jit
def _bits(x):
    """How many bits of uint32 are set."""
    x = x - ((x >> 1) & 0x55555555)
    x = (x & 0x33333333) + ((x >> 2) & 0x33333333)
    x = (x + (x >> 4)) & 0x0F0F0F0F
    x = x + (x >> 8)
    return ((x + (x >> 16)) & 63).to(tl.int32)


@triton.jit
def brick_of(words, first_brick, block, inner, mask):
    """Number of the brick of voxel `inner` of a block: occupied voxels before it are counted."""
    at = words + block * 2
    low = tl.load(at, mask=mask, other=0).to(tl.uint32, bitcast=True)
    high = tl.load(at + 1, mask=mask, other=0).to(tl.uint32, bitcast=True)
    one = tl.full(inner.shape, 1, tl.uint32)
    before = (one << (inner & 31).to(tl.uint32)) - one
    upper = inner > 31
    count = _bits(tl.where(upper, low, low & before))
    count += tl.where(upper, _bits(high & before), 0)
    return tl.load(first_brick + block, mask=mask, other=0) + count


@triton.jit
def look_up(
    octets, f, cell, block, inner, weight, mask, words, first_brick, ranks, first,
    records, rows, grads, touched, bricks, detail_rows, detail_grads, detail_touched,
    MODE: tl.constexpr,
):  # fmt: skip
    """Add to octets what is stored round samples; or, SCATTER, the octets to what is stored."""
    column = tl.arange(0, 8)[None, :]
    s_0, s_1, s_2, s_3 = octets
    weight = tl.where(mask, weight, 0.0)
    # Floats of all corners at once would take more registers than there are.
    PARTS: tl.constexpr = 4 if MODE == COMPARE else 1
    wide = mask[:, None]
    record = tl.load(first + block, mask=mask, other=0)
    for part in range(PARTS):
        for q in tl.static_range(8 // PARTS):
            c = part * (8 // PARTS) + q
            at = ranks + block.to(tl.int64) * ROW + at_corner(cell, c)
            row = record + tl.load(at, mask=mask, other=0).to(tl.int32)
            if MODE != RENDER:
                row = tl.load(rows + row, mask=mask, other=0)
            share = (weight * _share_at(f, c))[:, None]
            at = row.to(tl.int64)[:, None] * RECORD + column
            if MODE == SCATTER:
                tl.atomic_add(grads + at, share * s_0, mask=wide, sem="relaxed")
                tl.atomic_add(grads + (at + 8), share * s_1, mask=wide, sem="relaxed")
                tl.atomic_add(grads + (at + 16), share * s_2, mask=wide, sem="relaxed")
                tl.store(touched + row, tl.full(row.shape, 1, tl.uint8), mask=mask)
            else:
                s_0 += share * tl.load(records + at, mask=wide, other=0).to(tl.float32)
                s_1 += share * tl.load(records + (at + 8), mask=wide, other=0).to(tl.float32)
                s_2 += share * tl.load(records + (at + 16), mask=wide, other=0).to(tl.float32)
    brick = brick_of(words, first_brick, block, inner, mask)
    i, j, k = (f[0] >= 0.5).to(tl.int32), (f[1] >= 0.5).to(tl.int32), (f[2] >= 0.5).to(tl.int32)
    half = (
        2.0 * f[0] - i.to(tl.float32),
        2.0 * f[1] - j.to(tl.float32),
        2.0 * f[2] - k.to(tl.float32),
    )
    lowest = brick.to(tl.int64) * BRICK + (i + 3 * j + 9 * k)
    for part in range(PARTS):
        for q in tl.static_range(8 // PARTS):
            c = part * (8 // PARTS) + q
            row = lowest + ((c & 1) + 3 * (c >> 1 & 1) + 9 * (c >> 2))
            if MODE != RENDER:
                row = tl.load(detail_rows + row, mask=mask, other=0).to(tl.int64)
            share = (weight * _share_at(half, c))[:, None]
            at = row[:, None] * DETAIL + column
            if MODE == SCATTER:
                tl.atomic_add(detail_grads + at, share * s_3, mask=wide, sem="relaxed")
                tl.store(detail_touched + row, tl.full(row.shape, 1, tl.uint8), mask=mask)
            else:
                s_3 += share * tl.load(bricks + at, mask=wide, other=0).to(tl.float32)
    return s_0, s_1, s_2, s_3


@triton.jit
def _channel(octet: tl.constexpr):
    """Which of RGB, or GREY, each value of an octet belongs to."""
    column = tl.arange(0, 8)[None, :]
    if octet < 3:
        number = 8 * octet + column
        return tl.where(number < 3 * COLOURED, number % 3, GREY)
    else:
        return tl.where(column < 3, column, GREY)


@triton.jit
def _factors(v, octet: tl.constexpr):
    """The harmonic [B, 8] that each value of an octet is multiplied by; 1 and 0 are 16 and 17."""
    column = tl.arange(0, 8)[None, :]
    if octet < 3:
        number = 8 * octet + column
        which = tl.where(number < 3 * COLOURED, number // 3, number - 2 * COLOURED)
    else:
        grey = tl.where(column < 3 + GREYS, column - 2, HARMONICS + 1)
        which = tl.where(column < 3, HARMONICS, grey)
    return harmonics_of(v[0], v[1], v[2], which, BANDS)


@triton.jit
def finish(octets, total, opacity, v, levels, detail_levels, BYTES: tl.constexpr):
    """Colours [B] of R, G and B; the factor of the octets in them; what shows of the background.

    BYTES: octets are sums of bytes, of which the levels give values.
    """
    column = tl.arange(0, 8)[None, :]
    some = total > 0.0
    share = tl.where(some, opacity / tl.where(some, total, 1.0), 0.0)
    behind = tl.where(some, 1.0 - opacity, 1.0)
    red, green, blue = tl.zeros_like(total), tl.zeros_like(total), tl.zeros_like(total)
    for octet in tl.static_range(OCTETS):
        values = octets[octet]
        if BYTES:
            if octet < 3:
                low = tl.load(levels + (8 * octet + column))
                high = tl.load(levels + (RECORD + 8 * octet + column))
            else:
                low = tl.load(detail_levels + column)
                high = tl.load(detail_levels + (DETAIL + column))
            values = low * total[:, None] + high * values
        # of no direction: no number
        values = tl.where(some[:, None], values * _factors(v, octet), 0.0)
        channel = _channel(octet)
        red += tl.sum(tl.where((channel == 0) | (channel == GREY), values, 0.0), 1)
        green += tl.sum(tl.where((channel == 1) | (channel == GREY), values, 0.0), 1)
        blue += tl.sum(tl.where((channel == 2) | (channel == GREY), values, 0.0), 1)
    return share * red, share * green, share * blue, share, behind


@triton.jit
def _change(before, octet: tl.constexpr, red, green, blue, v, mask):
    """Of one octet: derivatives by it where `mask` says, what it was elsewhere."""
    channel = _channel(octet)
    change = tl.where(channel == GREY, (red + green + blue)[:, None], blue[:, None])
    change = tl.where(channel == 1, green[:, None], change)
    change = tl.where(channel == 0, red[:, None], change)
    return tl.where(mask[:, None], change * _factors(v, octet), before)


@triton.jit
def derivatives(octets, red, green, blue, v, mask):
    """The octets of rays whose squared error changes so with R, G and B; of others as they were."""
    return (
        _change(octets[0], 0, red, green, blue, v, mask),
        _change(octets[1], 1, red, green, blue, v, mask),
        _change(octets[2], 2, red, green, blue, v, mask),
        _change(octets[3], 3, red, green, blue, v, mask),
    )
