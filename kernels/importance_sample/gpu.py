"""The Triton importance_sample kernel; see `nerfkit.kernels.importance_sample.importance_sample`.

A program has ROWS rays; tiles are [ROWS, BINS] or [ROWS, SAMPLES], rounded up to powers of two.
"""

import torch
import triton
import triton.language as tl

from nerfkit.kernels.shared.aot import Configuration
from nerfkit.kernels.shared.triton_launch import check_float32, launch
from nerfkit.kernels.shared.triton_math import exclusive_sum

from .reference import PADDING

MOST = 4096  # bins or samples: a ray lies in the registers of one program


@triton.jit
def _kernel(
    t_edges,
    weights,
    u,
    u_stride,  # 0: one row for all rays
    n_rays,
    n_bins,
    n_samples,
    padding,
    t,
    ROWS: tl.constexpr,
    BINS: tl.constexpr,
    SAMPLES: tl.constexpr,
):
    """Binary search of each target in the running sum of its ray's weights."""
    rays = (tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS))[:, None]
    bins = tl.arange(0, BINS)[None, :]
    there = (rays < n_rays) & (bins < n_bins)
    padded = tl.load(weights + rays * n_bins + bins, mask=there, other=0.0) + padding
    cdf = exclusive_sum(tl.where(bins < n_bins, padded, 0.0), 1)
    total = tl.max(tl.where(bins < n_bins, cdf + padded, 0.0), 1)[:, None]
    cdf = tl.where(bins < n_bins, cdf, float("inf"))

    k = tl.arange(0, SAMPLES)[None, :]
    mine = (rays < n_rays) & (k < n_samples)
    at_u = u + rays * u_stride + k
    target = tl.load(at_u, mask=mine, other=1e30)
    following = tl.load(at_u + 1, mask=mine & (k + 1 < n_samples), other=1e30)
    if tl.max((target > following).to(tl.int32)) > 0:
        target = tl.sort(target, 1)
    target *= total

    bin = tl.zeros([ROWS, SAMPLES], tl.int32)
    found = tl.zeros([ROWS, SAMPLES], tl.float32)  # running sum in front of the bin
    for i in tl.static_range(1, 13):  # to 2^12, the most bins
        if BINS >> i > 0:
            value = tl.gather(cdf, bin + (BINS >> i), 1)
            further = value <= target
            bin = tl.where(further, bin + (BINS >> i), bin)
            found = tl.where(further, value, found)
    bin = tl.minimum(bin, n_bins - 1)  # the targets beyond n_samples are beyond the total
    weight = tl.load(weights + rays * n_bins + bin, mask=mine, other=0.0) + padding
    edge = t_edges + rays * (n_bins + 1) + bin
    lower = tl.load(edge, mask=mine, other=0.0)
    upper = tl.load(edge + 1, mask=mine, other=0.0)
    inside = tl.minimum(tl.maximum((target - found) / weight, 0.0), 1.0)
    # Rounding must not carry a sample past its bin: the samples stay in order.
    at = tl.minimum(lower + inside * (upper - lower), upper)
    tl.store(t + rays * n_samples + k, at, mask=mine)


def importance_sample(
    t_edges: torch.Tensor,  # [R, B + 1]
    weights: torch.Tensor,  # [R, B]
    u: torch.Tensor,  # [R, n] or [n]
) -> torch.Tensor:
    """See `nerfkit.kernels.importance_sample.importance_sample`."""
    check_float32(t_edges=t_edges, weights=weights, u=u)
    (n_rays, n_bins), n_samples = weights.shape, u.shape[-1]
    if max(n_bins, n_samples) > MOST:
        raise ValueError(
            f"backend 'gpu' takes at most {MOST} bins and samples, got {n_bins} and {n_samples}"
        )
    t = t_edges.new_empty(n_rays, n_samples)
    if n_samples:
        tile = _tile(n_bins, n_samples)
        launch(
            _kernel,
            (triton.cdiv(n_rays, tile["ROWS"]),),
            *(t_edges.contiguous(), weights.contiguous(), u.contiguous()),
            *(n_samples if u.ndim == 2 else 0, n_rays, n_bins, n_samples, PADDING, t),
            **tile,
        )
    return t


def _tile(n_bins: int, n_samples: int) -> dict[str, int]:
    bins, samples = (max(2, triton.next_power_of_2(n)) for n in (n_bins, n_samples))
    return {"ROWS": min(16, max(1, 1024 // max(bins, samples))), "BINS": bins, "SAMPLES": samples}


AOT = [
    Configuration(
        f"importance_sample {n_bins} -> {n_samples}",
        _kernel,
        "*fp32 *fp32 *fp32 i32 i32 i32 i32 fp32 *fp32",
        _tile(n_bins, n_samples),
        max_registers=176,
    )
    for n_bins, n_samples in ((62, 128), (256, 512))
]
