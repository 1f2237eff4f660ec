"""nerfkit bench: rows say what was measured, wrong kernels are found, errors come first."""

import json

import pytest
import torch

from nerfkit import cli
from nerfkit.bench import case, ops, report, timing
from nerfkit.bench.subject import Subject
from nerfkit.errors import NerfkitError
from nerfkit.kernels import _native
from nerfkit.kernels.ray_box import cpu as ray_box_cpu

needs_cpp = pytest.mark.skipif(not _native.available(), reason="C++ kernels are not built")
LIMITS = {"sgemm_gflops": 50.0, "memcpy_gbs": 10.0, "gather_mrows": 20.0}
OPS = {
    *(
        "baked_render",
        "composite",
        "encodings",
        "fastnerf_mlp",
        "first_hit",
        "fused_mlp",
        "fused_render",
    ),
    *("importance_sample", "level_sum", "nerf_mlp", "nsvf_mlp", "octree_traverse", "ray_box"),
    *("sample_placement", "sparse_adam", "voxel_features"),
}


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(report, "N_RAYS", 256)
    monkeypatch.setattr(report, "DEPTH", 5)
    monkeypatch.setattr(report, "FIT_RAYS", 256)
    monkeypatch.setattr(report, "FIT_DEPTH", 5)
    monkeypatch.setattr(report.ceilings, "measure", lambda seconds, place: LIMITS)
    monkeypatch.setattr(timing, "FEWEST", 2)


def test_ways_take_turns_with_fresh_arguments(monkeypatch):
    monkeypatch.setattr(timing, "MOST", 4)
    seen, made = [], iter(range(100))
    ways = {name: lambda x, name=name: seen.append((name, x)) for name in "ab"}
    timings = timing.in_turns(ways, lambda: next(made), budget=1e9)
    assert seen == [("ab"[i % 2], i) for i in range(10)]
    assert [t.repeats for t in timings.values()] == [4, 4]


@needs_cpp
def test_every_op_is_measured_on_every_backend(small, tmp_path):
    result = report.bench("ops", tmp_path / "ops.json", seconds=0.0)
    assert json.loads((tmp_path / "ops.json").read_text()) == result
    assert result["ceilings"] == LIMITS
    assert {row["op"] for row in result["rows"]} == OPS
    for row in result["rows"]:
        assert not row["failed"]
        assert row["throughput"] * row["seconds"] > 0
        assert row["error"] <= case.TOLERANCE
        if row["backend"] == "reference":
            assert row["ratio_to_reference"] == 1
    for direction in ("forward", "forward+backward"):
        rows = [r for r in result["rows"] if r["name"] == "fused_mlp"]
        assert {r["backend"] for r in rows if r["direction"] == direction} == {"reference", "cpu"}


def test_the_shares_are_work_over_time_over_rate(monkeypatch):
    seconds = timing.Timing(2.0, 0.1, 3)
    monkeypatch.setattr(case, "in_turns", lambda ways, *_: dict.fromkeys(ways, seconds))
    x = torch.zeros(1000)
    one = case.Case(
        *("ray_box", "copy", "1000", 1000, "numbers", {"x": x}),
        lambda backend, x: x.clone(),
        flops=1e9,
        gathers=1e6,
        backends=("reference",),
    )
    (row,) = case.measure("ops", one, LIMITS, 0.0, 1)
    assert row.throughput == 500
    assert row.share_of_memcpy == pytest.approx(8000 / 2.0 / 10e9)
    assert row.share_of_sgemm == pytest.approx(1e9 / 2.0 / 50e9)
    assert row.share_of_gather == pytest.approx(1e6 / 2.0 / 20e6)


@needs_cpp
def test_a_wrong_kernel_is_not_timed(small, tmp_path, monkeypatch):
    right = ray_box_cpu.ray_box

    def wrong(*arguments, **options):
        starts, ends = right(*arguments, **options)
        return starts + 1, ends

    monkeypatch.setattr(ray_box_cpu, "ray_box", wrong)
    with pytest.raises(NerfkitError, match="ray_box on cpu"):
        report.bench("ops", tmp_path / "ops.json", seconds=0.0)
    rows = json.loads((tmp_path / "ops.json").read_text())["rows"]
    failed = [(row["op"], row["backend"], row["seconds"]) for row in rows if row["failed"]]
    assert failed == [("ray_box", "cpu", None)]


def test_the_ball_is_thin_and_opaque():
    subject = Subject.ball(5, n_levels=2)
    (fit,) = [c for c in ops.fused(subject, 512) if c.name.startswith("fit_rays")]
    assert 1 < fit.gathers / (3 * 512 * 8 * 2) < 8  # samples with a colour, a ray
    (render,) = [c for c in ops.fused(subject, 512) if c.name == "render_rays"]
    opacity = render.run("reference", **render.inputs)[2]
    assert (opacity > 0.95).float().mean() > 0.9


def test_errors_come_before_the_work(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(report.ceilings, "measure", lambda seconds: pytest.fail("measured"))
    assert cli.main(["bench", "--suite", "opps"]) == 2
    assert "--suite opps: want one of all, ops, fit, render" in capsys.readouterr().err
    assert cli.main(["bench", "--json", str(tmp_path / "none" / "x.json")]) == 2
    assert "none/x.json: cannot be written" in capsys.readouterr().err


@needs_cpp
def test_steps_and_frames_of_a_scene(small, monkeypatch):
    monkeypatch.setattr(report, "SIDE", 32)
    monkeypatch.setattr(report, "VIEWS", 6)
    monkeypatch.setattr(report, "STEPS", 5)
    monkeypatch.setattr(report, "FRAMES", (16, 32))
    for suite, name in (("fit", "step of a fit"), ("render", "frame")):
        result = report.bench(suite, seconds=0.0)
        names = {(row["name"], row["backend"], row["failed"]) for row in result["rows"]}
        assert names == {(name, "reference", False), (name, "cpu", False)}
