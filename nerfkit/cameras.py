"""Cameras and the rays through their pixels.

Symbols: N cameras, M rays, P points. c2w [N, 3, 4] maps camera to world coordinates; camera axes
are OpenGL (+X right, +Y up, looks along -Z), world +Z up. Pixel coordinates (x right, y down) have
their origin at the image's upper left corner, so the centre of row i, column j is (j + 0.5,
i + 0.5). fx, fy, cx, cy in pixels; distortion (k1, k2, k3, k4, p1, p2) as in nerfkit.distortion.
Cameras that move while they expose have a nerfkit.shutter.Shutter, and a pose of each pixel.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from nerfkit.distortion import (
    distort_fisheye,
    distort_opencv,
    undistort_fisheye,
    undistort_opencv,
)
from nerfkit.errors import NerfkitError
from nerfkit.shutter import Shutter

MODELS = ("PINHOLE", "OPENCV", "OPENCV_FISHEYE")
RIGID_TOLERANCE = 1e-3
CACHE_RAYS = 65536
MOST_WIDE, MOST = 1 << 16, 1 << 28  # pixels a side and in all: more is damage, not a picture
_DTYPES = {"width": torch.int64, "height": torch.int64}


@dataclass(frozen=True)
class Rays:
    """Rays in world coordinates: origins [..., 3], directions [..., 3] of unit length, float32."""

    origins: Tensor
    directions: Tensor


@dataclass(frozen=True)
class _RayTables:
    """What `Cameras.rays` looks up per camera, float32 on one device.

    pixel_to_world [N, 12]: the columns of R K^-1 and the origin, so that an undistorted ray is
    x * column 0 + y * column 1 + column 2. camera_to_world [N, 12]: the same for a direction in
    OpenCV camera axes. optics [10, N]: 1/fx, 1/fy, -cx/fx, -cy/fy and the distortion; [10, 1] where
    all cameras have the same, which spares a gather. lens [N]: index into MODELS, 0 where nothing
    is distorted. lenses: the values present in `lens`.
    """

    pixel_to_world: Tensor
    camera_to_world: Tensor
    optics: Tensor
    lens: Tensor
    lenses: tuple[int, ...]


@dataclass(eq=False)
class Cameras:
    """N posed cameras. Make a new one rather than change one: ray tables are computed once.

    c2w [N, 3, 4] float64; fx, fy, cx, cy [N] float64 (pixels); width, height [N] int64; model: N of
    MODELS; distortion [N, 6] float64 (k1, k2, k3, k4, p1, p2), without effect for PINHOLE; shutter:
    of cameras that move during an exposure; c2w is their pose in the middle of it, for what needs
    only one.
    """

    c2w: Tensor
    fx: Tensor
    fy: Tensor
    cx: Tensor
    cy: Tensor
    width: Tensor
    height: Tensor
    model: list[str]
    distortion: Tensor
    shutter: Shutter | None = None
    _tables: dict[torch.device, _RayTables] = field(default_factory=dict, init=False, repr=False)
    _local: "Cameras | None" = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        n = len(self.model)
        shapes = {"c2w": (n, 3, 4), "distortion": (n, 6)}
        for name in _TENSORS:
            value = torch.as_tensor(getattr(self, name)).to(_DTYPES.get(name, torch.float64))
            wanted = shapes.get(name, (n,))
            if tuple(value.shape) != wanted:
                raise ValueError(f"`{name}` must have shape {wanted}, got {tuple(value.shape)}")
            setattr(self, name, value)
        if self.shutter is not None and len(self.shutter) != n:
            raise ValueError(f"`shutter` must be of {n} cameras, got {len(self.shutter)}")

    def __len__(self) -> int:
        return len(self.model)

    def __getitem__(self, index: int | slice | Tensor) -> "Cameras":
        """The chosen cameras; an int gives a Cameras of length one."""
        chosen = torch.arange(len(self))[index].reshape(-1)
        tensors = {name: getattr(self, name)[chosen] for name in _TENSORS}
        shutter = None if self.shutter is None else self.shutter[chosen]
        return Cameras(**tensors, model=[self.model[i] for i in chosen.tolist()], shutter=shutter)

    @property
    def local(self) -> "Cameras":
        """The same cameras at the world's origin, unturned and unmoving."""
        if self._local is None:
            c2w = torch.eye(3, 4, dtype=torch.float64).repeat(len(self), 1, 1)
            self._local = replace(self, c2w=c2w, shutter=None)
        return self._local

    def rays(self, camera_indices: Tensor, pixels: Tensor) -> Rays:
        """World rays through pixel positions.

        Args:
            camera_indices: [M] int64 (or [1], meaning the same camera for every pixel).
            pixels: [M, 2] (x, y); pixel centres lie at +0.5. On the device of `camera_indices`.

        Returns:
            M rays; distortion is undone by Newton's method. A pixel the lens model cannot have
            imaged (past the fold of its polynomial) gets the ray of the undistorted camera.
        """
        if self.shutter is not None:
            local = self.local.rays(camera_indices, pixels).directions
            return self.placed(camera_indices, pixels, local)
        tables = self._ray_tables(pixels.device)
        pixels = pixels.to(torch.float32)
        if tables.lenses == (0,):
            directions, origins = _pinhole_rays(tables, camera_indices, pixels)
        elif len(tables.lenses) == 1:
            directions, origins = _lens_rays(tables, tables.lenses[0], camera_indices, pixels)
        else:
            camera_indices = camera_indices.expand(len(pixels))
            directions = pixels.new_empty(len(pixels), 3)
            origins = tables.pixel_to_world[:, 9:].index_select(0, camera_indices)
            lens_of_ray = tables.lens[camera_indices]
            for lens in tables.lenses:
                rows = torch.nonzero(lens_of_ray == lens).squeeze(1)
                chosen = camera_indices[rows], pixels[rows]
                part = _lens_rays(tables, lens, *chosen) if lens else _pinhole_rays(tables, *chosen)
                directions[rows] = part[0]
        return Rays(origins.expand_as(directions).contiguous(), _unit_(directions))

    def placed(self, camera_indices: Tensor, pixels: Tensor, directions: Tensor) -> Rays:
        """World rays of directions [M, 3] in camera axes, at the poses of a shutter's `pixels`."""
        tables = self.local._ray_tables(pixels.device)
        x, y, _ = _plane(tables, camera_indices, pixels.to(torch.float32))
        times = self.shutter.times(camera_indices, x, y)
        right, up, backward, centre = self.shutter.axes(camera_indices, times)
        x, y, z = directions.unbind(1)
        world = torch.addcmul(torch.addcmul(right * x, up, y), backward, z)
        return Rays(centre.T.contiguous(), _unit_(world.T.contiguous()))

    def cosines(self, camera_indices: Tensor, pixels: Tensor, directions: Tensor) -> Tensor:
        """[M] between `directions` of the rays through `pixels`, and the optical axis."""
        if self.shutter is not None:  # its axis turns, but not in camera axes
            return -self.local.rays(camera_indices, pixels).directions[:, 2]
        backward = self.c2w[camera_indices.cpu(), :, 2].to(directions)
        return -(directions * backward).sum(1)

    def image_rays(self, index: int) -> Rays:
        """Rays [H * W] through every pixel centre of one camera, row by row."""
        width, height = int(self.width[index]), int(self.height[index])
        y, x = torch.meshgrid(
            torch.arange(height, dtype=torch.float32) + 0.5,
            torch.arange(width, dtype=torch.float32) + 0.5,
            indexing="ij",
        )
        pixels = torch.stack([x.reshape(-1), y.reshape(-1)], dim=-1)
        # in pieces that stay in cache through the Newton steps
        parts = [self.rays(torch.tensor([index]), piece) for piece in pixels.split(CACHE_RAYS)]
        return Rays(
            torch.cat([part.origins for part in parts]),
            torch.cat([part.directions for part in parts]),
        )

    def project(self, points: Tensor, index: int) -> tuple[Tensor, Tensor]:
        """Image of world points in one camera, with its distortion.

        Args:
            points: [P, 3] world coordinates.

        Returns:
            pixels [P, 2] (x, y) and z_depth [P] (along the optical axis, positive in front), in
            the dtype of `points`. Pixels of points with z_depth <= 0 mean nothing unless the
            camera is a fisheye. Of a moving camera, both at the time at which it sees the point.
        """
        if self.shutter is not None:
            return self._image_of(self._seen_local(points, index), index)
        c2w = self.c2w[index].to(points)
        return self._image_of((points - c2w[:, 3]) @ c2w[:, :3], index)

    def _seen_local(self, points: Tensor, index: int) -> Tensor:
        """Points [P, 3] in the axes of a moving camera, at the times at which it sees them."""
        row = torch.tensor([index], device=points.device)
        fx, fy, cx, cy = (float(v[index]) for v in (self.fx, self.fy, self.cx, self.cy))

        def times_of(pixels: Tensor) -> Tensor:
            return self.shutter.times(row, (pixels[:, 0] - cx) / fx, (pixels[:, 1] - cy) / fy)

        w, h = int(self.width[index]), int(self.height[index])
        corners = times_of(points.new_tensor([[0, 0], [w, 0], [0, h], [w, h]]))
        times = self.shutter.times_seeing(
            index,
            points,
            lambda local: times_of(self._image_of(local, index)[0]),
            (float(corners.min()), float(corners.max())),
        )
        return self.shutter.local(index, points, times)

    def _image_of(self, local: Tensor, index: int) -> tuple[Tensor, Tensor]:
        """What `project` returns, of points [P, 3] in the axes of the camera."""
        x, y, depth = local[:, 0], -local[:, 1], -local[:, 2]
        k = self.distortion[index].to(local)[:, None]
        if self.model[index] == "OPENCV_FISHEYE":
            radius = torch.hypot(x, y)
            theta = torch.atan2(radius, depth)
            tiny = torch.finfo(local.dtype).tiny
            # on the axis x / radius is 0 / 0, and the image is the principal point
            scale = distort_fisheye(theta, k) / radius.clamp_min(tiny)
            x, y = x * scale, y * scale
        else:
            safe = torch.where(depth == 0, torch.full_like(depth, 1e-12), depth)
            x, y = x / safe, y / safe
            if self.model[index] == "OPENCV":
                x, y = distort_opencv(x, y, k)
        fx, fy, cx, cy = (float(v[index]) for v in (self.fx, self.fy, self.cx, self.cy))
        return torch.stack([x * fx + cx, y * fy + cy], dim=-1), depth

    def resized(self, factor: int) -> "Cameras":
        """Cameras of images reduced `factor` times: intrinsics divided, sizes floor-divided."""
        if factor < 1:
            raise NerfkitError(f"downscale must be a whole number from 1 up, got {factor}")
        sizes = {"width": self.width // factor, "height": self.height // factor}
        if len(self) and min(int(v.min()) for v in sizes.values()) < 1:
            raise NerfkitError(f"downscale {factor} leaves no pixels; choose a smaller one")
        intrinsics = {name: getattr(self, name) / factor for name in ("fx", "fy", "cx", "cy")}
        return replace(self, **intrinsics, **sizes)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists for JSON; float64 survives exactly."""
        tensors = {name: getattr(self, name).tolist() for name in _TENSORS}
        shutter = {} if self.shutter is None else {"shutter": self.shutter.to_dict()}
        return {**tensors, "model": list(self.model), **shutter}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Cameras":
        """Inverse of `to_dict`."""
        n = len(data["model"])
        tensors = {
            name: torch.tensor(data[name], dtype=_DTYPES.get(name, torch.float64))
            for name in _TENSORS
        }
        tensors["c2w"] = tensors["c2w"].reshape(n, 3, 4)
        tensors["distortion"] = tensors["distortion"].reshape(n, 6)
        shutter = data.get("shutter")
        return cls(
            **tensors,
            model=list(data["model"]),
            shutter=None if shutter is None else Shutter.from_dict(shutter),
        )

    def _ray_tables(self, device: torch.device) -> _RayTables:
        if device not in self._tables:
            rotation, origin = self.c2w[:, :, :3], self.c2w[:, :, 3]
            # columns for OpenCV plane coordinates: x right, y down, depth forward
            right, down, forward = rotation[:, :, 0], -rotation[:, :, 1], -rotation[:, :, 2]
            fx, fy = self.fx[:, None], self.fy[:, None]
            centre = forward - right * self.cx[:, None] / fx - down * self.cy[:, None] / fy
            lens = torch.tensor([MODELS.index(m) for m in self.model], dtype=torch.int64)
            # an OPENCV camera without coefficients is a pinhole; a fisheye without is not
            lens[(lens == 1) & (self.distortion == 0).all(dim=1)] = 0

            optics = [1 / self.fx, 1 / self.fy, -self.cx / self.fx, -self.cy / self.fy]
            optics = torch.cat([torch.stack(optics), self.distortion.T])
            if (optics == optics[:, :1]).all():
                optics = optics[:, :1]

            def single(tensor: Tensor) -> Tensor:
                return tensor.to(device=device, dtype=torch.float32).contiguous()

            self._tables[device] = _RayTables(
                pixel_to_world=single(torch.cat([right / fx, down / fy, centre, origin], dim=1)),
                camera_to_world=single(torch.cat([right, down, forward, origin], dim=1)),
                optics=single(optics),
                lens=lens.to(device),
                lenses=tuple(sorted(set(lens.tolist()))) or (0,),
            )
        return self._tables[device]


_TENSORS = [f.name for f in fields(Cameras) if f.name not in ("model", "shutter") and f.init]


def _pinhole_rays(tables: _RayTables, indices: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Directions (not yet unit length) and origins; rows of `indices` broadcast over pixels."""
    rows = tables.pixel_to_world.index_select(0, indices)
    directions = torch.addcmul(rows[:, 6:9], rows[:, 0:3], pixels[:, 0:1])
    directions = torch.addcmul(directions, rows[:, 3:6], pixels[:, 1:2])
    return directions, rows[:, 9:12]


def _lens_rays(
    tables: _RayTables, lens: int, indices: Tensor, pixels: Tensor
) -> tuple[Tensor, Tensor]:
    """The same through a distorting lens: MODELS[lens]."""
    rows = tables.camera_to_world.index_select(0, indices)
    x, y, k = _plane(tables, indices, pixels)
    if MODELS[lens] == "OPENCV":
        x, y = undistort_opencv(x, y, k)
        depth_term = rows[:, 6:9]
    else:
        radius = torch.hypot(x, y)
        theta = undistort_fisheye(radius, k)
        # sin(theta) / radius has the limit 1 on the axis, where x = y = 0 anyway
        scale = torch.sin(theta) / radius.clamp_min(1e-12)
        x, y = x * scale, y * scale
        depth_term = rows[:, 6:9] * torch.cos(theta)[:, None]
    directions = torch.addcmul(depth_term, rows[:, 0:3], x[:, None])
    return torch.addcmul(directions, rows[:, 3:6], y[:, None]), rows[:, 9:12]


def _plane(tables: _RayTables, indices: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where pixels lie in the image plane at depth 1, x right and y down; and the distortion."""
    shared = tables.optics.shape[1] == 1
    optics = tables.optics if shared else tables.optics.index_select(1, indices)
    x = torch.addcmul(optics[2], pixels[:, 0], optics[0])
    y = torch.addcmul(optics[3], pixels[:, 1], optics[1])
    return x, y, optics[4:]


def _unit_(directions: Tensor) -> Tensor:
    """Made of unit length, in place."""
    x, y, z = directions.unbind(-1)  # three times quicker than a reduction over a short axis
    directions *= (x * x + y * y + z * z).rsqrt_()[:, None]
    return directions


def check_cameras(cameras: Cameras, sources: Sequence[str]) -> None:
    """Raise NerfkitError for the first camera that cannot be used, naming `sources[i]`.

    Refused: a pose that is not finite or not rigid (R^T R further than 1e-3 from I, or a mirror),
    fx or fy not finite and positive, other intrinsics not finite, a model not in MODELS.
    """
    for i, source in enumerate(sources):
        if cameras.model[i] not in MODELS:
            raise NerfkitError(
                f"{source}: unknown camera model {cameras.model[i]!r}; known: {', '.join(MODELS)}"
            )
        check_pose(cameras.c2w[i], source)
        if cameras.shutter is not None:
            check_pose(cameras.shutter.start[i], source, "the pose at the start of the exposure")
            check_pose(cameras.shutter.end[i], source, "the pose at the end of the exposure")
            if not cameras.shutter.timing[i].isfinite().all():
                raise NerfkitError(f"{source}: the rolling shutter holds NaN or infinity")
        fx, fy = float(cameras.fx[i]), float(cameras.fy[i])
        if not (0 < fx < float("inf") and 0 < fy < float("inf")):
            raise NerfkitError(f"{source}: focal lengths must be positive, got fx={fx}, fy={fy}")
        rest = torch.stack([cameras.cx[i], cameras.cy[i], *cameras.distortion[i]])
        if not rest.isfinite().all():
            raise NerfkitError(f"{source}: principal point or distortion holds NaN or infinity")
        width, height = int(cameras.width[i]), int(cameras.height[i])
        if not (1 <= width <= MOST_WIDE and 1 <= height <= MOST_WIDE and width * height <= MOST):
            raise NerfkitError(
                f"{source}: image size must be positive, at most {MOST_WIDE} pixels a side and "
                f"{MOST} in all, got {width}x{height}"
            )


def check_pose(c2w: Tensor, source: str, what: str = "the camera pose") -> None:
    """Raise NerfkitError, naming `source` and `what`, if c2w [3, 4] is not finite or not rigid."""
    if not c2w.isfinite().all():
        raise NerfkitError(f"{source}: {what} holds NaN or infinity")
    rotation = c2w[:, :3]
    gram = rotation.T @ rotation
    identity = torch.eye(3, dtype=gram.dtype)
    scale = float(gram.diagonal().mean()) ** 0.5
    if (gram - identity).abs().max() > RIGID_TOLERANCE:
        if scale > 0 and (gram / scale**2 - identity).abs().max() <= RIGID_TOLERANCE:
            raise NerfkitError(
                f"{source}: {what} is scaled by {scale:.6g}; "
                "divide the rotation part of the matrix by it"
            )
        raise NerfkitError(
            f"{source}: {what} is not rigid: R^T R is "
            f"{float((gram - identity).abs().max()):.3g} away from the identity"
        )
    if torch.linalg.det(rotation) < 0:
        raise NerfkitError(f"{source}: {what} is a mirror image (determinant -1)")
