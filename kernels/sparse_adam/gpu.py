"""The Triton Adam step; see `nerfkit.kernels.sparse_adam`.

A program has ROWS rows; tiles are [ROWS, columns rounded up to a power of two].
"""

import torch
import triton
import triton.language as tl

from nerfkit.kernels.shared.aot import Configuration
from nerfkit.kernels.shared.triton_launch import launch

TILE_VALUES = 1024


@triton.jit
def _kernel(
    params,
    grads,
    exp_avg,
    exp_avg_sq,
    touched,  # None: all rows
    rates,  # a column each; None: `rate` for all
    rate,  # learning rate over the first bias correction
    n_rows,
    columns,
    blend1,  # 1 - beta1
    blend2,
    eps,
    root_scale,  # 1 / sqrt of the second bias correction
    SHARED: tl.constexpr,  # one mean square for a row
    COLUMNS: tl.constexpr,
    ROWS: tl.constexpr,
):
    """m += (1 - b1) (g - m), v += (1 - b2) (g^2 - v), p -= rate m / (sqrt(v) root_scale + eps)."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    wanted = row < n_rows
    if touched is not None:
        wanted = tl.load(touched + row, mask=wanted, other=0) != 0
    # Most rows of a table are left alone by most steps: nothing but their flags is read.
    if tl.max(wanted.to(tl.int32)) > 0:
        column = tl.arange(0, COLUMNS)[None, :]
        mask = wanted[:, None] & (column < columns)
        at = row[:, None] * columns + column
        g = tl.load(grads + at, mask=mask, other=0.0).to(tl.float32)
        m = tl.load(exp_avg + at, mask=mask, other=0.0).to(tl.float32)
        m += blend1 * (g - m)
        if SHARED:
            v = tl.load(exp_avg_sq + row, mask=wanted, other=0.0).to(tl.float32)
            v += blend2 * (tl.sum(g * g, 1) / columns - v)
            tl.store(exp_avg_sq + row, v, mask=wanted)
            root = tl.sqrt(v)[:, None]
        else:
            v = tl.load(exp_avg_sq + at, mask=mask, other=0.0).to(tl.float32)
            v += blend2 * (g * g - v)
            tl.store(exp_avg_sq + at, v, mask=mask)
            root = tl.sqrt(v)
        if rates is None:
            pace = rate
        else:
            pace = tl.load(rates + column, mask=column < columns, other=0.0)
        p = tl.load(params + at, mask=mask, other=0.0).to(tl.float32)
        tl.store(params + at, p - pace * m / (root * root_scale + eps), mask=mask)
        tl.store(exp_avg + at, m, mask=mask)
        tl.store(grads + at, tl.zeros_like(g), mask=mask)
        if touched is not None:
            tl.store(touched + row, tl.zeros([ROWS], tl.uint8), mask=wanted)


@torch.no_grad()
def adam_step_(
    params: torch.Tensor,  # [N, C]
    grads: torch.Tensor,  # [N, C]
    exp_avg: torch.Tensor,  # [N, C]
    exp_avg_sq: torch.Tensor,  # [N, C] or [N, 1]
    touched: torch.Tensor | None,  # [N] uint8; None updates all rows
    *,
    lr: float | torch.Tensor,
    betas: tuple[float, float],
    eps: float,
    step: int,
) -> None:
    """See `nerfkit.kernels.sparse_adam`; also for 16-bit tables, with the sums in float32."""
    if params.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise ValueError(f"params must be float32, float16 or bfloat16, got {params.dtype}")
    (rows, columns), (b1, b2) = params.shape, betas
    rates, rate = None, 0.0
    if isinstance(lr, torch.Tensor) and lr.ndim:
        rates = (lr.to(params.device, torch.float64) / (1 - b1**step)).float().contiguous()
    else:
        rate = float(lr) / (1 - b1**step)
    if columns:
        tile = _tile(columns)
        launch(
            _kernel,
            (triton.cdiv(rows, tile["ROWS"]),),
            *(params, grads, exp_avg, exp_avg_sq, touched, rates, rate, rows, columns),
            *(1 - float(b1), 1 - float(b2), float(eps), (1 - b2**step) ** -0.5),
            SHARED=exp_avg_sq.shape != params.shape,
            **tile,
        )
    for changed in (params, grads, exp_avg, exp_avg_sq):
        torch.autograd.graph.increment_version(changed)  # autograd must notice stale graphs


def _tile(columns: int) -> dict[str, int]:
    padded = triton.next_power_of_2(columns)
    return {"COLUMNS": padded, "ROWS": max(1, TILE_VALUES // padded)}


def _aot(columns: int, touched: str, rates: str, shared: bool) -> Configuration:
    words = [f"adam {columns}", "rows" if touched != "None" else "all", "shared v" * shared]
    return Configuration(
        " ".join(words).strip(),
        _kernel,
        f"*fp32 *fp32 *fp32 *fp32 {touched} {rates} fp32 i32 fp32 fp32 fp32 fp32",
        # A launch compiles a 1 in; where it does not, it knows that 16 is divisible by 16.
        {"columns": columns, "SHARED": shared, **_tile(columns)},
        max_registers=128,
        wanted=(r"LDG\.E\.128",) if columns > 1 else (),
    )


AOT = [
    _aot(1, "None", "None", False),
    _aot(1, "*u8", "None", False),
    _aot(16, "*u8", "None", False),
    _aot(16, "*u8", "*fp32", True),
]
