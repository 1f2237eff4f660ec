"""voxel_features: C++ against the reference, the reference against finite differences."""

import pytest
import torch
from closeness import assert_close, assert_gradients_close, gradients
from voxel_scene import BOX_MIN, SIZE, layout, shell, vertex_values

from nerfkit.fields.vertices import Vertices
from nerfkit.kernels import _native
from nerfkit.kernels.voxel_features import RenderGrid, voxel_features

needs_cpp = pytest.mark.skipif(not _native.available(), reason="C++ kernels are not built")
BACKENDS = ["reference", pytest.param("cpu", marks=needs_cpp)]
DEPTHS = {"four_levels": (1, 2, 3, 4), "one_level": (4,), "gaps": (0, 2, 3)}


def points_around(n, grid, seed=0):
    """In and around the cube, none within 1e-5 voxels of a face: half are in occupied voxels."""
    generator = torch.Generator().manual_seed(seed)
    unit = torch.rand(n, 3, generator=generator) * 1.2 - 0.1
    cells = unit * grid.resolution
    cells += torch.where((cells - cells.round()).abs() < 1e-3, 0.01, 0.0)
    return BOX_MIN + cells * (SIZE / grid.resolution)


def run(grid, backend):
    return lambda points, values: voxel_features(points, grid, values, backend=backend)


@needs_cpp
@pytest.mark.parametrize("n", [0, 1, 65, 3000])
@pytest.mark.parametrize("depths", DEPTHS.values(), ids=DEPTHS)
@pytest.mark.parametrize("channels", [1, 16])
@pytest.mark.parametrize("threads", [1, 3])
def test_forward_and_gradients_match_the_reference(n, depths, channels, threads):
    _, vertices, grid = layout(depths)
    inputs = {"points": points_around(n, grid), "values": vertex_values(vertices, channels)}
    exact = {k: v.double() for k, v in inputs.items()}
    before = _native.num_threads()
    _native.set_num_threads(threads)
    try:
        got = run(grid, "cpu")(**inputs)
        got_gradients = gradients(run(grid, "cpu"), inputs, ["points", "values"])
    finally:
        _native.set_num_threads(before)
    want = run(grid, "reference")(**exact)
    assert_close("values", got, want, rel=5e-6, abs=2e-5)  # 1.7e-6, 4.6e-6
    want_gradients = gradients(run(grid, "reference"), exact, ["points", "values"])
    assert_gradients_close(got_gradients, want_gradients, rel=1e-5, abs=1e-3)  # 2e-6, 2e-4
    if n == 3000:
        zero = want.reshape(n, -1).abs().sum(1) == 0
        assert 0.2 < zero.double().mean() < 0.9


@needs_cpp
def test_any_number_of_threads_gives_the_same_bits():
    _, vertices, grid = layout()
    inputs = {"points": points_around(2000, grid), "values": vertex_values(vertices, 16)}
    before = _native.num_threads()
    results = []
    for threads in (1, 2, 3):
        _native.set_num_threads(threads)
        results.append(gradients(run(grid, "cpu"), inputs, ["points", "values"]))
    _native.set_num_threads(before)
    assert all(torch.equal(results[0][k], r[k]) for r in results for k in r)


@pytest.mark.parametrize("channels", [1, 16])
def test_reference_gradcheck(channels):
    _, vertices, grid = layout((0, 1, 2), shell(2, 0.0, 1.2))
    points = points_around(12, grid).double().requires_grad_()
    values = vertex_values(vertices, channels).double().requires_grad_()
    assert torch.autograd.gradcheck(run(grid, "reference"), (points, values), fast_mode=True)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_linear_function_is_reproduced_with_its_gradient(backend):
    """Split between two levels; also at cell centres and beside the lowest corner."""
    octree = shell(3, -1.0, 9.0)
    vertices = Vertices.of(octree, [2, 3])
    grid = RenderGrid.of(octree, vertices)
    slope = torch.tensor([0.7, -1.1, 0.4])
    values = torch.zeros(len(vertices))
    for level, resolution in enumerate((4, 8)):
        at = torch.cartesian_prod(*[torch.arange(resolution + 1)] * 3)
        world = BOX_MIN + at * (SIZE / resolution)
        values[vertices.index(level, at)] = (0.25 if level == 0 else 0.75) * (world @ slope + 2)
    inside = points_around(200, grid)
    inside = inside[((inside > BOX_MIN) & (inside < BOX_MIN + SIZE)).all(1)]
    points = torch.cat([inside, octree.centers(), BOX_MIN[None] + 1e-4]).requires_grad_()
    got = voxel_features(points, grid, values, backend=backend)
    assert_close("values", got, points @ slope + 2, rel=1e-6, abs=5e-6)  # 7e-8, 7e-7
    got.sum().backward()
    assert_close("gradient", points.grad, slope.expand(len(points), 3), rel=2e-6, abs=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_occupied_is_zero(backend):
    octree = shell(3)
    octree = octree.keep(torch.zeros(len(octree), dtype=torch.bool))
    _, vertices, grid = layout((1, 2, 3), octree)
    points = points_around(40, grid).requires_grad_()
    got = voxel_features(points, grid, vertex_values(vertices, 16), backend=backend)
    assert got.shape == (40, 16) and not got.any()
    far = torch.tensor([[1e30, 0.0, 0.0], [0.0, -1e30, 0.0], [0.0, 0.0, 3e9]])
    _, vertices, grid = layout()
    assert not voxel_features(far, grid, vertex_values(vertices, 1), backend=backend).any()


@needs_cpp
def test_non_contiguous_inputs():
    _, vertices, grid = layout()
    points, values = points_around(100, grid), vertex_values(vertices, 16)
    got = voxel_features(points.t().contiguous().t(), grid, values.t().contiguous().t())
    assert torch.equal(got, voxel_features(points, grid, values))


def test_errors_name_the_argument():
    octree, vertices, grid = layout()
    with pytest.raises(ValueError, match=r"`points` must have shape \(N, 3\)"):
        voxel_features(torch.zeros(4), grid, torch.zeros(len(vertices)))
    with pytest.raises(ValueError, match=r"`values` must have shape"):
        voxel_features(torch.zeros(4, 3), grid, torch.zeros(len(vertices), 4))
    with pytest.raises(ValueError, match="like the octree"):
        RenderGrid.of(octree, Vertices.of(octree, [1, 2]))
