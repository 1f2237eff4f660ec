"""The large networks, and the bare matrix products of their layers to hold them against.

N samples, 64 a ray; inputs are random, parameters such that rounding decides no ReLU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from nerfkit.bench.case import Case
from nerfkit.fields.spans import Guide
from nerfkit.kernels import fastnerf_mlp, nerf_mlp, nsvf_mlp, nsvf_render
from nerfkit.octree import Octree
from nerfkit.octree.corners import Corners

PER_RAY = 64
NSVF_DEPTH = 4  # about a thousand voxels, as its fits begin with


def cases(n_rays: int, octree: Octree) -> Iterator[Case]:
    """The networks of NeRF, FastNeRF, and NSVF in the voxels of `octree`."""
    place = octree.codes.device
    config = nerf_mlp.NerfMlpConfig()
    inputs = _points(max(2, n_rays // 2), config.n_params, place)
    _offset_biases(nerf_mlp.unpack(inputs["params"], config))
    layers = list(config.layers.values())
    yield from _both(nerf_mlp.nerf_mlp, inputs, ("params",), layers)

    config = fastnerf_mlp.FastNerfMlpConfig()
    inputs = _points(max(2, n_rays // 4), config.n_params, place)
    _offset_biases(fastnerf_mlp.unpack(inputs["params"], config))
    # its direction network, once a ray, is a thousandth of the work
    layers = list(config.layers.values())[: config.depth + 1]
    yield from _both(fastnerf_mlp.fastnerf_mlp, inputs, ("params",), layers)

    config = nsvf_mlp.NsvfMlpConfig()
    inputs = _points(max(2, n_rays // 4), config.n_params, place)
    _offset_biases(nsvf_mlp.unpack(inputs["params"], config))
    inputs = {**_in_voxels(inputs.pop("points"), octree, config.embedding), **inputs}
    layers = list(config.layers.values())
    yield from _both(nsvf_mlp.nsvf_mlp, inputs, ("table", "params"), layers)


def nsvf_rays(octree: Octree, both: dict[str, Tensor]) -> Iterator[Case]:
    """Rays through the voxels of `octree`, rendered by NSVF: march, network, compositing."""
    n, place = len(both["origins"]), octree.codes.device
    octree, config = octree.above(NSVF_DEPTH), nsvf_mlp.NsvfMlpConfig()
    corners = Corners.of(octree)
    generator = torch.Generator().manual_seed(6)
    table = torch.randn(len(corners), config.embedding, generator=generator) * 0.1
    params = _points(0, config.n_params, place)["params"]
    _offset_biases(nsvf_mlp.unpack(params, config))
    spans = Guide(octree).spans(both["origins"], both["directions"], 0.0)
    voxels = nsvf_render.Voxels(
        octree.cells().float(), corners.indices, octree.box_min, octree.voxel
    )
    settings = {"step": octree.voxel / 8, "density_scale": 2.0, "early_stop": 0.0}
    n_samples = int((spans.lengths() / settings["step"]).ceil().sum())

    def run(b: str, **x: Tensor) -> tuple[Tensor, ...]:
        seen = nsvf_render.render_rays(
            **x, spans=spans, voxels=voxels, config=config, **settings, backend=b
        )
        return seen.colors, seen.opacities

    background = torch.ones_like(both["origins"])
    field = {"background": background, "table": table.to(place), "params": params}
    yield Case(
        *("nsvf_render", "nsvf_render", f"{n} rays, {n_samples} samples", n, "rays"),
        *(both | field, run),
        wanted=("table", "params"),
        flops=2.0 * n_samples * sum(out * width for out, width in config.layers.values()),
    )


def _points(n: int, n_params: int, place: torch.device) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(5)

    def random(*shape: int) -> Tensor:
        return (torch.rand(*shape, generator=generator) - 0.5).to(place)

    return {
        "points": random(n, 3),
        "directions": torch.nn.functional.normalize(random(-(-n // PER_RAY), 3), dim=1),
        "params": random(n_params) / 32,
        "ray_indices": torch.arange(n, device=place) // PER_RAY,
    }


def _in_voxels(points: Tensor, octree: Octree, embedding: int) -> dict[str, Tensor]:
    """Points of NSVF: where they are in a random voxel, and embeddings at its corners."""
    generator = torch.Generator().manual_seed(6)
    octree = octree.above(NSVF_DEPTH)
    corners = Corners.of(octree)
    table = torch.randn(len(corners), embedding, generator=generator) * 0.1
    voxels = torch.randint(len(octree), points.shape[:1], generator=generator)
    return {
        "table": table.to(points.device),
        "corners": corners.indices,
        "voxels": voxels.to(points.device),
        "places": points + 0.5,
    }


def _offset_biases(parameters: dict[str, Tensor]) -> None:
    """Far from zero: at the kink of a ReLU rounding alone decides which gradient is right."""
    for name, values in parameters.items():
        if name.endswith("bias"):
            values += torch.sign(values)


def _both(
    run: Callable[..., tuple[Tensor, ...]],
    inputs: dict[str, Tensor],
    wanted: tuple[str, ...],
    layers: list[tuple[int, int]],
) -> Iterator[Case]:
    """The network, and its layers' matrix products."""
    name, n = run.__name__, len(inputs["ray_indices"])
    flops = 2.0 * n * sum(out * width for out, width in layers)
    yield Case(
        *(name, name, f"{n} samples, {PER_RAY} a ray", n, "samples", inputs),
        lambda b, **x: tuple(run(**x, backend=b)),
        wanted=wanted,
        flops=flops,
    )
    generator = torch.Generator().manual_seed(5)
    place = inputs["params"].device
    operands = {f"x{i}": (n, width) for i, (_, width) in enumerate(layers)}
    operands |= {f"w{i}": (width, out) for i, (out, width) in enumerate(layers)}
    products = {k: torch.rand(v, generator=generator).to(place) for k, v in operands.items()}
    yield Case(
        *(name, f"matrix products of {name}", f"{n} samples", n, "samples", products),
        lambda b, **x: tuple(torch.mm(x[f"x{i}"], x[f"w{i}"]) for i in range(len(layers))),
        wanted=tuple(products),
        flops=flops,
        backends=("reference",),
    )
