"""The field keeps its values when its octree changes, and when its levels are summed into one."""

import pytest
import torch

from nerfkit.fields.fast import FastField, FieldShape
from nerfkit.octree import Octree
from nerfkit.training.optimiser import MOMENTS, Optimiser, Rates
from nerfkit.training.pixels import Batch

SHAPE = FieldShape(
    hidden=(32,), bands=2, density_scale=8.0, density_bias=-1.0, step_voxels=0.25, near=0.0
)


@pytest.fixture
def field() -> FastField:
    generator = torch.Generator().manual_seed(0)
    octree = Octree.full(torch.tensor([-1.0, -1.0, -1.0]), 2.0, 4)
    octree = octree.keep(octree.centers().norm(dim=1) < 0.9)
    field = FastField.create(SHAPE, octree, [2, 3, 4], generator)
    field.density[64:].normal_(0, 1, generator=generator)
    field.features[64:].normal_(0, 0.5, generator=generator)
    field.sum_levels()
    return field


@pytest.fixture
def rays() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    origins = torch.randn(500, 3, generator=generator)
    origins = 3 * origins / origins.norm(dim=1, keepdim=True)
    aim = torch.rand(500, 3, generator=generator) - 0.5
    directions = torch.nn.functional.normalize(aim - origins, dim=1)
    return origins, directions


def same(field: FastField, rays, before) -> float:
    after = field.render(*rays, torch.ones(3))
    return max(float((a - b).abs().max()) for a, b in zip(before, after, strict=True))


def test_collapsing_is_exact(field, rays):
    before = field.render(*rays, torch.ones(3))
    collapsed = field.collapsed()
    assert collapsed.depths == [4] and len(collapsed.vertices) < len(field.vertices)
    assert same(collapsed, rays, before) < 1e-5  # measured 2e-6


def test_subdividing_changes_nothing(field, rays):
    before = field.render(*rays, torch.ones(3))
    field.relayout(field.octree.subdivide(), [2, 3, 4, 5])
    # half the voxel, half the samples' distance: put that back
    object.__setattr__(field, "shape", FieldShape(**{**vars(SHAPE), "step_voxels": 0.5}))
    assert same(field, rays, before) < 1e-5  # measured 3e-6


def test_pruning_leaves_the_rest(field, rays):
    half = field.octree.centers()[:, 2] > 0
    pruned = field.octree.keep(half)
    generator = torch.Generator().manual_seed(2)
    origins = torch.tensor([[0.0, 0.0, 3.0]]) + torch.rand(200, 3, generator=generator) * 0.2
    down = torch.tensor([[0.0, 0.0, -1.0]]).expand(200, 3).contiguous()
    whole = FastField(SHAPE, pruned, field.vertices, field.density, field.features, field.network)
    before = whole.render(origins, down, torch.ones(3))
    field.relayout(pruned, [2, 3, 4])
    assert same(field, (origins, down), before) < 1e-5  # measured 0


def test_moments_move_with_their_vertices(field, rays):
    optimiser = Optimiser(field)
    batch = Batch(*rays, torch.rand(500, 3), torch.ones(500, 1))
    for number in range(1, 4):
        fitted = optimiser.step(
            batch, torch.zeros(500, 3), torch.rand(500), Rates(0.1, 0.1, 0.01), number, 1e-4, 1e-4
        )
    assert fitted.n_samples >= fitted.n_shaded > 0
    for gradient in (optimiser.density_gradient, optimiser.features_gradient):
        assert not gradient.any()
    cells = field.octree.cells()[::7]
    places = [field.vertices.index(2, cells)]
    values = {name: optimiser.moments[name][places[0]].clone() for name in MOMENTS}
    assert all(value.any() for value in values.values())
    keep = torch.zeros(len(field.octree), dtype=torch.bool)
    keep[::7] = True
    optimiser.relayout(field.octree.keep(keep), [2, 3, 4])
    place = field.vertices.index(2, cells)
    for name, value in values.items():
        assert torch.equal(optimiser.moments[name][place], value), name
    assert not optimiser.max_weights.any()


def test_a_step_lowers_the_loss(field, rays):
    optimiser = Optimiser(field)
    batch = Batch(*rays, torch.full((500, 3), 0.8), torch.ones(500, 1))
    losses = [
        float(
            optimiser.step(
                *(batch, torch.zeros(500, 3), torch.full((500,), 0.5)),
                *(Rates(0.1, 0.05, 0.01), number, 1e-4, 1e-4),
            ).squared_errors.mean()
        )
        for number in range(1, 30)
    ]
    assert losses[-1] < losses[0] / 5
