"""transforms.json and points.ply of placed pictures, in a world that stands upright.

World: +Z up, the origin at the point the cameras look at, the farthest camera at distance 1 from
the middle of all cameras. No measure of real length is known.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nerfkit import files
from nerfkit.export.writers import write_ply
from nerfkit.trajectories import focus_point

if TYPE_CHECKING:
    from nerfkit.prepare.reconstruct import Model

POINTS, SEEN = "points.ply", "points_seen.npy"
LEVEL = 0.15  # root mean square of a direction's part along the cameras' right axes, to be up


def write_dataset(folder: Path, images: str, model: Model) -> None:
    """Write `model`, its pictures in `folder / images`, for `nerfkit fit`."""
    c2w, points = upright(model.c2w, model.points)
    frames = []
    for name, pose, lens in zip(model.names, c2w, model.lenses, strict=True):
        frames.append(
            {
                "file_path": f"{images}/{name}",
                "transform_matrix": [*pose.tolist(), [0.0, 0.0, 0.0, 1.0]],
                "camera_model": lens.model,
                "w": lens.width,
                "h": lens.height,
                **lens.values,
            }
        )
    content: dict = {}
    first = {k: v for k, v in frames[0].items() if k not in ("file_path", "transform_matrix")}
    if all(first.items() <= frame.items() for frame in frames):  # one camera took them all
        frames = [{k: v for k, v in frame.items() if k not in first} for frame in frames]
        content |= first
    if len(points):
        write_ply(folder / POINTS, points, model.colours / 255)
        content["ply_file_path"] = POINTS
        with files.atomic_write(folder / SEEN) as file:
            np.save(file, model.seen)
        content["points_seen_path"] = SEEN
    files.write_json(folder / "transforms.json", content | {"frames": frames})


def upright(c2w: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Poses [N, 3, 4] and points [P, 3] turned, moved and scaled to the world described above."""
    rotation = _up_to_z(c2w)
    c2w, points = rotation @ c2w, points @ rotation.T
    # what they look at; points themselves where axes are too parallel to meet among these
    focus = focus_point(c2w)
    if len(points):
        low, high = np.quantile(points, [0.02, 0.98], axis=0)
        if not ((focus > low) & (focus < high)).all():
            focus = np.median(points, axis=0)
    positions = c2w[:, :, 3]
    reach = np.linalg.norm(positions - positions.mean(0), axis=1).max()
    scale = 1 / reach if reach > 0 else 1.0
    moved = np.concatenate([c2w[:, :, :3], scale * (positions - focus)[:, :, None]], axis=2)
    return moved, scale * (points - focus)


def _up_to_z(c2w: np.ndarray) -> np.ndarray:
    """The rotation [3, 3] that brings up to +Z.

    People hold cameras level: up is square to all right axes, which says it better than the mean
    of the cameras' own up axes, for these lean with every look downwards. It needs cameras that
    look more than one way, and that really are level.
    """
    mean = c2w[:, :, 1].mean(0)
    mean = mean / max(np.linalg.norm(mean), 1e-12)
    values, vectors = np.linalg.eigh(np.einsum("ni,nj->ij", c2w[:, :, 0], c2w[:, :, 0]) / len(c2w))
    up = vectors[:, 0] * np.sign(vectors[:, 0] @ mean)
    if values[0] > LEVEL**2 or values[1] < 2 * values[0] + 1e-2 or up @ mean < 0.5:
        up = mean
    beside = c2w[0, :, 0] - (c2w[0, :, 0] @ up) * up
    if np.linalg.norm(beside) < 1e-3:
        beside = np.cross(up, c2w[0, :, 2])
    right = beside / np.linalg.norm(beside)
    return np.stack([right, np.cross(up, right), up])
