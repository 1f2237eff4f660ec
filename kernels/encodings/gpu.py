"""The Triton encodings as torch functions; see `nerfkit.kernels.encodings`.

Tiles are [ROWS, columns rounded up to a power of two].
"""

import torch
import triton
import triton.language as tl
from torch.autograd.function import once_differentiable

from nerfkit.kernels.shared.aot import Configuration
from nerfkit.kernels.shared.triton_launch import check_float32, launch
from nerfkit.kernels.shared.triton_math import frequency_value

SH_ROWS = 128


@triton.jit
def _rows(directions, n, ROWS: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    x = tl.load(directions + 3 * i, mask=i < n, other=0.0)
    y = tl.load(directions + 3 * i + 1, mask=i < n, other=0.0)
    z = tl.load(directions + 3 * i + 2, mask=i < n, other=0.0)
    return i, x, y, z


@triton.jit
def _four(a, b, c, d):
    """Columns a, c, b, d of a last axis split in two."""
    return tl.join(tl.join(a, b), tl.join(c, d))


@triton.jit
def _sh_forward_kernel(directions, n, out, DEGREE: tl.constexpr, ROWS: tl.constexpr):
    i, x, y, z = _rows(directions, n, ROWS)
    xx, yy, zz = x * x, y * y, z * z
    edge = 1.0 - 5.0 * zz
    v0 = tl.full([ROWS], 0.28209479177387814, tl.float32)
    v1 = -0.48860251190291987 * y
    v2 = 0.48860251190291987 * z
    v3 = -0.48860251190291987 * x
    v4 = 1.0925484305920792 * x * y
    v5 = -1.0925484305920792 * y * z
    v6 = 0.94617469575756008 * zz - 0.31539156525251999
    v7 = -1.0925484305920792 * x * z
    v8 = 0.54627421529603959 * (xx - yy)
    v9 = 0.59004358992664352 * y * (yy - 3.0 * xx)
    v10 = 2.8906114426405538 * x * y * z
    v11 = 0.45704579946446572 * y * edge
    v12 = 0.3731763325901154 * z * (5.0 * zz - 3.0)
    v13 = 0.45704579946446572 * x * edge
    v14 = 1.4453057213202769 * z * (xx - yy)
    v15 = 0.59004358992664352 * x * (3.0 * yy - xx)
    # Each join adds the next lower bit of the column: whole rows, for wide stores.
    even = tl.join(_four(v0, v8, v4, v12), _four(v2, v10, v6, v14))
    odd = tl.join(_four(v1, v9, v5, v13), _four(v3, v11, v7, v15))
    row = tl.reshape(tl.join(even, odd), [ROWS, 16])
    k = tl.arange(0, 16)[None, :]
    mask = (i < n)[:, None] & (k < DEGREE * DEGREE)
    tl.store(out + i[:, None] * (DEGREE * DEGREE) + k, row, mask=mask)


@triton.jit
def _g(g_out, i, n, k: tl.constexpr, DEGREE: tl.constexpr):
    return tl.load(g_out + i * (DEGREE * DEGREE) + k, mask=i < n, other=0.0)


@triton.jit
def _sh_backward_kernel(
    directions, g_out, n, g_directions, DEGREE: tl.constexpr, ROWS: tl.constexpr
):
    """The three partial derivatives of the polynomials."""
    i, x, y, z = _rows(directions, n, ROWS)
    gx = tl.zeros([ROWS], tl.float32)
    gy = tl.zeros([ROWS], tl.float32)
    gz = tl.zeros([ROWS], tl.float32)
    if DEGREE > 1:
        gx += -0.48860251190291987 * _g(g_out, i, n, 3, DEGREE)
        gy += -0.48860251190291987 * _g(g_out, i, n, 1, DEGREE)
        gz += 0.48860251190291987 * _g(g_out, i, n, 2, DEGREE)
    if DEGREE > 2:
        g4, g5 = _g(g_out, i, n, 4, DEGREE), _g(g_out, i, n, 5, DEGREE)
        g7, g8 = _g(g_out, i, n, 7, DEGREE), _g(g_out, i, n, 8, DEGREE)
        gx += 1.0925484305920792 * (y * g4 - z * g7 + x * g8)
        gy += 1.0925484305920792 * (x * g4 - z * g5 - y * g8)
        gz += 1.89234939151512016 * z * _g(g_out, i, n, 6, DEGREE)
        gz -= 1.0925484305920792 * (y * g5 + x * g7)
    if DEGREE > 3:
        xx, yy, zz = x * x, y * y, z * z
        edge = 1.0 - 5.0 * zz
        g9 = 1.77013076977993056 * _g(g_out, i, n, 9, DEGREE)
        g10 = 2.8906114426405538 * _g(g_out, i, n, 10, DEGREE)
        g11 = 0.45704579946446572 * _g(g_out, i, n, 11, DEGREE)
        g13 = 0.45704579946446572 * _g(g_out, i, n, 13, DEGREE)
        g14 = 1.4453057213202769 * _g(g_out, i, n, 14, DEGREE)
        g15 = 1.77013076977993056 * _g(g_out, i, n, 15, DEGREE)
        gx += y * z * g10 + edge * g13 + 2.0 * x * z * g14 + (yy - xx) * g15 - 2.0 * x * y * g9
        gy += (yy - xx) * g9 + x * z * g10 + edge * g11 - 2.0 * y * z * g14 + 2.0 * x * y * g15
        gz += x * y * g10 - 10.0 * z * (y * g11 + x * g13) + (xx - yy) * g14
        gz += 0.3731763325901154 * (15.0 * zz - 3.0) * _g(g_out, i, n, 12, DEGREE)
    tl.store(g_directions + 3 * i, gx, mask=i < n)
    tl.store(g_directions + 3 * i + 1, gy, mask=i < n)
    tl.store(g_directions + 3 * i + 2, gz, mask=i < n)


@triton.jit
def _frequency_forward_kernel(
    x,
    n,
    out,
    CHANNELS: tl.constexpr,
    INPUTS: tl.constexpr,  # 1 where x itself comes first
    COLUMNS: tl.constexpr,
    PADDED: tl.constexpr,
    ROWS: tl.constexpr,
):
    i = (tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS))[:, None]
    column = tl.arange(0, PADDED)[None, :]
    mask = (i < n) & (column < COLUMNS)
    value = tl.load(x + i * CHANNELS + column % CHANNELS, mask=mask, other=0.0)
    encoded = frequency_value(value, column // CHANNELS - INPUTS)
    tl.store(out + i * COLUMNS + column, encoded, mask=mask)


@triton.jit
def _frequency_backward_kernel(
    encoded,
    g_out,
    n,
    g_x,
    FREQUENCIES: tl.constexpr,
    CHANNELS: tl.constexpr,
    INPUTS: tl.constexpr,
    COLUMNS: tl.constexpr,
    PADDED: tl.constexpr,  # of the channels
    ROWS: tl.constexpr,
):
    """The derivative of a sine is 2^k times the cosine beside it."""
    i = (tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS))[:, None]
    channel = tl.arange(0, PADDED)[None, :]
    mask = (i < n) & (channel < CHANNELS)
    at = i * COLUMNS + channel
    total = tl.zeros([ROWS, PADDED], tl.float32)
    if INPUTS:
        total += tl.load(g_out + at, mask=mask, other=0.0)
    for k in tl.static_range(FREQUENCIES):
        sine = at + (INPUTS + 2 * k) * CHANNELS
        cosine = sine + CHANNELS
        slope = tl.load(g_out + sine, mask=mask, other=0.0) * tl.load(
            encoded + cosine, mask=mask, other=0.0
        )
        slope -= tl.load(g_out + cosine, mask=mask, other=0.0) * tl.load(
            encoded + sine, mask=mask, other=0.0
        )
        total += slope * (1 << k)
    tl.store(g_x + i * CHANNELS + channel, total, mask=mask)


class _SphericalHarmonics(torch.autograd.Function):
    @staticmethod
    def forward(ctx, directions, degree):
        n = len(directions)
        out = directions.new_empty(n, degree**2)
        programs = (triton.cdiv(n, SH_ROWS),)
        launch(_sh_forward_kernel, programs, directions, n, out, DEGREE=degree, ROWS=SH_ROWS)
        ctx.degree = degree
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(directions)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, g_out):
        (directions,) = ctx.saved_tensors
        g_directions = torch.empty_like(directions)
        n = len(directions)
        launch(
            _sh_backward_kernel,
            (triton.cdiv(n, SH_ROWS),),
            *(directions, g_out.contiguous(), n, g_directions),
            DEGREE=ctx.degree,
            ROWS=SH_ROWS,
        )
        return g_directions, None


class _FrequencyEncoding(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, n_frequencies, include_input):
        n, channels = x.shape
        columns = channels * (2 * n_frequencies + include_input)
        out = x.new_empty(n, columns)
        ctx.constants = {"CHANNELS": channels, "INPUTS": int(include_input), "COLUMNS": columns}
        ctx.n_frequencies = n_frequencies
        if columns:
            tile = _tile(columns)
            programs = (triton.cdiv(n, tile["ROWS"]),)
            launch(_frequency_forward_kernel, programs, x, n, out, **ctx.constants, **tile)
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, g_out):
        (out,) = ctx.saved_tensors
        n, channels = len(out), ctx.constants["CHANNELS"]
        g_x = out.new_empty(n, channels)
        if channels:
            tile = _tile(channels)
            launch(
                _frequency_backward_kernel,
                (triton.cdiv(n, tile["ROWS"]),),
                *(out, g_out.contiguous(), n, g_x),
                FREQUENCIES=ctx.n_frequencies,
                **ctx.constants,
                **tile,
            )
        return g_x, None, None


def _tile(columns: int) -> dict[str, int]:
    padded = triton.next_power_of_2(columns)
    return {"PADDED": padded, "ROWS": min(256, max(1, 2048 // padded))}


def spherical_harmonics(directions: torch.Tensor, degree: int) -> torch.Tensor:
    """See `nerfkit.kernels.encodings.spherical_harmonics`."""
    check_float32(directions=directions)
    return _SphericalHarmonics.apply(directions.contiguous(), degree)


def frequency_encoding(
    x: torch.Tensor, n_frequencies: int, *, include_input: bool = True
) -> torch.Tensor:
    """See `nerfkit.kernels.encodings.frequency_encoding`."""
    check_float32(x=x)
    return _FrequencyEncoding.apply(x.contiguous(), n_frequencies, include_input)


_SH = {"DEGREE": 4, "ROWS": SH_ROWS}
_POINT = {"CHANNELS": 3, "INPUTS": 1, "COLUMNS": 63}
AOT = [
    Configuration(
        *("sh 4 forward", _sh_forward_kernel, "*fp32 i32 *fp32", _SH),
        max_registers=64,
        wanted=(r"STG\.E\.128",),
    ),
    Configuration(
        *("sh 4 backward", _sh_backward_kernel, "*fp32 *fp32 i32 *fp32", _SH), max_registers=64
    ),
    Configuration(
        *("frequency 10 forward", _frequency_forward_kernel, "*fp32 i32 *fp32"),
        _POINT | _tile(63),
        max_registers=96,
    ),
    Configuration(
        *("frequency 10 backward", _frequency_backward_kernel, "*fp32 *fp32 i32 *fp32"),
        _POINT | {"FREQUENCIES": 10} | _tile(3),
        max_registers=96,
    ),
]
