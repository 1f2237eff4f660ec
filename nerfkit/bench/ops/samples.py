"""Samples along rays: placed, encoded, looked up, composited. N samples, 16 a ray."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from nerfkit.bench.case import Case
from nerfkit.bench.subject import RADIUS, Subject
from nerfkit.fields.spans import Guide
from nerfkit.kernels import nerf_samples
from nerfkit.kernels.composite import composite
from nerfkit.kernels.encodings import frequency_encoding, spherical_harmonics
from nerfkit.kernels.fused_mlp import fused_mlp
from nerfkit.kernels.importance_sample import importance_sample
from nerfkit.kernels.sample_placement import place_samples
from nerfkit.kernels.voxel_features import voxel_features
from nerfkit.octree import Octree

SAMPLES_PER_RAY = 16
COARSE, FINE = 64, 128  # samples of a ray of NeRF
GUIDE_DEPTH = 6  # of the octree that leads it


def cases(subject: Subject, directions: Tensor) -> Iterator[Case]:
    """Of as many rays as there are directions."""
    generator = torch.Generator().manual_seed(1)
    n_rays, place = len(directions), directions.device

    def random(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator).to(place)

    yield _placement(n_rays, place)
    yield from _encodings(directions, random(n_rays * SAMPLES_PER_RAY, 3))
    yield _look_ups(subject, random(n_rays * SAMPLES_PER_RAY, 3))
    yield _network(subject.widths, random, n_rays * SAMPLES_PER_RAY)
    yield _compositing(n_rays, random, place)
    yield _importance(max(1, n_rays // 4), random, place)


def of_nerf(octree: Octree, both: dict[str, Tensor]) -> Iterator[Case]:
    """Coarse samples of rays in an octree, and their union with fine ones."""
    octree, n_rays = octree.above(GUIDE_DEPTH), len(both["origins"])
    center = octree.box_min + octree.size / 2
    spans = Guide(octree).spans(both["origins"], both["directions"], 0.0)
    given = nerf_samples.Rays(**both, spans=spans, center=center, scale=3.0 / octree.size)
    spacing = octree.size / 256
    where = torch.rand(n_rays, COARSE, generator=torch.Generator().manual_seed(2))
    where = where.to(center.device)

    def strata(b: str, where: Tensor, **lines: Tensor) -> tuple[Tensor, ...]:
        rays = given._replace(**lines)
        return nerf_samples.coarse_samples(rays, COARSE, spacing=spacing, where=where, backend=b)[
            :3
        ]

    yield Case(
        *("nerf_samples", "coarse_samples", f"{n_rays} rays, up to {COARSE}"),
        *(n_rays, "rays", {"where": where, **both}, strata),
    )
    coarse = nerf_samples.coarse_samples(
        given, COARSE, spacing=spacing, where=where, backend="reference"
    )
    march = nerf_samples.next_samples(
        *(given, coarse, None, None, COARSE), dark=1.0, backend="reference"
    )
    u = torch.rand(n_rays, FINE, generator=torch.Generator().manual_seed(3)).sort(1).values
    drawn = u.to(center.device) * coarse.edges[:, -1:]

    def union(b: str, drawn: Tensor, **lines: Tensor) -> tuple[Tensor, ...]:
        rays = given._replace(**lines)
        samples = nerf_samples.union_samples(rays, coarse, march, drawn, backend=b)
        return samples.points, samples.distances, samples.steps

    yield Case(
        *("nerf_samples", "union_samples", f"{n_rays} rays, up to {COARSE} and {FINE}"),
        *(n_rays, "rays", {"drawn": drawn, **both}, union),
    )


def _placement(n_rays: int, place: torch.device) -> Case:
    starts = torch.arange(n_rays, device=place)
    intervals = {
        "packed_info": torch.stack([starts, torch.ones_like(starts)], 1),
        "t_starts": torch.full((n_rays,), 2.0, device=place),
        "t_ends": torch.full((n_rays,), 2.0 + SAMPLES_PER_RAY * 0.01, device=place),
    }
    return Case(
        *("sample_placement", "place_samples", f"{n_rays} rays"),
        *(n_rays * SAMPLES_PER_RAY, "samples", intervals),
        lambda b, **x: tuple(place_samples(**x, step=0.01, backend=b)),
    )


def _encodings(directions: Tensor, points: Tensor) -> Iterator[Case]:
    yield Case(
        *("encodings", "spherical_harmonics", f"{len(directions)}, 4 bands"),
        *(len(directions), "directions", {"directions": directions}),
        lambda b, directions: spherical_harmonics(directions, 4, backend=b),
        wanted=("directions",),
    )
    yield Case(
        *("encodings", "frequency_encoding", f"{len(points)}, 10 frequencies"),
        *(len(points), "points", {"x": points}),
        lambda b, x: frequency_encoding(x, 10, backend=b),
        wanted=("x",),
    )


def _look_ups(subject: Subject, points: Tensor) -> Case:
    n, levels = len(points), len(subject.vertices.resolutions)
    points = torch.nn.functional.normalize(points - 0.5, dim=1) * RADIUS
    leaf = subject.features.detach().requires_grad_()
    (touched,) = torch.autograd.grad(voxel_features(points, subject.grid, leaf).sum(), leaf)
    return Case(
        *("voxel_features", "voxel_features", f"{n} samples, {levels} levels of 16"),
        *(n, "samples", {"points": points, "values": subject.features}),
        lambda b, points, values: voxel_features(points, subject.grid, values, backend=b),
        wanted=("values",),
        traffic=n * 4 * (3 + 16),
        gathers=int(touched.any(1).sum()),
    )


def _network(widths: tuple[int, ...], random, n: int) -> Case:
    weights = {f"w{i}": random(widths[i + 1], widths[i]) - 0.5 for i in range(len(widths) - 1)}
    biases = {f"b{i}": random(width) - 0.5 for i, width in enumerate(widths[1:])}
    return Case(
        *("fused_mlp", "fused_mlp", f"{n}, {'-'.join(map(str, widths))}", n, "samples"),
        {"x": random(n, widths[0]), **weights, **biases},
        lambda b, x, **p: fused_mlp(
            *(x, [p[k] for k in weights], [p[k] for k in biases]),
            output_activation="sigmoid",
            backend=b,
        ),
        wanted=("x", *weights, *biases),
        flops=2.0 * n * sum(w.numel() for w in weights.values()),
    )


def _compositing(n_rays: int, random, place: torch.device) -> Case:
    n = n_rays * SAMPLES_PER_RAY
    counts = torch.full((n_rays,), SAMPLES_PER_RAY, device=place)
    edges = torch.arange(n, device=place) * 0.01
    inputs = {
        "sigmas": random(n) * 20,
        "rgbs": random(n, 3),
        "t_starts": edges,
        "t_ends": edges + 0.01,
        "packed_info": torch.stack([counts.cumsum(0) - counts, counts], 1),
    }
    return Case(
        *("composite", "composite", f"{n} samples", n, "samples", inputs),
        lambda b, **x: tuple(composite(**x, backend=b)),
        wanted=("sigmas", "rgbs"),
    )


def _importance(n_rays: int, random, place: torch.device) -> Case:
    inputs = {
        "t_edges": torch.linspace(2, 6, COARSE + 1, device=place).expand(n_rays, COARSE + 1),
        "weights": random(n_rays, COARSE),
        "u": random(n_rays, FINE).sort(1).values,
    }
    return Case(
        *("importance_sample", "importance_sample", f"{n_rays} rays, {COARSE} to {FINE}"),
        *(n_rays * FINE, "samples", inputs),
        lambda b, t_edges, weights, u: importance_sample(t_edges, weights, FINE, u=u, backend=b),
    )
