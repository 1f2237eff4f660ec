"""A stand-in for a fitted run: a unit sphere at the origin, rendered analytically on white.

Colour is the world normal mapped to 0..1, so every output of a render can be checked exactly.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import torch

from nerfkit.cameras import Cameras


def cameras_around(count: int = 12, width: int = 32, height: int = 24, distance: float = 4.0):
    """Cameras [count] on a circle 30 degrees up, looking at the origin, 40 degrees vertical fov."""
    azimuth = 2 * math.pi * torch.arange(count, dtype=torch.float64) / count
    e = math.radians(30)
    backward = torch.stack(
        [
            math.cos(e) * azimuth.cos(),
            math.cos(e) * azimuth.sin(),
            torch.full((count,), math.sin(e), dtype=torch.float64),
        ],
        1,
    )
    up = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).expand(count, 3)
    right = torch.nn.functional.normalize(torch.linalg.cross(up, backward), dim=1)
    true_up = torch.linalg.cross(backward, right)
    focal = torch.full((count,), 0.5 * height / math.tan(math.radians(20)), dtype=torch.float64)
    return Cameras(
        c2w=torch.stack([right, true_up, backward, distance * backward], dim=2),
        fx=focal,
        fy=focal,
        cx=torch.full((count,), width / 2),
        cy=torch.full((count,), height / 2),
        width=torch.full((count,), width),
        height=torch.full((count,), height),
        model=["PINHOLE"] * count,
        distortion=torch.zeros(count, 6),
    )


def cameras_side_by_side(count: int, apart: float) -> Cameras:
    """Cameras [count] that all face one way, as the first of `cameras_around` does."""
    cameras = cameras_around(count)
    cameras.c2w[:] = cameras.c2w[0].clone()
    cameras.c2w[:, :, 3] += apart * torch.arange(count)[:, None] * cameras.c2w[:, :, 0]
    return cameras


def to_sphere(origins: torch.Tensor, directions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Distance [R] along unit rays [R, 3] to the unit sphere at the origin; which [R] meet it."""
    along = (origins * directions).sum(-1)
    inside = along**2 - (origins**2).sum(-1) + 1
    return -along - inside.clamp_min(0).sqrt(), (inside > 0) & (along < 0)


class SphereRun:
    """What `nerfkit.run.Run` offers; `frames` counts the calls, `stop_at` plays Ctrl-C."""

    def __init__(self, folder: Path, data: Path | None = None, train_cameras=None) -> None:
        self.folder = folder
        self.config = {"data": str(data), "downscale": 1, "background": "white"}
        self.train_cameras = train_cameras if train_cameras is not None else cameras_around()
        self.scene_box = torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])
        self.iteration = 100
        self.frames = 0
        self.stop_at: int | None = None

    def render(self, camera: Cameras, outputs: Sequence[str]) -> dict[str, torch.Tensor]:
        self.frames += 1
        if self.frames == self.stop_at:
            raise KeyboardInterrupt
        rays = camera.image_rays(0)
        shape = (int(camera.height[0]), int(camera.width[0]))
        t, hit = to_sphere(rays.origins, rays.directions)
        distance = torch.where(hit, t, 0.0)
        normal = (rays.origins + rays.directions * distance[:, None]) * hit[:, None]
        rgb = torch.where(hit[:, None], normal * 0.5 + 0.5, 1.0)
        everything = {
            "rgb": rgb.reshape(*shape, 3),
            "opacity": hit.float().reshape(shape),
            "ray_distance": distance.reshape(shape),
            "normal": normal.reshape(*shape, 3),
        }
        return {name: everything[name] for name in outputs}


def write_blender(
    folder, run: "SphereRun", count: int = 3, width: int = 32, height: int = 24
) -> None:
    """The sphere as a Blender set: RGBA on nothing, so white comes from compositing."""
    cameras = cameras_around(count, width, height)
    fov = 2 * math.atan(cameras.width[0].item() / 2 / cameras.fx[0].item())
    for split in ("train", "test"):
        frames = []
        (folder / split).mkdir(parents=True)
        for i in range(count):
            rendered = run.render(cameras[i], ["rgb", "opacity"])
            rgba = torch.cat([rendered["rgb"], rendered["opacity"][..., None]], -1)
            rgba[..., :3] *= rgba[..., 3:]  # nothing shows through where alpha is 0
            picture = (rgba * 255).round().byte().numpy()
            imageio.imwrite(folder / split / f"r_{i}.png", picture)
            pose = np.eye(4)
            pose[:3] = cameras.c2w[i].numpy()
            frames.append({"file_path": f"./{split}/r_{i}", "transform_matrix": pose.tolist()})
        content = {"camera_angle_x": fov, "frames": frames}
        (folder / f"transforms_{split}.json").write_text(json.dumps(content))
