"""Triton versions of nerf_samples. Shapes as in the package docstring."""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from nerfkit.kernels.shared.aot import Configuration
from nerfkit.kernels.shared.triton_launch import check_float32, launch

from .gpu_kernels import coarse_kernel, count_kernel, union_kernel
from .gpu_rounds import advance_kernel, ended_kernel, gather_kernel
from .samples import Coarse, Ended, March, Rays, Samples

MOST = 4096  # strata or drawn samples of a ray
FAR_AWAY = 3e38  # stands for infinity
PIECE = {"ROWS": 16, "BLOCK": 32}  # rays of a program, and samples of each at once
ELEMENTS = 512  # of a tile


def coarse_samples(rays: Rays, n: int, *, spacing: float, where: Tensor | None = None) -> Coarse:
    """Same function as the reference, float32 only."""
    check_float32(origins=rays.origins, directions=rays.directions, where=where)
    _check_most(n)
    spans, n_rays, device = rays.spans, len(rays.origins), rays.origins.device
    s, t = (torch.empty(n_rays, n, device=device) for _ in range(2))
    edges = torch.empty(n_rays, n + 1, device=device)
    distances = t if rays.depth is None else torch.empty_like(t)
    counts = torch.empty(n_rays, dtype=torch.int32, device=device)
    tile = _tile(n)
    launch(
        coarse_kernel,
        (triton.cdiv(n_rays, tile["ROWS"]),),
        *(spans.low.contiguous(), spans.high.contiguous()),
        *(spans.first.contiguous(), spans.count.contiguous(), spans.ends, spans.t_starts),
        *(None if x is None else x.contiguous() for x in (where, rays.depth)),
        *(n_rays, n, float(spacing), s, edges, t, distances, counts),
        **tile,
    )
    return Coarse(s, edges, t, distances, counts)


def next_samples(
    rays: Rays,
    coarse: Coarse,
    march: March | None,
    sigma_raw: Tensor | None,
    last: int,
    *,
    dark: float,
) -> March:
    """Same function as the reference."""
    check_float32(sigma_raw=sigma_raw)
    (n_rays, n), device = coarse.s.shape, coarse.s.device
    seen, number = (torch.empty_like(coarse.counts) for _ in range(2))
    thickness = torch.empty(n_rays, device=device)
    before = (None, None, None, None, None)
    if march is not None:
        before = sigma_raw.contiguous(), march.sums, march.seen, march.number, march.thickness
    programs = (triton.cdiv(n_rays, PIECE["ROWS"]),)
    launch(
        advance_kernel,
        programs,
        *(coarse.s, coarse.edges, coarse.counts, *before, n_rays, n, last),
        *(min(dark, FAR_AWAY), rays.scale, seen, number, thickness),
        **PIECE,
    )
    sums = number.cumsum(0)
    total = int(sums[-1]) if n_rays else 0
    points = torch.empty(total, 3, device=device)
    ray_indices, places = (torch.empty(total, dtype=torch.int64, device=device) for _ in range(2))
    if total:
        launch(
            gather_kernel,
            programs,
            *(coarse.t, seen, number, sums, *_lines(rays), n_rays, n),
            *(points, ray_indices, places),
            **PIECE,
        )
    return March(seen, number, sums, thickness, points, ray_indices, places)


def ended(rays: Rays, coarse: Coarse, march: March) -> Ended:
    """Same function as the reference."""
    (n_rays, n), device = coarse.s.shape, coarse.s.device
    there = torch.empty(n_rays, n, dtype=torch.bool, device=device)
    steps = torch.empty(n_rays * n, device=device)
    packed_info = torch.empty(n_rays, 2, dtype=torch.int64, device=device)
    tile = _tile(n)
    launch(
        ended_kernel,
        (triton.cdiv(n_rays, tile["ROWS"]),),
        *(coarse.s, coarse.edges, march.seen, n_rays, n, rays.scale, there, steps, packed_info),
        **tile,
    )
    return Ended(there, steps, packed_info)


def union_samples(rays: Rays, coarse: Coarse, march: March, drawn: Tensor) -> Samples:
    """Same function as the reference."""
    check_float32(drawn=drawn)
    (n_rays, n), device, spans = coarse.s.shape, coarse.s.device, rays.spans
    n_drawn, drawn = drawn.shape[1], drawn.contiguous()
    _check_most(n_drawn)
    tile = _tile(n, n_drawn)
    programs = (triton.cdiv(n_rays, tile["ROWS"]),)
    counts = torch.empty(n_rays, dtype=torch.int64, device=device)
    given = coarse.s, coarse.edges, march.seen, drawn
    launch(count_kernel, programs, *given, n_rays, n, n_drawn, counts, **tile)
    sums = counts.cumsum(0)
    total = int(sums[-1]) if n_rays else 0
    points = torch.empty(total, 3, device=device)
    distances, steps = (torch.empty(total, device=device) for _ in range(2))
    ray_indices = torch.empty(total, dtype=torch.int64, device=device)
    packed_info = torch.empty(n_rays, 2, dtype=torch.int64, device=device)
    launch(
        union_kernel,
        programs,
        *(coarse.s, coarse.edges, coarse.t, march.seen, drawn),
        *(x.contiguous() for x in (spans.low, spans.first, spans.count)),
        *(spans.ends, spans.t_starts, None if rays.depth is None else rays.depth.contiguous()),
        *(*_lines(rays), counts, sums, n_rays, n, n_drawn),
        *(points, ray_indices, distances, steps, packed_info),
        **tile,
    )
    return Samples(points, ray_indices, distances, steps, packed_info)


def _lines(rays: Rays) -> tuple[Tensor, Tensor, Tensor, float]:
    tensors = rays.origins, rays.directions, rays.center
    return *(x.contiguous() for x in tensors), rays.scale


def _check_most(n: int) -> None:
    if n > MOST:
        raise ValueError(f"backend 'gpu' takes at most {MOST} samples of a ray, got {n}")


def _tile(n: int, n_drawn: int | None = None) -> dict[str, int]:
    wide = {"STRATA": n} if n_drawn is None else {"STRATA": n, "DRAWN": n_drawn}
    wide = {name: max(2, triton.next_power_of_2(size)) for name, size in wide.items()}
    return {"ROWS": min(16, max(1, ELEMENTS // max(wide.values()))), **wide}


_SPANS = "*fp64 *i64 *i64 *fp64 *fp32"
_LINES = "*fp32 *fp32 *fp32 fp32"


def _configurations(n: int, n_drawn: int, depth: str) -> list[Configuration]:
    name = f"nerf_samples {n} + {n_drawn}{'' if depth == 'None' else ' ndc'}"
    return [
        Configuration(
            f"{name} coarse",
            coarse_kernel,
            f"*fp64 {_SPANS} *fp32 {depth} i32 i32 fp32 *fp32 *fp32 *fp32 *fp32 *i32",
            _tile(n),
            max_registers=96,
        ),
        Configuration(
            f"{name} count",
            count_kernel,
            "*fp32 *fp32 *i32 *fp32 i32 i32 i32 *i64",
            _tile(n, n_drawn),
            max_registers=64,
        ),
        Configuration(
            f"{name} union",
            union_kernel,
            f"*fp32 *fp32 *fp32 *i32 *fp32 {_SPANS} {depth} {_LINES} *i64 *i64 i32 i32 i32 "
            "*fp32 *i64 *fp32 *fp32 *i64",
            _tile(n, n_drawn),
            max_registers=128,
        ),
    ]


AOT = [
    *_configurations(64, 128, "None"),
    *_configurations(64, 128, "*fp32"),
    *_configurations(256, 512, "None"),
    Configuration(
        "nerf_samples advance",
        advance_kernel,
        "*fp32 *fp32 *i32 *fp32 *i64 *i32 *i32 *fp32 i32 i32 i32 fp32 fp32 *i32 *i32 *fp32",
        PIECE,
        max_registers=96,
    ),
    Configuration(
        "nerf_samples gather",
        gather_kernel,
        f"*fp32 *i32 *i32 *i64 {_LINES} i32 i32 *fp32 *i64 *i64",
        PIECE,
        max_registers=96,
    ),
    Configuration(
        "nerf_samples ended",
        ended_kernel,
        "*fp32 *fp32 *i32 i32 i32 fp32 *i1 *fp32 *i64",
        _tile(64),
        max_registers=64,
    ),
]
