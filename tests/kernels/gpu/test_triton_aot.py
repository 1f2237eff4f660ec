"""What the Triton kernels compile to, without a GPU, and the helper that finds out."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

from nerfkit.kernels import _backend
from nerfkit.kernels.shared.aot import Configuration, Report

SCRIPT = Path(__file__).resolve().parents[3] / "benchmarks" / "inspect_kernels.py"


def inspect(tmp_path, *arguments):
    """Exit status, output and rows of the script, which runs outside the interpreter."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    found = tmp_path / "rows.json"
    command = [sys.executable, SCRIPT, *arguments, "--json", found]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert found.exists(), done.stderr
    return done.returncode, done.stdout, json.loads(found.read_text())


def test_one_kernel_for_two_generations(tmp_path):
    status, shown, rows = inspect(tmp_path, "ray_box", "--arch", "80", "90")
    assert status == 0, shown
    assert [row["arch"] for row in rows] == [80, 90]
    for row in rows:
        assert 8 <= row["registers"] <= 48 and row["stack"] == 0 and row["live"] >= 32
        assert any(name.startswith("LDG") for name in row["instructions"])
    assert "ray_box" in shown


@pytest.mark.slow
def test_every_configuration_keeps_its_budget(tmp_path):
    """Registers, shared memory, no spills, tensor cores and wide loads, as each op declares."""
    status, shown, rows = inspect(tmp_path, "--arch", "90")
    assert status == 0, shown
    assert {row["op"] for row in rows} >= {"composite", "fused_mlp", "nerf_mlp", "voxel_features"}


def test_a_broken_budget_is_named():
    report = Report(100, 8, 0, {"LDG.E.128": 3, "FFMA": 5})
    wanted = Configuration("k", None, "", {}, max_registers=96, wanted=(r"HGMMA", r"LDG\.E\S*128"))
    assert report.count("LDG") == 3 and report.count("FADD") == 0
    assert report.failures(wanted) == [
        "registers 100, at most 96 allowed",
        "stack 8, at most 0 allowed",
        "no instruction HGMMA",
    ]
    assert report.failures(wanted._replace(max_registers=100, max_stack=8, wanted=())) == []


def test_every_gpu_module_declares_its_configurations():
    folder = SCRIPT.parents[1] / "kernels"
    for op in _backend.ops():
        if (folder / op / "gpu.py").is_file():
            assert "\nAOT = [" in (folder / op / "gpu.py").read_text(), op
