"""NSVF (2007.11571): embeddings at the corners of sparse voxels, and a network that reads them.

Symbols: R rays, N samples of all rays together, V corners of L voxels. A density is `density_scale`
relu(sigma_raw) per world unit, a colour sigmoid(rgb_raw).

A ray's samples stand one in each stretch of length `step` of its part inside voxels; what lies
between voxels counts nothing. First every sample gets its density, a few at a time, until no light
is left on its ray; then those that are not empty get a colour. Empty ones have neither weight nor
gradient, so that nothing is lost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nerfkit.fields.bakeable import BAKED_RESOLUTION, BAKED_STEP, Source, finer
from nerfkit.fields.spans import Guide
from nerfkit.kernels.first_hit import Occupancy, first_hit
from nerfkit.kernels.fused_render import Rendered
from nerfkit.kernels.nsvf_mlp import NsvfMlpConfig, nsvf_mlp, unpack
from nerfkit.kernels.nsvf_render import Seen, Voxels, render_rays
from nerfkit.octree import Octree
from nerfkit.octree.corners import Corners

RENDER_STOP = 0.01  # of transmittance, as in the paper
RENDER_RAYS = {"cpu": 8192, "cuda": 1 << 18}  # at a time: bounds the memory
SHADED = 1e-4  # samples that weigh less get no colour in a picture
HIT_DEPTH = 6
INWARDS = 1e-4  # of a voxel
START = 0.05  # deviation of the embeddings at first
FOG, EVENNESS = 0.1, 0.1  # about sigma_raw at first, and what last weights are scaled by


@dataclass(frozen=True)
class NsvfShape:
    """What a field is made of, apart from its parameters and octree.

    Attributes:
        network: its sizes.
        near: nothing is seen closer to a camera than this, world units.
        step: between samples, world units.
        density_scale: of relu(sigma_raw), per world unit.
    """

    network: NsvfMlpConfig
    near: float
    step: float
    density_scale: float


class NsvfField:
    """Embeddings on an octree, and the network.

    Attributes:
        octree: its leaves are the voxels.
        corners: of the voxels.
        table: [V, E] embeddings.
        network: [P], laid out as nerfkit.kernels.nsvf_mlp says.
    """

    def __init__(
        self, shape: NsvfShape, octree: Octree, corners: Corners, table: Tensor, network: Tensor
    ) -> None:
        self.shape, self.octree, self.corners = shape, octree, corners
        self.table, self.network = table, network
        self._guide = Guide(octree)
        self._voxels = Voxels(octree.cells().float(), corners.indices, octree.box_min, octree.voxel)
        self._nodes = Occupancy.of(octree.above(HIT_DEPTH))

    @staticmethod
    def create(shape: NsvfShape, octree: Octree, generator: torch.Generator) -> NsvfField:
        """A field of thin fog.

        The authors' code begins with embeddings 3.5 times larger, and has pi in their encoding:
        noise at first, which learns slowly. It also has a LayerNorm before each ReLU; He's
        initialisation (1502.01852) gives activations their size at the start at least.
        """
        octree = octree.to(generator.device)
        corners, config = Corners.of(octree), shape.network
        on = {"device": generator.device}
        table = torch.randn(len(corners), config.embedding, generator=generator, **on)
        network = torch.zeros(config.n_params, **on)
        for name, values in unpack(network, config).items():
            if name.endswith("weight"):
                bound = math.sqrt(6 / values.shape[1])
                values.uniform_(-bound, bound, generator=generator)
        # Where sigma_raw begins below 0, relu has no gradient to raise it.
        values = unpack(network, config)
        values["sigma.weight"].mul_(EVENNESS)
        values["rgb.weight"].mul_(EVENNESS)
        values["sigma.bias"].fill_(FOG)
        return NsvfField(shape, octree, corners, START * table, network)

    @property
    def device(self) -> torch.device:
        return self.table.device

    def to(self, device: torch.device) -> NsvfField:
        """A copy on another device; the field itself if it is there."""
        if device == self.device:
            return self
        octree = self.octree.to(device)
        values = (x.to(device) for x in (self.table, self.network))
        return NsvfField(self.shape, octree, self.corners.to(device), *values)

    def hits(self, origins: Tensor, directions: Tensor) -> Tensor:
        """Which of the rays [R, 3] come close to a voxel: [R] bool."""
        step = self.octree.size / 2 ** (HIT_DEPTH + 1)
        return first_hit(origins, directions, self._nodes, step) < math.inf

    def collapsed(self) -> NsvfField:
        """The field itself."""
        return self

    def pruned(self, keep: Tensor) -> NsvfField:
        """Only the voxels where `keep` [L] is true."""
        corners, table = self.corners.keep(keep, self.table)
        return NsvfField(self.shape, self.octree.keep(keep), corners, table, self.network)

    def divided(self, step: float) -> NsvfField:
        """The same field on voxels half as large, with another step."""
        octree, corners, table = self.corners.divide(self.octree, self.table)
        shape = NsvfShape(self.shape.network, self.shape.near, step, self.shape.density_scale)
        return NsvfField(shape, octree, corners, table, self.network)

    def render(self, origins: Tensor, directions: Tensor, background: Tensor) -> Rendered:
        """Colours [R, 3], depths [R] (sum w t) and opacities [R] of rays [R, 3] on `background`."""
        parts = []
        with torch.no_grad():
            n = RENDER_RAYS[self.device.type]
            for rays in zip(origins.split(n), directions.split(n), strict=True):
                back = background.expand(len(rays[0]), 3)
                parts.append(self.trace(*rays, back, RENDER_STOP, SHADED)[:3])
        return Rendered(*(torch.cat(values) for values in zip(*parts, strict=True)))

    def densities(self, points: Tensor) -> Tensor:
        """Densities [N] per world unit at world points [N, 3]; 0 outside the voxels."""
        out = points.new_zeros(len(points))
        inside, voxels, places = self._locate(points)
        with torch.no_grad():
            out[inside] = self.raw(voxels, places).relu() * self.shape.density_scale
        return out

    def colors(self, points: Tensor, directions: Tensor) -> Tensor:
        """Colours [N, 3] at world points [N, 3], seen along unit directions [N, 3].

        Black outside the voxels.
        """
        out = torch.zeros_like(points)
        inside, voxels, places = self._locate(points)
        with torch.no_grad():
            raw = nsvf_mlp(
                *(self.table, self.corners.indices, voxels, places, directions[inside]),
                self.network,
                config=self.shape.network,
            )
            out[inside] = raw.rgb_raw.sigmoid()
        return out

    def source(self) -> Source:
        """The field on voxels small enough for what it shows, as baking asks it."""
        octree = finer(self.octree, BAKED_RESOLUTION)

        def densities(points: Tensor) -> Tensor:
            return self.densities(self._beside(points))

        def colors(points: Tensor, directions: Tensor) -> Tensor:
            each = self._beside(points).repeat_interleave(directions.shape[1], 0)
            return self.colors(each, directions.reshape(-1, 3)).view(directions.shape)

        return Source.of_points(
            *(self, octree, densities, colors), step_voxels=BAKED_STEP, near=self.shape.near
        )

    def _beside(self, points: Tensor) -> Tensor:
        """Points [N, 3], those on the upper faces of voxels moved just into them."""
        moved = points.clone()
        for c in range(1, 8):
            outside = (self.octree.find(self.octree.cells_at(moved)) < 0).nonzero()[:, 0]
            shift = points.new_tensor([c & 1, c >> 1 & 1, c >> 2]) * (INWARDS * self.octree.voxel)
            moved[outside] = points[outside] - shift
        return moved

    def raw(self, voxels: Tensor, places: Tensor) -> Tensor:
        """sigma_raw [N] at `places` [N, 3] in [0, 1] of voxels [N]."""
        arguments = self.table, self.corners.indices, voxels, places, None, self.network
        return nsvf_mlp(*arguments, config=self.shape.network).sigma_raw

    def _locate(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Which of points [N, 3] lie in a voxel, in which one, and where in it."""
        voxels = self.octree.find(self.octree.cells_at(points))
        inside = (voxels >= 0).nonzero()[:, 0]
        voxels = voxels[inside]
        return inside, voxels, self.places(points[inside], voxels)

    def places(self, points: Tensor, voxels: Tensor) -> Tensor:
        """Where world points [N, 3] are in their voxels [N], from 0 to 1."""
        return self._voxels.places(points, voxels)

    def trace(
        self,
        origins: Tensor,
        directions: Tensor,
        background: Tensor,
        early_stop: float,
        weight_min: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> Seen:
        """The field along rays [R, 3] on `background` [R, 3].

        Differentiable with respect to the embeddings and the network.

        Args:
            early_stop: transmittance behind which there are no samples.
            weight_min: samples that weigh less are left out.
            generator: of the samples' places in their stretches; None takes the middle.
        """
        shape = self.shape
        return render_rays(
            *(origins, directions, background),
            *(self._guide.spans(origins, directions, shape.near), self._voxels),
            *(self.table, self.network),
            config=shape.network,
            step=shape.step,
            density_scale=shape.density_scale,
            early_stop=early_stop,
            weight_min=weight_min,
            generator=generator,
        )
