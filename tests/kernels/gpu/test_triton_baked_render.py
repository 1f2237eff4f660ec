"""baked_render: Triton against the reference, with few lanes so that they often take new rays."""

import pytest
import torch
from closeness import assert_close
from on_device import DEVICE
from test_baked_render import EXACT, SAMPLING, scene, tables
from voxel_scene import BOX_MIN, SIZE, rays_around

pytest.importorskip("triton")

from nerfkit.kernels.baked_render import Fitted, gpu, reference, render_baked
from nerfkit.octree import Octree

SMALL = gpu.Launch(block=16, inner=2, fill=8, regen=4, warps=1, programs=1)
OPTIONS = {**SAMPLING, "near": 0.05, "far": 1e9}


def compare(grid, rays, abs, **options):
    options = {**OPTIONS, "background": None, "max_weights": None, **options}
    want = reference.render_baked(*(r.double() for r in rays), grid, **options)
    moved = {k: v.to(DEVICE) if isinstance(v, torch.Tensor) else v for k, v in options.items()}
    if moved["max_weights"] is not None:
        moved["max_weights"].zero_()
    got = gpu.render_baked(*(r.to(DEVICE) for r in rays), grid.to(DEVICE), how=SMALL, **moved)
    for name, g, w in zip(want._fields, got, want, strict=True):
        assert_close(name, g, w, rel=abs, abs=abs)
    return want, moved["max_weights"]


@pytest.mark.parametrize(("depth", "n"), [(1, 5), (4, 37)])
def test_pixels(depth, n):
    grid = scene(depth, Octree.full(BOX_MIN, SIZE, depth) if depth < 3 else None)
    background = torch.rand(n, 3, generator=torch.Generator().manual_seed(1))
    # jumps over empty space may take a sample on a face to be outside: step is large here
    want, _ = compare(grid, rays_around(n, seed=depth), 1e-4, background=background, **EXACT)
    assert (want.opacities > 0.3).any()


def test_early_ends_and_largest_weights():
    grid, rays = scene(), rays_around(20)
    weights = torch.zeros(len(grid.words), 64)
    options = {"early_stop": 0.02, "weight_min": 0.003, "max_weights": weights}
    rays = rays[0].expand(20, 3), rays[1]
    _, found = compare(grid, rays, 2e-3, **options, background=torch.tensor([0.2, 0.5, 0.9]))
    reference.render_baked(*rays, grid, **OPTIONS, **{**options, "background": None})
    assert_close("max_weights", found, weights, rel=1e-4, abs=1e-4)


def test_gradients_of_colours():
    grid, (origins, directions) = scene(), rays_around(21)
    generator = torch.Generator().manual_seed(2)
    inputs = {
        "origins": origins,
        "directions": directions,
        "targets": torch.rand(21, 3, generator=generator),
        "background": torch.rand(3, generator=generator),
    }
    found = {}
    for name, run, extra in (("want", reference, {}), ("got", gpu, {"how": SMALL})):
        place = DEVICE if name == "got" else "cpu"
        fitted = [Fitted(*(x.to(place) for x in table)) for table in tables(grid)]
        for table in fitted:
            table.grads.fill_(0.5)
        given = {k: v.to(place) for k, v in inputs.items()}
        settings = {**OPTIONS, **EXACT, **extra}
        losses = run.color_gradient_(*fitted, grid=grid.to(place), **given, **settings)
        found[name] = losses, *fitted
    got, want = found["got"], found["want"]
    assert_close("losses", got[0], want[0], rel=1e-4, abs=1e-3)
    for name, ours, theirs in zip(("components", "details"), got[1:], want[1:], strict=True):
        assert_close(name, ours.grads, theirs.grads, rel=1e-4, abs=1e-3)
        assert (ours.touched.cpu() >= theirs.touched).all()
        assert theirs.grads.sub(0.5).abs().max() > 0.1


def test_odd_rays_and_none():
    grid = scene()
    nan = float("nan")
    origins = torch.tensor([[-3.0, 0.1, 0.1], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [9.0, 9.0, 9.0]])
    directions = torch.tensor([[1.0, 0.0, -0.0], [0.0, 0.0, 0.0], [nan, 0.0, 1.0], [0.6, 0.8, 0]])
    rays = origins.to(DEVICE), directions.to(DEVICE)
    got = gpu.render_baked(
        *rays, grid.to(DEVICE), **OPTIONS, **EXACT, background=None, max_weights=None, how=SMALL
    )
    assert torch.isfinite(got.colors).all() and not got.opacities[1:].any()
    compare(grid, (origins[:1], directions[:1]), 1e-4, **EXACT)
    none = render_baked(rays[0][:0], rays[1][:0], grid.to(DEVICE), **SAMPLING, backend="gpu")
    assert none.colors.shape == (0, 3)
