"""Frames shared out over ranks: each rendered once, none lost with a rank."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import imageio.v3 as imageio
from launching import ENVIRONMENT, finish, launch, start, torchrun
from sphere_run import SphereRun, cameras_around

from nerfkit import render
from nerfkit.paths import CameraPath

WORKER = Path(__file__).with_name("render_worker.py")
N = 12
PATIENT = ("--shutdown-timeout=600",)


def rendered_by(output: Path, rank: int) -> int:
    return int(output.with_name(f"{output.name}.rank{rank}").read_text())


def n_frames(video: Path) -> int:
    return sum(1 for _ in imageio.imiter(video, plugin="FFMPEG"))


def test_each_frame_once(tmp_path):
    out = tmp_path / "out.mp4"
    code, printed, err = launch(torchrun(WORKER, out, 0.2))
    assert code == 0, err
    assert printed == f"{out}\n" and n_frames(out) == N
    assert rendered_by(out, 0) + rendered_by(out, 1) == N
    assert rendered_by(out, 0) and rendered_by(out, 1)
    assert not list(tmp_path.glob(".*"))  # frames and claims are gone


def test_the_others_finish_what_a_dead_rank_began(tmp_path):
    out = tmp_path / "out.mp4"
    code, _, err = launch(torchrun(WORKER, out, 0.2, "--die", 1, 2, options=PATIENT))
    assert code != 0  # torchrun tells of the dead one
    assert n_frames(out) == N, err
    assert rendered_by(out, 0) == N - 2
    assert err.count("a process has ended") == 1, err


def test_the_first_rank_may_die_too(tmp_path):
    out = tmp_path / "out"
    launch(torchrun(WORKER, out, 0.2, "--die", 0, 1, options=PATIENT))
    assert len(list(out.glob("[0-9]*.png"))) == N
    assert rendered_by(out, 1) == N - 1


def test_stopped_all_together_and_resumed(tmp_path):
    out = tmp_path / "out"
    process = start(torchrun(WORKER, out, 0.5))
    while len(list(out.glob("[0-9]*.png"))) < 3:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, _, err = finish(process)
    kept = len(list(out.glob("[0-9]*.png")))
    assert 3 <= kept < N
    assert err.count(f"of {N} frames are kept in {out}, missing: ") == 1, err
    code, printed, err = launch(torchrun(WORKER, out, 0.0, "--resume"))
    assert code == 0 and printed == f"{out}\n", err
    assert len(list(out.glob("[0-9]*.png"))) == N
    assert rendered_by(out, 0) + rendered_by(out, 1) == N - kept


def test_resume_deletes_nothing(tmp_path):
    out = tmp_path / "out"
    code, _, err = launch(torchrun(WORKER, out, 0.0, "--resume"))
    assert code != 0 and err.count("nerfkit: error:") == 1 and "no frames to resume" in err, err
    assert not out.exists()


HOLDER = """
import sys
from pathlib import Path
from nerfkit.ranks import Claims
with Claims(Path(sys.argv[1])) as claims:
    assert claims.take(int(sys.argv[2]))
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_video_is_made_while_this_rank_waits(tmp_path, monkeypatch):
    """The other rank has the last frame, then encodes and removes all of them."""
    out = tmp_path / "out.mp4"
    frames = tmp_path / ".out.frames"
    frames.mkdir()
    command = [sys.executable, "-c", HOLDER, str(frames / ".claims"), str(render.FRAMES + N - 1)]
    other = subprocess.Popen(
        command, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout.readline() == "held\n"

    def the_other_finishes(seconds: float) -> None:
        (frames / ".claims").unlink()
        shutil.rmtree(frames)
        other.communicate()

    monkeypatch.setattr(render.time, "sleep", the_other_finishes)
    run = SphereRun(tmp_path)
    path = CameraPath(cameras_around(N), fps=6.0, kind="orbit")
    assert render.render_path(run, path, out) == []
    assert run.frames == N - 1 and not frames.exists()
