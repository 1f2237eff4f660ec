"""Total variation of the density: its gradient, and where it is taken."""

import torch

from nerfkit.fields.vertices import BRICK, Vertices
from nerfkit.octree import Octree
from nerfkit.training.smoothness import EVERY, add_variation_gradient


def layout() -> Vertices:
    return Vertices.of(Octree.full(torch.zeros(3), 1.0, 4), [3, 4])


def variation(summed: torch.Tensor, bricks: slice) -> torch.Tensor:
    chosen = summed.view(-1, 4, 4, 4)[bricks]
    return torch.cat([chosen.diff(dim=a).flatten() for a in (1, 2, 3)]).square().mean()


def test_is_the_gradient_of_the_variation():
    vertices = layout()
    summed = torch.randn(len(vertices), dtype=torch.float64, requires_grad=True)
    start = int(vertices.level_start()[-2])
    before = torch.randn(len(vertices), dtype=torch.float64)
    for number in (1, 7):
        bricks = slice(start + number, None, EVERY)
        (want,) = torch.autograd.grad(3.0 * variation(summed, bricks), summed)
        got = before.clone()
        add_variation_gradient(got, summed.detach(), vertices, 3.0, number)
        torch.testing.assert_close(got - before, want)  # worst measured 2e-16
        assert want.any()


def test_all_bricks_have_their_turn_and_no_coarse_ones():
    vertices = layout()
    gradient = torch.zeros(len(vertices))
    summed = torch.randn(len(vertices), generator=torch.Generator().manual_seed(0))
    for number in range(EVERY):
        add_variation_gradient(gradient, summed, vertices, 1.0, number)
    fine = int(vertices.level_start()[-2]) * BRICK
    assert not gradient[:fine].any() and (gradient[fine:] != 0).all()


def test_fewer_bricks_than_are_skipped():
    vertices = Vertices.of(Octree.full(torch.zeros(3), 1.0, 1), [1])
    for number in range(EVERY):
        add_variation_gradient(
            torch.zeros(len(vertices)), torch.ones(len(vertices)), vertices, 1.0, number
        )
