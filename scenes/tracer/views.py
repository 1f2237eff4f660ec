"""Writing one view to disk: the image, and for test views its depth and normals."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from nerfkit.files import atomic_write
from nerfkit.scenes.tracer.render import Renderer
from nerfkit.scenes.tracer.rig import Camera


@dataclass(frozen=True)
class Job:
    """A view to render: file path without its ending, camera, and whether depth is wanted."""

    stem: Path
    camera: Camera
    with_geometry: bool


def render_to_files(renderer: Renderer, job: Job) -> None:
    """Render one view and write its files."""
    frame = renderer(job.camera)
    with atomic_write(job.stem.with_suffix(".png"), "wb") as handle:
        Image.fromarray(frame.rgba).save(handle, "png", compress_level=4)
    if not job.with_geometry:
        return
    for suffix, array in (
        ("depth", frame.ray_distance),
        ("zdepth", frame.z_depth),
        ("normal", frame.normal.astype(np.float16)),
    ):
        with atomic_write(job.stem.with_name(f"{job.stem.name}_{suffix}.npy"), "wb") as handle:
            np.save(handle, array)
