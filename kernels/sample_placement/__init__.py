"""Samples of a fixed length along rays, inside given intervals.

Symbols: R rays, M intervals, S samples; t is the distance along a ray. The lattice of ray r has
cells [(k + jitter_r) * step, (k + 1 + jitter_r) * step) for all integers k.
"""

from typing import NamedTuple

import torch

from nerfkit.kernels import _backend


class Samples(NamedTuple):
    """Samples of all rays, ray by ray, in the order of the intervals."""

    packed_info: torch.Tensor  # [R, 2] int64: start and count in the S samples
    t_starts: torch.Tensor  # [S]
    t_ends: torch.Tensor  # [S]
    ray_indices: torch.Tensor  # [S] int64
    interval_indices: torch.Tensor  # [S] int64, into the M intervals


def place_samples(
    packed_info: torch.Tensor,
    t_starts: torch.Tensor,
    t_ends: torch.Tensor,
    step: float,
    *,
    jitter: torch.Tensor | None = None,
    backend: str | None = None,
) -> Samples:
    """One sample for every cell of a ray's lattice whose centre lies in one of its intervals.

    Intervals are half-open, [t_start, t_end): those that touch give contiguous samples, none twice
    and none left out. A sample is a whole cell, so it may reach half a step beyond its interval,
    and an interval shorter than a step may get none. Not differentiable.

    Args:
        packed_info: [R, 2] int64, start and count of each ray's intervals.
        t_starts, t_ends: [M], finite; those of one ray ordered and disjoint.
        step: length of a sample, positive.
        jitter: [R] in [0, 1), shift of each ray's lattice in steps; None is 0.

    Raises:
        ValueError: wrong shapes or dtypes, step <= 0, or an unknown backend.
    """
    if packed_info.dim() != 2 or packed_info.shape[1] != 2 or packed_info.dtype != torch.int64:
        raise ValueError(
            f"`packed_info` must be int64 of shape (R, 2), got {packed_info.dtype} "
            f"of shape {tuple(packed_info.shape)}"
        )
    if t_starts.dim() != 1 or t_ends.shape != t_starts.shape:
        raise ValueError(
            f"`t_starts` and `t_ends` must have one shape (M,), got {tuple(t_starts.shape)} "
            f"and {tuple(t_ends.shape)}"
        )
    if jitter is not None and jitter.shape != packed_info.shape[:1]:
        raise ValueError(
            f"`jitter` must have shape ({len(packed_info)},), got {tuple(jitter.shape)}"
        )
    if not step > 0:
        raise ValueError(f"`step` must be positive, got {step}")
    chosen = _backend.choose("sample_placement", t_starts, backend)
    if chosen == "cpu":
        from nerfkit.kernels.sample_placement import cpu as implementation
    elif chosen == "gpu":
        from nerfkit.kernels.sample_placement import gpu as implementation
    else:
        from nerfkit.kernels.sample_placement import reference as implementation
    with torch.no_grad():
        fields = implementation.place_samples(packed_info, t_starts, t_ends, step, jitter=jitter)
    return Samples(*fields)
