"""The pages of docs/: every block of Python or shell runs, and every link leads somewhere.

The blocks of a page run in its order, in a folder of its own that is empty at first; each block of
Python stands for itself. Output, and what takes more time, data or machines than a test has, stands
in blocks of `text`.
"""

import importlib
import os
import re
import shlex
from pathlib import Path

import pytest

from nerfkit import cli
from nerfkit.bench import ceilings
from nerfkit.kernels import _native

ROOT = Path(__file__).resolve().parents[1]
PAGES = {page.stem: page for page in sorted((ROOT / "docs").glob("*.md"))}
LINKING = [
    *(ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES.values()),
    *sorted(ROOT.glob("kernels/*/README.md")),
]
FENCE = re.compile(r"^```(\w*)$", re.MULTILINE)
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
ASSIGNMENT = re.compile(r"[A-Z_]+=\S*$")
# What a page must have done, told by what it printed and by the files it left.
DONE: dict[str, tuple[str, set[str]]] = {
    "benchmarking": ("% of sgemm", {"before.json", "after.json", "peers.json"}),
    "data": ("the camera pose is not rigid", {"ball", "broken", "run"}),
    "fields": ("nerfkit nsvf 1", {"run", "frames", "scores.json"}),
    "kernels": ("reference (slow: NERFKIT_BACKEND asks for it)", set()),
    "postprocess": ("gaussian kernel by pairs", {"large.png", "mine.png", "kernel.npy"}),
    "scaling": ("", set()),
}


@pytest.mark.skipif(not _native.available(), reason="C++ kernels are not built")
@pytest.mark.parametrize("page", PAGES)
def test_every_block_runs(page, tmp_path, monkeypatch, capsys):
    text = PAGES[page].read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ceilings, "COPY_BYTES", 1 << 26)
    monkeypatch.setattr(ceilings, "GATHER_ROWS", 1 << 20)
    for language, block in BLOCK.findall(text):
        if language == "python":
            exec(compile(block, f"docs/{page}.md", "exec"), {"__name__": f"docs.{page}"})
        else:
            for line in block.replace("\\\n", "").splitlines():
                run_line(line)
    printed, files = DONE[page]
    assert printed in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} >= files


def run_line(line: str) -> None:
    """A command of the shell, in this process: another one would spend its time on imports."""
    command, otherwise, _ = line.partition("||")
    words = shlex.split(command, comments=True)
    with pytest.MonkeyPatch.context() as patch:
        while words and ASSIGNMENT.match(words[0]):
            patch.setitem(os.environ, *words.pop(0).split("=", 1))
        if words[0] == "nerfkit":
            assert cli.main(words[1:]) == 0 or otherwise, line
        else:
            assert words[:2] == ["python", "-m"], line
            importlib.import_module(f"{words[2]}.__main__").main(words[3:])


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_one_that_runs_or_is_marked_as_text(page):
    fences = FENCE.findall(PAGES[page].read_text(encoding="utf-8"))
    assert set(fences[::2]) <= {"python", "sh", "text"} and set(fences[1::2]) <= {""}


@pytest.mark.parametrize("document", LINKING, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document):
    targets = re.findall(r"\]\(([^)#]+)", document.read_text(encoding="utf-8"))
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (document.parent / target).exists()] == []


def test_readme_links_every_page():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [page for page in PAGES if f"(docs/{page}.md)" not in text] == []
