"""Pieces of rays in the cube of an unbounded scene."""

import pytest
import torch

from nerfkit.kernels.ray_pieces import Pieces, ray_pieces

CENTER, HALF = (0.3, -0.2, 0.5), 1.5


def rays(n: int, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    origins = torch.randn(n, 3, generator=generator, dtype=torch.float64) * 3
    directions = torch.randn(n, 3, generator=generator, dtype=torch.float64)
    return origins.to(dtype), torch.nn.functional.normalize(directions, dim=1).to(dtype)


def contract(points: torch.Tensor) -> torch.Tensor:
    """Eq. 3 of 2302.12249, point by point."""
    x = (points - points.new_tensor(CENTER)) / HALF
    most, axis = x.abs().max(dim=1, keepdim=True)
    shared = x / most
    outer = x.gather(1, axis).sign() * (2 - 1 / most)
    return torch.where(most <= 1, x, shared.scatter(1, axis, outer))


def along(pieces: Pieces, part: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Places [P, 3] at a part of each piece, and their t."""
    length, u, du, m, dm = pieces.rows[:, 6:].unbind(1)
    s = part * length
    place = pieces.rows[:, :3] + s[:, None] * pieces.rows[:, 3:6]
    return place, (m + s * dm) / (u + s * du)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_points_of_pieces_are_those_of_the_world_contracted(backend):
    dtype = torch.float64 if backend == "reference" else torch.float32
    origins, directions = rays(300, dtype)
    pieces = ray_pieces(origins, directions, CENTER, HALF, 0.2, backend=backend)
    owners = pieces.owners()
    worst = 1e-9 if backend == "reference" else 2e-5  # measured 2e-13 and 3e-6
    for part in (0.1, 0.5, 0.9):
        place, t = along(pieces, part)
        assert (t > 0.2).all()
        wanted = contract(origins[owners].double() + t.double()[:, None] * directions[owners])
        assert (place - wanted).abs().max() < worst


def test_pieces_follow_each_other_to_infinity():
    origins, directions = rays(300, torch.float64)
    pieces = ray_pieces(origins, directions, CENTER, HALF, 0.2, backend="reference")
    _, start = along(pieces, 0.0)
    _, end = along(pieces, 1 - 1e-12)
    inner = torch.ones(len(start), dtype=torch.bool)
    inner[pieces.first[1:] - 1] = False
    assert torch.allclose(end[inner], start[1:][inner[:-1]], rtol=1e-6)
    assert torch.allclose(start[pieces.first[:-1]], torch.full((300,), 0.2).double())
    ends, _ = along(pieces, 1.0)
    assert torch.allclose(ends[~inner].abs().amax(1), torch.full((300,), 2.0).double())
    assert int(pieces.first.diff().max()) <= 7


def test_compiled_as_the_reference():
    origins, directions = rays(2000)
    found = ray_pieces(origins, directions, CENTER, HALF, 0.1, backend="cpu")
    wanted = ray_pieces(
        origins.double(), directions.double(), CENTER, HALF, 0.1, backend="reference"
    )
    assert torch.equal(found.first, wanted.first)
    assert (found.rows - wanted.rows).abs().max() < 1e-5  # measured 1e-6


def test_rays_along_axes_and_diagonals_and_none_at_all():
    origins = torch.tensor([CENTER] * 4 + [(9.0, 0.0, 0.0)])
    directions = torch.tensor(
        [[1.0, 0, 0], [0.0, -1, 0], [0.6, 0.8, 0], [0.0, 0, 0], [float("nan"), 0, 0]]
    )
    for backend in ("reference", "cpu"):
        pieces = ray_pieces(origins, directions, CENTER, HALF, backend=backend)
        assert pieces.first.tolist() == [0, 2, 4, 6, 6, 6]
        ends, _ = along(pieces, 1.0)
        wanted = torch.tensor([[2.0, 0, 0], [0, -2, 0], [0.75, 2, 0]])
        assert torch.allclose(ends[1::2], wanted, atol=1e-5)
        none = ray_pieces(origins[:0], directions[:0], CENTER, HALF, backend=backend)
        assert none.rows.shape == (0, 11) and none.first.tolist() == [0]


def test_gradients_with_respect_to_rays():
    """Places along pieces are the world's contracted whatever the rays: so are their gradients."""
    origins, directions = (x.requires_grad_() for x in rays(50, torch.float64))
    pieces = ray_pieces(origins, directions, CENTER, HALF, 0.2, backend="reference")
    place, t = along(pieces, 0.4)
    owners = pieces.owners()
    wanted = contract(origins[owners] + t[:, None] * directions[owners])
    upstream = torch.randn(place.shape, generator=torch.Generator().manual_seed(1)).double()
    for which in (origins, directions):
        got, want = (
            torch.autograd.grad(x, which, upstream, retain_graph=True)[0] for x in (place, wanted)
        )
        assert (got - want).abs().max() < 1e-8 * want.abs().max()  # measured 1e-13
        assert float(want.abs().max()) > 0.1


def test_wrong_arguments_are_named():
    origins, directions = rays(4)
    with pytest.raises(ValueError, match="`half`"):
        ray_pieces(origins, directions, CENTER, 0.0)
    with pytest.raises(ValueError, match="`origins`"):
        ray_pieces(origins[:, :2], directions, CENTER, 1.0)
    with pytest.raises(ValueError, match="float32"):
        ray_pieces(origins.double(), directions.double(), CENTER, 1.0, backend="cpu")
