"""Keyframes of a camera path, and nerfstudio's camera_path.json of them.

c2w [3, 4], OpenGL axes; fov vertical, degrees in the file and in radians here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nerfkit import files, trajectories
from nerfkit.errors import NerfkitError


@dataclass(frozen=True)
class Keyframe:
    """A camera: c2w [3, 4], fov in radians, aspect = width / height."""

    c2w: np.ndarray
    fov: float
    aspect: float


@dataclass
class Keyframes:
    """Cameras to pass through, evenly in time."""

    keys: list[Keyframe] = field(default_factory=list)

    def path(self, count: int, loop: bool) -> tuple[np.ndarray, np.ndarray]:
        """Poses [count, 3, 4] and fov [count] of a smooth way through all of them.

        Args:
            loop: from the last on to the first; the first is not repeated.

        Raises:
            NerfkitError: there are no keyframes.
        """
        if not self.keys:
            raise NerfkitError("the path has no keyframes yet; add some")
        poses = np.stack([key.c2w for key in self.keys])
        fov = np.array([key.fov for key in self.keys])
        n = len(self.keys)
        if n == 1:
            return np.repeat(poses, count, axis=0), np.repeat(fov, count)
        if not loop:
            places = np.linspace(0, n - 1, count)
            return trajectories.resample(poses, places), np.interp(places, np.arange(n), fov)
        around = np.arange(-1, n + 2) % n  # so that the seam is as smooth as the rest
        places = np.linspace(0, n, count, endpoint=False)
        poses = trajectories.resample(poses[around], places + 1)
        return poses, np.interp(places + 1, np.arange(n + 3), fov[around])

    def save(
        self,
        path: Path,
        seconds: float,
        fps: float,
        loop: bool,
        size: tuple[int, int],
        crop: np.ndarray | None = None,
    ) -> None:
        """Write camera_path.json; `nerfkit render --path` and nerfstudio read it.

        Args:
            size: width and height of the video.
            crop: [2, 3], corners of what the viewer showed, kept for nerfstudio.

        Raises:
            NerfkitError: no keyframes, or the file cannot be written.
        """
        width, height = size
        poses, fov = self.path(max(1, round(seconds * fps)), loop)
        content = {
            "camera_type": "perspective",
            "render_width": width,
            "render_height": height,
            "fps": fps,
            "seconds": seconds,
            "is_cycle": loop,
            "smoothness_value": 0.0,
            "default_fov": math.degrees(self.keys[0].fov),
            "default_transition_sec": seconds / max(1, len(self.keys) - (not loop)),
            "keyframes": [
                {
                    "matrix": _numbers(key.c2w),
                    "fov": math.degrees(key.fov),
                    "aspect": key.aspect,
                    "override_transition_enabled": False,
                    "override_transition_sec": None,
                }
                for key in self.keys
            ],
            "camera_path": [
                {
                    "camera_to_world": _numbers(pose),
                    "fov": math.degrees(angle),
                    "aspect": width / height,
                }
                for pose, angle in zip(poses, fov, strict=True)
            ],
        }
        if crop is not None:
            content["crop"] = {
                "crop_center": crop.mean(0).tolist(),
                "crop_scale": (crop[1] - crop[0]).tolist(),
                "crop_rot": [0.0, 0.0, 0.0],
                "crop_bg_color": {"r": 255, "g": 255, "b": 255},
            }
        files.write_json(path, content)

    @staticmethod
    def load(path: Path) -> Keyframes:
        """The keyframes of a file; NerfkitError if they cannot be read."""
        content = files.read_json(path)
        try:
            keys = [
                Keyframe(
                    np.array(key["matrix"], np.float64).reshape(4, 4)[:3],
                    math.radians(float(key["fov"])),
                    float(key.get("aspect", 1.0)),
                )
                for key in content["keyframes"]
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise NerfkitError(f"{path}: its keyframes cannot be read ({error!r})") from error
        return Keyframes(keys)


def _numbers(c2w: np.ndarray) -> list[float]:
    """16 numbers, row by row."""
    return [*c2w.reshape(-1).tolist(), 0.0, 0.0, 0.0, 1.0]
