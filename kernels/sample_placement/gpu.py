"""The Triton sample_placement kernels. Shapes as in the package docstring.

One launch counts, a second one fills. Cell numbers are computed in double, by one function of t
alone, so the end of an interval and the start of the next agree on who owns a cell. A program has
RAYS rays and takes INTERVALS intervals of each at a time.
"""

import torch
import triton
import triton.language as tl

from nerfkit.kernels.shared.aot import Configuration
from nerfkit.kernels.shared.triton_launch import check_float32, launch

TILE = {"RAYS": 16, "INTERVALS": 16}


@triton.jit
def _first_from(t, step, shift):
    """The first cell whose centre is not before t."""
    return tl.ceil(t.to(tl.float64) / step - (shift + 0.5)).to(tl.int64)


@triton.jit
def _kernel(
    packed_info,
    t_starts,
    t_ends,
    step_of,  # [1] double
    jitter,  # None: 0
    n_rays,
    counts,  # written alone where given; else the outputs are
    samples_info,
    begins,
    ends,
    ray_indices,
    interval_indices,
    RAYS: tl.constexpr,
    INTERVALS: tl.constexpr,
):
    rays = tl.program_id(0).to(tl.int64) * RAYS + tl.arange(0, RAYS)
    exists = rays < n_rays
    first = tl.load(packed_info + 2 * rays, mask=exists, other=0)
    count = tl.load(packed_info + 2 * rays + 1, mask=exists, other=0)
    step = tl.load(step_of)
    shift = tl.zeros([RAYS], tl.float64)
    if jitter is not None:
        shift += tl.load(jitter + rays, mask=exists, other=0.0).to(tl.float64)
    shift = shift[:, None]
    total = tl.zeros([RAYS], tl.int64)
    if counts is None:
        total += tl.load(samples_info + 2 * rays, mask=exists, other=0)
    begin = tl.zeros([], tl.int64)
    longest = tl.max(count)
    while begin < longest:
        place = begin + tl.arange(0, INTERVALS)[None, :]
        owned = place < count[:, None]
        i = first[:, None] + place
        k_0 = _first_from(tl.load(t_starts + i, mask=owned, other=0.0), step, shift)
        k_1 = _first_from(tl.load(t_ends + i, mask=owned, other=0.0), step, shift)
        n = tl.where(owned & (k_1 > k_0), k_1 - k_0, 0)
        if counts is None:
            out = total[:, None] + tl.cumsum(n, 1) - n
            most = tl.max(n)
            j = tl.zeros([], tl.int64)
            while j < most:
                k = (k_0 + j).to(tl.float64) + shift
                mine = j < n
                tl.store(begins + out + j, (k * step).to(tl.float32), mask=mine)
                tl.store(ends + out + j, ((k + 1.0) * step).to(tl.float32), mask=mine)
                tl.store(ray_indices + out + j, rays[:, None] + tl.zeros_like(i), mask=mine)
                tl.store(interval_indices + out + j, i, mask=mine)
                j += 1
        total += tl.sum(n, 1)
        begin += INTERVALS
    if counts is not None:
        tl.store(counts + rays, total, mask=exists)


def place_samples(
    packed_info: torch.Tensor,  # [R, 2]
    t_starts: torch.Tensor,  # [M]
    t_ends: torch.Tensor,  # [M]
    step: float,
    *,
    jitter: torch.Tensor | None = None,  # [R]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Same function as the reference, float32 only."""
    check_float32(t_starts=t_starts, t_ends=t_ends, jitter=jitter)
    n, device = len(packed_info), t_starts.device
    programs = (triton.cdiv(n, TILE["RAYS"]),)
    common = (
        *(packed_info.contiguous(), t_starts.contiguous(), t_ends.contiguous()),
        torch.full((1,), step, dtype=torch.float64, device=device),
        *(None if jitter is None else jitter.contiguous(), n),
    )
    counts = torch.zeros(n, dtype=torch.int64, device=device)
    launch(_kernel, programs, *common, counts, None, None, None, None, None, **TILE)
    last = counts.cumsum(0)
    packed = torch.stack([last - counts, counts], dim=1)
    total = int(last[-1]) if n else 0
    begins, ends = t_starts.new_empty(total), t_starts.new_empty(total)
    rays, intervals = (torch.empty(total, dtype=torch.int64, device=device) for _ in range(2))
    if total:
        launch(_kernel, programs, *common, None, packed, begins, ends, rays, intervals, **TILE)
    return packed, begins, ends, rays, intervals


AOT = [
    Configuration(
        "place_samples count",
        _kernel,
        "*i64 *fp32 *fp32 *fp64 *fp32 i32 *i64 None None None None None",
        TILE,
        max_registers=72,
    ),
    Configuration(
        "place_samples fill",
        _kernel,
        "*i64 *fp32 *fp32 *fp64 *fp32 i32 None *i64 *fp32 *fp32 *i64 *i64",
        TILE,
        max_registers=96,
    ),
]
