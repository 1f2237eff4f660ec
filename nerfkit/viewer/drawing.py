"""One picture of a field for the screen, in bands so that it can be given up half-way.

viser's cameras: position and quaternion wxyz of the camera in the world, OpenCV axes (+X right, +Y
down, looks along +Z), vertical field of view in radians. c2w [3, 4] here as everywhere: OpenGL.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from nerfkit import colormap
from nerfkit.cameras import Cameras
from nerfkit.fields.field import Field
from nerfkit.fields.frame import render_frame
from nerfkit.frames import needed, z_depth

MODES = {"colour": "rgb", "depth": "depth", "opacity": "opacity", "normal": "normal"}
BAND_SECONDS = 0.08
FAR = 160.0  # viser's depth images end at 167
OPENCV = np.diag([1.0, -1.0, -1.0])


@dataclass
class Drawn:
    """pixels: [H, W, 3] uint8; depth: [H, W] float32 along the axis, FAR where nothing is."""

    pixels: np.ndarray
    depth: np.ndarray | None


@dataclass
class Pace:
    """Pixels a second, learned from what was drawn."""

    pixels: float = 2e5

    def learn(self, count: int, seconds: float) -> None:
        """Take a measurement into the mean."""
        self.pixels += 0.5 * (count / max(seconds, 1e-4) - self.pixels)


def c2w_of(wxyz: np.ndarray, position: np.ndarray) -> np.ndarray:
    """c2w [3, 4] of a viser camera."""
    w, x, y, z = wxyz
    rotation = Rotation.from_quat([x, y, z, w]).as_matrix() @ OPENCV
    return np.concatenate([rotation, np.asarray(position, np.float64)[:, None]], axis=1)


def wxyz_of(c2w: np.ndarray) -> np.ndarray:
    """viser's quaternion of c2w [3, 4]."""
    x, y, z, w = Rotation.from_matrix(c2w[:, :3] @ OPENCV).as_quat()
    return np.array([w, x, y, z])


def pinhole(c2w: np.ndarray, fov: float, width: int, height: int) -> Cameras:
    """One camera of vertical field of view `fov`, radians."""
    focal = torch.tensor([0.5 * height / math.tan(fov / 2)])
    return Cameras(
        c2w=torch.from_numpy(np.ascontiguousarray(c2w, np.float64))[None],
        fx=focal,
        fy=focal,
        cx=torch.tensor([width / 2]),
        cy=torch.tensor([height / 2]),
        width=torch.tensor([width]),
        height=torch.tensor([height]),
        model=["PINHOLE"],
        distortion=torch.zeros(1, 6),
    )


def draw(
    field: Field,
    camera: Cameras,
    background: Tensor,
    mode: str,
    pace: Pace,
    with_depth: bool = False,
    given_up: Callable[[], bool] = lambda: False,
) -> Drawn | None:
    """Draw one camera, or None if `given_up` says so between two bands.

    Args:
        mode: one of MODES.
        pace: sets the height of a band; learns from each.
        with_depth: also the depth, so that lines can be hidden by surfaces.
    """
    output = MODES[mode]
    wanted = needed([output])
    if with_depth:
        wanted = list(dict.fromkeys([*wanted, "ray_distance", "opacity"]))
    edge = 1 if output == "normal" else 0  # a normal is made from its neighbours
    width, height = int(camera.width[0]), int(camera.height[0])
    parts: list[dict[str, Tensor]] = []
    top = 0
    while top < height:
        if given_up():
            return None
        began = time.perf_counter()
        rows = max(8, int(pace.pixels * BAND_SECONDS / width) // 8 * 8)
        bottom = min(height, top + rows)
        first, last = max(0, top - edge), min(height, bottom + edge)
        band = replace(
            camera, cy=camera.cy - first, height=torch.full_like(camera.height, last - first)
        )
        rendered = render_frame(field, band, background, wanted)
        parts.append({k: v[top - first : bottom - first].cpu() for k, v in rendered.items()})
        pace.learn(width * (bottom - top), time.perf_counter() - began)
        top = bottom
    whole = {name: torch.cat([part[name] for part in parts]) for name in wanted}
    z = z_depth(camera, whole["ray_distance"]) if "ray_distance" in whole else None
    if output == "depth":
        pixels = colormap.depth_picture(z, whole["opacity"], _range(z, whole["opacity"]))
    elif output == "normal":
        pixels = colormap.normal_picture(whole["normal"], whole["opacity"])
    else:
        pixels = colormap.to_uint8(whole[output])
    depth = None
    if with_depth:
        depth = torch.where(whole["opacity"] > 0.5, z, FAR).clamp(0, FAR).numpy()
    return Drawn(pixels, depth)


def _range(depth: Tensor, opacity: Tensor) -> tuple[float, float]:
    """Nearest and farthest depth of what is there."""
    values = depth[opacity > 0.5]
    if len(values) == 0:
        return 0.0, 1.0
    low, high = torch.quantile(values[:: len(values) // 100_000 + 1], torch.tensor([0.01, 0.99]))
    return float(low), float(high)
