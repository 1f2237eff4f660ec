"""Scripts of benchmarks/ on a sphere: that they run, and print and store what they say."""

import importlib
import json
import re
import sys
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
import torch
from sphere_run import SphereRun, cameras_around, write_blender

from nerfkit.cli import main
from nerfkit.kernels import _native
from nerfkit.postprocess import models
from nerfkit.postprocess.scene.train import RefinerConfig, Trainer, train_refiner
from nerfkit.training import FitConfig, fit

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
TINY = {"steps": 20, "finest": 32, "samples": 4000}
TINY_NERF = {"preset": "nerf", "steps": 12, "width": 16, "rays": 128, "fine_samples": 8}

pytestmark = pytest.mark.skipif(not _native.available(), reason="C++ kernels are not built")


@pytest.fixture
def script(monkeypatch, capsys):
    """Run a script in this process: what it printed, and its JSON where it was asked for."""

    def run(name: str, *arguments, json_file: Path | None = None) -> tuple[str, dict]:
        monkeypatch.syspath_prepend(BENCHMARKS)
        monkeypatch.setenv("COLUMNS", "120")
        wanted = ["--json", str(json_file)] if json_file else []
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments), *wanted])
        threads = torch.get_num_threads()
        try:
            importlib.import_module(name).main()
        finally:
            torch.set_num_threads(threads)
        return capsys.readouterr().out, json.loads(json_file.read_text()) if json_file else {}

    return run


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sphere")
    write_blender(folder, SphereRun(folder, folder, cameras_around(8)), 8, 32, 32)
    return folder


@pytest.fixture(scope="module")
def run(data, tmp_path_factory) -> Path:
    return fit(FitConfig(data=data, output=tmp_path_factory.mktemp("runs") / "run", **TINY))


@pytest.fixture(scope="module")
def nerf_run(data, tmp_path_factory) -> Path:
    return fit(FitConfig(data=data, output=tmp_path_factory.mktemp("runs") / "nerf", **TINY_NERF))


def test_nerf(script, nerf_run, tmp_path):
    shown, result = script("nerf", nerf_run, "--views", 2, json_file=tmp_path / "nerf.json")
    guided, whole = result["guided"]["octree"], result["guided"]["whole cube"]
    # the paper's on every ray: 64 of the coarse network, these and 128 more of the fine one
    assert whole["evaluations_per_ray"] == 64 + 64 + 128
    assert 0 < guided["evaluations_per_ray"] < whole["evaluations_per_ray"]
    assert guided["n_views"] == 2 and guided["resolution"] == [32, 32]
    assert 0 < result["training"]["gflops"] < 1.5 * result["training"]["bare_gflops"]
    assert "fewer evaluations" in shown and "training:" in shown


def test_baked(script, run, nerf_run, tmp_path):
    path = tmp_path / "sphere.baked"
    assert main(["bake", str(run), "-o", str(path)]) == 0
    shown, result = script(
        *("baked", run, path, "--views", 2, "--nerf", nerf_run), json_file=tmp_path / "baked.json"
    )
    assert abs(result["baked"]["psnr"] - result["run"]["psnr"]) < 3  # measured 0.2
    assert result["unguided_nerf_seconds_per_frame"] > 0 and "unguided NeRF" in shown
    assert result["baked_megabytes"] == path.stat().st_size / 1e6


def test_refined(script, run, tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, "validate", lambda self: (30.0, 30.1))  # kept, though untrained
    train_refiner(run, RefinerConfig(4, minutes=1e-3, sources=3, width=8, batch=1, patch=8))
    shown, result = script("refined", run, "--views", 2, json_file=tmp_path / "refined.json")
    assert result["scale"] == 4 and result["n_views"] == 2 and result["refined"]["psnr"] > 5
    assert "refined" in shown


@pytest.fixture
def pictures(tmp_path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    waves = np.sin(np.arange(120) / 4)
    picture = 127 + 60 * (waves[:, None, None] + np.cos(np.arange(120) / 3)[None, :, None])
    imageio.imwrite(folder / "waves.png", np.broadcast_to(picture, (120, 120, 3)).astype(np.uint8))
    return folder


def test_sr(script, pictures, tmp_path):
    shown, result = script("sr", pictures, "--frame", "24x16", json_file=tmp_path / "sr.json")
    shipped = {path.stem for path in models.WEIGHTS.glob("*.safetensors")}
    assert {row["network"] for row in result["networks"]} == shipped
    for row in result["networks"]:
        assert row["pictures"]["psnr"] > 20 and row["pictures"]["bicubic"] > 20, row
        assert row["seconds_per_frame"] > 0 and row["peak_mebibytes"] > 50
        assert row["network"] in shown


def test_blind_sr(script, pictures, tmp_path):
    shown, result = script(
        *("blind_sr", pictures, "--scale", 2, "--kernels", 3), json_file=tmp_path / "blind.json"
    )
    found = {line["method"]: line["psnr"] for line in result["summary"]}
    assert found["closed form, true kernel"] > found["bicubic"]
    assert re.search(r"x2 closed form, spectral +[\d.]+ dB +kernel", shown)
