"""What the voxels of an NSVF field hold, and how wide a pixel is among them."""

import torch
from torch import Tensor

from nerfkit.cameras import Cameras
from nerfkit.fields.nsvf import NsvfField
from nerfkit.octree import Octree

FIRST_POINTS = 64  # of a voxel, looked at before the others
POINTS_A_CALL = 1 << 17


def densest_raw(field: NsvfField, n: int, enough: float) -> Tensor:
    """The largest relu(sigma_raw) among n^3 points of each voxel, [L].

    Of voxels that exceed `enough` not all points are looked at.
    """
    places = (torch.arange(n) + 0.5) / n
    points = torch.cartesian_prod(places, places, places)
    # in an order in which the first few are all over the voxel
    points = points[torch.randperm(len(points), generator=torch.Generator().manual_seed(0))]
    points = points.to(field.device)
    densest = torch.zeros(len(field.octree), device=field.device)
    for part in (points[:FIRST_POINTS], points[FIRST_POINTS:]):
        if len(part) == 0:
            break
        unknown = (densest <= enough).nonzero()[:, 0]
        for voxels in unknown.split(max(1, POINTS_A_CALL // len(part))):
            places = part.repeat(len(voxels), 1)
            with torch.no_grad():
                raw = field.raw(voxels.repeat_interleave(len(part)), places)
            found = raw.view(len(voxels), len(part)).amax(1)
            densest[voxels] = torch.maximum(densest[voxels], found)
    return densest


def pixel_width(octree: Octree, cameras: Cameras) -> float:
    """Width of a pixel at the middle of the scene, world units."""
    centre = (octree.box_min.cpu() + octree.size / 2).double()
    distance = (cameras.c2w[:, :, 3] - centre).norm(dim=1).clamp_min(octree.size / 2)
    return float((distance / cameras.fx).median())
