"""Where the scene can be: a first box, and the cells of it that the photographs do not rule out.

A cell is empty if some camera sees it and nothing but background there (alpha 0), or if too
few cameras see it at all. Cells are tested by the circle round their image and a summed-area table
of the foreground, so that a test costs four look-ups whatever the size of the cell.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from nerfkit.cameras import Cameras
from nerfkit.data import Dataset
from nerfkit.errors import NerfkitError
from nerfkit.fields.unbounded import Unbounded
from nerfkit.octree import Octree
from nerfkit.training.sparse import box_of, reliable

TABLE_SIDE = 512  # images are pooled to about this many pixels a side for the tables
HALF_DIAGONAL = 0.87  # of a cell of edge 1, rounded up
# A lens may stretch an image locally; circles in distorted images are drawn this much larger.
DISTORTION_MARGIN = 1.3
SHUTTER_MARGIN = 1.5  # what moves down 1/3 of the image while that is read out looks so much larger
FIRST_DEPTH, TIGHT_DEPTH, CARVE_DEPTH = 5, 6, 7
# Of no-alpha scenes: largest box in units of the cameras' distance from what they look at.
LARGEST_BOX = 4.0
FAR_OVER_NEAR = 3.5
CONVERGING = 0.05
OBJECT_MARGIN = 1.5


@dataclass(frozen=True)
class Scene:
    """The cube that the octree divides, and what is known of it before the fit.

    Attributes:
        octree: leaves that may hold something.
        box: [2, 3] corners of the box round those leaves, world units.
        near: nothing is closer to a camera than this.
        carved: silhouettes have ruled out most of the empty space.
        unbounded: of a scene that goes on in all directions; the octree is then that of its cube.
    """

    octree: Octree
    box: Tensor
    near: float
    carved: bool
    unbounded: Unbounded | None = None


class Silhouettes:
    """Counts of foreground pixels in any rectangle of any image."""

    def __init__(
        self,
        cameras: Cameras,
        images: list[Tensor],
        masks: list[Tensor | None],
        slack: float = 0.0,
    ) -> None:
        """`slack`: how far poses may be wrong, as a part of an image."""
        self.cameras, self.slack = cameras, slack
        self.has_alpha = [image.shape[2] == 4 for image in images]
        self.tables, self.pools = [], []
        for image, mask in zip(images, masks, strict=True):
            pool = max(1, round(max(image.shape[:2]) / TABLE_SIDE))
            self.tables.append(_table(image, mask, pool))
            self.pools.append(pool)
        # Corners that few cameras see are no part of the scene; but one photograph is enough for
        # one where there are no more.
        self.least_views = max(min(3, max(1, len(images) // 4)), len(images) // 10)

    def possible(self, octree: Octree) -> Tensor:
        """Leaves [n_leaves] bool that may hold something."""
        centers = octree.centers()
        radius = HALF_DIAGONAL * octree.voxel
        alive = torch.arange(len(octree))
        views = torch.zeros(len(octree), dtype=torch.int16)
        for i in range(len(self.cameras)):
            seen, empty = self._look(i, centers[alive], radius)
            views[alive] += seen.to(torch.int16)
            alive = alive[~empty]
        mask = torch.zeros(len(octree), dtype=torch.bool)
        mask[alive] = True
        return mask & (views >= self.least_views)

    def _look(self, i: int, centers: Tensor, radius: float) -> tuple[Tensor, Tensor]:
        """Whether camera i sees something of each cell, and whether it sees that it is empty."""
        camera, table, pool = self.cameras, self.tables[i], self.pools[i]
        pixels, depth = camera.project(centers, i)
        x, y = pixels.unbind(1)
        width, height = int(camera.width[i]), int(camera.height[i])
        nearest = (depth - radius).clamp_min(1e-6)
        # A sphere of this radius spans at most radius * |(x / z, 1)| / (z - radius) of the plane.
        slope_x = (x - camera.cx[i]) / camera.fx[i]
        slope_y = (y - camera.cy[i]) / camera.fy[i]
        spread = radius / nearest * torch.sqrt(1 + slope_x**2 + slope_y**2)
        if camera.model[i] != "PINHOLE":
            spread = spread * DISTORTION_MARGIN
        if camera.shutter is not None:
            spread = spread * SHUTTER_MARGIN
        least = 1 + self.slack * max(width, height)
        rx, ry = spread * float(camera.fx[i]) + least, spread * float(camera.fy[i]) + least
        ahead = depth > radius
        overlaps = ahead & (x + rx > 0) & (x - rx < width) & (y + ry > 0) & (y - ry < height)
        # An object that sticks out of an image has its silhouette at the edge: the part of a cell
        # that is in sight speaks for the rest if it is the larger part.
        inside = ahead & (x >= 0) & (x < width) & (y >= 0) & (y < height)
        rows, columns = table.shape[0] - 1, table.shape[1] - 1
        x0 = ((x - rx) / pool).clamp(0, columns - 1).long()
        x1 = ((x + rx) / pool + 1).clamp(1, columns).long()
        y0 = ((y - ry) / pool).clamp(0, rows - 1).long()
        y1 = ((y + ry) / pool + 1).clamp(1, rows).long()
        flat, q = table.view(-1), columns + 1
        count = flat[y1 * q + x1] - flat[y0 * q + x1] - flat[y1 * q + x0] + flat[y0 * q + x0]
        empty = inside & (count == 0) if self.has_alpha[i] else torch.zeros_like(inside)
        return overlaps & (count > 0), empty


def _table(image: Tensor, mask: Tensor | None, pool: int) -> Tensor:
    """Summed-area table [rows + 1, columns + 1] of the pooled foreground.

    Without alpha all of an image is foreground; ignored pixels never are, nor do they carve.
    """
    height, width = image.shape[:2]
    shape = (-(-height // pool), -(-width // pool))
    if image.shape[2] == 4:
        foreground = image[..., 3].bool()
        if mask is not None:
            foreground = foreground | (mask == 0)
    elif mask is not None:
        foreground = mask > 0
    else:
        foreground = torch.ones(shape, dtype=torch.bool)
        height, width = shape
    if (height, width) != shape:
        padded = torch.zeros(shape[0] * pool, shape[1] * pool, dtype=torch.bool)
        padded[:height, :width] = foreground
        foreground = padded.view(shape[0], pool, shape[1], pool).any(3).any(1)
    table = torch.zeros(shape[0] + 1, shape[1] + 1, dtype=torch.int32)
    table[1:, 1:] = foreground.to(torch.int32).cumsum(0).cumsum(1)
    return table


def find_scene(dataset: Dataset, views: Tensor, slack: float = 0.0) -> Scene:
    """The scene of the training views (`views`: their indices), whose images are loaded.

    Args:
        slack: how far poses may be wrong, as a part of an image.

    Raises:
        NerfkitError: no box can be found, or the photographs rule out every cell.
    """
    cameras = dataset.cameras[views]
    images = [dataset.images[i] for i in views.tolist()]
    masks = [dataset.masks[i] for i in views.tolist()]
    silhouettes = Silhouettes(cameras, images, masks, slack)
    carved = any(silhouettes.has_alpha)
    low, high, near = _first_box(dataset, cameras, carved)
    octree = Octree.full(*_cube(low, high), FIRST_DEPTH)
    octree = _carve(octree, silhouettes, TIGHT_DEPTH if carved else FIRST_DEPTH)
    if len(octree) == 0:
        raise NerfkitError(
            f"{dataset.root}: the photographs leave no room for a scene: no part of space is seen "
            "by enough cameras; check the camera poses"
        )
    if carved:
        # once more, in the cube that just holds what is left
        cells = octree.centers()
        octree = Octree.full(
            *_cube(cells.amin(0) - octree.voxel, cells.amax(0) + octree.voxel), FIRST_DEPTH
        )
        octree = _carve(octree, silhouettes, CARVE_DEPTH)
    else:
        octree = _carve(octree, silhouettes, FIRST_DEPTH + 1)
    centers = octree.centers()
    half = octree.voxel / 2
    box = torch.stack([centers.amin(0) - half, centers.amax(0) + half])
    return Scene(octree, box, near, carved)


def _carve(octree: Octree, silhouettes: Silhouettes, depth: int) -> Octree:
    while len(octree):
        octree = octree.keep(silhouettes.possible(octree))
        if octree.depth >= depth:
            break
        octree = octree.subdivide()
    return octree


def _cube(low: Tensor, high: Tensor) -> tuple[Tensor, float]:
    """Lowest corner and edge of the cube with the centre of a box and its longest edge."""
    size = float((high - low).max())
    return (low + high) / 2 - size / 2, size


def _first_box(dataset: Dataset, cameras: Cameras, carved: bool) -> tuple[Tensor, Tensor, float]:
    """Low and high corner of a box that holds the scene, and the near distance."""
    origins, forward = cameras.c2w[:, :, 3].float(), -cameras.c2w[:, :, 2].float()
    points = None if carved else reliable(dataset.points, cameras)
    if points is not None:
        low, high = box_of(points)
        focus = focus_of(origins, forward)
        # far away things would leave no voxels to what the cameras look at
        most = LARGEST_BOX / 2 * (origins - focus).norm(dim=1).median()
        near_low, near_high = torch.maximum(low, focus - most), torch.minimum(high, focus + most)
        if (near_high > near_low).all():
            low, high = near_low, near_high
        return low, high, 0.02 * float((high - low).max())
    if dataset.bounds is not None and not carved:
        return _bounded(cameras, dataset.bounds)
    focus = focus_of(origins, forward)
    reach = (origins - focus).norm(dim=1)
    if carved:
        half = _object_half(cameras, float(torch.quantile(reach, 0.9)))
        low, high = focus - half, focus + half
    else:
        half = LARGEST_BOX / 2 * float(reach.median())
        low, high = focus - half, focus + half
    stated = dataset.scene_box
    if stated is not None:
        low, high = torch.maximum(low, stated[0]), torch.minimum(high, stated[1])
        if not (high > low).all():
            low, high = stated
    return low, high, 0.0 if carved else 0.1 * float(reach.median())


def _object_half(cameras: Cameras, reach: float) -> float:
    """Half the edge of a cube that holds what cameras at this distance look at.

    It spans what they see at that distance, with room for what sticks out of some images, but does
    not hold the cameras themselves.
    """
    sides = torch.maximum(cameras.width / cameras.fx, cameras.height / cameras.fy) / 2
    return reach * min(1.0, OBJECT_MARGIN * float(sides.max()))


def focus_of(origins: Tensor, forward: Tensor) -> Tensor:
    """The point closest to all optical axes; ahead of the cameras if these are parallel."""
    planes = torch.eye(3) - forward[:, :, None] * forward[:, None, :]
    total = planes.sum(0)
    spread = float((origins - origins.mean(0)).norm(dim=1).max())
    if float(torch.linalg.eigvalsh(total / len(origins))[0]) < CONVERGING:
        return origins.mean(0) + forward.mean(0) * max(spread, 1.0)
    point = torch.linalg.solve(total, (planes @ origins[:, :, None]).sum(0)[:, 0])
    in_front = ((point - origins) * forward).sum(1) > 0
    return point if in_front.float().mean() > 0.5 else origins.mean(0) + forward.mean(0) * spread


def _bounded(cameras: Cameras, bounds: Tensor) -> tuple[Tensor, Tensor, float]:
    """Box round the parts of the cameras' views between near and far [N, 2]."""
    near = float(bounds[:, 0].min())
    far = min(float(bounds[:, 1].max()), FAR_OVER_NEAR * near)
    corners = []
    for i in range(len(cameras)):
        w, h = int(cameras.width[i]), int(cameras.height[i])
        pixels = torch.tensor([[0.0, 0.0], [w, 0], [0, h], [w, h]])
        rays = cameras.rays(torch.tensor([i]), pixels)
        corners += [rays.origins + rays.directions * t for t in (near, far)]
    points = torch.cat(corners)
    return points.amin(0), points.amax(0), 0.8 * near
