"""Faults while a run is fitted, measured and rendered; see benchmarks/soak.py."""

import os
import subprocess
import sys

import pytest
from launching import ENVIRONMENT, ROOT, SECONDS

long = pytest.mark.skipif("NERFKIT_SOAK" not in os.environ, reason="10 minutes: set NERFKIT_SOAK")


@pytest.mark.parametrize("minutes", [0.1, pytest.param(10, marks=[pytest.mark.slow, long])])
def test_nothing_is_lost(minutes, tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks" / "soak.py"), "--minutes", str(minutes)]
    process = subprocess.run(
        command, env=ENVIRONMENT, capture_output=True, text=True, timeout=2 * SECONDS
    )
    assert process.returncode == 0, process.stdout[-3000:] + process.stderr[-1000:]
