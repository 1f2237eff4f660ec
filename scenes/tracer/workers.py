"""Rendering many views on several cores.

Embree's Python binding holds the interpreter's lock, so threads do not help. Workers are plain
child processes of `python -m nerfkit.scenes.tracer.workers`, which, unlike `multiprocessing`, work
from any caller: a script without a main guard, a notebook, a console script.
"""

import importlib
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import nerfkit
from nerfkit.scenes.tracer.render import Renderer
from nerfkit.scenes.tracer.views import Job, render_to_files

PIXELS_A_WORKER = 1_000_000  # starting a worker costs about as much as tracing this many


def render_all(
    name: str, renderer: Renderer, jobs: list[Job], progress: Callable[[int, int], None] | None
) -> None:
    """Render and write every job, in this process and in children, NERFKIT_THREADS in all.

    Which process renders a view does not change its bytes.

    Raises:
        RuntimeError: a worker failed (its own message is on stderr).
    """
    threads = int(os.environ.get("NERFKIT_THREADS", "0")) or os.cpu_count() or 1
    pixels = sum(job.camera.width * job.camera.height for job in jobs)
    count = max(1, min(threads, pixels // PIXELS_A_WORKER))
    lock, done = threading.Lock(), 0

    def finished() -> None:
        nonlocal done
        with lock:
            done += 1
            if progress:
                progress(done, len(jobs))

    def follow(worker: subprocess.Popen, share: list[Job]) -> None:
        with worker.stdin:
            pickle.dump((name, renderer.ambient, share), worker.stdin)
        for _ in worker.stdout:
            finished()

    workers = [_start() for _ in range(count - 1)]
    try:
        followers = [
            threading.Thread(target=follow, args=(worker, jobs[i + 1 :: count]), daemon=True)
            for i, worker in enumerate(workers)
        ]
        for follower in followers:
            follower.start()
        for job in jobs[::count]:
            render_to_files(renderer, job)
            finished()
        for worker, follower in zip(workers, followers, strict=True):
            follower.join()
            if worker.wait():
                raise RuntimeError(f"a scene worker failed with exit code {worker.returncode}")
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
            worker.stdout.close()


def _start() -> subprocess.Popen:
    """A child that finds this very package and leaves the cores to its siblings."""
    path = [str(Path(nerfkit.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        [sys.executable, "-m", "nerfkit.scenes.tracer.workers"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, path)),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        },
    )


def _serve() -> None:
    """The child: render the share that arrives on stdin, print one line a view."""
    name, ambient, share = pickle.load(sys.stdin.buffer)
    renderer = Renderer(importlib.import_module(f"nerfkit.scenes.{name}").geometry(), ambient)
    for job in share:
        render_to_files(renderer, job)
        print(job.stem.name, flush=True)


if __name__ == "__main__":
    _serve()
