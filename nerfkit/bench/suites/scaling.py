"""How cost grows: with threads, rays, voxels and pixels, on the ball of `subject`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from nerfkit.bench import ops
from nerfkit.bench.case import Case
from nerfkit.bench.context import Context
from nerfkit.bench.figure import Figure
from nerfkit.bench.scene import backend_is
from nerfkit.bench.subject import Subject, camera
from nerfkit.fields.frame import render_frame

LEVELS = 4


def figures(context: Context) -> Iterator[Figure]:
    effort, place = context.effort, context.place
    subject = Subject.ball(effort.fit_depth, LEVELS).to(place)
    most = max(effort.rays)
    if place.type == "cpu":
        for count in thread_counts():
            yield from _fused(context, subject, most, "threads", count, threads=count)
    for n_rays in effort.growth_rays:
        yield from _fused(context, subject, n_rays, "rays", n_rays)
    for depth in effort.growth_depths:
        ball = Subject.ball(depth, min(LEVELS, depth)).to(place)
        yield from _fused(context, ball, most, "voxels", len(ball.octree))
    for side in effort.frames:
        yield from context.measure(_frame(context, subject, side))


def thread_counts() -> list[int]:
    """1, 2, 4 ... up to the cores that this process may use, and those."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    powers = [1 << i for i in range(cores.bit_length()) if 1 << i < cores]
    return [*powers, cores]


def _fused(
    context: Context, subject: Subject, n_rays: int, axis: str, x: float, threads: int | None = None
) -> Iterator[Figure]:
    for case in ops.fused.cases(subject, n_rays):
        point = replace(
            case, curve=f"{case.name}, {axis}", axis=axis, x=x, backends=(context.native,)
        )
        yield from context.measure(point, threads)


def _frame(context: Context, subject: Subject, side: int) -> Case:
    field, view = subject.field(), camera(side)

    def run(backend: str, background: Tensor) -> Tensor:
        with backend_is(backend):
            return render_frame(field, view, background, ["rgb"])["rgb"]

    return Case(
        *("fused_render", "frame of the ball", f"{side}x{side}", side**2, "pixels"),
        *({"background": torch.ones(3, device=context.place)}, run),
        backends=(context.native,),
        traffic=side**2 * 3 * 4,
    )
