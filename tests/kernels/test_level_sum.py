"""level_sum: C++ against the reference, both against lookups at every level."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from closeness import assert_close, assert_gradients_close, gradients
from voxel_scene import layout, shell, vertex_values

from nerfkit.fields.vertices import Vertices
from nerfkit.kernels import _native
from nerfkit.kernels.level_sum import level_sum, level_sum_
from nerfkit.kernels.voxel_features.reference import voxel_features
from nerfkit.ranks import Team

needs_cpp = pytest.mark.skipif(not _native.available(), reason="C++ kernels are not built")
BACKENDS = ["reference", pytest.param("cpu", marks=needs_cpp)]
DEPTHS = {
    "four": (1, 2, 3, 4),
    "from_the_root": (0, 1, 2, 3),
    "two": (4, 5),
    "one": (3,),
}


def empty_octree():
    octree = shell(3)
    return octree.keep(torch.zeros(len(octree), dtype=torch.bool))


# Worst measured, AVX2: relative 5.4e-8, absolute 4.1e-6 (dvalues).
@needs_cpp
@pytest.mark.parametrize("depths", DEPTHS.values(), ids=DEPTHS)
@pytest.mark.parametrize("channels", [1, 16])
def test_forward_and_gradient_match_the_reference(depths, channels):
    _, vertices, _ = layout(depths)
    values = vertex_values(vertices, channels)
    got = level_sum(values, vertices, backend="cpu")
    want = level_sum(values.double(), vertices, backend="reference")
    assert_close("sums", got, want, rel=3e-7, abs=1e-6)
    got, want = (
        gradients(
            lambda values, b=b: level_sum(values, vertices, backend=b), {"values": x}, ["values"]
        )
        for b, x in (("cpu", values), ("reference", values.double()))
    )
    assert_gradients_close(got, want, rel=3e-7, abs=2e-5)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("depths", DEPTHS.values(), ids=DEPTHS)
@pytest.mark.parametrize("channels", [1, 16])
def test_one_fine_lookup_is_the_sum_of_all_lookups(backend, depths, channels):
    octree, vertices, grid = layout(depths)
    values = vertex_values(vertices, channels)
    generator = torch.Generator().manual_seed(3)
    pick = torch.randint(len(octree), (500,), generator=generator)
    inside = torch.rand(500, 3, generator=generator)
    points = (octree.box_min + (octree.cells()[pick] + inside) * octree.voxel).double()
    summed = level_sum(values, vertices, backend=backend).double()
    one = voxel_features(points, grid.finest(), summed)
    every = voxel_features(points, grid, values.double())
    assert every.abs().max() > 1
    assert_close("lookups", one, every, rel=1e-6, abs=1e-6)  # 6e-8, 5e-7


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("depths", DEPTHS.values(), ids=DEPTHS)
@pytest.mark.parametrize("channels", [1, 16])
def test_the_transpose_is_the_adjoint(backend, depths, channels):
    _, vertices, _ = layout(depths)
    x, y = vertex_values(vertices, channels), vertex_values(vertices, channels, seed=1)
    forward, back = x.clone(), y.clone()
    level_sum_(forward, vertices, backend=backend)
    level_sum_(back, vertices, transposed=True, backend=backend)
    left = (forward.double() * y).sum()
    right = (x.double() * back).sum()
    scale = forward.norm().item() * y.norm().item()
    assert abs(left - right) <= 1e-7 * scale  # 1e-9
    assert torch.equal(forward, level_sum(x, vertices, backend=backend))
    assert not forward[:64].any()


class Rank(Team):
    """One of three, in threads of one process."""

    local_size = 3

    def __init__(self, local_rank: int, meeting: threading.Barrier) -> None:
        self.local_rank, self.barrier = local_rank, meeting.wait


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("channels", [1, 16])
def test_ranks_together_get_the_same(backend, transposed, channels):
    _, vertices, _ = layout((1, 2, 3, 4))
    values = vertex_values(vertices, channels)
    want = values.clone()
    level_sum_(want, vertices, transposed=transposed, backend=backend)
    meeting = threading.Barrier(3, timeout=60)
    kinds = {"transposed": transposed, "backend": backend}
    with ThreadPoolExecutor(3) as pool:
        for rank in [
            pool.submit(level_sum_, values, vertices, team=Rank(i, meeting), **kinds)
            for i in range(3)
        ]:
            rank.result()
    assert torch.equal(values, want)


def test_reference_gradcheck():
    _, vertices, _ = layout((0, 1, 2))
    values = vertex_values(vertices, 1).double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda v: level_sum(v, vertices, backend="reference"), values, fast_mode=True
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_stored_and_strided_values(backend):
    _, vertices, _ = layout((1, 2, 3), empty_octree())
    assert len(level_sum(vertex_values(vertices, 16), vertices, backend=backend)) == 64
    _, vertices, _ = layout((1, 2, 3))
    values = vertex_values(vertices, 16)
    strided = values.t().contiguous().t()
    assert torch.equal(
        level_sum(strided, vertices, backend=backend), level_sum(values, vertices, backend=backend)
    )
    with pytest.raises(ValueError, match="`values` must be contiguous"):
        level_sum_(strided, vertices, backend=backend)


def test_errors_name_the_argument():
    octree, vertices, _ = layout((1, 2, 3))
    with pytest.raises(ValueError, match=r"`values` must have shape \(\d+,\) or \(\d+, 16\)"):
        level_sum(torch.zeros(len(vertices), 3), vertices)
    skipping = Vertices.of(octree, [1, 3])
    with pytest.raises(ValueError, match="levels that double"):
        level_sum(torch.zeros(len(skipping)), skipping)
