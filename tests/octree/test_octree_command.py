"""`nerfkit octree`: of a run and of a file, what it writes, and mistakes in one line."""

import json
import sys
import types

import imageio.v3 as imageio
import pytest
import torch
from voxel_scene import shell

from nerfkit import cli
from nerfkit.errors import NerfkitError
from nerfkit.octree import load_octree, save_octree


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A folder that `nerfkit.run.Run.load` takes for a run with a shell in it."""
    folder = tmp_path / "run"
    folder.mkdir()

    class Run:
        @staticmethod
        def load(path, place=None):
            if path != folder:
                raise NerfkitError(f"{path}: holds no run")
            return types.SimpleNamespace(field=types.SimpleNamespace(octree=shell(4)))

    module = types.ModuleType("nerfkit.run")
    module.Run = Run
    monkeypatch.setitem(sys.modules, "nerfkit.run", module)
    return folder


def test_of_a_run(run, tmp_path, capsys):
    files = tmp_path / "o.safetensors", tmp_path / "o.json", tmp_path / "o.png"
    line = ["octree", str(run), "--save", str(files[0]), "--json", str(files[1])]
    assert cli.main([*line, "--picture", str(files[2])]) == 0
    assert f"{len(shell(4)):,} leaves" in capsys.readouterr().out
    assert torch.equal(load_octree(files[0]).codes, shell(4).codes)
    assert json.loads(files[1].read_text())["leaves"] == len(shell(4))
    assert imageio.imread(files[2]).shape == (800, 800, 3)


def test_of_a_file(tmp_path, capsys):
    path = tmp_path / "shell.safetensors"
    save_octree(shell(3), path)
    assert cli.main(["octree", str(path)]) == 0
    assert "8^3" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nowhere"], "nowhere: holds no run"),
        (["FILE"], "FILE: damaged or no safetensors file"),
        (["RUN", "--picture", "out.jpg"], "--picture: want a file OUT.png, got 'out.jpg'"),
        (["RUN", "--save", "no/file"], "no/file: cannot be written"),
        (["RUN", "--json", "no/file"], "no/file: cannot be written"),
        (["RUN", "--picture", "no/out.png"], "no/out.png: cannot be written"),
    ],
    ids=" ".join,
)
def test_mistakes_are_one_line(run, tmp_path, capsys, monkeypatch, arguments, complaint):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").write_bytes(b"nothing of the kind")
    arguments = [str(run) if argument == "RUN" else argument for argument in arguments]
    assert cli.main(["octree", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"nerfkit: error: {complaint}") and error.count("\n") == 1


def test_an_octree_without_leaves_has_no_picture(tmp_path, capsys):
    path = tmp_path / "empty"
    save_octree(shell(3).keep(torch.zeros(len(shell(3)), dtype=torch.bool)), path)
    assert cli.main(["octree", str(path)]) == 0
    assert cli.main(["octree", str(path), "--picture", str(tmp_path / "out.png")]) == 2
    assert "has no leaves" in capsys.readouterr().err
