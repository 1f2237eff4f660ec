"""The frames of a render on disk: what each output looks like as files, and what is there already.

A folder of frames carries a recipe.json; frames found there are kept only while the recipe (run,
iteration, path, size, outputs, background) is the same, so an interrupted render goes on where it
stopped. Frame numbers are those of the whole path, five digits.

Raw depth (float32 .npy, scene units, 0 where nothing was hit): z_depth_00000.npy is the distance
along the optical axis, ray_distance_00000.npy the distance along each pixel's ray.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import torch

from nerfkit import colormap, files
from nerfkit.cameras import Cameras
from nerfkit.errors import NerfkitError

OUTPUTS = ("rgb", "depth", "opacity", "normal")
RECIPE, CLAIMS = "recipe.json", ".claims"
# Below this opacity a pixel has hit nothing and its raw depth is 0.
EMPTY_OPACITY = 1e-3


class FrameFolder:
    """Frames of one render in `folder`, one sub-folder an output where there are several."""

    def __init__(self, folder: Path, outputs: Sequence[str], raw_depth: bool) -> None:
        self.folder = folder
        self.outputs = tuple(outputs)
        self.raw_depth = raw_depth

    def picture(self, output: str, index: int) -> Path:
        """The PNG of one output of one frame."""
        return self.place(output) / f"{index:05d}.png"

    def place(self, output: str) -> Path:
        """The folder that holds one output."""
        return self.folder if len(self.outputs) == 1 else self.folder / output

    @property
    def claims(self) -> Path:
        """The file in which processes claim frames, while they render."""
        return self.folder / CLAIMS

    def has_recipe(self) -> bool:
        """Whether the folder is one of ours."""
        return (self.folder / RECIPE).is_file()

    def prepare(self, recipe: dict, resume: bool = False) -> dict:
        """Make the folder ready for `recipe`; frames of another recipe are deleted.

        Returns the recipe to go on with: the stored one if it agrees with `recipe` in all that
        `recipe` names.

        Raises:
            NerfkitError: the folder holds files but no recipe, so they are not ours to replace; or
                to `resume` there are only frames of another recipe.
        """
        stored = self.folder / RECIPE
        if self.folder.is_dir() and any(path.name != CLAIMS for path in self.folder.iterdir()):
            if not stored.exists():
                raise NerfkitError(
                    f"{self.folder}: not empty and not written by nerfkit render; "
                    "give another folder to -o"
                )
            found = files.read_json(stored)
            if isinstance(found, dict) and all(found.get(k) == v for k, v in recipe.items()):
                return found
            if resume:
                raise NerfkitError(
                    f"{self.folder}: holds frames of another run, path or size; "
                    "render without --resume to replace them"
                )
            self._discard()
        self.folder.mkdir(parents=True, exist_ok=True)
        for output in self.outputs:
            self.place(output).mkdir(parents=True, exist_ok=True)
        self.save_recipe(recipe)
        return recipe

    def save_recipe(self, recipe: dict) -> None:
        """Store what the frames are made from."""
        files.write_json(self.folder / RECIPE, recipe)

    def _discard(self) -> None:
        for folder in (self.folder, *(self.folder / output for output in OUTPUTS)):
            for pattern in ("[0-9]*.png", "z_depth_[0-9]*.npy", "ray_distance_[0-9]*.npy"):
                for path in folder.glob(pattern):
                    path.unlink()

    def complete(self, index: int, width: int, height: int) -> bool:
        """Whether every file of the frame is there, whole and of the right size."""
        for output in self.outputs:
            try:
                picture = imageio.imread(self.picture(output, index))
            except (OSError, SyntaxError, ValueError):  # absent; Pillow's words for a broken PNG
                return False
            if picture.shape != (height, width, 3):
                return False
        return all(_is_array(path, (height, width)) for path in self._raw(index))

    def _raw(self, index: int) -> list[Path]:
        if not (self.raw_depth and "depth" in self.outputs):
            return []
        names = (f"z_depth_{index:05d}.npy", f"ray_distance_{index:05d}.npy")
        return [self.place("depth") / name for name in names]

    def write(
        self,
        index: int,
        camera: Cameras,
        rendered: dict[str, torch.Tensor],
        depth_range: tuple[float, float] | None,
    ) -> None:
        """Write one rendered frame (as `Run.render` returns it), each file atomically."""
        z = z_depth(camera, rendered["ray_distance"]) if "depth" in self.outputs else None
        for output in self.outputs:
            if output == "depth":
                picture = colormap.depth_picture(z, rendered["opacity"].cpu(), depth_range)
            elif output == "normal":
                normal = rendered["normal"].cpu()
                picture = colormap.normal_picture(normal, rendered["opacity"].cpu())
            else:
                picture = colormap.to_uint8(rendered[output])
            write_png(self.picture(output, index), picture)
        if self._raw(index):
            hit = (rendered["opacity"] > EMPTY_OPACITY).cpu()
            for path, values in zip(self._raw(index), (z, rendered["ray_distance"]), strict=True):
                with files.atomic_write(path, "wb") as file:
                    np.save(file, (values.float().cpu() * hit).numpy())

    def remove(self) -> None:
        """Delete the frames, the recipe and the folders."""
        self._discard()
        (self.folder / RECIPE).unlink(missing_ok=True)
        self.tidy()

    def tidy(self) -> None:
        """Delete empty folders, and what processes left that were killed while they wrote."""
        for folder in (*(self.folder / output for output in OUTPUTS), self.folder):
            files.remove_leftovers(folder)
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def z_depth(camera: Cameras, ray_distance: torch.Tensor) -> torch.Tensor:
    """Distance along the optical axis [H, W] from distance along the unit ray [H, W]."""
    if camera.shutter is not None:  # its axis turns, but not in camera axes
        camera = camera.local
    directions = camera.image_rays(0).directions.cpu()
    forward = -camera.c2w[0, :, 2].to(directions)
    return ray_distance.float().cpu() * (directions @ forward).reshape(ray_distance.shape)


def needed(outputs: Sequence[str]) -> list[str]:
    """What `Run.render` must return for these outputs."""
    wanted = []
    for output in outputs:
        wanted += {"depth": ["ray_distance", "opacity"], "normal": ["normal", "opacity"]}.get(
            output, [output]
        )
    return list(dict.fromkeys(wanted))


def write_png(path: Path, picture: np.ndarray) -> None:
    """Write uint8 [H, W, 3] atomically; light compression, for frames come by the hundred."""
    encoded = imageio.imwrite("<bytes>", picture, extension=".png", compress_level=3)
    with files.atomic_write(path, "wb") as file:
        file.write(encoded)


def digest(cameras: Cameras) -> str:
    """A fingerprint of a camera path."""
    text = json.dumps(cameras.to_dict(), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _is_array(path: Path, shape: tuple[int, ...]) -> bool:
    try:
        return np.load(path, mmap_mode="r").shape == shape
    except (OSError, ValueError):
        return False
