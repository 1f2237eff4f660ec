"""Every block of docs/benchmarking.md runs, in its order, in an empty folder."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from nerfkit import cli
from nerfkit.bench import ceilings
from nerfkit.kernels import _native

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


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
            for line in block.splitlines():
                run_line(line)
    assert "% of sgemm" in capsys.readouterr().out
    assert {p.name for p in tmp_path.iterdir()} >= {"before.json", "after.json", "peers.json"}


def run_line(line: str) -> None:
    """A command of the shell, in this process: another one would spend its time on imports."""
    command, otherwise, _ = line.partition("||")
    words = shlex.split(command)
    if words[0] == "nerfkit":
        assert cli.main(words[1:]) == 0 or otherwise
    else:
        assert words[:2] == ["python", "-m"]
        importlib.import_module(f"{words[2]}.__main__").main(words[3:])
