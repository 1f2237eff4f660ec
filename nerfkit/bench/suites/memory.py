"""Peak memory of renderings and of steps: recomputed by the kernels, kept by the reference.

The reference's backward is autograd's, which keeps every sample of every ray; a kernel renders the
rays again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import torch

from nerfkit.bench import peak
from nerfkit.bench.context import Context
from nerfkit.bench.figure import Figure
from nerfkit.kernels import _native

GRAIN = 4 << 20  # bytes that pages and an allocator's habits add or spare


def figures(context: Context) -> Iterator[Figure]:
    depth = context.effort.depth
    for name in peak.NAMES:
        for n_rays in context.effort.memory_rays:
            for backend in dict.fromkeys(("reference", context.native)):
                context.say(f"memory of {name}, {n_rays} rays, {backend}")
                taken = peak.measure(name, n_rays, depth, backend, context.place)
                yield _figure(context, name, n_rays, backend, taken)


def _figure(context: Context, name: str, n_rays: int, backend: str, taken: int) -> Figure:
    size = f"{n_rays} rays, {1 << context.effort.depth}^3"
    return Figure(
        *(context.suite, name, size, backend, "peak", _native.num_threads()),
        unit="B",
        value=taken,
        low=max(0, taken - GRAIN),
        high=taken + GRAIN,
        repeats=1,
        ceiling="memory",
        share=taken / total_memory(context.place),
        curve=f"memory of {name}",
        axis="rays",
        x=n_rays,
    )


def total_memory(place: torch.device) -> int:
    """Of the device or of the machine, bytes."""
    if place.type == "cuda":
        return torch.cuda.get_device_properties(place).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
