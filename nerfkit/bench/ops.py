"""The suite `ops`: every kernel on every backend at the size of one step of a fit."""

import itertools
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from nerfkit.device import CPU
from nerfkit.kernels import fastnerf_mlp, nerf_mlp
from nerfkit.kernels.composite import composite
from nerfkit.kernels.encodings import frequency_encoding, spherical_harmonics
from nerfkit.kernels.first_hit import first_hit
from nerfkit.kernels.fused_mlp import fused_mlp
from nerfkit.kernels.fused_render import fit_rays, render_rays
from nerfkit.kernels.importance_sample import importance_sample
from nerfkit.kernels.level_sum import level_sum
from nerfkit.kernels.octree_traverse import octree_traverse
from nerfkit.kernels.ray_box import ray_box
from nerfkit.kernels.sample_placement import place_samples
from nerfkit.kernels.sparse_adam import sparse_adam_step_
from nerfkit.kernels.voxel_features import voxel_features

from .case import Case
from .subject import Subject, rays
from .voxel_ops import baked, nsvf

SAMPLES_PER_RAY = 16
ADAM = {"lr": 1e-2, "betas": (0.9, 0.99), "eps": 1e-15, "step": 10}


def cases(n_rays: int, depth: int, device: torch.device = CPU) -> Iterator[Case]:
    """All of them.

    Args:
        n_rays: of a batch; the kernels after the march get 16 samples for each.
        depth: of the octree.
        device: of what is looked up; inputs may still have to be moved there.
    """
    subject = Subject.ball(depth, n_levels=3).to(device)
    origins, directions = (x.to(device) for x in rays(n_rays))
    both = {"origins": origins, "directions": directions}
    yield from _geometry(subject, both, n_rays)
    yield from _samples(subject, directions, n_rays)
    nerf, fastnerf = nerf_mlp.NerfMlpConfig(), fastnerf_mlp.FastNerfMlpConfig()
    yield from _network(nerf, nerf_mlp.nerf_mlp, nerf_mlp.unpack, n_rays // 2)
    # its direction network, once a ray, is a thousandth of the work
    yield from _network(
        *(fastnerf, fastnerf_mlp.fastnerf_mlp, fastnerf_mlp.unpack, n_rays // 4),
        n_layers=fastnerf.depth + 1,
    )
    yield from nsvf(subject.octree, n_rays // 4)
    yield from _tables(subject)
    few = n_rays // 4
    yield from baked(subject, {k: v[:few] for k, v in both.items()}, few)
    yield from fused(subject, n_rays // 4)


def _geometry(subject: Subject, both: dict[str, Tensor], n_rays: int) -> Iterator[Case]:
    octree = subject.octree
    low, high = octree.box_min, octree.box_min + octree.size
    size = f"{n_rays} rays"
    voxels = f"{size}, {octree.resolution}^3"
    yield Case(
        *("ray_box", "ray_box", size, n_rays, "rays", both),
        lambda b, origins, directions: ray_box(origins, directions, low, high, backend=b),
    )
    yield Case(
        *("first_hit", "first_hit", voxels, n_rays, "rays", both),
        lambda b, origins, directions: first_hit(
            origins, directions, subject.grid, octree.voxel, backend=b
        ),
        traffic=None,
    )
    # the reference tries every leaf for every ray: a small tree, or it takes minutes
    small = Subject.ball(5, n_levels=1).octree.to(octree.device)
    children, _ = small.children()
    few = {k: v[: n_rays // 16] for k, v in both.items()}
    yield Case(
        *("octree_traverse", "octree_traverse", f"{n_rays // 16} rays, {small.resolution}^3"),
        *(n_rays // 16, "rays", few),
        lambda b, origins, directions: tuple(
            octree_traverse(
                *(origins, directions, children, small.box_min, small.size, small.depth),
                backend=b,
            )
        ),
    )
    starts = torch.arange(n_rays)
    intervals = {
        "packed_info": torch.stack([starts, torch.ones_like(starts)], 1),
        "t_starts": torch.full((n_rays,), 2.0),
        "t_ends": torch.full((n_rays,), 2.0 + SAMPLES_PER_RAY * 0.01),
    }
    yield Case(
        *("sample_placement", "place_samples", size, n_rays * SAMPLES_PER_RAY, "samples"),
        intervals,
        lambda b, **x: tuple(place_samples(**x, step=0.01, backend=b)),
    )


def _samples(subject: Subject, directions: Tensor, n_rays: int) -> Iterator[Case]:
    generator = torch.Generator().manual_seed(1)
    n = n_rays * SAMPLES_PER_RAY
    size = f"{n} samples"

    def random(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    yield Case(
        *("encodings", "spherical_harmonics", f"{n_rays}, 4 bands", n_rays, "directions"),
        {"directions": directions},
        lambda b, directions: spherical_harmonics(directions, 4, backend=b),
        wanted=("directions",),
    )
    yield Case(
        *("encodings", "frequency_encoding", f"{n}, 10 frequencies", n, "points"),
        {"x": random(n, 3)},
        lambda b, x: frequency_encoding(x, 10, backend=b),
        wanted=("x",),
    )
    points = torch.nn.functional.normalize(random(n, 3) - 0.5, dim=1) * 0.8
    yield Case(
        *("voxel_features", "voxel_features", f"{size}, 3 levels of 16", n, "samples"),
        {"points": points, "values": subject.features},
        lambda b, points, values: voxel_features(points, subject.grid, values, backend=b),
        wanted=("values",),
        traffic=None,
        gathers=n * 3 * 8,
    )
    widths = subject.widths
    weights = {f"w{i}": random(widths[i + 1], widths[i]) - 0.5 for i in range(len(widths) - 1)}
    biases = {f"b{i}": random(width) - 0.5 for i, width in enumerate(widths[1:])}
    yield Case(
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
    counts = torch.full((n_rays,), SAMPLES_PER_RAY)
    edges = torch.arange(n) * 0.01
    packed_info = torch.stack([counts.cumsum(0) - counts, counts], 1)
    yield Case(
        *("composite", "composite", size, n, "samples"),
        {
            "sigmas": random(n) * 20,
            "rgbs": random(n, 3),
            "t_starts": edges,
            "t_ends": edges + 0.01,
            "packed_info": packed_info,
        },
        lambda b, **x: tuple(composite(**x, backend=b)),
        wanted=("sigmas", "rgbs"),
    )
    t_edges = torch.linspace(2, 6, 65).expand(n_rays // 4, 65)
    yield Case(
        *("importance_sample", "importance_sample", f"{n_rays // 4} rays, 64 to 128"),
        *(n_rays // 4 * 128, "samples"),
        {
            "t_edges": t_edges,
            "weights": random(n_rays // 4, 64),
            "u": random(n_rays // 4, 128).sort(1).values,
        },
        lambda b, t_edges, weights, u: importance_sample(t_edges, weights, 128, u=u, backend=b),
    )


def _network(
    config: nerf_mlp.NerfMlpConfig | fastnerf_mlp.FastNerfMlpConfig,
    run: Callable[..., tuple[Tensor, Tensor]],
    unpack: Callable[..., dict[str, Tensor]],
    n: int,
    n_layers: int | None = None,
) -> Iterator[Case]:
    """A large network, and the bare matrix products of its layers to hold it against."""
    name = run.__name__
    generator = torch.Generator().manual_seed(5)
    layers = list(config.layers.values())[:n_layers]
    flops = 2.0 * n * sum(out * width for out, width in layers)

    def random(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator) - 0.5

    params = random(config.n_params) / 32
    for key, view in unpack(params, config).items():
        if key.endswith("bias"):
            # far from zero: at the kink of a ReLU rounding alone decides which gradient is right
            view += torch.sign(view)
    inputs = {
        "points": random(n, 3),
        "directions": torch.nn.functional.normalize(random(-(-n // 64), 3), dim=1),
        "params": params,
        "ray_indices": torch.arange(n) // 64,
    }
    yield Case(
        *(name, name, f"{n} samples, 64 a ray", n, "samples", inputs),
        lambda b, **x: tuple(run(**x, backend=b)),
        wanted=("params",),
        flops=flops,
    )
    products = {
        **{f"x{i}": random(n, width) for i, (_, width) in enumerate(layers)},
        **{f"w{i}": random(width, out) for i, (out, width) in enumerate(layers)},
    }
    yield Case(
        *(name, f"matrix products of {name}", f"{n} samples", n, "samples", products),
        lambda b, **x: tuple(torch.mm(x[f"x{i}"], x[f"w{i}"]) for i in range(len(layers))),
        wanted=tuple(products),
        flops=flops,
        backends=("reference",),
    )


def _tables(subject: Subject) -> Iterator[Case]:
    generator = torch.Generator().manual_seed(2)
    vertices, features = subject.vertices, subject.features
    size = f"{len(vertices)} vertices"
    yield Case(
        *("level_sum", "level_sum", size, len(vertices), "vertices"),
        {"values": subject.density},
        lambda b, values: level_sum(values, vertices, backend=b),
        wanted=("values",),
    )
    touched = (torch.rand(len(vertices), generator=generator) < 0.25).to(torch.uint8)
    grads = torch.randn(features.shape, generator=generator) * touched[:, None]

    def adam(b, params, grads, exp_avg, exp_avg_sq, touched):
        sparse_adam_step_(params, grads, exp_avg, exp_avg_sq, touched, **ADAM, backend=b)
        return params, exp_avg, exp_avg_sq

    state = {
        "params": features,
        "grads": grads,
        "exp_avg": torch.zeros_like(features),
        "exp_avg_sq": torch.ones_like(features),
        "touched": touched,
    }
    yield Case(
        *("sparse_adam", "sparse_adam", f"a quarter of {size} of 16", int(touched.sum()), "rows"),
        *(state, adam),
        fresh=tuple(state),
        traffic=int(touched.sum()) * 4 * 64 * 2,
    )


def fused(subject: Subject, n_rays: int) -> Iterator[Case]:
    """The fused renderer: a rendering, and forward with backward as a fit does it."""
    device = subject.density.device
    origins, directions = (x.to(device) for x in rays(n_rays, seed=3))
    generator = torch.Generator().manual_seed(4)
    scene = {
        "density": subject.density,
        "features": subject.features,
        "mlp": subject.network,
    }
    both = {"origins": origins, "directions": directions}
    size = f"{n_rays} rays, {subject.octree.resolution}^3"
    yield Case(
        *("fused_render", "render_rays", size, n_rays, "rays", {**both, **scene}),
        lambda b, origins, directions, **x: tuple(
            render_rays(
                *(origins, directions, subject.grid, x["density"], x["features"], x["mlp"]),
                *(subject.widths,),
                **subject.sampling,
                backend=b,
            )
        ),
        traffic=None,
    )
    gradients = {
        "grad_density": torch.zeros_like(subject.density),
        "grad_features": torch.zeros_like(subject.features),
        "grad_mlp": torch.zeros_like(subject.network),
        "features_touched": torch.zeros_like(subject.density, dtype=torch.uint8),
    }
    targets = torch.rand(n_rays, 3, generator=generator).to(device)

    def fit(b, origins, directions, targets, density, features, mlp, **gradients):
        return fit_rays(
            *(origins, directions, targets, subject.grid, density, features, mlp),
            *(subject.widths,),
            scale=1 / math.prod(targets.shape),
            **gradients,
            **subject.sampling,
            backend=b,
        )

    def fit_gradients(b, **inputs):
        fit(b, **inputs)
        return tuple(inputs[k] for k in ("grad_density", "grad_features", "grad_mlp"))

    inputs = {**both, "targets": targets, **scene, **gradients}
    # the copies: what this call adds to is not what is measured
    shaded = int(fit(None, **{k: v.clone() for k, v in inputs.items()}).n_shaded)
    yield Case(
        *("fused_render", "fit_rays (forward+backward)", size, n_rays, "rays"),
        *(inputs, fit_gradients),
        fresh=tuple(gradients),
        flops=3 * 2.0 * shaded * sum(i * o for i, o in itertools.pairwise(subject.widths)),
        traffic=None,
        gathers=3 * shaded * 8 * len(subject.vertices.resolutions),
    )
