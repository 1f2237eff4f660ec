"""Every block of docs/benchmarking.md runs, in its order, in an empty folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from nerfkit.bench import ceilings
from nerfkit.kernels import _native

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@pytest.mark.slow
@pytest.mark.skipif(not _native.available(), reason="C++ kernels are not built")
def test_every_block_runs(tmp_path, monkeypatch, capsys):
    text = (ROOT / "docs" / "benchmarking.md").read_text(encoding="utf-8")
    blocks = BLOCK.findall(text)
    assert len(blocks) >= 6
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ceilings, "COPY_BYTES", 1 << 26)
    monkeypatch.setattr(ceilings, "GATHER_ROWS", 1 << 20)
    for language, block in blocks:
        if language == "python":
            exec(compile(block, "docs/benchmarking.md", "exec"), {})
        else:
            shell(block)
    assert "% of sgemm" in capsys.readouterr().out
    assert {p.name for p in tmp_path.iterdir()} >= {"before.json", "after.json", "peers.json"}


def shell(block: str) -> None:
    """Run it as the reader does, by this checkout."""
    nerfkit = f'nerfkit() {{ "{sys.executable}" -m nerfkit "$@"; }}\n'
    python = f'python() {{ "{sys.executable}" "$@"; }}\n'
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(
        ["bash", "-e", "-c", nerfkit + python + block],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
