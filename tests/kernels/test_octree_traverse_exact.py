"""octree_traverse against rays and boxes intersected one by one, in double and in no clever way.

Not against the reference: that is itself under test here. R rays, L leaves; unless said otherwise
leaves have edge 1 and the cube is [0, 4]^3, so that float32 origins can lie on faces exactly.
"""

import itertools

import pytest
import torch

from nerfkit.kernels.octree_traverse import octree_traverse
from nerfkit.octree import Octree

# Error of t over max(1, t), the largest seen: C++ (double, rounded to float32 once) 5.96e-8, the
# reference in float32 1.14e-7. A crossing of twice that may be missing: C++ 9.4e-8, 1.32e-7.
TOLERANCE = {"cpu": 6e-8, "reference": 2e-7}


def tree(occupancy=0.5, depth=2, box_min=(0.0, 0.0, 0.0), size=4.0):
    generator = torch.Generator().manual_seed(0)
    chosen = torch.rand(8**depth, generator=generator) < occupancy
    return Octree.full(torch.tensor(box_min), size, depth).keep(chosen)


def intersections(octree, origins, directions, near=0.0, far=torch.inf):
    """Where rays enter and leave all leaves, [R, L] double each; leave <= enter where they miss.

    By slabs. In an axis the ray does not move along, a leaf is half-open: [low, high).
    """
    edge = octree.voxel
    low = octree.box_min.double() + octree.cells().double() * edge
    enter = torch.full((len(origins), len(octree)), near, dtype=torch.float64)
    leave = torch.full_like(enter, far)
    for axis in range(3):
        o, d = origins[:, axis, None].double(), directions[:, axis, None].double()
        still = d == 0
        t_low = (low[:, axis] - o) / torch.where(still, 1.0, d)
        t_high = (low[:, axis] + edge - o) / torch.where(still, 1.0, d)
        within = (low[:, axis] <= o) & (o < low[:, axis] + edge)
        enter = torch.maximum(enter, torch.where(still, -torch.inf, torch.minimum(t_low, t_high)))
        leave = torch.minimum(leave, torch.where(still, torch.inf, torch.maximum(t_low, t_high)))
        leave = torch.where(still & ~within, -torch.inf, leave)
    return enter, leave


def check(octree, origins, directions, backend, tolerance=None, **options):
    """Compare with `intersections`; returns how many crossings there are."""
    tolerance = tolerance or TOLERANCE[backend]
    children, first_leaf = octree.children()
    cube = (octree.box_min, octree.size, octree.depth)
    found = octree_traverse(origins, directions, children, *cube, backend=backend, **options)
    starts, counts = found.packed_info.unbind(dim=1)
    assert torch.equal(starts, counts.cumsum(0) - counts)
    assert counts.sum() == len(found.node_ids) == len(found.t_starts) == len(found.t_ends)
    rays = torch.arange(len(origins)).repeat_interleave(counts)
    leaves, t_starts, t_ends = found.node_ids - first_leaf, found.t_starts, found.t_ends

    # Front to back, without an overlap and each leaf once.
    assert (t_starts < t_ends).all()
    same_ray = rays[1:] == rays[:-1]
    assert (t_starts[1:] >= t_ends[:-1])[same_ray].all()
    crossing = rays * len(octree) + leaves
    assert len(torch.unique(crossing)) == len(crossing)

    # Each at its place, and what is missing has no length.
    enter, leave = intersections(octree, origins, directions, **options)
    enter, leave = enter.reshape(-1), leave.reshape(-1)
    for got, want in ((t_starts, enter), (t_ends, leave)):
        error = (got - want[crossing]).abs() / want[crossing].abs().clamp_min(1)
        assert (error <= tolerance).all(), f"t is off by {error.max():.2g}"
    length = (leave - enter) / enter.abs().clamp_min(1)
    length[crossing] = length[crossing].clamp_max(0)
    assert (length <= 2 * tolerance).all(), f"missed {length.max():.2g} of t"

    # Together they cover as much of the ray as all leaves do.
    covered = torch.zeros(len(origins), dtype=torch.float64)
    covered.index_add_(0, rays, t_ends.double() - t_starts)
    length = (leave - enter).clamp_min(0).view(len(origins), -1)
    farthest = leave.clamp_min(1).view(len(origins), -1).amax(1) if len(octree) else 1
    assert ((covered - length.sum(1)).abs() <= 2 * tolerance * counts.clamp_min(1) * farthest).all()
    return len(crossing)


def unit(vectors):
    return torch.nn.functional.normalize(vectors, dim=-1)


def random_origins(n, generator):
    """In the cube [0, 4]^3 and as far again around it."""
    return torch.rand(n, 3, generator=generator) * 12 - 4


def on_lattice(origins, n_axes, generator):
    """Move origins to the nearest of 0 to 4 along `n_axes` axes, chosen at random for each."""
    chosen = torch.rand(len(origins), 3, generator=generator).argsort(dim=1)[:, :n_axes]
    return origins.scatter(1, chosen, origins.gather(1, chosen).round().clamp(0, 4)), chosen


@pytest.mark.parametrize(("backend", "n"), [("cpu", 1_000_000), ("reference", 20_000)])
def test_random_rays(backend, n):
    # Here the faces are no float32 numbers, so the reference rounds them: 9.9e-6 seen.
    tolerance = {"cpu": TOLERANCE["cpu"], "reference": 2e-5}[backend]
    octree = tree(0.4, box_min=(-2.0, -1.9, -2.1), size=4.1)
    generator = torch.Generator().manual_seed(1)
    crossings = 0
    for part in torch.full((n,), 0.0).split(20_000):
        origins = torch.randn(len(part), 3, generator=generator) * 2
        directions = unit(torch.randn(len(part), 3, generator=generator))
        crossings += check(octree, origins, directions, backend, tolerance)
    assert crossings > n / 2


@pytest.mark.parametrize("backend", TOLERANCE)
@pytest.mark.parametrize("zeros", list(itertools.product([0.0, -0.0], repeat=2)), ids=str)
@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_parallel_to_an_axis(axis, sign, zeros, backend):
    octree, generator = tree(), torch.Generator().manual_seed(2)
    directions = torch.zeros(500, 3)
    directions[:, [a for a in range(3) if a != axis]] = torch.tensor(zeros)
    directions[:, axis] = sign
    assert check(octree, random_origins(500, generator), directions, backend) > 30
    inside = torch.rand(500, 3, generator=generator) * 4
    assert check(octree, inside, directions, backend) > 300
    lattice = torch.cartesian_prod(*[torch.arange(-1.0, 6.0, 0.5)] * 3)
    found = check(octree, lattice, directions[:1].expand_as(lattice), backend)
    assert found > 900


@pytest.mark.parametrize("backend", TOLERANCE)
@pytest.mark.parametrize("zero", [0.0, -0.0])
@pytest.mark.parametrize("n_axes", [1, 2], ids=["in faces", "along edges"])
def test_grazing(n_axes, zero, backend):
    """Rays that lie in the planes of faces belong to the leaves above them."""
    octree, generator = tree(), torch.Generator().manual_seed(3)
    origins, still = on_lattice(random_origins(4000, generator), n_axes, generator)
    directions = torch.randn(4000, 3, generator=generator)
    directions = unit(directions.scatter(1, still, zero))
    assert check(octree, origins, directions, backend) > 500
    full = tree(1.0)
    found = check(full, origins, directions, backend)
    assert found > 500
    # One that lies in the highest face of the cube is outside, in the lowest it is inside.
    for height, count in ((4.0, 0), (0.0, 4)):
        origin, direction = torch.tensor([[-1.0, 0.5, height]]), torch.tensor([[1.0, 0.0, zero]])
        assert check(full, origin, direction, backend) == count


@pytest.mark.parametrize("backend", TOLERANCE)
@pytest.mark.parametrize("smallest", [1e-4, 1e-7, 1e-12, 1e-15])
def test_nearly_parallel(smallest, backend):
    octree, generator = tree(), torch.Generator().manual_seed(4)
    directions = torch.randn(3000, 3, generator=generator)
    small = torch.rand(3000, 3, generator=generator).argsort(dim=1)[:, :2]
    directions = unit(directions.scatter(1, small, directions.gather(1, small) * smallest))
    for n_axes in (0, 1, 2):
        origins, _ = on_lattice(random_origins(3000, generator), n_axes, generator)
        assert check(octree, origins, directions, backend) > 300


@pytest.mark.parametrize("backend", TOLERANCE)
@pytest.mark.parametrize("edge", [1.0, 49.0])  # 49 * (1 / 49) is not 1 in double
@pytest.mark.parametrize("n_axes", [0, 1, 2, 3], ids=["inside", "face", "edge", "corner"])
def test_starting(n_axes, edge, backend):
    octree, generator = tree(size=4 * edge), torch.Generator().manual_seed(5)
    origins, _ = on_lattice(torch.rand(6000, 3, generator=generator) * 4, n_axes, generator)
    origins = origins * edge
    directions = unit(torch.randn(6000, 3, generator=generator))
    assert check(octree, origins, directions, backend) > 5000
    # A leaf left behind at t = 0 is not crossed, not even for an instant: of a full tree the first
    # crossing is as long as the shortest from there on that is longer than nothing.
    full = tree(1.0, size=4 * edge)
    children, _ = full.children()
    cube = (full.box_min, full.size, full.depth)
    found = octree_traverse(origins, directions, children, *cube, backend=backend)
    some = found.packed_info[:, 1] > 0
    first = found.packed_info[some, 0]
    enter, leave = intersections(full, origins[some], directions[some])
    length = torch.where((leave > enter) & (enter == 0), leave - enter, torch.inf).amin(dim=1)
    got = (found.t_ends - found.t_starts)[first].double()
    torch.testing.assert_close(got, length, rtol=4e-7, atol=0)  # 1.2e-7 seen


@pytest.mark.parametrize("backend", TOLERANCE)
def test_through_faces_edges_and_corners(backend):
    """Aimed at lattice points from lattice points and from anywhere: where several faces meet."""
    generator = torch.Generator().manual_seed(6)
    targets = torch.randint(0, 5, (6000, 3), generator=generator).float()
    from_lattice = torch.randint(-4, 9, (6000, 3), generator=generator).float()
    for origins in (from_lattice, random_origins(6000, generator)):
        way = targets - origins
        way[(way == 0).all(dim=1)] = 1.0
        for octree in (tree(), tree(1.0)):
            assert check(octree, origins, unit(way), backend) > 3000


@pytest.mark.parametrize("backend", TOLERANCE)
def test_misses(backend):
    octree, generator = tree(1.0), torch.Generator().manual_seed(7)
    outside = torch.randn(4000, 3, generator=generator)
    outside = 2 + 3.5 * outside / outside.abs().amax(1, keepdim=True)  # on a cube of edge 7
    away = unit(outside - 2 + 0.1 * torch.randn(4000, 3, generator=generator))
    assert check(octree, outside, away, backend) == 0
    past = unit(torch.randn(4000, 3, generator=generator))
    axis = (outside - 2).abs().argmax(dim=1, keepdim=True)
    assert check(octree, outside, past.scatter(1, axis, 0.0), backend) == 0
    assert check(tree(0.0), outside, past, backend) == 0


@pytest.mark.parametrize("backend", TOLERANCE)
def test_range(backend):
    octree, generator = tree(), torch.Generator().manual_seed(8)
    origins = random_origins(3000, generator)
    directions = unit(torch.randn(3000, 3, generator=generator))
    everything = check(octree, origins, directions, backend)
    part = check(octree, origins, directions, backend, near=1.5, far=4.25)
    assert 0 < part < everything
    assert check(octree, origins, directions, backend, near=3.0, far=3.0) == 0


@pytest.mark.parametrize("backend", TOLERANCE)
def test_a_full_tree_is_crossed_without_a_gap(backend):
    """Each leaf begins where the one before it ended, bit for bit, from border to border."""
    octree, generator = tree(1.0, box_min=(-0.3, 0.1, 0.7), size=4.1), torch.Generator()
    origins = random_origins(3000, generator.manual_seed(9))
    directions = unit(torch.randn(3000, 3, generator=generator))
    children, _ = octree.children()
    cube = (octree.box_min, octree.size, octree.depth)
    found = octree_traverse(origins, directions, children, *cube, backend=backend)
    rays = torch.arange(3000).repeat_interleave(found.packed_info[:, 1])
    same_ray = rays[1:] == rays[:-1]
    assert same_ray.sum() > 900
    if backend == "cpu":
        assert torch.equal(found.t_starts[1:][same_ray], found.t_ends[:-1][same_ray])
    else:  # its faces are rounded to float32, and slivers between them may go
        gap = (found.t_starts[1:] - found.t_ends[:-1])[same_ray]
        assert gap.abs().max() <= 2e-6
