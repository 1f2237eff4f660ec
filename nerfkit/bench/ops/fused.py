"""The fused renderer: rays to colours, and forward with backward in one pass as a fit does it.

Straight rays, and those of all of space in pieces in the octree's cube.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from nerfkit.bench.case import Case
from nerfkit.bench.subject import DISTANCE, RADIUS, Subject, rays
from nerfkit.kernels.fused_render import Fitted, fit_rays, render_rays
from nerfkit.kernels.ray_pieces import Pieces, ray_pieces

GRADIENTS = ("grad_density", "grad_features", "grad_mlp")
INNER = RADIUS / 2  # half the cube that keeps its shape, of rays in pieces
SPREAD, DEPTH_WEIGHT = 0.002, 0.1
RAY_BYTES = 4 * (3 + 3 + 3)  # an origin, a direction, a colour


def cases(subject: Subject, n_rays: int) -> Iterator[Case]:
    """`render_rays`, and `fit_rays` with the mean squared error of the rays as its loss."""
    inputs = _inputs(subject, n_rays)
    # of copies: what is added to the gradients here is not what is measured
    copies = {name: values.clone() for name, values in inputs.items()}
    shaded = int(_fit(subject, None, **copies).n_shaded)
    flops = 2.0 * shaded * sum(i * o for i, o in itertools.pairwise(subject.widths))
    gathers = int(copies["features_touched"].sum())
    size = f"{n_rays} rays, {subject.octree.resolution}^3"

    def render(b: str, origins: Tensor, directions: Tensor, density, features, mlp):
        return tuple(
            render_rays(
                *(origins, directions, subject.grid, density, features, mlp, subject.widths),
                **subject.sampling,
                backend=b,
            )
        )

    names = ("origins", "directions", "density", "features", "mlp")
    yield Case(
        *("fused_render", "render_rays", size, n_rays, "rays"),
        *({name: inputs[name] for name in names}, render),
        flops=flops,
        traffic=n_rays * RAY_BYTES,
        gathers=gathers,
    )

    def fit(b: str, **inputs: Tensor) -> tuple[Tensor, ...]:
        _fit(subject, b, **inputs)
        return tuple(inputs[name] for name in GRADIENTS)

    yield Case(
        *("fused_render", "fit_rays (forward+backward)", size, n_rays, "rays", inputs, fit),
        fresh=(*GRADIENTS, "features_touched"),
        flops=3 * flops,
        traffic=2 * n_rays * RAY_BYTES,
        gathers=3 * gathers,
    )


def bent_cases(subject: Subject, n_rays: int) -> Iterator[Case]:
    """Of rays in pieces; the fit with the spread of weights, depths and gradients of the rays."""
    inputs = _inputs(subject, n_rays)
    world = inputs["origins"].cpu(), inputs["directions"].cpu()
    found = ray_pieces(*world, (0.0, 0.0, 0.0), INNER)
    rows = found.rows.clone()
    rows[:, :3] /= 2  # from [-2, 2]^3 to the octree's cube
    rows[:, 6] /= 2
    rows[:, [8, 10]] *= 2
    depths = torch.full((n_rays,), DISTANCE) * (torch.arange(n_rays) % 2)
    inputs |= {
        "rows": rows.to(subject.place),
        "first": found.first.to(subject.place),
        "depths": depths.to(subject.place),
        "grad_rays": torch.zeros(len(rows), 6, device=subject.place),
    }
    copies = {name: values.clone() for name, values in inputs.items()}
    shaded = int(_fit_bent(subject, None, **copies).n_shaded)
    flops = 2.0 * shaded * sum(i * o for i, o in itertools.pairwise(subject.widths))
    gathers = int(copies["features_touched"].sum())
    size = f"{n_rays} rays, {subject.octree.resolution}^3"

    def render(b: str, origins: Tensor, directions: Tensor, rows, first, density, features, mlp):
        return tuple(
            render_rays(
                *(origins, directions, subject.grid, density, features, mlp, subject.widths),
                **subject.sampling,
                pieces=Pieces(rows, first),
                backend=b,
            )
        )

    names = ("origins", "directions", "rows", "first", "density", "features", "mlp")
    traffic = n_rays * RAY_BYTES + 4 * rows.numel()
    yield Case(
        *("fused_render", "render_rays in pieces", size, n_rays, "rays"),
        *({name: inputs[name] for name in names}, render),
        flops=flops,
        traffic=traffic,
        gathers=gathers,
    )

    def fit(b: str, **inputs: Tensor) -> tuple[Tensor, ...]:
        _fit_bent(subject, b, **inputs)
        return tuple(inputs[name] for name in (*GRADIENTS, "grad_rays"))

    yield Case(
        *("fused_render", "fit_rays in pieces, all terms", size, n_rays, "rays", inputs, fit),
        fresh=(*GRADIENTS, "grad_rays", "features_touched"),
        flops=3 * flops,
        traffic=2 * traffic,
        gathers=3 * gathers,
    )


def _inputs(subject: Subject, n_rays: int) -> dict[str, Tensor]:
    origins, directions = rays(n_rays, seed=3)
    targets = torch.rand(n_rays, 3, generator=torch.Generator().manual_seed(4))
    return {
        "origins": origins.to(subject.place),
        "directions": directions.to(subject.place),
        "targets": targets.to(subject.place),
        "density": subject.density,
        "features": subject.features,
        "mlp": subject.network,
        "grad_density": torch.zeros_like(subject.density),
        "grad_features": torch.zeros_like(subject.features),
        "grad_mlp": torch.zeros_like(subject.network),
        "features_touched": torch.zeros_like(subject.density, dtype=torch.uint8),
    }


def _fit(
    subject: Subject,
    backend: str | None,
    origins: Tensor,
    directions: Tensor,
    targets: Tensor,
    density: Tensor,
    features: Tensor,
    mlp: Tensor,
    **further: Tensor | Pieces | float,
) -> Fitted:
    return fit_rays(
        *(origins, directions, targets, subject.grid, density, features, mlp, subject.widths),
        scale=1 / math.prod(targets.shape),
        **further,
        **subject.sampling,
        backend=backend,
    )


def _fit_bent(
    subject: Subject, backend: str | None, rows: Tensor, first: Tensor, **inputs: Tensor
) -> Fitted:
    terms = {"distortion": SPREAD, "depth_weight": DEPTH_WEIGHT}
    return _fit(subject, backend, **inputs, **terms, pieces=Pieces(rows, first))
