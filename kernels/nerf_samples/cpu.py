"""nerf_samples on the CPU: the reference itself.

The networks, whose samples it places, take hundreds of times as long.
"""

from torch import Tensor

from . import reference
from .samples import Coarse, Ended, March, Rays, Samples


def coarse_samples(rays: Rays, n: int, *, spacing: float, where: Tensor | None = None) -> Coarse:
    """Same function as the reference."""
    return reference.coarse_samples(rays, n, spacing=spacing, where=where)


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
    return reference.next_samples(rays, coarse, march, sigma_raw, last, dark=dark)


def ended(rays: Rays, coarse: Coarse, march: March) -> Ended:
    """Same function as the reference."""
    return reference.ended(rays, coarse, march)


def union_samples(rays: Rays, coarse: Coarse, march: March, drawn: Tensor) -> Samples:
    """Same function as the reference."""
    return reference.union_samples(rays, coarse, march, drawn)
