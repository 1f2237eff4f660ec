"""Evaluation: a perfect run scores 100 dB, a known error its known PSNR; what the result states."""

import json
import math

import imageio.v3 as imageio
import pytest
import torch
from sphere_run import SphereRun, write_blender

from nerfkit import evaluate
from nerfkit.errors import NerfkitError


@pytest.fixture
def run(tmp_path) -> SphereRun:
    run = SphereRun(tmp_path / "run", tmp_path / "data")
    write_blender(tmp_path / "data", run)
    run.frames = 0
    return run


def test_the_truth_itself(run):
    result = evaluate.evaluate(run)
    # only the 8-bit truth is wrong, by at most half a step: 64.6 dB seen
    assert result["psnr"] > 20 * math.log10(2 * 255)
    assert result["ssim"] > 0.999
    assert result["n_views"] == len(result["per_view"]) == 3
    assert run.frames == 4  # one to warm up
    assert [view["name"] for view in result["per_view"]] == [f"test/r_{i}.png" for i in range(3)]
    json.dumps(result, allow_nan=False)


def test_known_errors_average_by_view(run):
    """PSNR is the mean of the views' PSNR, not the PSNR of the mean error."""
    perfect = run.render
    offsets = iter([0.0, 0.01, 0.1, 0.1])  # warm-up first

    def render(camera, outputs):
        offset = next(offsets)
        rgb = perfect(camera, ["rgb"])["rgb"]
        return {"rgb": torch.where(rgb > 0.5, rgb - offset, rgb + offset)}

    run.render = render
    result = evaluate.evaluate(run)
    # the 8-bit truth moves them a little: 0.001 dB seen
    assert [v["psnr"] for v in result["per_view"]] == pytest.approx([40, 20, 20], abs=0.01)
    assert result["psnr"] == pytest.approx(80 / 3, abs=0.01)


def test_the_background_is_the_runs(run):
    run.config["background"] = "black"
    assert evaluate.evaluate(run)["psnr"] < 10
    run.config["background"] = [1.0, 1.0, 1.0]
    assert evaluate.evaluate(run)["psnr"] > 50


def test_it_says_how_it_was_measured(run):
    result = evaluate.evaluate(run, split="train")
    assert result["split"] == "train" and result["background"] == "white"
    assert result["resolution"] == ["32x24"] and result["iteration"] == 100
    assert result["ssim_settings"]["gaussian_weights"] and "clamped" in result["protocol"]
    assert result["lpips"] is None and result["lpips_note"]
    assert result["versions"]["torch"] and result["hardware"]["processor"]
    assert result["seconds_per_frame"] > 0


def test_renders_are_saved(run, tmp_path):
    evaluate.evaluate(run, images=tmp_path / "images")
    picture = imageio.imread(tmp_path / "images" / "test" / "r_1.png")
    assert picture.shape == (24, 32, 3)


def test_a_missing_split_is_named(run):
    with pytest.raises(NerfkitError, match="val"):
        evaluate.evaluate(run, split="val")


def test_masks_leave_pixels_out(run, monkeypatch):
    load = evaluate.load_dataset

    def masked(*args, **kwargs):
        dataset = load(*args, **kwargs)
        for image, i in zip(dataset.images, range(3), strict=True):
            mask = torch.full(image.shape[:2], 255, dtype=torch.uint8)
            mask[:, :10] = 0
            dataset.masks[i] = mask
            image[:, :10] = 77  # wrong where nobody looks
        return dataset

    whole = evaluate.evaluate(run)
    monkeypatch.setattr(evaluate, "load_dataset", masked)
    result = evaluate.evaluate(run)
    assert result["masked"] and not whole["masked"]
    assert result["psnr"] > 50


def test_composite_is_straight_alpha():
    pixel = torch.tensor([[[255, 0, 51, 51]]], dtype=torch.uint8)
    colour = evaluate.background_colour("white")
    assert evaluate.composite(pixel, colour)[0, 0].tolist() == pytest.approx([1.0, 0.8, 0.84])
    assert evaluate.composite(pixel[..., :3], colour)[0, 0].tolist() == pytest.approx([1, 0, 0.2])
    with pytest.raises(NerfkitError, match="background"):
        evaluate.background_colour("plaid")


def test_the_table_prints(run, capsys):
    evaluate.print_table(evaluate.evaluate(run))
    shown = capsys.readouterr().out
    assert "mean of 3" in shown and "PSNR" in shown and "no LPIPS" in shown
