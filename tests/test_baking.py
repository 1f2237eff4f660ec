"""Baking fits of a sphere: what the file shows, holds and refuses."""

import math

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from sphere_run import SphereRun, cameras_around, write_blender

from nerfkit.baking import load_baked
from nerfkit.cli import main
from nerfkit.errors import NerfkitError
from nerfkit.evaluate import evaluate
from nerfkit.export.surface import corners_of
from nerfkit.fields.nerf import NerfField, NerfShape
from nerfkit.kernels.nerf_mlp import NerfMlpConfig
from nerfkit.octree import Octree, morton_encode
from nerfkit.run import Run
from nerfkit.training import FitConfig, fit
from nerfkit.viewer.overlays import cropped


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    folder = tmp_path_factory.mktemp("scene")
    write_blender(folder, SphereRun(folder, folder), count=20, width=64, height=48)
    return Run.load(
        fit(FitConfig(data=folder, output=folder / "run", steps=120, finest=64, samples=30_000))
    )


@pytest.fixture(scope="module")
def baked(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("baked") / "sphere.baked"
    assert main(["bake", str(run.folder), "-o", str(path)]) == 0
    return path


def psnr(a, b) -> float:
    return -10 * math.log10(float((a - b).square().mean()))


def test_looks_like_its_run(run, baked):
    loaded = Run.load(baked)
    for camera in (cameras_around(7, 64, 48)[3], cameras_around(7, 37, 29)[5]):
        names = ["rgb", "opacity", "ray_distance", "normal"]
        truth, found = run.render(camera, names), loaded.render(camera, names)
        # measured 42.0 and more: the fog of a short fit, where voxels weigh little, is left out
        assert psnr(truth["rgb"], found["rgb"]) > 40
        assert (truth["opacity"] - found["opacity"]).abs().max() < 0.06  # measured 0.024


def test_takes_the_place_of_a_run(run, baked):
    loaded = Run.load(baked)
    assert loaded.iteration == run.iteration and len(loaded.train_cameras) == 20
    assert torch.equal(loaded.scene_box, run.scene_box) and loaded.config == run.config
    before, after = evaluate(run), evaluate(loaded)
    assert after["run"] == str(baked) and after["psnr"] > before["psnr"] - 0.3  # measured 0.09 more


def test_is_small(run, baked):
    field, checkpoint = load_baked(baked)[0], run.folder / "checkpoint.safetensors"
    # measured 0.57; of a 5 minute fit of lego 0.61
    assert baked.stat().st_size < checkpoint.stat().st_size * 0.7
    assert 0 < len(field.octree) <= len(run.field.octree)


def test_commands_take_the_file(baked, tmp_path, capsys):
    out = tmp_path / "frames"
    assert main(["render", str(baked), "-o", str(out), "--frames", ":2", "--size", "32x24"]) == 0
    assert len(list(out.rglob("*.png"))) == 2
    assert main(["bake", str(baked), "-o", str(tmp_path / "x")]) == 2
    assert "want the folder of a run" in capsys.readouterr().err


def test_its_densities_at_corners_are_those_of_the_run(run, baked):
    small = corners_of(load_baked(baked)[0])
    whole = corners_of(run.field)
    assert small.octree.depth == whole.octree.depth
    codes, wanted = morton_encode(whole.coords), morton_encode(small.coords)
    place = torch.searchsorted(codes, wanted)
    assert torch.equal(codes[place], wanted)
    difference = (small.opacities() - whole.opacities()[place]).abs()
    assert difference.mean() < 0.02  # measured MEAN


def test_cropping_leaves_one_half(baked):
    field, low = load_baked(baked)[0], torch.full((3,), -9.0)
    half = cropped(field, torch.stack([low, torch.tensor([0.0, 9.0, 9.0])]).numpy())
    assert 0 < len(half.octree) < len(field.octree)
    from_left = torch.tensor([[-5.0, 0.1, 0.1]]), torch.tensor([[1.0, 0.0, 0.0]])
    from_right = torch.tensor([[5.0, 0.1, 0.1]]), torch.tensor([[-1.0, 0.0, 0.0]])
    black = torch.zeros(3)
    seen, before = half.render(*from_left, black), field.render(*from_left, black)
    assert torch.allclose(seen.depths, before.depths, atol=0.05)
    behind = half.render(*from_right, black)
    assert behind.opacities[0] < 0.5 or behind.depths[0] > 5


@pytest.mark.parametrize("where", [0.3, 0.6, 0.999])
def test_a_damaged_file_is_one_line(baked, tmp_path, where):
    content = bytearray(baked.read_bytes())
    content[int(len(content) * where)] ^= 0x41
    damaged = tmp_path / "damaged.baked"
    damaged.write_bytes(content)
    with pytest.raises(NerfkitError) as caught:
        Run.load(damaged)
    assert "\n" not in str(caught.value) and str(damaged) in str(caught.value)
    damaged.write_bytes(content[: len(content) // 2])
    with pytest.raises(NerfkitError, match="damaged"):
        Run.load(damaged)


def test_other_files_are_refused(baked, tmp_path):
    with safe_open(baked, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    path = tmp_path / "other.baked"
    save_file(tensors, path, {**metadata, "format": "nerfkit baked 0"})
    with pytest.raises(NerfkitError, match="format"):
        Run.load(path)
    tensors["density"] = tensors["density"][:-1].clone()
    save_file(tensors, path, metadata)
    with pytest.raises(NerfkitError, match="checksum"):
        Run.load(path)


def test_a_nerf_says_what_is_at_corners():
    network = NerfMlpConfig(depth=3, width=16, view_width=8, skip=1, position_frequencies=3)
    shape = NerfShape(network, near=0.0, most_coarse=12, n_fine=10, spacing=0.02)
    cells = torch.tensor([[3, 4, 5], [3, 5, 5]])
    octree = Octree.from_cells(torch.tensor([-2.0, -1.0, -3.0]), 4.0, 5, cells)
    field = NerfField.create(shape, octree, torch.Generator().manual_seed(2))
    source = field.source()
    assert source.octree.resolution == 256
    corners = source.octree.cells()[:: max(1, len(source.octree) // 50)]
    raw = source.density(corners)
    sigma = source.density_scale * torch.nn.functional.softplus(raw + source.density_bias)
    points = octree.box_min + corners * source.octree.voxel
    directions = torch.nn.functional.normalize(torch.randn(len(points), 2, 3), dim=2)
    colors = source.colors(corners, directions)
    each = points.repeat_interleave(2, 0), directions.view(-1, 3), torch.arange(2 * len(points))
    rgb, sigma_raw = field.evaluate(field.fine, *each)
    torch.testing.assert_close(colors, rgb.sigmoid().view(len(points), 2, 3))
    thick = sigma_raw[::2].relu() * field.scale
    least = 1e-5 / source.octree.voxel
    torch.testing.assert_close(sigma, thick.clamp_min(least), rtol=1e-3, atol=1e-5)
