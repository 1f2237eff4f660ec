"""The command: errors first, the gate before any speed, a picture of every curve."""

import json

import pytest
from PIL import Image

from nerfkit import cli
from nerfkit.bench import QUICK, ceilings, curves, plots, report
from nerfkit.bench.figure import Figure
from nerfkit.errors import NerfkitError
from nerfkit.kernels import _native
from nerfkit.kernels.ray_box import cpu as ray_box_cpu

needs_cpp = pytest.mark.skipif(not _native.available(), reason="C++ kernels are not built")


def test_errors_come_before_the_work(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(ceilings, "measure", lambda *_: pytest.fail("measured"))
    monkeypatch.setattr(report.gate, "check_all", lambda *_: pytest.fail("measured"))
    monkeypatch.setattr(plots.importlib.util, "find_spec", lambda name: None)
    wrong = {
        "--suite opps": "--suite opps: want one of all, ops, fit, render, sr, memory, scaling",
        f"--json {tmp_path}/none/x.json": "none/x.json: cannot be written",
        "--seconds -1": "--seconds: want a number from 0 on, got -1.0",
        f"--plots {tmp_path}": "--plots: needs matplotlib; pip install 'nerfkit[plot]'",
    }
    for arguments, message in wrong.items():
        assert cli.main(["bench", "--reference-run", *arguments.split()]) == 2
        assert message in capsys.readouterr().err


@needs_cpp
def test_a_red_gate_refuses_every_speed(tmp_path, monkeypatch, capsys):
    right = ray_box_cpu.ray_box

    def wrong(*arguments, **options):
        starts, ends = right(*arguments, **options)
        return starts + 1, ends

    monkeypatch.setattr(ray_box_cpu, "ray_box", wrong)
    monkeypatch.setattr(ceilings, "measure", lambda *_: pytest.fail("measured"))
    path = tmp_path / "red.json"
    with pytest.raises(NerfkitError, match=r"no speed was measured: ray_box on cpu$"):
        report.bench("ops", path, effort=QUICK, reference_run=True)
    result = json.loads(path.read_text())
    assert result["suites"] == {} and result["gate"]["right"] is False
    bad = [c for c in result["gate"]["checks"] if not c["right"]]
    assert [(c["op"], c["backend"], c["worst"]) for c in bad] == [("ray_box", "cpu", "output 0")]
    assert "WRONG" in capsys.readouterr().out


def points(*lines: str) -> list[Figure]:
    return [
        Figure(
            *("ops", "op", f"{x}", line, "forward", 1, "s", 1e-3 * x, 0.9e-3 * x, 1.2e-3 * x, 9),
            **{"throughput": 1e3, "items": "rays", "curve": "op", "axis": "rays", "x": x},
        )
        for line in lines
        for x in (100, 10, 1000)
    ]


def test_lines_are_told_apart_by_what_differs_and_grow_as_they_do():
    (curve,) = curves.curves(points("cpu", "reference"))
    assert set(curve.lines) == {"cpu", "reference"} and curve.label == "rays a second"
    line = curve.lines["cpu"]
    assert [p.x for p in line] == [10, 100, 1000]
    assert curves.growth(line) == pytest.approx(1.0)
    assert curves.growth(line[:1]) is None
    assert curves.span(line[0]) == pytest.approx((1e3 / 1.2, 1e3, 1e3 / 0.9))


def test_a_picture_of_every_curve(ran, tmp_path):
    pytest.importorskip("matplotlib", reason="comes with nerfkit[plot]")
    plots.check(tmp_path / "plots")
    found = [Figure.of(f) for s in ran.result["suites"].values() for f in s["figures"]]
    wanted = curves.curves(found)
    drawn = [plots.draw(curve, tmp_path / "plots") for curve in wanted[:: max(1, len(wanted) // 6)]]
    assert len(set(drawn)) == len(drawn) >= 6
    for path in drawn:
        with Image.open(path) as image:
            assert image.size == (768, 480)


def test_without_git_there_is_no_commit(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert report._commit() is None
