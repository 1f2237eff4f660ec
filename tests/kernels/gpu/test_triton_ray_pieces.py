"""ray_pieces in Triton against the reference in double precision."""

import pytest
import torch
from on_device import DEVICE
from test_ray_pieces import CENTER, HALF, rays

from nerfkit.kernels.ray_pieces import ray_pieces

pytest.importorskip("triton")


@pytest.mark.parametrize("near", [0.0, 0.2])
@pytest.mark.parametrize("n", [0, 1, 129, 1000])
def test_as_the_reference(n, near):
    origins, directions = rays(n)
    given = (x.to(DEVICE) for x in (origins, directions))
    got = ray_pieces(*given, CENTER, HALF, near, backend="gpu")
    want = ray_pieces(
        origins.double(), directions.double(), CENTER, HALF, near, backend="reference"
    )
    assert torch.equal(got.first.cpu(), want.first)
    assert got.rows.shape == want.rows.shape
    if n:
        assert (got.rows.cpu() - want.rows).abs().max() < 1e-5  # measured 4.4e-7


def test_rays_along_axes_and_diagonals_and_none_at_all():
    origins = torch.tensor([CENTER] * 4 + [(9.0, 0.0, 0.0), (float("inf"), 0.0, 0.0)])
    directions = torch.tensor(
        [[1.0, 0, 0], [0.0, -1, 0], [0.6, 0.8, 0], [0.0, 0, 0], [float("nan"), 0, 0], [1.0, 0, 0]]
    )
    got = ray_pieces(origins.to(DEVICE), directions.to(DEVICE), CENTER, HALF, backend="gpu")
    want = ray_pieces(origins, directions, CENTER, HALF, backend="reference")
    assert got.first.tolist() == want.first.tolist() == [0, 2, 4, 6, 6, 6, 6]
    assert (got.rows.cpu() - want.rows).abs().max() < 1e-6  # 2e-7


def test_rays_in_the_planes_between_regions():
    """Two of the cuts are everywhere, or twice at one t: pieces go on through them."""
    inside = torch.tensor([[0.2, 0.2, 0.0], [0.0, 0.0, 0.0], [-0.5, 0.5, 0.1], [3.0, 3.0, 0.4]])
    directions = torch.tensor([[1.0, 1, 0], [1.0, -1, 1], [-1.0, 1, 0.3], [-1.0, -1, 0.0]])
    directions = torch.nn.functional.normalize(directions, dim=1)
    origins = inside * HALF + torch.tensor(CENTER)
    got = ray_pieces(origins.to(DEVICE), directions.to(DEVICE), CENTER, HALF, backend="gpu")
    compiled = ray_pieces(origins, directions, CENTER, HALF, backend="cpu")
    for pieces in (got, compiled):
        rows, first = pieces.rows.cpu(), pieces.first.cpu()
        ends = rows[:, :3] + rows[:, 6:7] * rows[:, 3:6]
        assert torch.allclose(ends[first[1:] - 1].abs().amax(1), torch.full((4,), 2.0))
        assert int(first.diff().max()) <= 7
        t_end = (rows[:, 9] + rows[:, 6] * rows[:, 10]) / (rows[:, 7] + rows[:, 6] * rows[:, 8])
        t_start = rows[:, 9] / rows[:, 7]
        inner = torch.ones(len(rows), dtype=torch.bool)
        inner[first[1:] - 1] = False
        assert torch.allclose(t_end[inner], t_start[1:][inner[:-1]], rtol=1e-5)


def test_wrong_arguments_are_named():
    origins, directions = (x.to(DEVICE) for x in rays(3))
    with pytest.raises(ValueError, match="origins must be float32"):
        ray_pieces(origins.double(), directions.double(), CENTER, HALF, backend="gpu")
    with pytest.raises(ValueError, match="`directions` must not require gradients"):
        ray_pieces(origins, directions.requires_grad_(), CENTER, HALF, backend="gpu")
