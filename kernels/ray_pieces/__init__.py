"""Rays of the whole of space as straight pieces in a cube of finite size.

Symbols: R rays o + t d with unit d, world units; P pieces of all rays. With x = (world - centre) /
half, the cube |x| <= 1 (largest component) stays as it is and all of space outside it goes into
1 < |x| < 2. For a point whose largest component is x_a (2302.12249, eq. 3):

    x'_a = (2 - 1 / |x_a|) sign(x_a),      x'_b = x_b / |x_a|

This is projective in each of the seven regions (inside, and beyond each face), so a ray stays
straight in each of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from nerfkit.kernels import _backend

__all__ = ["Pieces", "ray_pieces"]

COLUMNS = 11


@dataclass(frozen=True)
class Pieces:
    """Straight parts of rays in the cube.

    Attributes:
        rows: [P, 11], ray by ray and front to back: origin [3], unit direction [3] and length in
            the cube, then u, du, m, dm: s along a piece lies t = (m + s dm) / (u + s du) along the
            ray in the world.
        first: [R + 1] int64, first piece of every ray, and P.
    """

    rows: torch.Tensor
    first: torch.Tensor

    def owners(self) -> torch.Tensor:
        """Ray of every piece, [P] int64."""
        counts = self.first.diff()
        return torch.arange(len(counts), device=counts.device).repeat_interleave(counts)


def ray_pieces(
    origins: torch.Tensor,
    directions: torch.Tensor,
    center: tuple[float, float, float],
    half: float,
    near: float = 0.0,
    *,
    backend: str | None = None,
) -> Pieces:
    """The pieces of rays from t = `near` to infinity.

    On `reference` differentiable with respect to the rays. A ray of no direction has no pieces, nor
    has one that is not finite.

    Args:
        origins, directions: [R, 3], world axes; directions of unit length (not checked).
        center, half: of the cube that keeps its shape, world units.

    Raises:
        ValueError: wrong shapes or ranges, or an unknown backend.
    """
    if origins.dim() != 2 or origins.shape[1] != 3 or directions.shape != origins.shape:
        raise ValueError(
            "`origins` and `directions` must have shape (R, 3), got "
            f"{tuple(origins.shape)} and {tuple(directions.shape)}"
        )
    if not half > 0 or not near >= 0:
        raise ValueError(f"`half` must be positive and `near` not negative, got {half}, {near}")
    chosen = _backend.choose("ray_pieces", origins, backend)
    if chosen == "cpu":
        from . import cpu as implementation
    elif chosen == "gpu":
        from . import gpu as implementation
    else:
        from . import reference as implementation
    return implementation.ray_pieces(origins, directions, center, half, near)
