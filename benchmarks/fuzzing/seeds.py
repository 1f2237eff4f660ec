"""Small valid files of every kind that nerfkit reads, written below one folder."""

import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.io
import torch
from PIL import Image

from nerfkit.baking import bake, save_baked
from nerfkit.baking.storage import load_baked
from nerfkit.data import load_dataset
from nerfkit.device import CPU
from nerfkit.files import read_json
from nerfkit.octree import Octree
from nerfkit.octree.storage import load_octree, save_octree
from nerfkit.paths import read_camera_path
from nerfkit.postprocess.blur.kernel_files import load_kernel, save_kernel
from nerfkit.postprocess.compact import CompactSR
from nerfkit.postprocess.models import load_network, save_network
from nerfkit.run import Run
from nerfkit.training import FitConfig, checkpoint, fit
from nerfkit.training.preparation import stored_options

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
import data_writers

SIDE, VIEWS = 16, 10


@dataclass(frozen=True)
class Loader:
    """What reads a folder or a file in it, and which of its files are damaged (a glob)."""

    name: str
    folder: Path
    files: str
    load: Callable[[Path], object]

    def inputs(self) -> list[Path]:
        return sorted(path for path in self.folder.glob(self.files) if path.is_file())


def write_blender(folder: Path) -> None:
    """A grey ball on nothing, from views all around."""
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    inside = np.hypot(x, y) < SIDE / 3
    pixels = np.zeros((SIDE, SIDE, 4), np.uint8)
    pixels[inside] = 128, 100, 80, 255
    for split in ("train", "test"):
        frames = []
        (folder / split).mkdir(parents=True)
        for i in range(VIEWS):
            a = 2 * math.pi * i / VIEWS
            back = np.array([math.cos(a), math.sin(a), 0.0])
            right, up = np.array([-math.sin(a), math.cos(a), 0.0]), np.array([0.0, 0.0, 1.0])
            pose = np.eye(4)
            pose[:3] = np.stack([right, up, back, 4 * back], 1)
            Image.fromarray(pixels).save(folder / split / f"r_{i}.png")
            frames.append({"file_path": f"./{split}/r_{i}", "transform_matrix": pose.tolist()})
        content = {"camera_angle_x": 0.7, "frames": frames}
        (folder / f"transforms_{split}.json").write_text(json.dumps(content))


def loaders(folder: Path) -> list[Loader]:
    """Write everything, and say who reads it."""
    data = folder / "blender"
    write_blender(data)
    dataset = load_dataset(data, splits=("test",))
    kinds = {
        "nerfstudio": data_writers.write_nerfstudio,
        "nsvf": data_writers.write_nsvf,
        "llff": data_writers.write_llff,
        "colmap": data_writers.write_colmap,
        "colmap-text": lambda *a: data_writers.write_colmap(*a, binary=False),
    }
    for name, write in kinds.items():
        (folder / name).mkdir()
        write(dataset, folder / name)
    _write_images(folder / "images", dataset)
    found = [
        Loader("blender", data, "*.json", load_dataset),
        Loader("nerfstudio", folder / "nerfstudio", "*.json", load_dataset),
        Loader("nsvf set", folder / "nsvf", "**/*.txt", load_dataset),
        Loader("llff", folder / "llff", "*.npy", load_dataset),
        Loader("colmap", folder / "colmap", "**/*.bin", load_dataset),
        Loader("colmap text", folder / "colmap-text", "**/*.txt", load_dataset),
        Loader("images", folder / "images", "images/*", load_dataset),
        Loader("points", folder / "images", "*.ply", load_dataset),
    ]
    return found + _runs(folder, data) + _files(folder / "files")


def _write_images(folder: Path, dataset) -> None:
    """One view in each format of images, with masks and points."""
    data_writers.write_nerfstudio(dataset, folder)
    meta = json.loads((folder / "transforms.json").read_text())
    meta = {"frames": meta["frames"], "ply_file_path": "points.ply"}
    for frame, suffix in zip(meta["frames"], ("png", "jpg", "webp", "tif", "bmp"), strict=False):
        old = folder / frame["file_path"]
        image = Image.open(old)
        new = old.with_suffix(f".{suffix}")
        if suffix != "png":
            image.convert("RGB").save(new)
            old.unlink()
        frame["file_path"] = str(new.relative_to(folder))
    mask = folder / "images" / "mask.png"
    Image.fromarray(np.full((SIDE, SIDE), 255, np.uint8)).save(mask)
    meta["frames"][0]["mask_path"] = "images/mask.png"
    (folder / "transforms.json").write_text(json.dumps(meta))
    import trimesh

    trimesh.PointCloud(np.eye(3)).export(folder / "points.ply")


def _runs(folder: Path, data: Path) -> list[Loader]:
    """Runs of all presets, and a baked one."""
    found = []
    small = {"fast": {"finest": 32, "samples": 4000, "hidden": (8,)}, "nerf": {"width": 8}}
    small |= {"fastnerf": {"width": 8}, "nsvf": {"width": 8, "rays": 64, "voxel_size": 0.8}}
    for preset, options in small.items():
        run = folder / f"run-{preset}"
        fit(FitConfig(data=data, output=run, preset=preset, steps=3, **options))
        if preset == "fast":
            _shrink(run)
        found.append(Loader(f"checkpoint {preset}", run, "*.safetensors", _resume))
    run = folder / "run-fast"
    found.append(Loader("run config", run, "c*.json", _configured))
    baked = folder / "baked"
    baked.mkdir()
    fitted = Run.load(run)
    field = bake(fitted.field, fitted.train_cameras, fitted.background)
    save_baked(field, fitted.facts(), baked / "scene.baked")
    found.append(Loader("baked", baked, "*", lambda at: load_baked(_only(at))))
    return found


def _files(folder: Path) -> list[Loader]:
    """What stands alone: octree, network, camera path, kernels."""
    for name in ("octree", "network", "path", "kernels"):
        (folder / name).mkdir(parents=True)
    cells = torch.tensor([[0, 0, 0], [1, 2, 3], [7, 7, 7], [4, 0, 2]])
    octree = Octree.from_cells(torch.zeros(3), 2.0, 3, cells)
    save_octree(octree, folder / "octree" / "tree.octree")
    network = CompactSR(scale=2, channels=1, width=4, layers=2, hidden=8)
    save_network(folder / "network" / "net.safetensors", network, {"steps": 1})
    pose = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 4, 0, 0, 0, 1]
    frames = [{"camera_to_world": pose, "fov": 40.0, "aspect": 1.0}] * 3
    sizes = {"render_width": 8, "render_height": 8, "seconds": 1.0, "fps": 3}
    content = {"camera_type": "perspective", **sizes, "camera_path": frames}
    (folder / "path" / "path.json").write_text(json.dumps(content))
    kernel = torch.ones(5, 5)
    for suffix in ("npy", "png", "mat"):
        save_kernel(folder / "kernels" / f"kernel.{suffix}", kernel)
    packed = {"Kernel": kernel.double().numpy(), "other": np.arange(3)}
    scipy.io.savemat(folder / "kernels" / "packed.mat", packed, do_compression=True)
    return [
        Loader("octree", folder / "octree", "*", lambda at: load_octree(_only(at))),
        Loader("network", folder / "network", "*", lambda at: load_network(_only(at))),
        Loader("camera path", folder / "path", "*", lambda at: read_camera_path(_only(at))),
        Loader("kernels", folder / "kernels", "*", _kernels),
    ]


def _only(folder: Path) -> Path:
    return next(iter(folder.iterdir()))


def _kernels(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        load_kernel(path)


def _resume(folder: Path) -> None:
    config = FitConfig(Path(), folder, resume=True).with_stored(read_json(folder / "config.json"))
    checkpoint.load_field(folder)
    cameras = Run.load(folder).train_cameras
    checkpoint.load_learner(folder, config, cameras, CPU)


def _shrink(folder: Path) -> None:
    """Keep a few voxels of a run of the default field: files of kilobytes, not megabytes."""
    config = FitConfig(Path(), folder).with_stored(read_json(folder / "config.json"))
    cameras = Run.load(folder).train_cameras
    learner, state, _ = checkpoint.load_learner(folder, config, cameras, CPU)
    octree = learner.field.octree
    keep = torch.arange(len(octree)) % (len(octree) // 50) == 0
    learner.optimiser.relayout(octree.keep(keep), learner.field.depths)
    checkpoint.save(folder, learner, torch.Generator(), state)


def _configured(folder: Path) -> None:
    """What `render`, and what `fit --resume` do with a run's settings."""
    run = Run.load(folder)
    run.render(run.train_cameras[0].resized(8), ["rgb"])
    config = FitConfig(Path(), folder, resume=True).with_stored(stored_options(folder))
    config.check()
