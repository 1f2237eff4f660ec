"""The written data set: files, poses, reproducibility, reuse and refusals."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

import nerfkit.scenes
from nerfkit.errors import NerfkitError
from nerfkit.scenes import build, names
from nerfkit.scenes.tracer import workers
from nerfkit.scenes.tracer.rig import Camera

SMALL = {"size": (32, 24), "n_train": 3, "n_test": 2}


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


@pytest.fixture(scope="module", autouse=True)
def recipes() -> Iterator[None]:
    """Makes the recipes in tests/scenes/recipes known beside the built-in ones."""
    folder = str(Path(__file__).parent / "recipes")
    nerfkit.scenes.__path__.append(folder)
    yield
    nerfkit.scenes.__path__.remove(folder)


@pytest.fixture(scope="module")
def slab(recipes: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("slab", tmp_path_factory.mktemp("scenes") / "slab", **SMALL)


def test_names() -> None:
    assert {"garden", "machine", "still_life"} <= set(names())
    assert "tracer" not in names()


def test_layout(slab: Path) -> None:
    for split, count in (("train", 3), ("test", 2)):
        meta = json.loads((slab / f"transforms_{split}.json").read_text())
        focal = 16 / np.tan(meta["camera_angle_x"] / 2)
        assert 2 * np.arctan(12 / focal) == pytest.approx(0.6911112)  # along the shorter side
        assert len(meta["frames"]) == count
        for frame in meta["frames"]:
            c2w = np.array(frame["transform_matrix"])
            np.testing.assert_allclose(c2w[:3, :3] @ c2w[:3, :3].T, np.eye(3), atol=1e-12)
            assert np.linalg.det(c2w[:3, :3]) == pytest.approx(1)
            assert np.linalg.norm(c2w[:3, 3]) == pytest.approx(4.0)
            np.testing.assert_allclose(c2w[:3, 2] * 4.0, c2w[:3, 3], atol=1e-12)
            image = Image.open(slab / (frame["file_path"] + ".png"))
            assert (image.size, image.mode) == ((32, 24), "RGBA")
    assert not list(slab.rglob("*.tmp"))
    assert not list((slab / "train").glob("*.npy"))


def test_depth_leads_to_the_mesh(slab: Path) -> None:
    """Points from depth lie on scene.glb, and ray distance and z-depth agree."""
    mesh = trimesh.load(slab / "scene.glb", force="mesh")
    meta = json.loads((slab / "transforms_test.json").read_text())
    stem = slab / meta["frames"][1]["file_path"]
    camera = Camera(np.array(meta["frames"][1]["transform_matrix"]), 32, 24)
    distance = np.load(f"{stem}_depth.npy").ravel()
    z_depth = np.load(f"{stem}_zdepth.npy").ravel()
    normal = np.load(f"{stem}_normal.npy").astype(np.float32).reshape(-1, 3)
    hit = distance > 0
    assert 0.1 < hit.mean() < 0.9
    np.testing.assert_allclose(
        np.linalg.norm(normal[hit], axis=1), 1, atol=2e-3
    )  # 2e-4 measured: fp16
    rows, columns = np.divmod(np.arange(32 * 24), 32)
    origins, directions = camera.rays(columns + 0.5, rows + 0.5)
    points = (origins + distance[:, None] * directions)[hit]
    np.testing.assert_allclose(
        ((camera.c2w[:3, 3] - points) @ camera.c2w[:3, 2]), z_depth[hit], atol=1e-5
    )  # 5e-7 measured
    sample = slice(None, None, 8)
    tree = trimesh.proximity.closest_point_naive(mesh, points[sample])[1]
    assert tree.max() < 1e-4  # 3e-7 measured
    assert (np.einsum("ni,ni->n", normal[hit], directions[hit]) <= 1e-3).all()


def test_same_seed_same_bytes(slab: Path, tmp_path: Path) -> None:
    again = build("slab", tmp_path / "again", **SMALL)
    assert contents(again) == contents(slab)
    other = build("slab", tmp_path / "other", **SMALL, seed=1)
    one, two = contents(slab), contents(other)
    assert one["train/r_000.png"] != two["train/r_000.png"]
    assert one["test/r_000.png"] == two["test/r_000.png"]


@pytest.mark.parametrize("name", ["machine", "garden", "still_life"])
def test_built_in_scenes(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pictures are worth fitting, and a child process writes the same bytes as this one."""
    sizes = {"size": (24, 24), "n_train": 1, "n_test": 1}
    alone = build(name, tmp_path / "alone", **sizes)
    rgba = np.asarray(Image.open(alone / "test/r_000.png"))
    assert 0.1 < (rgba[..., 3] == 255).mean() < 0.8
    assert rgba[..., :3][rgba[..., 3] == 255].std() > 30  # not one flat colour
    if name != "machine":
        return
    monkeypatch.setattr(workers, "PIXELS_A_WORKER", 1)
    monkeypatch.setenv("NERFKIT_THREADS", "2")
    calls = []
    split = build(name, tmp_path / "split", **sizes, progress=lambda *c: calls.append(c))
    assert contents(split) == contents(alone)
    assert calls == [(1, 2), (2, 2)]


def test_reuse_and_rebuild(slab: Path) -> None:
    calls: list[tuple[int, int]] = []
    times = {p: p.stat().st_mtime_ns for p in slab.rglob("*")}
    build("slab", slab, **SMALL, progress=lambda *c: calls.append(c))
    assert not calls
    assert times == {p: p.stat().st_mtime_ns for p in slab.rglob("*")}
    before = contents(slab)
    (slab / "train/r_001.png").unlink()
    build("slab", slab, **SMALL, progress=lambda *c: calls.append(c))
    assert calls[-1] == (5, 5)
    assert contents(slab) == before


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(NerfkitError, match=r"'lego' is unknown; choose one of: .*machine"):
        build("lego", tmp_path)
    with pytest.raises(NerfkitError, match="at least 1"):
        build("machine", tmp_path, n_train=0)
    (tmp_path / "transforms_train.json").write_text("{}")
    with pytest.raises(NerfkitError, match="another data set"):
        build("machine", tmp_path, **SMALL)
    assert (tmp_path / "transforms_train.json").read_text() == "{}"
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(NerfkitError, match="wanted a folder"):
        build("machine", file, **SMALL)
