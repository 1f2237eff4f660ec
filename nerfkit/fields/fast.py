"""The default field: density and features on the corners of a sparse octree, and a small network.

Symbols: V stored vertices of all levels (see nerfkit.fields.vertices), P network parameters.

    sigma(x) = density_scale * softplus(d(x) + density_bias),  d, f = sums over levels of trilinear
    interpolations;  rgb(x, v) = network(f(x), spherical harmonics of v)

With `ndc` x and v are in the cube of nerfkit.fields.ndc, with `unbounded` x is in that of
nerfkit.fields.unbounded.

Coarse levels generalise, fine levels refine: summing them is what lets a fit converge in seconds.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from nerfkit.errors import NerfkitError
from nerfkit.fields.bakeable import Source, corners_around
from nerfkit.fields.ndc import NDC_UNBAKED, Ndc, Path
from nerfkit.fields.unbounded import Unbounded
from nerfkit.fields.vertices import BRICK, Vertices
from nerfkit.kernels.encodings import spherical_harmonics
from nerfkit.kernels.first_hit import Occupancy, first_hit
from nerfkit.kernels.fused_mlp import fused_mlp
from nerfkit.kernels.fused_render import (
    FEATURES,
    GPU_LAYERS,
    GPU_UNITS,
    Rendered,
    RenderGrid,
    render_rays,
)
from nerfkit.kernels.fused_render.reference import unpack
from nerfkit.kernels.level_sum import level_sum_
from nerfkit.kernels.ray_pieces import Pieces
from nerfkit.memory import large_zeros
from nerfkit.octree import Octree
from nerfkit.ranks import ALONE, Team

# Steps of a rendering, as a part of those of the fit, which shifts its samples at random.
RENDER_STEP = 0.6
RENDER_STOP = 2e-3  # of transmittance
RENDER_WEIGHT = 2e-3
HIT_DEPTH = 6
UNBOUNDED_UNBAKED = (
    "a run of an unbounded scene cannot be baked: its voxels are not those of the world; fit it "
    "with --scene bounded"
)


@dataclass(frozen=True)
class FieldShape:
    """What a field is made of, apart from its parameters.

    Attributes:
        hidden: units of the colour network's hidden layers.
        bands: bands of spherical harmonics of the view direction, 1 to 4.
        density_scale, density_bias: of sigma above; scale in 1 / world unit.
        step_voxels: distance between samples of a fit, in finest voxels.
        near: nothing is seen closer to a camera than this, world units.
        ndc: of a forward-facing scene; the octree is then that of its cube.
        unbounded: of a scene that goes on in all directions; likewise.
    """

    hidden: tuple[int, ...]
    bands: int
    density_scale: float
    density_bias: float
    step_voxels: float
    near: float
    ndc: Ndc | None = None
    unbounded: Unbounded | None = None

    @property
    def widths(self) -> tuple[int, ...]:
        """Units of all layers of the network."""
        return (FEATURES + self.bands**2, *self.hidden, 3)

    @property
    def render_step(self) -> float:
        """Distance between samples of a rendering, in finest voxels."""
        return RENDER_STEP * self.step_voxels

    @property
    def fits_gpu(self) -> bool:
        """Whether the kernels of a GPU take the network."""
        return len(self.hidden) <= GPU_LAYERS and max(self.hidden, default=0) <= GPU_UNITS

    @property
    def n_network(self) -> int:
        """P."""
        widths = self.widths
        return sum((i + 1) * o for i, o in itertools.pairwise(widths))


class Bent(NamedTuple):
    """World rays in an octree's cube.

    Attributes:
        origins, directions: as the kernels want them: in the cube, or with pieces in the world.
        pieces: None where rays stay straight.
        rows: [R or P, 6], origins and directions of rays or pieces in the cube.
        world: what `rows` was made from.
    """

    origins: Tensor
    directions: Tensor
    pieces: Pieces | None
    rows: Tensor
    world: tuple[Tensor, Tensor]

    def to_world(self, gradient: Tensor) -> Tensor:
        """[R, 6] of origins and directions, from that of `rows`."""
        found = torch.autograd.grad(self.rows, self.world, gradient, allow_unused=True)
        return torch.cat(found, 1)


class FastField:
    """An octree, the values at its corners, and the network.

    Attributes:
        octree, depths: occupied leaves; depths of the levels, ascending, the last the octree's.
        vertices, grid: where the values are stored; the same for the kernels.
        density: [V] raw density, each level's own.
        features: [V, 16], each level's own.
        network: [P], per layer weights [out, in] row by row, then biases.
        summed: [V], holds at the finest vertices the density summed over the levels.
        team: the ranks that share the tables; what is done once a node is done by one of them.
    """

    def __init__(
        self,
        shape: FieldShape,
        octree: Octree,
        vertices: Vertices,
        density: Tensor,
        features: Tensor,
        network: Tensor,
    ) -> None:
        self.shape, self.octree, self.vertices = shape, octree, vertices
        self.grid = RenderGrid.of(octree, vertices)
        self._nodes = Occupancy.of(octree.above(HIT_DEPTH))
        self.density, self.features, self.network = density, features, network
        self.team = ALONE
        self.summed = large_zeros(len(vertices), device=octree.device)
        self.sum_levels()

    @staticmethod
    def create(
        shape: FieldShape, octree: Octree, depths: list[int], generator: torch.Generator
    ) -> FastField:
        """A field of even fog, where `generator` is: no density but the bias, small features."""
        device = generator.device
        octree = octree.to(device)
        vertices = Vertices.of(octree, depths)
        features = large_zeros(len(vertices), FEATURES, device=device)
        features[BRICK:].normal_(0, 1e-2, generator=generator)
        layers = []
        for n_in, n_out in itertools.pairwise(shape.widths):
            # uniform of variance 1 / n_in, as suits layers with ReLU between
            weight = torch.rand(n_out * n_in, generator=generator, device=device) * 2 - 1
            layers += [weight * math.sqrt(3 / n_in), torch.zeros(n_out, device=device)]
        # nothing looks different from elsewhere until the fit finds that it does
        layers[0].view(shape.widths[1], -1)[:, FEATURES:] = 0
        density = large_zeros(len(vertices), device=device)
        return FastField(shape, octree, vertices, density, features, torch.cat(layers))

    @property
    def device(self) -> torch.device:
        return self.density.device

    def to(self, device: torch.device) -> FastField:
        """A copy on another device; the field itself if it is there, or is none for a GPU."""
        if device == self.device or not (device.type == "cpu" or self.shape.fits_gpu):
            return self
        octree = self.octree.to(device)
        vertices = Vertices.of(octree, self.depths)
        values = (x.to(device) for x in (self.density, self.features, self.network))
        return FastField(self.shape, octree, vertices, *values)

    @property
    def depths(self) -> list[int]:
        return [int(r).bit_length() - 1 for r in self.vertices.resolutions]

    def sampling(self, step_voxels: float) -> dict[str, float]:
        """Settings of the rendering kernels that belong to the field, at this sample distance."""
        return {
            "step": step_voxels * self.octree.voxel,
            "density_scale": self.shape.density_scale,
            "density_bias": self.shape.density_bias,
            "bands": self.shape.bands,
            "near": self.shape.near if self.shape.ndc is None else 0.0,  # it begins there
        }

    def sum_levels(self) -> None:
        """Bring `summed` up to date with `density`, of which each rank has written its `rows`."""
        rows = self.team.rows(len(self.vertices), BRICK)
        self.summed[rows] = self.density[rows]
        self.team.barrier()
        level_sum_(self.summed, self.vertices, team=self.team)

    def share(self, team: Team) -> None:
        """Move the tables to where all ranks of the node have them."""
        self.team = team
        for name in ("density", "features", "summed"):
            values = getattr(self, name)
            table = team.zeros(*values.shape)
            if team.leads_node:
                table.copy_(values)
            setattr(self, name, table)
        team.barrier()

    def relayout(self, octree: Octree, depths: list[int]) -> None:
        """Keep the leaves of `octree`, with levels at `depths`.

        Values move to their new place, new vertices get zeros: where `octree` keeps leaves, or
        their children, the field stays as it was.
        """
        old, layout = self.vertices, Vertices.of(octree, depths)
        self.summed = torch.empty(0)  # freed before the field exists twice
        self.density = move(layout, old, self.density, self.team)
        self.features = move(layout, old, self.features, self.team)
        self.octree, self.vertices = octree, layout
        self.grid = RenderGrid.of(octree, layout)
        self._nodes = Occupancy.of(octree.above(HIT_DEPTH))
        self.summed = self.team.zeros(len(layout), device=octree.device)
        self.sum_levels()

    def hits(self, origins: Tensor, directions: Tensor) -> Tensor:
        """Which of the rays [R, 3] come close to an occupied leaf: [R] bool.

        Asked of the nodes a level or more above the leaves, which are met in fewer steps.
        """
        if self.shape.unbounded is not None:  # they all end somewhere
            return torch.ones(len(origins), dtype=torch.bool, device=origins.device)
        path = self.path(origins, directions)
        return first_hit(*path[:2], self._nodes, self._nodes.voxel / 2) < math.inf

    def path(self, origins: Tensor, directions: Tensor) -> Path:
        """World rays [R, 3] in the octree's cube."""
        return Path.of(self.shape.ndc, origins, directions)

    def pieces(self, origins: Tensor, directions: Tensor) -> Pieces | None:
        """World rays [R, 3] in the octree's cube, where they are not straight in it."""
        unbounded = self.shape.unbounded
        if unbounded is None:
            return None
        return unbounded.pieces(origins, directions, self.shape.near)

    def bent(self, origins: Tensor, directions: Tensor) -> Bent:
        """World rays [R, 3] in the octree's cube, ready to take gradients back from there."""
        with torch.enable_grad():
            world = origins.detach().requires_grad_(), directions.detach().requires_grad_()
            if self.shape.unbounded is None:
                path = self.path(*world)
                rows = torch.cat(path[:2], 1)
                return Bent(*(x.detach() for x in path[:2]), None, rows, world)
            # in double, so that no ray is cut otherwise than by the compiled code
            exact = [x.double() for x in world]
            pieces = self.shape.unbounded.pieces(*exact, self.shape.near, backend="reference")
            rows = pieces.rows[:, :6].float()
            pieces = Pieces(pieces.rows.detach().float(), pieces.first)
            return Bent(origins, directions, pieces, rows, world)

    def render(self, origins: Tensor, directions: Tensor, background: Tensor) -> Rendered:
        """Colours [R, 3], depths [R] (sum w t) and opacities [R] of rays [R, 3] on `background`."""
        path = self.path(origins, directions)
        with torch.no_grad():
            seen = render_rays(
                *(*path[:2], self.grid, self.summed, self.features, self.network),
                self.shape.widths,
                background=background,
                early_stop=RENDER_STOP,
                weight_min=RENDER_WEIGHT,
                pieces=self.pieces(origins, directions),
                **self.sampling(self.shape.render_step),
            )
        if self.shape.ndc is None:
            return seen
        # of the mean place in the cube: an edge between near and far lies between them
        middle = path.world((seen.depths / seen.opacities.clamp_min(1e-6))[:, None])[:, 0]
        return seen._replace(depths=middle * seen.opacities)

    def collapsed(self) -> FastField:
        """The same field with the finest level alone: every look-up touches one level.

        Exact, for a trilinear interpolation over a coarse cell is also one over each finer cell.
        """
        features = self.features.clone()
        level_sum_(features, self.vertices)
        vertices = Vertices.of(self.octree, self.depths[-1:])
        density = move(vertices, self.vertices, self.summed)
        features = move(vertices, self.vertices, features)
        if features.is_cuda:  # half the traffic; the last bits of a feature are noise
            features = features.half()
        return FastField(self.shape, self.octree, vertices, density, features, self.network)

    def source(self) -> Source:
        """The field on its finest level alone (`collapsed`), as baking asks it."""
        if self.shape.ndc is not None:
            raise NerfkitError(NDC_UNBAKED)
        if self.shape.unbounded is not None:
            raise NerfkitError(UNBOUNDED_UNBAKED)
        return source_of(self.collapsed() if len(self.depths) > 1 else self)


def source_of(field: FastField) -> Source:
    """A field of one level, as baking asks it; of an unbounded one the part that is not bent."""
    shape, layers = field.shape, unpack(field.network, field.shape.widths)
    octree, scale = field.octree, shape.density_scale
    if shape.unbounded is not None:
        octree, scale = shape.unbounded.inner(octree), scale / shape.unbounded.half

    def density(corners: Tensor) -> Tensor:
        return field.summed[field.vertices.index(0, corners)]

    def colors(places: Tensor, directions: Tensor) -> Tensor:
        n, k = directions.shape[:2]
        index = (field.vertices.index(0, corners) for corners in corners_around(places))
        features = sum(field.features[rows] for rows in index) / 8
        harmonics = spherical_harmonics(directions.reshape(-1, 3), shape.bands)
        inputs = torch.cat([features.repeat_interleave(k, 0), harmonics], 1)
        return fused_mlp(inputs, *layers, output_activation="sigmoid").view(n, k, 3)

    return Source(
        *(field, octree, density, colors, scale, shape.density_bias),
        *(shape.render_step, shape.near),
    )


def move(layout: Vertices, old: Vertices, values: Tensor, team: Team = ALONE) -> Tensor:
    """`values` [V, ...] from one layout to another, into a new table; zeros where new."""
    out = team.zeros(len(layout), *values.shape[1:], device=values.device)
    if team.leads_node:
        layout.transfer_into(old, values, out)
    team.barrier()
    return out
