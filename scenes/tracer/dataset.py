"""A scene written as a Blender-format data set, with depth, normals and the true mesh."""

import hashlib
import importlib
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import trimesh

from nerfkit.errors import NerfkitError
from nerfkit.files import atomic_write, write_json
from nerfkit.scenes.tracer.assembly import distinct_rows
from nerfkit.scenes.tracer.render import Renderer
from nerfkit.scenes.tracer.rig import Camera, angle_x, orbit_poses, train_poses
from nerfkit.scenes.tracer.views import Job
from nerfkit.scenes.tracer.workers import render_all

DISTANCE = 4.0  # of the cameras: a sphere of assembly.RADIUS just fits their field of view


def write_dataset(
    name: str,
    folder: Path,
    size: tuple[int, int],
    n_train: int,
    n_test: int,
    seed: int,
    progress: Callable[[int, int], None] | None,
) -> Path:
    """See `nerfkit.scenes.build`."""
    recipe = {
        "name": name,
        "size": list(size),
        "n_train": n_train,
        "n_test": n_test,
        "seed": seed,
        "source": _source_hash(name),
    }
    if _is_complete(folder, recipe):
        return folder
    _claim(folder)
    write_json(folder / "recipe.json", {**recipe, "complete": False})
    renderer = Renderer(importlib.import_module(f"nerfkit.scenes.{name}").geometry())
    jobs = []
    for split, poses in (
        ("train", train_poses(n_train, DISTANCE, seed)),
        ("test", orbit_poses(n_test, DISTANCE)),
    ):
        (folder / split).mkdir(exist_ok=True)
        frames = [
            {"file_path": f"{split}/r_{i:03d}", "transform_matrix": c2w.tolist()}
            for i, c2w in enumerate(poses)
        ]
        meta = {"camera_angle_x": angle_x(*size), "frames": frames}
        write_json(folder / f"transforms_{split}.json", meta)
        jobs += [
            Job(folder / f["file_path"], Camera(c2w, *size), split == "test")
            for f, c2w in zip(frames, poses, strict=True)
        ]
    _write_mesh(folder / "scene.glb", renderer)
    render_all(name, renderer, jobs, progress)
    write_json(folder / "recipe.json", {**recipe, "complete": True})
    return folder


def _source_hash(name: str) -> str:
    """Changes with the code of the recipe or of the tracer, so that old pictures are not reused."""
    recipe = Path(importlib.util.find_spec(f"nerfkit.scenes.{name}").origin)
    files = sorted(Path(__file__).parent.glob("*.py")) + sorted(recipe.parent.glob("*.py"))
    return hashlib.sha256(b"\0".join(f.read_bytes() for f in files)).hexdigest()[:16]


def _is_complete(folder: Path, recipe: dict) -> bool:
    """Whether the folder holds this very data set, with no image missing."""
    try:
        found = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    counts = {"train": recipe["n_train"], "test": recipe["n_test"]}
    return found == {**recipe, "complete": True} and all(
        (folder / split / f"r_{i:03d}.png").is_file()
        for split, count in counts.items()
        for i in range(count)
    )


def _claim(folder: Path) -> None:
    """Make the folder; refuse one that holds somebody else's data set."""
    if not (folder / "recipe.json").exists() and any(folder.glob("transforms*.json")):
        raise NerfkitError(
            f"{folder}: wanted an empty folder or an earlier built-in scene, found another data "
            "set (transforms*.json without recipe.json); give another folder"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NerfkitError(
            f"{folder}: wanted a folder to write the scene to, but {error.strerror}; "
            "give another folder"
        ) from error


def _write_mesh(path: Path, renderer: Renderer) -> None:
    """The traced triangles in world coordinates (+Z up), base colours at the vertices."""
    corners = renderer.geometry.positions.reshape(-1, 3)
    colours = renderer.albedo().reshape(-1, 3)
    rows = np.concatenate([np.int64(np.round(corners * 1e5)), colours], 1)
    first, inverse = distinct_rows(rows)
    mesh = trimesh.Trimesh(
        corners[first], inverse.reshape(-1, 3), vertex_colors=colours[first], process=False
    )
    with atomic_write(path, "wb") as handle:
        handle.write(mesh.export(file_type="glb"))
