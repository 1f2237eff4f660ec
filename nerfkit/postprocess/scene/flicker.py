"""How far neighbouring frames of a path disagree where they show the same points.

The points of a small frame are looked up in the frame before it; where that one shows the same
surface (by its depth), the absolute difference of the colours counts. Motion, parallax and
occlusion leave no trace in it; what does: views that truly differ (highlights), and flicker.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from nerfkit.cameras import Cameras
from nerfkit.postprocess.scene.geometry import correspond, grown, points_of


class Flicker:
    """Running means over pairs of neighbouring frames, 0..1.

    Attributes:
        pairs: seen so far.
        raw: of the small renders, enlarged bicubically.
        refined: of the refined frames.
    """

    def __init__(self) -> None:
        self.pairs, self.raw, self.refined = 0, 0.0, 0.0
        self._before: tuple[Cameras, Tensor, Tensor] | None = None

    def __str__(self) -> str:
        return (
            f"flicker between neighbouring frames, of 255: {255 * self.refined:.2f} refined, "
            f"{255 * self.raw:.2f} of the small renders enlarged ({self.pairs} pairs)"
        )

    def observe(self, camera: Cameras, distance: Tensor, render: Tensor, refined: Tensor) -> None:
        """Take in the next frame of a path.

        Args:
            camera: of the small frame, length one.
            distance: [h, w], 0 where nothing was hit.
            render: [h, w, 3], the small frame.
            refined: [scale h, scale w, 3].
        """
        scale = refined.shape[0] // render.shape[0]
        raw = F.interpolate(
            render.permute(2, 0, 1)[None], scale_factor=scale, mode="bicubic", align_corners=False
        )
        frames = torch.cat([raw.clamp(0, 1), refined.permute(2, 0, 1)[None]])
        before, self._before = self._before, (camera, grown(distance)[None], frames)
        if before is None or before[1].shape[1:] != distance.shape:
            return
        old_camera, old_distance, old_frames = before
        points = points_of(camera, distance).reshape(-1, 3)
        eye = camera.c2w[0, :, 3].to(points)
        known = distance.reshape(-1) > 0
        positions, hints = correspond(points, known, eye, old_camera, 0, old_distance)
        same = (hints[:, 0] > 0) & (hints[:, 1] > -1)
        if not same.any():
            return
        height, width = distance.shape
        size = torch.tensor([width, height])
        grid = (positions[same] * (2 / size) - 1)[None, None].expand(2, -1, -1, -1)
        old = F.grid_sample(old_frames, grid, align_corners=False, padding_mode="border")
        # colours at the middle of each small pixel: between the middle pixels of its cell
        here = torch.nonzero(same.reshape(height, width)).flip(1) + 0.5
        grid = (here * (2 / size) - 1)[None, None].expand(2, -1, -1, -1)
        new = F.grid_sample(frames, grid, align_corners=False, padding_mode="border")
        raw_change, refined_change = (new - old).abs().mean((1, 2, 3)).tolist()
        self.pairs += 1
        self.raw += (raw_change - self.raw) / self.pairs
        self.refined += (refined_change - self.refined) / self.pairs
