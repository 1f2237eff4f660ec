"""Whole images of a field: rays in tiles, and depth and normals from what the rays return.

Images are [H, W, ...] float32, row by row from the top; distances and normals in world units and
axes.
"""

import functools
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from nerfkit.cameras import Cameras, Rays
from nerfkit.device import CPU
from nerfkit.fields.field import Field
from nerfkit.kernels.frame_rows import put_rows_, turned

# Pixels a side. Rays of a tile meet the same voxels, which then are in the cache, and some kernels
# skip empty space for 16 or 64 of them together.
TILE, SMALL_TILE = 8, 4
# Rays made at a time: as many as the caches like, or a whole image, for a launch costs the same.
PIECE = {"cpu": 1 << 17, "cuda": 1 << 21}
TRANSPARENT = 1e-3


def render_frame(
    field: Field, camera: Cameras, background: Tensor, outputs: Sequence[str]
) -> dict[str, Tensor]:
    """Render one camera (a `Cameras` of length one), on the device of the field.

    Args:
        background: [3].
        outputs: some of rgb [H, W, 3]; opacity [H, W]; ray_distance [H, W], mean distance along the
            ray, 0 where nothing was hit; normal [H, W, 3], unit, 0 where nothing was hit.
    """
    height, width = int(camera.height[0]), int(camera.width[0])
    device, background = field.device, background.to(field.device)
    n, rows = height * width, _tiled(height, width, device)[1]
    names = ["rgb"] if set(outputs) == {"rgb"} else ["rgb", "depth", "opacity"]
    seen = {k: torch.empty((n, 3) if k == "rgb" else (n,), device=device) for k in names}
    first = 0
    for rays in _pieces(camera, device):
        rendered = field.render(rays.origins, rays.directions, background)
        piece = rows[first : first + len(rays.directions)]
        first += len(piece)
        for (_, image), values in zip(seen.items(), rendered, strict=False):
            put_rows_(image, piece, values)
    images: dict[str, Tensor] = {"rgb": seen["rgb"].view(height, width, 3)}
    if len(seen) > 1:
        opacity = seen["opacity"].view(height, width)
        solid = opacity > TRANSPARENT
        depth = seen["depth"].view(height, width)
        distance = torch.where(solid, depth / opacity.clamp_min(TRANSPARENT), 0.0)
        images["opacity"], images["ray_distance"] = opacity, distance
        if "normal" in outputs:
            rays, directions = frame_rays(camera, device), torch.empty(n, 3, device=device)
            put_rows_(directions, rows, rays.directions)
            center = camera.c2w[0, :, 3].float().to(device)
            if camera.shutter is not None:
                origins = torch.empty(n, 3, device=device)
                put_rows_(origins, rows, rays.origins)
                center = origins.view(height, width, 3)
            points = center + directions.view(height, width, 3) * distance[..., None]
            images["normal"] = _normals(points, solid, camera)
    return {name: images[name] for name in outputs}


def frame_rays(camera: Cameras, device: torch.device = CPU) -> Rays:
    """Rays [H * W, 3] of one camera, tile by tile."""
    pieces = list(_pieces(camera, device))
    return Rays(torch.cat([p.origins for p in pieces]), torch.cat([p.directions for p in pieces]))


def _pieces(camera: Cameras, device: torch.device) -> Iterator[Rays]:
    pose, lens = camera.c2w[0].float().to(device), _lens(camera)
    pieces = _local_directions(lens, device).split(PIECE[device.type])
    if camera.shutter is not None:
        pixels = _tiled(lens[1], lens[0], device)[0].split(PIECE[device.type])
        only = torch.zeros(1, dtype=torch.int64, device=device)
        for seen, local in zip(pixels, pieces, strict=True):
            yield camera.placed(only, seen, local)
        return
    for local in pieces:
        directions = turned(local, pose[:, :3])
        yield Rays(pose[:, 3].expand_as(directions), directions)


@functools.lru_cache(maxsize=4)
def _tiled(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Of the pixels, tile by tile: centres [H * W, 2], and rows [H * W] of the flat image."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    across = -(-width // TILE)
    key = y // TILE * across + x // TILE
    key = (key * TILE + y % TILE // SMALL_TILE * SMALL_TILE) * TILE + y % SMALL_TILE * SMALL_TILE
    key = key + x % TILE // SMALL_TILE * SMALL_TILE**2 + x % SMALL_TILE
    order = key.reshape(-1).argsort()
    pixels = torch.stack([x.reshape(-1)[order], y.reshape(-1)[order]], 1).float() + 0.5
    return pixels.to(device), order.to(device)


# Of a lens: width, height, fx, fy, cx, cy, model, distortion. A camera path has one or few.
Lens = tuple[int, int, float, float, float, float, str, tuple[float, ...]]


def _lens(camera: Cameras) -> Lens:
    numbers = (float(x[0]) for x in (camera.fx, camera.fy, camera.cx, camera.cy))
    size = int(camera.width[0]), int(camera.height[0])
    return (*size, *numbers, camera.model[0], tuple(camera.distortion[0].tolist()))


@functools.lru_cache(maxsize=2)
def _local_directions(lens: Lens, device: torch.device) -> Tensor:
    """Unit directions [H * W, 3] in camera axes, in the order of the tiles."""
    width, height, *numbers, model, distortion = lens
    fx, fy, cx, cy = (torch.tensor([x], dtype=torch.float64) for x in numbers)
    camera = Cameras(
        c2w=torch.eye(3, 4, dtype=torch.float64)[None],
        fx=fx,
        fy=fy,
        cx=cx,
        cy=cy,
        width=torch.tensor([width]),
        height=torch.tensor([height]),
        model=[model],
        distortion=torch.tensor([distortion], dtype=torch.float64),
    )
    pixels = _tiled(height, width, device)[0]
    return camera.rays(torch.zeros(1, dtype=torch.int64, device=device), pixels).directions


def _normals(points: Tensor, solid: Tensor, camera: Cameras) -> Tensor:
    """Unit normals [H, W, 3] towards the camera of the surface through neighbouring points.

    Of the two neighbours along an axis the nearer one is taken, which lies on the same surface.
    """
    across, down = _difference(points, solid, 1), _difference(points, solid, 0)
    normal = torch.linalg.cross(down, across)
    normal = normal / normal.norm(dim=-1, keepdim=True).clamp_min(1e-20)
    towards = camera.c2w[0, :, 3].to(points) - points
    normal = torch.where((normal * towards).sum(-1, keepdim=True) < 0, -normal, normal)
    return normal * solid[..., None]


def _difference(points: Tensor, solid: Tensor, axis: int) -> Tensor:
    step = points.diff(dim=axis)
    broken = ~(
        solid.narrow(axis, 1, solid.shape[axis] - 1) & solid.narrow(axis, 0, step.shape[axis])
    )
    step = torch.where(broken[..., None], torch.full_like(step, 1e6), step)
    edge = torch.full_like(points.narrow(axis, 0, 1), 1e6)
    before, after = torch.cat([edge, step], axis), torch.cat([step, edge], axis)
    nearer = before.norm(dim=-1, keepdim=True) < after.norm(dim=-1, keepdim=True)
    return torch.where(nearer, before, after)
