"""baked_render: C++ against the reference, gradients, odd shapes, and what it must not do."""

import math

import pytest
import torch
from voxel_scene import BOX_MIN, SIZE, rays_around, shell

from nerfkit.kernels.baked_render import BakedGrid, Fitted, Layout, color_gradient_, render_baked
from nerfkit.octree import Octree

SAMPLING = {"step": 0.04, "density_scale": 20.0, "density_bias": -1.0}
# No sample is left out for weighing little, so that a rounding error cannot decide whether it is.
EXACT = {"early_stop": 1e-6, "weight_min": 0.0}
# Largest error seen of colours, depths, opacities: 6.5e-6, 1.6e-5, 5.2e-6.
TOLERANCE = {"atol": 3e-5, "rtol": 0.0}


def scene(depth: int = 4, octree: Octree | None = None, seed: int = 0) -> BakedGrid:
    octree = shell(depth) if octree is None else octree
    layout = Layout.of(octree)
    generator = torch.Generator().manual_seed(seed)
    n = len(layout.codes)
    density = torch.randint(-32768, 32768, (n,), generator=generator).to(torch.int16)
    records = torch.randint(0, 256, (n, 24), generator=generator).to(torch.uint8)
    levels = torch.rand(2, 24, generator=generator) * torch.tensor([[0.3], [2e-3]])
    details = torch.randint(0, 256, (len(layout.details), 8), generator=generator).to(torch.uint8)
    detail_levels = torch.rand(2, 8, generator=generator) * torch.tensor([[-0.3], [2e-3]])
    colors = records, levels, details, detail_levels
    return BakedGrid.of(octree, layout, density, (0.0, 1.5e-4), *colors)


def both(grid, origins, directions, **options):
    options = {**SAMPLING, **EXACT, **options}
    return (
        render_baked(origins, directions, grid, backend=backend, **options)
        for backend in ("cpu", "reference")
    )


def close(found, truth):
    for name, ours, theirs in zip(found._fields, found, truth, strict=True):
        torch.testing.assert_close(ours, theirs, **TOLERANCE, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("depth", [0, 1, 2, 3, 5])
def test_forward(depth):
    octree = Octree.full(BOX_MIN, SIZE, depth) if depth < 3 else None
    grid = scene(depth, octree)
    origins, directions = rays_around(500, seed=depth)
    background = torch.rand(500, 3, generator=torch.Generator().manual_seed(1))
    found, truth = both(grid, origins, directions, background=background)
    assert (truth.opacities > 0.5).float().mean() > 0.2
    close(found, truth)


def test_samples_that_weigh_little():
    grid = scene()
    origins, directions = rays_around(2000)
    exact = next(iter(both(grid, origins, directions)))
    found, truth = both(grid, origins, directions, early_stop=4e-3, weight_min=4e-3)
    difference = (found.colors - truth.colors).abs().amax(1)
    # A sample on the threshold may fall on either side: measured on 0 of 2000 rays.
    assert (difference > 5e-5).sum() <= 3
    assert 1e-6 < (found.colors - exact.colors).abs().max() < 0.02  # measured 0.0042


def test_tiles_of_neighbouring_rays_skip_nothing():
    grid = scene(6, shell(6, 0.85, 0.95))
    y, x = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
    pixels = torch.stack([x.flatten() / 24 - 0.5, y.flatten() / 24 - 0.5, torch.ones(576)], 1)
    directions = torch.nn.functional.normalize(pixels, dim=1)
    center = BOX_MIN + SIZE / 2
    for distance in (3.0, 0.9, 0.0):
        origins = (center - torch.tensor([0.0, 0.0, distance])).expand(576, 3)
        close(*both(grid, origins, directions, background=torch.ones(3)))


@pytest.mark.parametrize("n", [0, 1, 3, 65])
def test_odd_numbers_of_rays_that_are_not_contiguous(n):
    grid = scene(3)
    origins, directions = rays_around(2 * n)
    found, truth = both(grid, origins[::2], directions[::2], background=torch.rand(3, 2 * n).T[::2])
    assert found.colors.shape == (n, 3)
    close(found, truth)


def test_rays_along_axes_and_beyond_the_cube():
    grid = scene(3, Octree.full(BOX_MIN, SIZE, 3))
    inside = BOX_MIN + SIZE * torch.tensor([0.31, 0.62, 0.53])
    directions = torch.cat([torch.eye(3), -torch.eye(3)]).repeat(3, 1)
    origins = torch.cat(
        [inside - 5 * directions[:6], inside.expand(6, 3), inside + 5 * directions[:6]]
    )
    found, truth = both(grid, origins, directions, near=0.1, far=5.5)
    assert truth.opacities[:12].min() > 0.1 and not truth.opacities[12:].any()
    close(found, truth)


def test_nothing_there():
    grid = scene(3, Octree.full(BOX_MIN, SIZE, 3).keep(torch.zeros(512, dtype=torch.bool)))
    origins, directions = rays_around(70)
    for out in both(grid, origins, directions, background=torch.tensor([0.2, 0.4, 0.6])):
        assert torch.equal(out.colors, torch.tensor([0.2, 0.4, 0.6]).expand(70, 3))
        assert not out.depths.any() and not out.opacities.any()


def test_broken_rays_end():
    origins, directions = rays_around(4)
    directions[0], directions[1] = math.nan, 0.0
    origins[2] = math.inf
    out = render_baked(origins, directions, scene(), backend="cpu", **SAMPLING)
    assert out.colors[3].isfinite().all()


def test_largest_weights_of_voxels():
    grid = scene(3)
    origins, directions = rays_around(300)
    seen = [torch.zeros(len(grid.words), 64) for _ in range(2)]
    for backend, weights in zip(("cpu", "reference"), seen, strict=True):
        render_baked(
            *(origins, directions, grid), max_weights=weights, backend=backend, **SAMPLING, **EXACT
        )
    torch.testing.assert_close(*seen, atol=1e-5, rtol=0)  # measured 1.5e-6
    assert seen[0].max() > 0.3 and not seen[0][0].any()


def table(rows: int, columns: int, shape: tuple[int, ...], seed: int, dtype) -> Fitted:
    """Random values that random rows show."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(rows, columns, generator=generator).to(dtype)
    return Fitted.of(values, torch.randint(rows, shape, generator=generator))


def tables(grid, dtype=torch.float32) -> tuple[Fitted, Fitted]:
    return (
        table(40, 24, grid.records.shape[:1], 5, dtype),
        table(30, 8, grid.bricks.shape[:2], 6, dtype),
    )


def losses_of(grid, fitted, backend, n=300):
    dtype = fitted[0].values.dtype
    origins, directions = (rays.to(dtype) for rays in rays_around(n, seed=3))
    targets, background = torch.rand(n + 1, 3, generator=torch.Generator().manual_seed(4)).split(n)
    return color_gradient_(
        *(*fitted, origins, directions, targets.to(dtype), background[0], grid),
        backend=backend,
        **SAMPLING,
        **EXACT,
    )


def test_gradients_of_colours():
    grid = scene(3)
    found, truth = tables(grid), tables(grid)
    losses = losses_of(grid, found, "cpu"), losses_of(grid, truth, "reference")
    torch.testing.assert_close(*losses, atol=3e-5, rtol=0)  # measured 1.1e-5, of 7.8
    for name, ours, theirs in zip(("components", "details"), found, truth, strict=True):
        scale = theirs.grads.abs().max().item()
        torch.testing.assert_close(  # measured 1.2e-6 of the largest
            ours.grads, theirs.grads, atol=1e-5 * scale, rtol=0, msg=lambda m, n=name: f"{n}: {m}"
        )
        assert torch.equal(ours.touched, theirs.touched)


def test_gradients_are_those_of_the_losses():
    grid = scene(2)
    fitted = tables(grid, torch.float64)
    losses_of(grid, fitted, "reference", n=20)
    generator = torch.Generator().manual_seed(7)
    along = [torch.randn(t.values.shape, dtype=torch.float64, generator=generator) for t in fitted]
    slope = sum((t.grads * a).sum() for t, a in zip(fitted, along, strict=True))

    def moved(by: float) -> torch.Tensor:
        there = [Fitted.of(t.values + by * a, t.rows) for t, a in zip(fitted, along, strict=True)]
        return losses_of(grid, there, "reference", n=20).sum()

    # The losses are quadratic in the values. Measured 7e-12.
    torch.testing.assert_close(slope, (moved(1e-5) - moved(-1e-5)) / 2e-5, rtol=1e-9, atol=0)


def test_wrong_arguments():
    grid = scene(2)
    origins, directions = rays_around(3)
    with pytest.raises(ValueError, match="`step` must be positive"):
        render_baked(origins, directions, grid, **{**SAMPLING, "step": 0.0})
    with pytest.raises(ValueError, match="`background`"):
        render_baked(origins, directions, grid, background=torch.rand(2, 3), **SAMPLING)
    with pytest.raises(ValueError, match="`max_weights` must be contiguous"):
        render_baked(origins, directions, grid, max_weights=torch.zeros(3, 64), **SAMPLING)
    with pytest.raises(ValueError, match="float32"):
        render_baked(origins.double(), directions.double(), grid, backend="cpu", **SAMPLING)
