"""Every kernel as cases, at sizes that follow from a number of rays."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from nerfkit.bench.case import Case
from nerfkit.bench.subject import Subject, rays
from nerfkit.device import CPU

from . import fused, networks, pictures, rows, samples, tables, voxels
from .samples import SAMPLES_PER_RAY

__all__ = ["SAMPLES_PER_RAY", "cases", "fused"]


def cases(n_rays: int, depth: int, place: torch.device = CPU) -> Iterator[Case]:
    """All of them.

    Args:
        n_rays: of a batch; the kernels after the march get 16 samples for each, the large networks
            a half or a quarter.
        depth: of the octree.
        place: device of the inputs.
    """
    subject = Subject.ball(depth, n_levels=3).to(place)
    both = dict(zip(("origins", "directions"), (x.to(place) for x in rays(n_rays)), strict=True))
    yield from voxels.march(subject, both)
    yield from samples.cases(subject, both["directions"])
    few = {name: values[: max(1, n_rays // 4)] for name, values in both.items()}
    yield from samples.of_nerf(subject.octree, few)
    yield from networks.cases(n_rays, subject.octree)
    some = {name: values[: max(1, n_rays // 256)] for name, values in both.items()}
    yield from networks.nsvf_rays(subject.octree, some)
    yield from tables.cases(subject)
    yield from rows.cases(both["directions"])
    yield from pictures.cases(n_rays, place)
    yield from voxels.baked(subject, few)
    yield from fused.cases(subject, max(1, n_rays // 4))
    yield from fused.bent_cases(subject, max(1, n_rays // 4))
