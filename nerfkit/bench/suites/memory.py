"""Peak memory of renderings and of steps: recomputed by the kernels, kept by the reference.

The reference's backward is autograd's, which keeps every sample of every ray; a kernel renders the
rays again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import torch

from nerfkit.bench import peak
from nerfkit.bench.calls import CALLS
from nerfkit.bench.context import Context
from nerfkit.bench.figure import Figure
from nerfkit.kernels import _native

GRAIN = 4 << 20  # bytes that pages and an allocator's habits add or spare


def figures(context: Context) -> Iterator[Figure]:
    effort = context.effort
    jobs = [
        peak.Job(name, n_rays, effort.depth, backend)
        for name in CALLS
        for n_rays in effort.memory_rays
        for backend in dict.fromkeys(("reference", context.native))
    ]
    context.say(f"memory of {', '.join(CALLS)}")
    for job, taken in zip(jobs, peak.measure(jobs, context.place), strict=True):
        yield _figure(context, job, taken)


def _figure(context: Context, job: peak.Job, taken: int) -> Figure:
    size = f"{job.n_rays} rays, {1 << job.depth}^3"
    return Figure(
        *(context.suite, job.name, size, job.backend, "peak", _native.num_threads()),
        unit="B",
        value=taken,
        low=max(0, taken - GRAIN),
        high=taken + GRAIN,
        repeats=1,
        ceiling="memory",
        share=taken / total_memory(context.place),
        curve=job.name,
        axis="rays",
        x=job.n_rays,
    )


def total_memory(place: torch.device) -> int:
    """Of the device or of the machine, bytes."""
    if place.type == "cuda":
        return torch.cuda.get_device_properties(place).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
