"""The command line: exit codes, one-line errors, the documented spellings."""

import dataclasses
import errno
import json
import signal
import subprocess
import sys
import types
from pathlib import Path

import pytest
from sphere_run import SphereRun, cameras_around, write_blender

from nerfkit import cli
from nerfkit.errors import NerfkitError


@pytest.fixture
def run(tmp_path, monkeypatch) -> SphereRun:
    """`nerfkit.run.Run.load` gives the sphere for the folder tmp_path / "run"."""
    sphere = SphereRun(tmp_path / "run", tmp_path / "data")
    write_blender(tmp_path / "data", sphere)
    sphere.folder.mkdir()

    class Run:
        @staticmethod
        def load(folder: Path) -> SphereRun:
            if folder != sphere.folder:
                raise NerfkitError(f"{folder}: holds no run;\nfit one first")
            return sphere

    module = types.ModuleType("nerfkit.run")
    module.Run = Run
    monkeypatch.setitem(sys.modules, "nerfkit.run", module)
    return sphere


@pytest.fixture
def fitted(monkeypatch) -> list:
    """`nerfkit.training` as it should look; the list receives what `fit` was called with."""
    calls = []

    @dataclasses.dataclass
    class FitConfig:
        data: Path
        output: Path
        preset: str = "fast"
        minutes: float | None = None
        steps: int | None = None
        downscale: int = 1
        seed: int = 0
        resume: bool = False

    module = types.ModuleType("nerfkit.training")
    module.FitConfig = FitConfig
    module.fit = lambda config, started, team: calls.append(config)
    module.process_start = float
    monkeypatch.setitem(sys.modules, "nerfkit.training", module)
    monkeypatch.delitem(sys.modules, "nerfkit.cli.fit", raising=False)
    import nerfkit

    monkeypatch.setattr(nerfkit, "training", module, raising=False)
    yield calls
    sys.modules.pop("nerfkit.cli.fit", None)


def test_help_needs_no_torch():
    code = (
        "import sys; from nerfkit.cli import main; main(['--help']); print('torch' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.endswith("False\n")
    assert all(f"  {name} " in result.stdout for name in cli.COMMANDS)


def test_module_entry_point():
    command = [sys.executable, "-m", "nerfkit"]
    assert subprocess.run([*command, "--version"], capture_output=True).returncode == 0
    wrong = subprocess.run([*command, "rendr"], capture_output=True, text=True)
    assert wrong.returncode == 2 and "did you mean 'render'?" in wrong.stderr


def test_no_command_shows_usage(capsys):
    assert cli.main([]) == 2
    assert "usage: nerfkit" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["prepare", "eval", "render", "export", "view", "info"])
def test_each_command_has_help(command, capsys):
    assert cli.main([command, "--help"]) == 0
    assert f"nerfkit {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["eval"],
        ["render", "run"],
        ["render", "run", "-o", "x", "--fps", "many"],
        ["info", "--jsno"],
        ["eval", "run", "extra"],
    ],
    ids=" ".join,
)
def test_wrong_arguments_are_one_line(arguments, capsys):
    assert cli.main(arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("nerfkit: error: ")
    assert arguments[-1] in lines[0] or "required" in lines[0].lower()
    assert not set("│╭─╰") & set(lines[0])


def test_fit_spellings(fitted):
    assert cli.main(["fit", "DATA", "-o", "RUN"]) == 0
    assert cli.main(["fit", "DATA", "--output", "RUN", "--minutes", "1.5", "--resume"]) == 0
    line = "fit DATA -o RUN --preset best --steps 10 --downscale 2 --seed 3"
    assert cli.main(line.split()) == 0
    first, second, third = fitted
    assert (first.data, first.output, first.resume) == (Path("DATA"), Path("RUN"), False)
    assert second.minutes == 1.5 and second.resume
    assert (third.preset, third.steps, third.downscale, third.seed) == ("best", 10, 2, 3)


def test_eval_writes_json(run, tmp_path, capsys):
    file = tmp_path / "out.json"
    line = ["eval", str(run.folder), "--split", "test", "--json", str(file)]
    assert cli.main(line) == 0
    result = json.loads(file.read_text())
    assert result["n_views"] == 3 and len(result["per_view"]) == 3 and result["psnr"] > 50
    assert {"ssim", "seconds_per_frame"} <= set(result)
    assert "PSNR" in capsys.readouterr().out


def test_render_spellings(run, tmp_path, capsys):
    out = tmp_path / "out.mp4"
    line = f"render {run.folder} -o {out} --path orbit --seconds 1 --fps 4 --size 30x20"
    assert cli.main([*line.split(), "--frames", "1:3", "--outputs", "rgb,depth"]) == 0
    assert capsys.readouterr().out.split() == [str(out), str(tmp_path / "out_depth.mp4")]
    folder = tmp_path / "frames"
    line = f"render {run.folder} -o {folder} --seconds 1 --fps 4 --frames -2:"
    assert cli.main(line.split()) == 0
    assert sorted(p.name for p in folder.glob("*.png")) == ["00002.png", "00003.png"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("--size 30", "--size"),
        ("--size 0x10", "--size"),
        ("--outputs rgb,heat", "'heat'"),
        ("--frames 7", "--frames"),
        ("--path nowhere", "orbit, spiral, interpolate"),
        ("--path nowhere.json", "nowhere.json"),
        ("--seconds -1", "--seconds"),
    ],
)
def test_render_mistakes_are_one_line(run, tmp_path, capsys, arguments, complaint):
    line = f"render {run.folder} -o {tmp_path / 'out'} {arguments}"
    assert cli.main(line.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("nerfkit: error: ") and error.count("\n") == 1 and complaint in error
    assert not (tmp_path / "out").exists()


def test_a_missing_run_is_one_line(run, capsys):
    assert cli.main(["eval", "nowhere"]) == 2
    assert capsys.readouterr().err == "nerfkit: error: nowhere: holds no run; fit one first\n"


def test_a_full_disk_is_one_line(run, tmp_path, monkeypatch, capsys):
    def full(camera, outputs):
        raise OSError(errno.ENOSPC, "No space left on device", "/somewhere/file")

    monkeypatch.setattr(run, "render", full)
    assert cli.main(["render", str(run.folder), "-o", str(tmp_path / "out")]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "nerfkit: error: /somewhere/file: No space left on device"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
        RuntimeError("can't start new thread"),
    ],
)
def test_too_little_memory_is_one_line(run, tmp_path, monkeypatch, capsys, error):
    def greedy(camera, outputs):
        raise error

    monkeypatch.setattr(run, "render", greedy)
    assert cli.main(["render", str(run.folder), "-o", str(tmp_path / "out")]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("nerfkit: error: not enough memory")


def test_interrupting_says_what_was_kept(run, tmp_path, capsys):
    run.stop_at = run.frames + 3
    line = f"render {run.folder} -o {tmp_path / 'out'} --seconds 1 --fps 4"
    assert cli.main(line.split()) == 130
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("nerfkit: interrupted: 2 of 4 frames are kept")


def test_interrupts_during_imports_are_the_systems(monkeypatch):
    seen = []
    monkeypatch.setattr(
        cli.importlib, "import_module", lambda name: seen.append(signal.getsignal(signal.SIGINT))
    )
    for usual in (signal.default_int_handler, signal.SIG_IGN):
        before = signal.signal(signal.SIGINT, usual)
        try:
            with pytest.raises(AttributeError):  # nothing was imported
                cli.main(["info"])
            assert signal.getsignal(signal.SIGINT) is usual
        finally:
            signal.signal(signal.SIGINT, before)
    assert seen == [signal.SIG_DFL, signal.SIG_IGN]


def test_a_bug_keeps_its_traceback(run, monkeypatch, tmp_path):
    def broken(camera, outputs):
        raise ZeroDivisionError

    monkeypatch.setattr(run, "render", broken)
    with pytest.raises(ZeroDivisionError):
        cli.main(["render", str(run.folder), "-o", str(tmp_path / "out")])


def test_info_json(capsys):
    assert cli.main(["info", "--json"]) == 0
    assert "backends" in json.loads(capsys.readouterr().out)


def test_render_takes_a_camera_path_file(run, tmp_path):
    from nerfkit.paths import CameraPath, write_camera_path

    file = tmp_path / "camera_path.json"
    write_camera_path(file, CameraPath(cameras_around(4), 4.0, "orbit"))
    out = tmp_path / "out"
    assert cli.main(["render", str(run.folder), "-o", str(out), "--path", str(file)]) == 0
    assert len(list(out.glob("*.png"))) == 4
