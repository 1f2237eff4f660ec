"""Where NeRF (2003.08934) looks along rays: coarse samples, and their union with fine ones.

Symbols: R rays, N strata a ray, F fine samples a ray, M samples of all rays together; s and t as in
nerfkit.kernels.octree_traverse.spans. "Scaled" lengths and points are those of the networks.
Nothing is differentiable: the positions are constants, as in the paper.
"""

from types import ModuleType

import torch
from torch import Tensor

from nerfkit.kernels import _backend

from .draws import columns, uniform
from .samples import Coarse, Ended, March, Rays, Samples

__all__ = [
    "Coarse",
    "Ended",
    "March",
    "Rays",
    "Samples",
    "coarse_samples",
    "columns",
    "ended",
    "next_samples",
    "uniform",
    "union_samples",
]


@torch.no_grad()
def coarse_samples(
    rays: Rays,
    n: int,
    *,
    spacing: float,
    where: Tensor | None = None,
    backend: str | None = None,
) -> Coarse:
    """A sample in each of the even strata of the rays' occupied parts (eq. 2).

    Args:
        n: N, columns of the results.
        spacing: a ray has as many strata as needed for them to be no longer than this, but at most
            N; 0 for N on every ray.
        where: [R, N] in [0, 1], places of the samples in their strata; None takes the middle.

    Raises:
        ValueError: a shape is wrong, or the backend cannot run.
    """
    _check(rays)
    n_rays = len(rays.origins)
    if n < 1 or spacing < 0:
        raise ValueError(f"n must be positive and spacing not negative, got {n} and {spacing}")
    if where is not None and where.shape != (n_rays, n):
        raise ValueError(f"where must have shape {(n_rays, n)}, got {tuple(where.shape)}")
    return _implementation(rays, backend).coarse_samples(rays, n, spacing=spacing, where=where)


@torch.no_grad()
def next_samples(
    rays: Rays,
    coarse: Coarse,
    march: March | None,
    sigma_raw: Tensor | None,
    last: int,
    *,
    dark: float,
    backend: str | None = None,
) -> March:
    """The next round of coarse samples: up to the `last`-th of the rays that have light left.

    Args:
        march: the round before, None before the first.
        sigma_raw: [M] of its samples.
        dark: optical depth, by the samples so far, from which there is no light.

    Raises:
        ValueError: sigma_raw does not belong to the round, or the backend cannot run.
    """
    if (march is None) != (sigma_raw is None):
        raise ValueError("march and sigma_raw must be given together")
    if march is not None and sigma_raw.shape != march.places.shape:
        raise ValueError(
            f"sigma_raw must have shape {tuple(march.places.shape)}, got {tuple(sigma_raw.shape)}"
        )
    run = _implementation(rays, backend).next_samples
    return run(rays, coarse, march, sigma_raw, last, dark=dark)


@torch.no_grad()
def ended(rays: Rays, coarse: Coarse, march: March, *, backend: str | None = None) -> Ended:
    """What the coarse samples stand for, once there are no more than those of `march`."""
    return _implementation(rays, backend).ended(rays, coarse, march)


@torch.no_grad()
def union_samples(
    rays: Rays, coarse: Coarse, march: March, drawn: Tensor, *, backend: str | None = None
) -> Samples:
    """The coarse samples that were seen and others, in order, in front of the end of what was seen.

    Args:
        drawn: s [R, F], ascending along each ray.

    Raises:
        ValueError: a shape is wrong, or the backend cannot run.
    """
    n_rays = len(coarse.s)
    if drawn.ndim != 2 or len(drawn) != n_rays:
        raise ValueError(f"drawn must have shape ({n_rays}, F), got {tuple(drawn.shape)}")
    return _implementation(rays, backend).union_samples(rays, coarse, march, drawn)


def _implementation(rays: Rays, backend: str | None) -> ModuleType:
    chosen = _backend.choose("nerf_samples", rays.origins, backend)
    if chosen == "cpu":
        from . import cpu as implementation
    elif chosen == "gpu":
        from . import gpu as implementation
    else:
        from . import reference as implementation
    return implementation


def _check(rays: Rays) -> None:
    n = len(rays.origins)
    wanted = {
        "origins": (rays.origins, (n, 3)),
        "directions": (rays.directions, (n, 3)),
        "spans": (rays.spans.first, (n,)),
        "center": (rays.center, (3,)),
    }
    if rays.depth is not None:
        wanted["depth"] = rays.depth, (n, 4)
    for name, (tensor, shape) in wanted.items():
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name} must have shape {shape}, got {tuple(tensor.shape)}")
