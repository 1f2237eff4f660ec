"""Every suite runs, and its figures say what was measured and against which ceiling."""

import pytest

from nerfkit.bench import SUITES
from nerfkit.kernels import _backend, _native

needs_cpp = pytest.mark.skipif(not _native.available(), reason="C++ kernels are not built")


def figures(ran, suite: str) -> list[dict]:
    return ran.result["suites"][suite]["figures"]


def test_all_suites_are_there_with_where_and_what_was_measured(ran):
    assert set(ran.result["suites"]) == set(SUITES)
    assert ran.result["hardware"]["device"] in ("cpu", "cuda")
    assert ran.result["versions"]["torch"] and "commit" in ran.result
    for suite in ran.result["suites"].values():
        assert suite["figures"] and not [f for f in suite["figures"] if f["wrong"]]


def test_every_figure_has_a_range_and_its_ceiling(ran):
    for suite in ran.result["suites"].values():
        for figure in suite["figures"]:
            assert figure["low"] <= figure["value"] <= figure["high"]
            if figure["unit"] == "s":
                assert figure["ceiling"] in suite["ceilings"][str(figure["threads"])]
                assert figure["share"] > 0 and figure["throughput"] > 0
                assert figure["repeats"] >= 2 and figure["error"] < 1e-3


@needs_cpp
def test_every_op_is_measured_on_every_backend_forward_and_backward(ran):
    from nerfkit.bench import ops

    cases = list(ops.cases(4, 4))
    assert {case.op for case in cases} == set(_backend.ops())
    seen = {(f["name"], f["backend"], f["direction"]) for f in figures(ran, "ops")}
    wanted = {(c.name, b, d) for c in cases for b in c.available() for d in c.directions()}
    assert seen == wanted
    assert {b for _, b, _ in seen} >= {"reference", "cpu"}


def test_quality_against_time(ran):
    curve = [f for f in figures(ran, "fit") if f["curve"] == "quality"]
    assert [f["size"] for f in curve] == ["2 steps"]
    assert all(f["unit"] == "dB" and f["x"] > 0 and 0 < f["value"] < 40 for f in curve)


def test_frames_with_and_without_early_stop_and_baked(ran):
    frames = figures(ran, "render")
    names = {"frame", "frame, no early stop", "frame, baked"}
    assert {(f["name"], f["x"]) for f in frames} == {(n, x) for n in names for x in (8, 16)}


def test_networks_of_super_resolution_are_bound_by_matrix_products(ran):
    found = figures(ran, "sr")
    assert {f["backend"] for f in found} == {"whole", "tiles"}
    assert {f["ceiling"] for f in found} <= {"sgemm", "bf16"}


def test_memory_is_that_of_one_call(ran):
    found = figures(ran, "memory")
    assert {f["name"] for f in found} >= {"forward and backward", "step of a fit", "frame"}
    assert all(f["unit"] == "B" and 0 <= f["value"] < 1e9 for f in found)
    kept = [f for f in found if f["backend"] == "reference" and f["name"] == "step of a fit"]
    assert kept[0]["value"] > 1e6  # measured 8.9e6: autograd keeps the samples


def test_cost_grows_with_threads_rays_voxels_and_pixels(ran):
    axes = {f["axis"] for f in figures(ran, "scaling")}
    assert axes == {"threads", "rays", "voxels", "pixels"}
    assert "render_rays, rays" in ran.result["suites"]["scaling"]["growth"]
