"""octree_traverse: C++ (ordered walk) against the reference (brute force and a sort)."""

import itertools
import math

import pytest
import torch

from nerfkit.kernels.octree_traverse import octree_traverse

# Both compute t in double; one rounds it to float32, half a unit in the last place: 6e-8 of t.
ROUNDING = 6e-8


def build(cells, depth):
    """children [n_nodes, 8] of the octree whose leaves are the integer `cells` [L, 3]."""
    children, index = [[-1] * 8], {(0, 0, 0, 0): 0}
    for cell in cells.tolist():
        node = 0
        for level in range(1, depth + 1):
            x, y, z = (c >> (depth - level) for c in cell)
            if (level, x, y, z) not in index:
                index[level, x, y, z] = len(children)
                children.append([-1] * 8)
            below = index[level, x, y, z]
            children[node][(x & 1) | (y & 1) << 1 | (z & 1) << 2] = below
            node = below
    return torch.tensor(children, dtype=torch.int32)


def random_tree(depth, occupancy, seed=0):
    generator = torch.Generator().manual_seed(seed)
    side = 2**depth
    return build((torch.rand(side, side, side, generator=generator) < occupancy).nonzero(), depth)


def random_rays(n, seed=0):
    """From in and around a cube of edge 4 at the origin; some parallel to axes or nearly."""
    generator = torch.Generator().manual_seed(seed)
    origins = torch.randn(n, 3, generator=generator) * 2
    directions = torch.randn(n, 3, generator=generator)
    kind = torch.rand(n, 3, generator=generator)
    signs = torch.where(torch.rand(n, 3, generator=generator) < 0.5, -1.0, 1.0)
    directions = torch.where(kind < 0.1, signs * 0.0, directions)
    directions = torch.where((kind > 0.9) & (kind < 0.95), directions * 1e-5, directions)
    directions[:, 0] += (directions == 0).all(dim=1)
    return origins, torch.nn.functional.normalize(directions, dim=1)


def lattice_rays():
    """On faces, edges and corners of a cube [0, 4]^3 of cells of edge 1, exact in float32."""
    values = [-1.0, 0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0]
    steps = [0.0, -0.0, 1.0, -1.0, 0.5]
    origins = torch.tensor(list(itertools.product(values, repeat=3)))
    directions = torch.tensor([d for d in itertools.product(steps, repeat=3) if any(d)])
    # Not unit length: powers of two keep every t exact.
    return (
        origins.repeat_interleave(len(directions), dim=0),
        directions.repeat(len(origins), 1),
    )


def both(origins, directions, children, box_min, size, depth, **options):
    got = octree_traverse(
        origins, directions, children, box_min, size, depth, backend="cpu", **options
    )
    want = octree_traverse(
        origins.double(),
        directions.double(),
        children,
        box_min.double(),
        size,
        depth,
        backend="reference",
        **options,
    )
    return got, want


def keyed(traversal, n_nodes):
    """One integer for each crossing: (ray, leaf)."""
    rays = torch.repeat_interleave(
        torch.arange(len(traversal.packed_info)), traversal.packed_info[:, 1]
    )
    return rays * n_nodes + traversal.node_ids


def assert_same(got, want, n_nodes):
    """The same crossings but for those shorter than the rounding of t; and t equal up to that."""
    got_keys, want_keys = keyed(got, n_nodes), keyed(want, n_nodes)
    in_both, extra = torch.isin(want_keys, got_keys), ~torch.isin(got_keys, want_keys)
    for t, alone in ((want, ~in_both), (got, extra)):
        lengths = (t.t_ends.double() / t.t_starts - 1)[alone]
        assert (lengths <= 2 * ROUNDING).all(), f"missed a crossing of {lengths.max()} of t"
    assert torch.equal(got_keys[~extra], want_keys[in_both])  # the same order, too
    for g, w in ((got.t_starts, want.t_starts), (got.t_ends, want.t_ends)):
        error = (g[~extra].double() - w[in_both]).abs()
        assert (error <= ROUNDING * w[in_both]).all()


@pytest.mark.parametrize(
    ("depth", "occupancy", "n", "options"),
    [
        (3, 0.1, 120_000, {}),
        (3, 1.0, 3000, {"near": 0.5, "far": 2.75}),
        (5, 0.01, 5000, {}),
        (4, 0.2, 3000, {"max_leaves_per_ray": 3}),
        (1, 0.6, 5000, {}),
        (0, 1.0, 5000, {}),
    ],
    ids=str,
)
def test_matches_brute_force(depth, occupancy, n, options):
    children = random_tree(depth, occupancy)
    origins, directions = random_rays(n)
    box_min = torch.tensor([-2.0, -1.9, -2.1])
    got, want = both(origins, directions, children, box_min, 4.1, depth, **options)
    assert (want.packed_info[:, 1] > 0).float().mean() > 0.05
    if "max_leaves_per_ray" in options:
        most = options["max_leaves_per_ray"]
        assert got.packed_info[:, 1].max() == most
        # A sliver only one side sees shifts what is cut off: compare the rays without one.
        same = got.packed_info[:, 1] == want.packed_info[:, 1]
        assert same.float().mean() > 0.999
    else:
        assert_same(got, want, len(children))


def test_exact_on_faces_edges_and_corners():
    for occupancy in (1.0, 0.5):
        children = random_tree(2, occupancy)
        origins, directions = lattice_rays()
        got, want = both(origins, directions, children, torch.zeros(3), 4.0, 2)
        assert torch.equal(got.packed_info, want.packed_info)
        assert torch.equal(got.node_ids, want.node_ids)
        assert torch.equal(got.t_starts.double(), want.t_starts)
        assert torch.equal(got.t_ends.double(), want.t_ends)


@pytest.mark.parametrize("size", [3.0, 0.7, 4.1])
def test_one_leaf_owns_a_ray_in_a_common_face(size):
    depth, box_min = 3, torch.tensor([0.1, -0.3, 0.0])
    children = random_tree(depth, 1.0)
    # The faces as float32 numbers, and their neighbours.
    faces = (box_min[2].double() + torch.arange(9) * size / 8).float()
    z = torch.cat([faces, torch.nextafter(faces, faces + 1), torch.nextafter(faces, faces - 1)])
    origins = torch.stack([torch.full_like(z, -5), torch.full_like(z, 0.02), z], dim=1)
    directions = torch.tensor([1.0, 0.0, -0.0]).expand(len(z), 3)
    got, want = both(origins, directions, children, box_min, size, depth)
    assert torch.equal(got.node_ids, want.node_ids)
    inside = (z >= box_min[2]) & (z.double() < size)
    assert got.packed_info[:, 1].tolist() == (8 * inside).tolist()


def test_neighbours_share_a_face_bit_for_bit():
    depth = 4
    children = random_tree(depth, 1.0)
    origins, directions = random_rays(4000, seed=3)
    box_min = torch.tensor([-2.0, -1.9, -2.1])
    got = octree_traverse(origins, directions, children, box_min, 4.1, depth, backend="cpu")
    for start, count in got.packed_info.tolist():
        t_starts, t_ends = got.t_starts[start : start + count], got.t_ends[start : start + count]
        assert torch.equal(t_starts[1:], t_ends[:-1])
        assert (t_starts < t_ends).all()


def test_deep_tree_and_path():
    """A single leaf 21 levels down, hit and narrowly missed."""
    cell = torch.tensor([[2**21 - 1, 0, 12345]])
    children = build(cell, 21)
    size = float(2**21)
    origins = torch.tensor([[-1.0, 0.5, 12345.5], [-1.0, 1.5, 12345.5], [3e6, 0.0, 12345.0]])
    directions = torch.tensor([[1.0, 0, 0], [1, 0, 0], [-1, 0, 0]])
    got = octree_traverse(origins, directions, children, torch.zeros(3), size, 21, backend="cpu")
    assert got.packed_info.tolist() == [[0, 1], [1, 0], [1, 1]]
    assert got.t_starts.tolist() == [2.0**21, 3e6 - 2.0**21]
    assert got.t_ends.tolist() == [2.0**21 + 1, 3e6 - 2.0**21 + 1]


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_empty(backend):
    children, box_min = random_tree(2, 0.5), torch.zeros(3)
    nothing = octree_traverse(
        torch.zeros(0, 3), torch.zeros(0, 3), children, box_min, 1.0, 2, backend=backend
    )
    assert [tuple(f.shape) for f in nothing] == [(0, 2), (0,), (0,), (0,)]
    origins, directions = random_rays(5)
    for tree in (torch.full((1, 8), -1, dtype=torch.int32), children[:0]):
        missed = octree_traverse(origins, directions, tree, box_min, 1.0, 2, backend=backend)
        assert missed.packed_info.tolist() == [[0, 0]] * 5
        assert len(missed.node_ids) == len(missed.t_starts) == 0


def test_non_contiguous():
    children = random_tree(3, 0.3)
    origins, directions = random_rays(50)
    box_min = torch.tensor([-2.0, -2.0, -2.0])
    want = octree_traverse(origins, directions, children, box_min, 4.0, 3, backend="cpu")
    strided = [t.T.contiguous().T for t in (origins, directions, children)]
    got = octree_traverse(*strided, box_min, 4.0, 3, backend="cpu")
    assert all(torch.equal(g, w) for g, w in zip(got, want, strict=True))


def test_bad_arguments():
    o, box_min, children = torch.zeros(4, 3), torch.zeros(3), random_tree(1, 1.0)
    with pytest.raises(ValueError, match="`directions` must have shape"):
        octree_traverse(o, o[:3], children, box_min, 1.0, 1)
    with pytest.raises(ValueError, match="`children` must be int32"):
        octree_traverse(o, o, children.long(), box_min, 1.0, 1)
    with pytest.raises(ValueError, match=r"`box_min` must have shape \(3,\)"):
        octree_traverse(o, o, children, o, 1.0, 1)
    for size, depth in ((0.0, 1), (math.nan, 1), (1.0, 22), (1.0, -1)):
        with pytest.raises(ValueError, match="`size` must be positive"):
            octree_traverse(o, o, children, box_min, size, depth)
    with pytest.raises(ValueError, match="`max_leaves_per_ray`"):
        octree_traverse(o, o, children, box_min, 1.0, 1, max_leaves_per_ray=0)
    with pytest.raises(ValueError, match="`origins` must be float32"):
        octree_traverse(o.double(), o, children, box_min, 1.0, 1, backend="cpu")
