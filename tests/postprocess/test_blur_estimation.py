"""Kernels from sharp pairs and from nothing; the command line."""

import json

import imageio.v3 as imageio
import pytest
import torch
from sphere_run import SphereRun, write_blender

from nerfkit import cli
from nerfkit.errors import NerfkitError
from nerfkit.postprocess.blur import kernels
from nerfkit.postprocess.blur.blind import alternate, estimate_blind, flatten
from nerfkit.postprocess.blur.estimate import kernel_of_pairs, kernel_of_run
from nerfkit.postprocess.blur.forward import degrade
from nerfkit.postprocess.blur.kernel_files import load_kernel
from nerfkit.postprocess.blur.measure import kernel_psnr, width_of
from nerfkit.postprocess.blur.pairs import KernelSystem, solve_free
from nerfkit.postprocess.blur.priors import fit_best, fit_gaussian

SIZE = 11


def scene(height: int, width: int, seed: int = 0) -> torch.Tensor:
    """[height, width]: overlapping rectangles and disks, the sharp edges of a drawing."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.full((height, width), 0.5)
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    for i in range(120):
        r, c, size, value = torch.rand(4, generator=generator).tolist()
        near_row, near_column = (rows - r * height).abs(), (columns - c * width).abs()
        reach = 3 + 14 * size
        square = torch.maximum(near_row, near_column) < reach
        disk = near_row**2 + near_column**2 < reach**2
        x = torch.where(square if i % 2 else disk, torch.tensor(value), x)
    return x


def observe(x: torch.Tensor, kernel: torch.Tensor, scale: int, noise: float = 0.0) -> torch.Tensor:
    y = degrade(x[None, None], kernel, scale)[0, 0]
    y = y + noise * torch.randn(y.shape, generator=torch.Generator().manual_seed(9))
    return (y.clamp(0, 1) * 255).round() / 255


TRUTHS = {
    "gaussian": kernels.gaussian_kernel(1.8, 0.9, 0.6, SIZE),
    "motion": kernels.motion_kernel(7.0, 0.8, SIZE),
    "disk": kernels.disk_kernel(2.4, SIZE),
}


@pytest.mark.parametrize("shape", TRUTHS)
@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_pairs_find_family_and_kernel(shape, noise):
    system = KernelSystem(2, SIZE)
    for seed in (0, 1):
        x = scene(120, 96, seed)
        system.add(x, observe(x, TRUTHS[shape], 2, noise))
    fit = fit_best(system)
    assert fit.shape == shape
    assert kernel_psnr(fit.kernel, TRUTHS[shape]) > (60 if noise == 0 else 38)
    if noise:
        # a family of two or three numbers follows the noise less than 121 free entries
        assert kernel_psnr(fit.kernel, TRUTHS[shape]) > 5 + kernel_psnr(
            solve_free(system).kernel, TRUTHS[shape]
        )


def test_free_solution_finds_a_kernel_of_no_family():
    truth = torch.zeros(SIZE, SIZE)
    truth[3, 4:9] = torch.tensor([0.3, 0.0, 0.1, 0.2, 0.0])
    truth[6:8, 5] = 0.2
    x = scene(120, 96)
    system = KernelSystem(2, SIZE)
    system.add(x, observe(x, truth, 2))
    fit = fit_best(system)
    assert fit.shape == "free"
    assert (fit.kernel >= 0).all()
    assert kernel_psnr(fit.kernel, truth) > 30


def test_offset_in_brightness_does_no_harm():
    x = scene(120, 96)
    kernel = TRUTHS["gaussian"]
    system = KernelSystem(1, SIZE)
    system.add(0.8 * x, observe(0.8 * x, kernel, 1) + 0.1)
    assert kernel_psnr(fit_gaussian(system).kernel, kernel) > 55


def test_system_is_the_forward_model():
    x = scene(60, 48)
    kernel = TRUTHS["disk"]
    for scale in (1, 2, 3):
        system = KernelSystem(scale, SIZE)
        system.add(x, degrade(x[None, None], kernel, scale)[0, 0])
        assert float(system.residual(kernel)) < 1e-8 * system.count  # worst 4e-14


def test_flatten_drops_weak_gradients_and_keeps_edges():
    step = torch.zeros(1, 1, 16, 16)
    step[..., 8:] = 0.5
    noisy = step + 0.01 * torch.rand(step.shape, generator=torch.Generator().manual_seed(0))
    flat = flatten(noisy, 0.1)
    left = flat[0, 0, :, :8]
    assert left.std() < 0.3 * noisy[0, 0, :, :8].std()
    assert float(flat[..., 8:].mean() - flat[..., :8].mean()) == pytest.approx(0.5, abs=0.01)


def write(path, x: torch.Tensor) -> None:
    grey = (x.clamp(0, 1) * 255).round().byte()
    imageio.imwrite(path, grey[..., None].expand(-1, -1, 3).numpy())


def test_command_with_sharp_images(tmp_path, capsys):
    for folder in ("sharp", "blurred"):
        (tmp_path / folder).mkdir()
    truth = kernels.gaussian_kernel(2.0, 1.2, 0.4)
    for seed in (0, 1):
        x = scene(120, 140, seed)
        write(tmp_path / "sharp" / f"{seed}.png", x)
        write(tmp_path / "blurred" / f"{seed}.png", observe(x, truth, 2))
    arguments = [tmp_path / "blurred", "--sharp", tmp_path / "sharp", "-s", 2]
    out, report = tmp_path / "k.mat", tmp_path / "k.json"
    command = ["blur-kernel", *arguments, "-o", out, "--json", report]
    assert cli.main([str(a) for a in command]) == 0
    assert "gaussian kernel by pairs, 2 images, x2" in capsys.readouterr().out
    assert kernel_psnr(load_kernel(out), truth) > 45
    assert json.loads(report.read_text())["parameters"]["sigma_long"] == pytest.approx(2, rel=0.05)


def test_command_without_sharp_images(tmp_path, capsys):
    truth = kernels.gaussian_kernel(1.5)
    write(tmp_path / "y.png", observe(scene(160, 160), truth, 1))
    out = tmp_path / "k.npy"
    command = ["blur-kernel", tmp_path / "y.png", "-s", 1, "--family", "round", "-o", out]
    assert cli.main([str(a) for a in command]) == 0
    assert "round kernel by spectrum, 1 image, x1" in capsys.readouterr().out
    assert width_of(load_kernel(out)) == pytest.approx(1.5, rel=0.15)


def test_command_explains_itself(tmp_path, capsys):
    write(tmp_path / "a.png", scene(60, 60))
    write(tmp_path / "b.png", scene(60, 60))
    for arguments, complaint in (
        ([tmp_path / "nothing"], "no such file or folder"),
        ([tmp_path / "a.png", "-o", tmp_path / "k.txt"], "want a kernel file"),
        ([tmp_path / "a.png", "--sharp", tmp_path / "b.png", "-s", "2"], "want 120x120 pixels"),
        ([tmp_path / "a.png", "--scale", "5"], "--scale: want 1, 2, 3 or 4"),
        ([tmp_path / "a.png", "--family", "free"], "--family: blind, want one of round"),
    ):
        assert cli.main(["blur-kernel", *map(str, arguments)]) == 2
        assert complaint in capsys.readouterr().err


class SoftRun(SphereRun):
    """A run whose renders are blurred by a known kernel."""

    kernel = kernels.gaussian_kernel(1.1)

    def render(self, camera, outputs):
        out = super().render(camera, outputs)
        image = out["rgb"].permute(2, 0, 1)[:, None]
        out["rgb"] = degrade(image, self.kernel, 1)[:, 0].permute(1, 2, 0)
        return out


def test_run_gives_the_blur_of_its_renders(tmp_path):
    write_blender(tmp_path / "data", SphereRun(tmp_path), width=96, height=72)
    report = kernel_of_run(SoftRun(tmp_path, tmp_path / "data"), shape="gaussian")
    assert report.views == 3
    assert kernel_psnr(report.kernel, SoftRun.kernel) > 40


def test_pairs_must_match(tmp_path):
    write(tmp_path / "a.png", scene(60, 60))
    with pytest.raises(NerfkitError, match="one sharp image for each of 1, got 0"):
        kernel_of_pairs([], [tmp_path / "a.png"], 2)


BLIND = {
    "round": kernels.gaussian_kernel(1.3),
    "motion": kernels.motion_kernel(9.0, 0.8),
    "disk": kernels.disk_kernel(2.8),
}


@pytest.mark.parametrize("family", BLIND)
def test_spectra_tell_family_and_kernel(family):
    truth = BLIND[family]
    floor = kernel_psnr(torch.stack(list(BLIND.values())).mean(0), truth)
    found, kernel = estimate_blind([observe(scene(200, 200), truth, 1)], 1)
    assert found == family
    assert kernel_psnr(kernel, truth) > floor + 8


def test_alternation_finds_direction_and_ratio():
    truth = kernels.gaussian_kernel(2.0, 1.0, 0.6)
    y = observe(scene(160, 160), truth, 1)
    round_one = estimate_blind([y], 1, "round")[1]
    kernel = alternate([y], 1, turns=2)
    assert kernel_psnr(kernel, truth) > kernel_psnr(round_one, truth) + 3  # 5.0
