"""Normalised device coordinates of a forward-facing scene (2003.08934, appendix C).

What a reference camera sees from its near plane z = -n to infinity becomes the cube [-1, 1]^3:

    x' = x / (-z slope_x),   y' = y / (-z slope_y),   z' = h (1 + 2 n / z)

Straight rays stay straight, and even steps along them in the cube are even steps of inverse depth.
The paper's slopes are those of the image's edges; ours hold what all cameras see. Its h is 1. With
less, cubic voxels are longer along the rays than across, as Plenoxels (2112.05131) has them: the
cameras lie close together, so that depth shifts a picture by fewer pixels than it has. Symbols: R
rays, t the distance along the unit ray in the world, u along its image in the cube.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nerfkit.cameras import Cameras
from nerfkit.errors import NerfkitError
from nerfkit.kernels.nerf_samples.reference import in_world
from nerfkit.octree import Octree

MARGIN = 1.02
LEAST_HALF_DEPTH = 0.1
LEAST_COSINE = 0.7  # between any camera and the way they all look
NDC_UNBAKED = "a run fitted with --ndc cannot be baked: its voxels are not those of the world"
FORWARD = -1e-3  # rays with a larger z see nothing


class Path(NamedTuple):
    """Rays as a field's cube has them."""

    origins: Tensor  # [R, 3]
    directions: Tensor  # [R, 3] unit
    depth: Tensor | None = None  # [R, 4]: t, z and dz / dt at the near plane; u at infinity

    @staticmethod
    def of(ndc: Ndc | None, origins: Tensor, directions: Tensor) -> Path:
        """World rays [R, 3] in the cube of `ndc`; as they are without it."""
        return Path(origins, directions) if ndc is None else ndc.path(origins, directions)

    def select(self, rays: Tensor) -> Path:
        """Those of some rays, int64."""
        depth = None if self.depth is None else self.depth[rays]
        return Path(self.origins[rays], self.directions[rays], depth)

    def world(self, u: Tensor) -> Tensor:
        """t [R, N] at u [R, N]."""
        return in_world(self.depth, u)

    def cube(self, t: Tensor) -> Tensor:
        """u [R] at t [R], the inverse of `world`; 0 before the near plane."""
        if self.depth is None:
            return t
        start, z, slope, whole = self.depth.unbind(1)
        return whole * (1 - z / (z + slope * (t - start).clamp_min(0)))


@dataclass(frozen=True)
class Ndc:
    """The reference camera.

    Attributes:
        pose: 12 numbers, [3, 4] row by row, world to camera, OpenGL axes.
        slope_x, slope_y: |x / z| and |y / z| at the edges of what is seen.
        near: n, world units.
        half_depth: h; the cube is used from z' = -h to h.
    """

    pose: tuple[float, ...]
    slope_x: float
    slope_y: float
    near: float
    half_depth: float = 1.0

    @staticmethod
    def from_json(values: dict[str, Any] | None) -> Ndc | None:
        """What `dataclasses.asdict` made of one; TypeError or ValueError where it is none."""
        if values is None:
            return None
        ndc = Ndc(**{**values, "pose": tuple(map(float, values["pose"]))})
        numbers = (*ndc.pose, ndc.slope_x, ndc.slope_y, ndc.near, ndc.half_depth)
        if len(numbers) != 16 or not all(map(math.isfinite, numbers)) or not min(numbers[12:]) > 0:
            raise ValueError("ndc is no camera")
        return ndc

    @staticmethod
    def of(cameras: Cameras, near: float) -> Ndc:
        """In the middle of the cameras; NerfkitError where these do not face one way."""
        axes = torch.nn.functional.normalize(cameras.c2w[:, :, :3].mean(0), dim=0)
        backward = axes[:, 2]
        cosines = cameras.c2w[:, :, 2] @ backward
        if not near > 0 or float(cosines.min()) < LEAST_COSINE:
            raise NerfkitError(
                "--ndc: wants photographs without alpha whose cameras all face one way; "
                "fit without it"
            )
        right = torch.linalg.cross(axes[:, 1], backward)
        right = right / right.norm()
        rotation = torch.stack([right, torch.linalg.cross(backward, right), backward])
        middle = cameras.c2w[:, :, 3].mean(0)
        offset = -(rotation @ middle)
        pose = torch.cat([rotation, offset[:, None]], 1)
        ndc = Ndc(tuple(pose.reshape(-1).tolist()), 1.0, 1.0, near)
        low, high = [], []
        for i in range(len(cameras)):
            w, h = int(cameras.width[i]), int(cameras.height[i])
            corners = torch.tensor([[0.0, 0.0], [w, 0], [0, h], [w, h]])
            rays = cameras.rays(torch.tensor([i]), corners)
            path = ndc.path(rays.origins, rays.directions)
            low.append(path.origins)
            high.append(path.origins + path.directions * path.depth[:, 3:])
        reach = torch.cat(low + high).abs().amax(0) * MARGIN
        return Ndc(ndc.pose, float(reach[0]), float(reach[1]), near)

    def for_voxels(self, cameras: Cameras, depth: int) -> tuple[Ndc, Octree]:
        """The same for cubic voxels, and those at `depth` that anything can be in.

        One voxel in depth then shifts the pictures of the outermost cameras against each other by
        about one voxel across.
        """
        slope = max(self.slope_x, self.slope_y)
        centers = cameras.c2w[:, :, 3]
        apart = float(torch.cdist(centers, centers).max())
        half_depth = min(1.0, max(LEAST_HALF_DEPTH, apart / (2 * self.near * slope)))
        seen = torch.tensor([self.slope_x / slope, self.slope_y / slope, half_depth])
        octree = Octree.full(-torch.ones(3), 2.0, depth)
        octree = octree.keep((octree.centers().abs() - octree.voxel / 2 < seen).all(1))
        ndc = dataclasses.replace(self, slope_x=slope, slope_y=slope, half_depth=half_depth)
        return ndc, octree

    def path(self, origins: Tensor, directions: Tensor) -> Path:
        """World rays [R, 3], from the near plane on; those that never reach it miss the cube."""
        pose = origins.new_tensor(self.pose).view(3, 4)
        start, way = origins @ pose[:, :3].T + pose[:, 3], directions @ pose[:, :3].T
        ahead = way[:, 2] < FORWARD
        slope = torch.where(ahead, way[:, 2], -1.0)
        t = -(self.near + start[:, 2]) / slope
        start = start + t[:, None] * way
        z = torch.full_like(t, -self.near)
        scale = origins.new_tensor([-1 / self.slope_x, -1 / self.slope_y])
        flat = start[:, :2] / z[:, None]
        depth = torch.full_like(z, self.half_depth)[:, None]
        entry = torch.cat([scale * flat, -depth], 1)
        across = scale * (way[:, :2] / slope[:, None] - flat)
        image = torch.cat([across, 2 * depth], 1)
        whole = image.norm(dim=1)
        away = origins.new_tensor([0.0, 0.0, -1.0])
        return Path(
            torch.where(ahead[:, None], entry, 3 * away),
            torch.where(ahead[:, None], image / whole[:, None], away),
            torch.stack([t, z, slope, whole], 1),
        )
