"""benchmarks/gpu.py at toy sizes, without a GPU: what a card is lent for must not fail on it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "gpu.py"


@pytest.mark.slow
def test_smoke(tmp_path):
    report = tmp_path / "gpu.json"
    done = subprocess.run(
        [sys.executable, SCRIPT, "--smoke", "--json", report, "--ops", "sparse_adam", "ray_box"],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(report.read_text())
    assert {row["op"] for row in result["ops"]} == {"sparse_adam", "ray_box"}
    assert all(row["right"] and row["seconds"] > 0 for row in result["ops"])
    assert result["fit"]["frames_per_second"] > 0 and result["fit"]["curve"][0]["psnr"] > 0
    presets = result["fit"]["presets"]
    assert [row["preset"] for row in presets] == ["nerf", "fastnerf", "nsvf"]
    assert all(row["rays"] > 0 for row in presets), presets
    assert "fit" in done.stdout and "sparse_adam" in done.stdout
