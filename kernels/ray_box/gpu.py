"""The Triton ray_box kernel. Shapes as in the package docstring; one ray a lane."""

import torch
import triton
import triton.language as tl

from nerfkit.kernels.shared.aot import Configuration
from nerfkit.kernels.shared.triton_launch import check_float32, launch

from .reference import PARALLEL

RAYS = 256


@triton.jit
def _slab(origins, directions, low, high, i, a: tl.constexpr, exists, enter, leave, parallel):
    o = tl.load(origins + 3 * i + a, mask=exists, other=0.0)
    d = tl.load(directions + 3 * i + a, mask=exists, other=0.0)
    low_a, high_a = tl.load(low + a), tl.load(high + a)
    along = tl.abs(d) < parallel
    safe = tl.where(along, 1.0, d)
    t_0, t_1 = (low_a - o) / safe, (high_a - o) / safe
    outside = along & ((o < low_a) | (o >= high_a))
    enter = tl.where(along, enter, tl.maximum(enter, tl.minimum(t_0, t_1)))
    leave = tl.where(along, leave, tl.minimum(leave, tl.maximum(t_0, t_1)))
    return enter, tl.where(outside, float("-inf"), leave)


@triton.jit
def _kernel(origins, directions, low, high, near, parallel, n, t_near, t_far, RAYS: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * RAYS + tl.arange(0, RAYS)
    exists = i < n
    enter = tl.zeros([RAYS], tl.float32) + near
    leave = tl.full([RAYS], float("inf"), tl.float32)
    for a in tl.static_range(3):
        enter, leave = _slab(origins, directions, low, high, i, a, exists, enter, leave, parallel)
    hit = enter < leave
    tl.store(t_near + i, tl.where(hit, enter, near), mask=exists)
    tl.store(t_far + i, tl.where(hit, leave, near), mask=exists)


def ray_box(
    origins: torch.Tensor,  # [R, 3]
    directions: torch.Tensor,  # [R, 3]
    box_min: torch.Tensor,  # [3]
    box_max: torch.Tensor,  # [3]
    *,
    near: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor]:  # [R], [R]
    """Same function as the reference, float32 only."""
    check_float32(origins=origins, directions=directions, box_min=box_min, box_max=box_max)
    n = len(origins)
    t_near, t_far = origins.new_empty(n), origins.new_empty(n)
    launch(
        _kernel,
        (triton.cdiv(n, RAYS),),
        *(t.contiguous() for t in (origins, directions, box_min, box_max)),
        *(float(near), PARALLEL, n, t_near, t_far),
        RAYS=RAYS,
    )
    return t_near, t_far


AOT = [
    Configuration(
        "ray_box",
        _kernel,
        "*fp32 *fp32 *fp32 *fp32 fp32 fp32 i32 *fp32 *fp32",
        {"RAYS": RAYS},
        max_registers=48,
    )
]
