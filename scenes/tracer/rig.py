"""Cameras around the origin: OpenGL axes (looks along -Z), world +Z up, c2w [4, 4]."""

from dataclasses import dataclass

import numpy as np

ANGLE = 0.6911112070083618  # the field of view of the Blender sets, radians


def angle_x(width: int, height: int) -> float:
    """Horizontal field of view, radians, with which the image's shorter side spans ANGLE."""
    return float(2 * np.arctan(width / min(width, height) * np.tan(ANGLE / 2)))


@dataclass(frozen=True)
class Camera:
    """A pinhole with its principal point in the image's middle.

    Attributes:
        c2w: camera-to-world [4, 4], float64. width, height: pixels.
    """

    c2w: np.ndarray
    width: int
    height: int

    @property
    def focal(self) -> float:
        """Focal length in pixels."""
        return 0.5 * min(self.width, self.height) / np.tan(0.5 * ANGLE)

    def rays(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Origins and unit directions [n, 3] through image points (centres at +0.5), pixels."""
        local = np.stack(
            [
                (x - self.width / 2) / self.focal,
                -(y - self.height / 2) / self.focal,
                np.full(len(x), -1.0),
            ],
            1,
        ).astype(np.float32)
        directions = local @ np.float32(self.c2w[:3, :3]).T
        directions /= np.sqrt(np.einsum("ni,ni->n", directions, directions))[:, None]
        return np.broadcast_to(np.float32(self.c2w[:3, 3]), directions.shape), directions

    def project(self, points: np.ndarray) -> np.ndarray:
        """Image points (x, y) [n, 2] of world points [n, 3]."""
        local = (points - self.c2w[:3, 3]) @ self.c2w[:3, :3]
        x, y = local[:, 0] / -local[:, 2], local[:, 1] / local[:, 2]
        return np.stack([x, y], 1) * self.focal + [self.width / 2, self.height / 2]


def look_at_origin(eye: np.ndarray) -> np.ndarray:
    """c2w [4, 4] of an upright camera at `eye` [3] that looks at the origin."""
    back = eye / np.linalg.norm(eye)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    c2w = np.eye(4)
    c2w[:3] = np.stack([right, np.cross(back, right), back, eye], 1)
    return c2w


def _eye(distance: float, height: np.ndarray, azimuth: np.ndarray) -> np.ndarray:
    flat = np.sqrt(1 - height**2)
    return distance * np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), height], -1)


def train_poses(n: int, distance: float, seed: int) -> list[np.ndarray]:
    """n views spread evenly over the upper hemisphere by a Fibonacci spiral, turned by `seed`.

    Heights (sine of the elevation) run from -0.05 to 0.98: a little below the horizon to nearly
    the zenith.
    """
    start = np.random.default_rng(seed).random() * 2 * np.pi
    i = np.arange(n)
    height = -0.05 + 1.03 * (i + 0.5) / n
    return [look_at_origin(e) for e in _eye(distance, height, start + i * np.pi * (3 - 5**0.5))]


def orbit_poses(n: int, distance: float) -> list[np.ndarray]:
    """n views on an orbit whose elevation swings between 15 and 45 degrees; none is trained on."""
    azimuth = np.linspace(0, 2 * np.pi, n, endpoint=False) + 0.1
    height = np.sin(np.radians(30 + 15 * np.sin(2 * azimuth)))
    return [look_at_origin(e) for e in _eye(distance, height, azimuth)]
