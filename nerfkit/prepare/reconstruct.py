"""Camera poses and sparse points of pictures, by COLMAP's incremental mapper (pycolmap, CPU).

A first attempt is quick: pictures reduced to 1600 pixels, no enlargement in SIFT's scale space.
Where it leaves out too many pictures, stronger ones follow, and the one that places most is kept.
Poses c2w [3, 4] have OpenGL camera axes, in COLMAP's own world: any rotation, origin and scale.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycolmap

from nerfkit.errors import NerfkitError
from nerfkit.kernels import _native
from nerfkit.prepare.pictures import Picture

SEED = 0
MISSING = 0.05  # of the pictures, or one, may be left out without a stronger attempt
EXHAUSTIVE = 400  # pictures; more are matched as a sequence
OVERLAP = 10  # neighbours in a sequence
KEY_EVERY = 5  # pictures of a sequence that are matched with all others such, to close loops
PAIRS_AT_ONCE = 250
FEW_VIEWS = 10  # of one camera: fewer do not tell a lens with many parameters
MANY_VIEWS = 20  # of one camera: enough to find its principal point
POINT_ERROR = 2.0  # pixels
POINT_VIEWS = 3


@dataclass(frozen=True)
class Effort:
    """How hard to try: largest side in pixels, and options of SIFT and of matching."""

    name: str
    size: int
    first_octave: int
    features: int
    affine: bool
    guided: bool


EFFORTS = (
    Effort("quick", 1600, 0, 8192, affine=False, guided=False),
    Effort("thorough", 2000, -1, 12000, affine=False, guided=True),
    Effort("slow", 3200, -1, 16000, affine=True, guided=True),
)


@dataclass(frozen=True)
class Lens:
    """A camera as transforms.json has it: model, pixels, and distortion by name."""

    model: str
    width: int
    height: int
    values: dict[str, float]  # fl_x, fl_y, cx, cy, and what the model has of k1 .. k4, p1, p2


@dataclass(frozen=True)
class Model:
    """What was found, N views and P points.

    Attributes:
        names: of the pictures placed, in order.
        c2w: [N, 3, 4] float64.
        lenses: [N].
        points, colours: [P, 3] float64; [P, 3] uint8.
        seen: [K, 2] int32, a view and a point it sees.
        error: mean distance between points and where pictures show them, pixels.
        unconnected: pictures that formed other models, not connected with this one.
    """

    names: list[str]
    c2w: np.ndarray
    lenses: list[Lens]
    points: np.ndarray
    colours: np.ndarray
    seen: np.ndarray
    error: float
    unconnected: int


def reconstruct(
    pictures: list[Picture],
    images: Path,
    work: Path,
    *,
    in_order: bool,
    fisheye: bool,
    say: Callable[[str], None],
    doing: Callable[[str], None],
) -> Model:
    """Place the pictures; NerfkitError if not even two can be.

    Args:
        images: folder that holds them.
        work: folder for databases; the caller deletes it.
        in_order: they are a walk (frames of a video), so neighbours see the same.
        say, doing: told what is worth a line, and what is going on.
    """
    pycolmap.logging.minloglevel = pycolmap.logging.FATAL.value
    pycolmap.set_random_seed(SEED)
    best: Model | None = None
    for effort in EFFORTS:
        folder = work / effort.name
        folder.mkdir(parents=True)
        found = _attempt(effort, pictures, images, folder, in_order, fisheye, doing)
        shutil.rmtree(folder)
        if found is not None and (best is None or len(found.names) > len(best.names)):
            best = found
        placed = len(best.names) if best else 0
        if len(pictures) - placed <= max(1, MISSING * len(pictures)):
            break
        if effort is not EFFORTS[-1]:
            say(f"{placed} of {len(pictures)} pictures placed: trying harder")
    if best is None:
        raise NerfkitError(
            f"none of {len(pictures)} pictures could be placed: they overlap too little, are "
            "blurred, or show too little texture; take more, in small steps round the scene"
        )
    return best


def pairs(n: int, in_order: bool) -> list[tuple[int, int]]:
    """Which of n pictures to match: all with all, or neighbours and every fifth with each other."""
    if not in_order and n <= EXHAUSTIVE:
        return list(itertools.combinations(range(n), 2))
    near = [(i, j) for i in range(n) for j in range(i + 1, min(i + OVERLAP + 1, n))]
    spread = max(KEY_EVERY, n // 80)
    return sorted(set(near) | set(itertools.combinations(range(0, n, spread), 2)))


def _attempt(
    effort: Effort,
    pictures: list[Picture],
    images: Path,
    folder: Path,
    in_order: bool,
    fisheye: bool,
    doing: Callable[[str], None],
) -> Model | None:
    database = folder / "database.db"
    _find_features(effort, pictures, images, database, fisheye, doing)
    wanted = pairs(len(pictures), in_order)
    options = pycolmap.FeatureMatchingOptions()
    options.num_threads = _native.num_threads()
    options.use_gpu = False
    options.guided_matching = effort.guided
    listed = folder / "pairs.txt"
    pairing = pycolmap.ImportedPairingOptions()
    pairing.match_list_path = str(listed)
    for start in range(0, len(wanted), PAIRS_AT_ONCE):
        doing(f"{effort.name}: comparing pictures, {start} of {len(wanted)} pairs")
        part = wanted[start : start + PAIRS_AT_ONCE]
        lines = [f"{pictures[i].name} {pictures[j].name}" for i, j in part]
        listed.write_text("\n".join(lines) + "\n")
        pycolmap.match_image_pairs(
            database, matching_options=options, pairing_options=pairing, device=pycolmap.Device.cpu
        )
    return _map(effort, len(pictures), images, folder, doing)


def _find_features(
    effort: Effort,
    pictures: list[Picture],
    images: Path,
    database: Path,
    fisheye: bool,
    doing: Callable[[str], None],
) -> None:
    options = pycolmap.FeatureExtractionOptions()
    options.num_threads = _native.num_threads()
    options.use_gpu = False
    options.max_image_size = effort.size
    options.sift.max_num_features = effort.features
    options.sift.first_octave = effort.first_octave
    options.sift.estimate_affine_shape = effort.affine
    options.sift.domain_size_pooling = effort.affine
    cameras: dict[tuple, list[Picture]] = {}
    for picture in pictures:
        cameras.setdefault(picture.camera, []).append(picture)
    done = 0
    for group in cameras.values():
        doing(f"{effort.name}: finding features, {done} of {len(pictures)} pictures")
        reading = pycolmap.ImageReaderOptions()
        reading.camera_model = (
            "OPENCV_FISHEYE"
            if fisheye
            else "OPENCV"
            if len(group) >= FEW_VIEWS
            else "SIMPLE_RADIAL"
        )
        if group[0].focal:
            reading.camera_params = _first_guess(group[0], reading.camera_model)
        pycolmap.extract_features(
            database,
            images,
            image_names=[picture.name for picture in group],
            camera_mode=pycolmap.CameraMode.SINGLE,
            reader_options=reading,
            extraction_options=options,
            device=pycolmap.Device.cpu,
        )
        done += len(group)


def _first_guess(picture: Picture, model: str) -> str:
    """COLMAP's list of parameters for a focal length, centred and without distortion."""
    centre = [picture.width / 2, picture.height / 2]
    focal = [picture.focal] if model == "SIMPLE_RADIAL" else [picture.focal] * 2
    distortion = [0.0] * (1 if model == "SIMPLE_RADIAL" else 4)
    return ",".join(map(repr, map(float, [*focal, *centre, *distortion])))


def _map(
    effort: Effort, n: int, images: Path, folder: Path, doing: Callable[[str], None]
) -> Model | None:
    options = pycolmap.IncrementalPipelineOptions()
    options.num_threads = _native.num_threads()
    options.random_seed = SEED
    options.min_model_size = min(10, max(2, n // 4))
    options.multiple_models = True
    placed = itertools.count(3)
    found = pycolmap.incremental_mapping(
        folder / "database.db",
        images,
        folder,
        options=options,
        next_image_callback=lambda: doing(f"{effort.name}: placing pictures, {next(placed)}"),
    )
    if not found:
        return None
    largest = max(found.values(), key=lambda model: model.num_reg_images())
    _find_principal_points(largest)
    others = sum(model.num_reg_images() for model in found.values()) - largest.num_reg_images()
    return _model(largest, others)


def _find_principal_points(model: pycolmap.Reconstruction) -> None:
    """One more adjustment of everything, now with principal points, where views are many."""
    views: dict[int, int] = {}
    for index in model.reg_image_ids():
        camera = model.images[index].camera_id
        views[camera] = views.get(camera, 0) + 1
    if min(views.values()) < MANY_VIEWS:
        return
    options = pycolmap.BundleAdjustmentOptions()
    options.refine_principal_point = True
    options.print_summary = False
    options.ceres.solver_options.num_threads = _native.num_threads()
    adjusted = pycolmap.BundleAdjustmentConfig()
    for index in model.reg_image_ids():
        adjusted.add_image(index)
    adjusted.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    # not pycolmap.bundle_adjustment, which logs whatever the level
    pycolmap.create_default_bundle_adjuster(options, adjusted, model).solve()


def _model(found: pycolmap.Reconstruction, others: int) -> Model:
    views = sorted((found.images[i] for i in found.reg_image_ids()), key=lambda view: view.name)
    poses = np.stack([view.cam_from_world().inverse().matrix() for view in views])
    poses[:, :, 1:3] *= -1  # OpenCV's axes to OpenGL's
    found.update_point_3d_errors()
    sure = [
        point
        for point in found.points3D.values()
        if point.track.length() >= POINT_VIEWS and point.error <= POINT_ERROR
    ]
    place = {view.image_id: i for i, view in enumerate(views)}
    seen = [
        [place[element.image_id], k]
        for k, point in enumerate(sure)
        for element in point.track.elements
    ]
    return Model(
        names=[view.name for view in views],
        c2w=poses,
        lenses=[_lens(found.cameras[view.camera_id]) for view in views],
        points=np.array([point.xyz for point in sure]).reshape(-1, 3),
        colours=np.array([point.color for point in sure], np.uint8).reshape(-1, 3),
        seen=np.array(seen, np.int32).reshape(-1, 2),
        error=float(found.compute_mean_reprojection_error()),
        unconnected=others,
    )


def _lens(camera: pycolmap.Camera) -> Lens:
    values = {
        "fl_x": camera.focal_length_x,
        "fl_y": camera.focal_length_y,
        "cx": camera.principal_point_x,
        "cy": camera.principal_point_y,
    }
    names = {
        "SIMPLE_RADIAL": ("k1",),
        "OPENCV": ("k1", "k2", "p1", "p2"),
        "OPENCV_FISHEYE": ("k1", "k2", "k3", "k4"),
    }[camera.model_name]
    extra = [camera.params[i] for i in camera.extra_params_idxs()]
    values |= dict(zip(names, extra, strict=True))
    model = "OPENCV" if camera.model_name == "SIMPLE_RADIAL" else camera.model_name
    return Lens(model, camera.width, camera.height, {k: float(v) for k, v in values.items()})
