"""A small synthetic Blender set, and where the real data is."""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

WIDTH, HEIGHT, ANGLE = 12, 8, 0.8


def look_at_origin(centre: np.ndarray, roll: float = 0.0) -> np.ndarray:
    """OpenGL c2w [4, 4] at `centre`, looking at the origin, turned about its axis by `roll`."""
    back = centre / np.linalg.norm(centre)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    up = np.cross(back, right)
    turned = math.cos(roll) * right + math.sin(roll) * up
    c2w = np.eye(4)
    c2w[:3] = np.stack([turned, np.cross(back, turned), back, centre], axis=1)
    return c2w


def write_blender(root: Path, n_train: int = 7, n_test: int = 3) -> Path:
    """RGBA noise images; poses around the origin, tilted so that mean up is not exactly +Z."""
    generator = np.random.default_rng(0)
    for split, count in (("train", n_train), ("test", n_test)):
        frames = []
        (root / split).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            pixels = generator.integers(0, 256, (HEIGHT, WIDTH, 4), dtype=np.uint8)
            Image.fromarray(pixels).save(root / split / f"r_{i}.png")
            centre = generator.normal(size=3) + [0.0, 3.0, 1.0]
            frames.append(
                {
                    "file_path": f"./{split}/r_{i}",
                    "transform_matrix": look_at_origin(centre, 0.3 * generator.normal()).tolist(),
                }
            )
        meta = {"camera_angle_x": ANGLE, "frames": frames}
        (root / f"transforms_{split}.json").write_text(json.dumps(meta))
    return root


@pytest.fixture
def blender_set(tmp_path: Path) -> Path:
    """Folder of the synthetic Blender set: 7 train and 3 test views of 12x8."""
    return write_blender(tmp_path / "blender")


@pytest.fixture
def real_data() -> Path:
    """Folder of the real data sets; the test skips where they are absent."""
    default = Path(__file__).resolve().parents[3] / "shared" / "data"
    folder = Path(os.environ.get("NERFKIT_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set NERFKIT_DATA")
    return folder
