"""A picture of the voxels of an octree: rays to the first leaf they enter, shaded by face.

World +Z is up. The camera is a pinhole that looks at the middle of what is occupied from azimuth
(degrees from +X towards +Y) and elevation (degrees above the horizon). H rays hit something. Cell
units: the lowest corner of the cube is 0 and a leaf has edge 1. The face of a leaf that is seen
has an axis, the normal's, and a side, -1 or 1, the normal's sign; u and v are the two other axes.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import imageio.v3 as imageio
import torch
from torch import Tensor

from nerfkit.errors import NerfkitError
from nerfkit.files import atomic_write
from nerfkit.kernels.octree_traverse import octree_traverse
from nerfkit.octree import Octree

FIELD_OF_VIEW = 30.0  # degrees, along the shorter side
FILL = 0.92  # of the picture that what is occupied takes
SUPERSAMPLED = 2  # rays along each side of a pixel
RAYS_AT_ONCE = 1 << 19
BACKGROUND = ((0.98, 0.985, 0.99), (0.83, 0.86, 0.89))  # top and bottom of the picture
HEIGHTS = ((0.25, 0.40, 0.62), (0.38, 0.68, 0.66), (0.99, 0.83, 0.50))  # colours, lowest first
LIGHT = (0.55, 0.30, 0.80)  # direction towards it, seen from the camera: right, back, up
AMBIENT, DIRECT = 0.55, 0.62  # light from everywhere; light of a face turned to where it is
SHADOW = 0.5  # of the direct light, that a shadow takes
CORNER_LIGHT = (1.0, 0.86, 0.74, 0.62)  # in a corner of a face that 0 to 3 neighbours rise over
LINE = (0.35, 1.15)  # pixels from an edge: its line is full to the first, gone at the second
LINE_LIGHT = 0.66
VISIBLE = (3.0, 10.0)  # pixels a leaf: lines appear at the first, are full at the second
PLANE_AXES = torch.tensor([[1, 2], [0, 2], [0, 1]])  # u and v of each axis


def write_picture(
    path: str | Path,
    octree: Octree,
    size: tuple[int, int] = (800, 800),
    azimuth: float = 40.0,
    elevation: float = 28.0,
) -> None:
    """Write `picture` as PNG; NerfkitError if it cannot be made or written."""
    image = picture(octree, size, azimuth, elevation)
    content = imageio.imwrite("<bytes>", image.numpy(), extension=".png")
    with atomic_write(path) as file:
        file.write(content)


def picture(
    octree: Octree,
    size: tuple[int, int] = (800, 800),
    azimuth: float = 40.0,
    elevation: float = 28.0,
) -> Tensor:
    """The voxels as an image [height, width, 3] uint8, display-encoded.

    Args:
        octree: with at least one leaf.
        size: width and height in pixels.
        azimuth, elevation: where the camera stands, degrees.

    Raises:
        NerfkitError: no leaves, or a size below 1.
    """
    if len(octree) == 0:
        raise NerfkitError("picture: the octree has no leaves; there is nothing to see")
    if min(size) < 1:
        raise NerfkitError(f"picture: want a size of at least 1x1, got {size[0]}x{size[1]}")
    scene = _Scene.of(octree)
    camera = _Camera.of(scene, size, azimuth, elevation)
    width, height = size
    rows_at_once = max(1, RAYS_AT_ONCE // (width * SUPERSAMPLED**2))
    image = torch.empty(height, width, 3, dtype=torch.uint8)
    for top in range(0, height, rows_at_once):
        rows = torch.arange(top, min(top + rows_at_once, height))
        rays = _colours(scene, camera, camera.rays(rows), rows)
        fine = rays.view(len(rows), SUPERSAMPLED, width, SUPERSAMPLED, 3)
        image[rows] = (fine.mean(dim=(1, 3)) * 255).round().clamp(0, 255).to(torch.uint8)
    return image


@dataclass
class _Scene:
    """An octree ready to be seen, in cell units."""

    octree: Octree
    cells: Tensor
    children: Tensor
    first_leaf: int

    @staticmethod
    def of(octree: Octree) -> "_Scene":
        return _Scene(octree, octree.cells(), *octree.children())

    def first_hits(self, origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Which rays [R, 3] hit something -> [R] bool, and the leaf of those that do -> [H]."""
        n = float(self.octree.resolution)
        found = octree_traverse(
            origins,
            directions,
            self.children,
            torch.zeros(3),
            n,
            self.octree.depth,
            max_leaves_per_ray=1,
        )
        return found.packed_info[:, 1] > 0, found.node_ids - self.first_leaf


@dataclass
class _Camera:
    """Where it stands (cell units), its axes (rows: right, up, back), and its pixels."""

    position: Tensor
    axes: Tensor
    size: tuple[int, int]
    pixel: float  # edge of a pixel at distance 1

    @staticmethod
    def of(scene: _Scene, size: tuple[int, int], azimuth: float, elevation: float) -> "_Camera":
        a, e = math.radians(azimuth), math.radians(elevation)
        back = torch.tensor([math.cos(e) * math.cos(a), math.cos(e) * math.sin(a), math.sin(e)])
        right = torch.tensor([-math.sin(a), math.cos(a), 0.0])
        axes = torch.stack([right, torch.linalg.cross(back, right), back])
        pixel = 2 * math.tan(math.radians(FIELD_OF_VIEW / 2)) / min(size)
        seen = (scene.cells + 0.5) @ axes.T
        middle = (seen.amin(0) + seen.amax(0)) / 2
        seen -= middle
        # Far enough back that no leaf, its corners `reach` from its centre, is past the border.
        reach = axes.abs().sum(dim=1) / 2
        sides = torch.tensor(size) * (pixel * FILL / 2)
        width = ((seen.abs() + reach)[:, :2] / sides).amax(dim=1)
        distance = (seen[:, 2] + width).max() + reach[2]
        middle[2] += distance
        return _Camera(middle @ axes, axes, size, pixel)

    def rays(self, rows: Tensor) -> Tensor:
        """Unit directions [R, 3] through the samples of some rows of pixels, row by row."""
        width, height = self.size
        offsets = (torch.arange(SUPERSAMPLED) + 0.5) / SUPERSAMPLED
        x = (torch.arange(width)[:, None] + offsets).reshape(-1) - width / 2
        y = height / 2 - (rows[:, None] + offsets).reshape(-1)
        y, x = torch.meshgrid(y, x, indexing="ij")
        seen = torch.stack([x * self.pixel, y * self.pixel, torch.full_like(x, -1)], dim=-1)
        return torch.nn.functional.normalize(seen.view(-1, 3), dim=1) @ self.axes


def _colours(scene: _Scene, camera: _Camera, directions: Tensor, rows: Tensor) -> Tensor:
    """Colours [R, 3] of rays from the camera through `rows` of pixels."""
    offsets = (torch.arange(SUPERSAMPLED) + 0.5) / SUPERSAMPLED
    down = (rows[:, None] + offsets).reshape(-1, 1) / camera.size[1]
    top, bottom = torch.tensor(BACKGROUND)
    colours = (top + (bottom - top) * down).repeat_interleave(camera.size[0] * SUPERSAMPLED, dim=0)
    origins = camera.position.expand_as(directions).contiguous()
    hit, leaves = scene.first_hits(origins, directions)
    if len(leaves):
        colours[hit] = _shade(scene, camera, directions[hit], leaves)
    return colours


def _shade(scene: _Scene, camera: _Camera, directions: Tensor, leaves: Tensor) -> Tensor:
    """Colours [H, 3] of the leaves [H] that rays [H, 3] from the camera enter."""
    cells = scene.cells[leaves]
    # The face entered is the last to be passed of the three that the camera can see.
    faces = cells + (directions < 0)
    moving = directions != 0
    crossings = (faces - camera.position) / directions.where(moving, 1.0)
    t, axis = crossings.where(moving, -torch.inf).max(dim=1)
    normal_axis, plane = axis[:, None], PLANE_AXES[axis]
    side = torch.where(directions.gather(1, normal_axis) < 0, 1, -1)[:, 0]
    points = camera.position + t[:, None] * directions
    points.scatter_(1, normal_axis, faces.gather(1, normal_axis).float())
    uv = (points - cells).gather(1, plane).clamp(0, 1)
    slope = directions.gather(1, plane) / directions.gather(1, normal_axis)

    brightness = AMBIENT + DIRECT * _direct_light(scene, camera, points, axis, side)
    brightness *= _corner_light(scene, leaves, axis, side, uv)
    brightness *= _line_light(uv, t * camera.pixel, slope)
    low, high = scene.cells[:, 2].min(), scene.cells[:, 2].max() + 1
    height = 2 * ((points[:, 2:] - low) / (high - low))
    lowest, middle, highest = torch.tensor(HEIGHTS)
    tint = torch.lerp(lowest, middle, height.clamp(0, 1))
    tint = torch.lerp(tint, highest, (height - 1).clamp(0, 1))
    return (tint * brightness[:, None]).clamp(0, 1)


def _direct_light(
    scene: _Scene, camera: _Camera, points: Tensor, axis: Tensor, side: Tensor
) -> Tensor:
    """Light on faces at points [H, 3], by how they are turned and what stands in its way -> [H]."""
    # The light moves with the camera about the vertical, so that no view is dark.
    right, up = camera.axes[0], torch.tensor([0.0, 0.0, 1.0])
    towards = torch.stack([right, torch.linalg.cross(right, up), up])
    light = torch.nn.functional.normalize(torch.tensor(LIGHT) @ towards, dim=0)
    facing = (light[axis] * side).clamp_min(0)
    lit = facing > 0
    lift = 1e-3 + 1e-6 * scene.octree.resolution  # off the face, and more than float32 rounds
    off = torch.zeros_like(points).scatter_(1, axis[:, None], side[:, None] * lift)
    blocked, _ = scene.first_hits((points + off)[lit], light.repeat(int(lit.sum()), 1))
    facing[lit] *= 1 - SHADOW * blocked.float()
    return facing


def _corner_light(scene: _Scene, leaves: Tensor, axis: Tensor, side: Tensor, uv: Tensor) -> Tensor:
    """Light left at uv [H, 2] by the eight leaves around that rise over the face -> [H].

    Each corner of a face counts its three neighbours in the layer above (two that meet shut it
    off); between corners it is bilinear.
    """
    face = leaves * 6 + axis * 2 + (side > 0)
    face, place = torch.unique(face, return_inverse=True)
    leaf, axis, side = face // 6, face // 2 % 3, face % 2 * 2 - 1
    above = scene.cells[leaf].scatter_add(1, axis[:, None], side[:, None])
    u, v = torch.nn.functional.one_hot(PLANE_AXES[axis], 3).unbind(dim=1)
    rises = {
        (i, j): scene.octree.find(above + i * u + j * v) >= 0
        for i in (-1, 0, 1)
        for j in (-1, 0, 1)
        if (i, j) != (0, 0)
    }
    corners = []
    for i, j in ((-1, -1), (1, -1), (-1, 1), (1, 1)):
        beside, diagonal = (rises[i, 0].int(), rises[0, j].int()), rises[i, j].int()
        count = torch.where(beside[0] + beside[1] == 2, 3, beside[0] + beside[1] + diagonal)
        corners.append(torch.tensor(CORNER_LIGHT)[count])
    low_low, high_low, low_high, high_high = torch.stack(corners)[:, place]
    u, v = uv.unbind(dim=1)
    return torch.lerp(torch.lerp(low_low, high_low, u), torch.lerp(low_high, high_high, u), v)


def _line_light(uv: Tensor, pixel: Tensor, slope: Tensor) -> Tensor:
    """Light that the line along the edges of a face leaves at uv [H, 2] -> [H].

    A step of one pixel on the picture moves at most pixel * sqrt(1 + slope^2) along u, for the
    direction's slope d_u / d_n against the normal; `pixel` [H] is its edge at this distance.
    """
    step = pixel[:, None] * (1 + slope**2).sqrt()
    pixels = torch.minimum(uv, 1 - uv) / step  # from the nearest edges
    line = ((LINE[1] - pixels) / (LINE[1] - LINE[0])).clamp(0, 1)
    visible = ((1 / step - VISIBLE[0]) / (VISIBLE[1] - VISIBLE[0])).clamp(0, 1)
    return 1 - (1 - LINE_LIGHT) * (line * visible).amax(dim=1)
