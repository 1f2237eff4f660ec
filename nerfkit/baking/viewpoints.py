"""Where a scene is looked at from: training cameras with fewer pixels, and cameras between them.

Where a scene is seen from few sides, colours that fit those sides alone go astray between them.
"""

import math
from dataclasses import replace

import torch

from nerfkit.cameras import Cameras
from nerfkit.paths import at_size

NEIGHBOURS = 6  # nearest cameras that look the same way, of which two are drawn
TURN = 1.0  # of a difference in direction, against a difference in place of the cameras' spread


def between(cameras: Cameras, count: int, generator: torch.Generator) -> Cameras:
    """`count` cameras, each at random between three neighbours, with one's lens."""
    poses = cameras.c2w.double()
    places = poses[:, :, 3]
    spread = (places - places.mean(0)).norm(dim=1).mean().clamp_min(1e-12)
    apart = torch.cdist(places / spread, places / spread)
    apart = apart + TURN * torch.cdist(poses[:, :, 2], poses[:, :, 2])
    near = apart.topk(min(NEIGHBOURS + 1, len(cameras)), largest=False).indices
    first = torch.randint(len(cameras), (count,), generator=generator)
    column = torch.randint(near.shape[1], (count, 2), generator=generator)
    three = torch.cat([first[:, None], near[first[:, None], column]], 1)
    shares = -torch.rand(count, 3, 1, 1, dtype=torch.float64, generator=generator).log()
    mixed = (poses[three] * shares / shares.sum(1, keepdim=True)).sum(1)
    u, _, v = torch.linalg.svd(mixed[:, :, :3])  # the nearest rotation
    flip = torch.ones(count, 3, dtype=torch.float64)
    flip[:, 2] = torch.det(u @ v).sign()
    c2w = torch.cat([(u * flip[:, None]) @ v, mixed[:, :, 3:]], 2)
    return replace(cameras[first], c2w=c2w, shutter=None)


def sized(camera: Cameras, pixels: int) -> Cameras:
    """One camera with about so many pixels."""
    width, height = int(camera.width[0]), int(camera.height[0])
    shrink = math.sqrt(width * height / pixels)
    return at_size(camera, max(1, round(width / shrink)), max(1, round(height / shrink)))


def shrunk(camera: Cameras, pixels: int) -> Cameras:
    """One camera with at most about so many pixels."""
    return sized(camera, min(pixels, int(camera.width[0]) * int(camera.height[0])))
