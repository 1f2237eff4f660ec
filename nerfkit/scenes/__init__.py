"""Built-in scenes, one folder a recipe; a bridge to the top-level `scenes/` like `nerfkit.kernels`.

`build` ray traces a scene to exactly posed images; nothing is downloaded.
"""

import pkgutil
from collections.abc import Callable
from pathlib import Path

from nerfkit.errors import NerfkitError

_checkout = Path(__file__).resolve().parents[2]
# Installed, the folder above is site-packages, where `scenes` would be another project's.
if (_checkout / "setup.py").is_file():
    __path__.append(str(_checkout / "scenes"))


def names() -> list[str]:
    """The built-in scenes, in alphabetical order."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name != "tracer")


def build(
    name: str,
    folder: str | Path,
    *,
    size: tuple[int, int] = (400, 400),
    n_train: int = 60,
    n_test: int = 12,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a scene as a Blender-format data set; one that is already there is reused.

    The folder then holds `transforms_{train,test}.json` (`camera_angle_x`; OpenGL c2w, world +Z
    up), RGBA images `{train,test}/r_000.png` (display-encoded, straight alpha), the true mesh
    `scene.glb` (world coordinates, +Z up, base colours at the vertices), `recipe.json`, and for
    each test view, 0 where the ray through the pixel's centre hits nothing:

    - `r_000_depth.npy` [h, w] float32, distance along the unit ray;
    - `r_000_zdepth.npy` [h, w] float32, distance along the optical axis;
    - `r_000_normal.npy` [h, w, 3] float16, unit world normal towards the camera.

    The same arguments give the same bytes. NERFKIT_THREADS sets the number of threads.

    Args:
        name: one of `names()`.
        size: width and height in pixels.
        n_train, n_test: views on the hemisphere, and held-out views on an orbit.
        seed: turns the training views about the vertical.
        progress: called with (images done, images in all).

    Raises:
        NerfkitError: unknown name, a size or count below 1, or a folder with other data in it.
    """
    if name not in names():
        raise NerfkitError(f"scene {name!r} is unknown; choose one of: {', '.join(names())}")
    if min(*size, n_train, n_test) < 1:
        raise NerfkitError(
            f"a scene wants size, n_train and n_test of at least 1; "
            f"got size {size[0]}x{size[1]}, n_train {n_train}, n_test {n_test}"
        )
    # trimesh is slow to import, and listing the scenes does not need it
    from nerfkit.scenes.tracer.dataset import write_dataset

    return write_dataset(name, Path(folder), size, n_train, n_test, seed, progress)
