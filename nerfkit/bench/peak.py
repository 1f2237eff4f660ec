"""Peak memory of one call, beyond what it is given: of a GPU, or of a process of its own.

A process never hands all memory back that it once had, so a call's peak is measured in a child in
which nothing else has run: `python -m nerfkit.bench.peak NAME RAYS DEPTH BACKEND` prints it. Bytes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import nerfkit
from nerfkit.bench import ops
from nerfkit.bench.scene import backend_is
from nerfkit.bench.subject import Subject, camera, rays
from nerfkit.errors import NerfkitError
from nerfkit.fields.frame import render_frame
from nerfkit.training.optimiser import Optimiser, Rates
from nerfkit.training.pixels import Batch

LEVELS = 3
WARM_UP = 64  # rays of the first call, which loads what is loaded once
RATES = Rates(density=0.01, features=0.01, network=0.01)
RESET = Path("/proc/self/clear_refs")  # Linux; 5 sets the peak to what is resident now


def measure(name: str, n_rays: int, depth: int, backend: str, place: torch.device) -> int:
    """Of the call that `NAMES[name]` makes.

    Raises:
        NerfkitError: the child failed, for which its last line says why.
    """
    if place.type == "cuda":
        return _on_gpu(name, n_rays, depth, backend, place)
    path = [str(Path(nerfkit.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-m", "nerfkit.bench.peak", name, str(n_rays), str(depth), backend],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        why = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise NerfkitError(f"memory of {name} on {backend} with {n_rays} rays: {why[0]}")
    return int(done.stdout)


def _on_gpu(name: str, n_rays: int, depth: int, backend: str, place: torch.device) -> int:
    subject = Subject.ball(depth, LEVELS).to(place)
    NAMES[name](subject, WARM_UP, backend)()
    call = NAMES[name](subject, n_rays, backend)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    return torch.cuda.max_memory_allocated() - before


def _resident(field: str) -> int:
    """VmRSS, resident now, or VmHWM, the most there was."""
    if not RESET.exists():
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak * (1 if sys.platform == "darwin" else 1024)
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def _of_this_process(name: str, n_rays: int, depth: int, backend: str) -> int:
    subject = Subject.ball(depth, LEVELS)
    NAMES[name](subject, WARM_UP, backend)()
    call = NAMES[name](subject, n_rays, backend)
    if RESET.exists():
        RESET.write_text("5")
    before = _resident("VmRSS")
    call()
    return max(_resident("VmHWM") - before, 0)


def _render(subject: Subject, n_rays: int, backend: str) -> Callable[[], Any]:
    render, _ = ops.fused.cases(subject, n_rays)
    return lambda: render.call(backend, [], render.inputs)


def _backward(subject: Subject, n_rays: int, backend: str) -> Callable[[], Any]:
    _, fit = ops.fused.cases(subject, n_rays)
    inputs = fit.copies()
    return lambda: fit.call(backend, [], inputs)


def _step(subject: Subject, n_rays: int, backend: str) -> Callable[[], Any]:
    optimiser = Optimiser(subject.field())
    origins, directions = (x.to(subject.place) for x in rays(n_rays))
    colours = torch.full_like(origins, 0.5)
    batch = Batch(origins, directions, colours, colours[:, :1])
    jitter = colours[:, 0].contiguous()

    def call() -> None:
        with backend_is(backend):
            optimiser.step(batch, colours, jitter, RATES, 1, 1e-4, 1e-4)

    return call


def _frame(subject: Subject, n_rays: int, backend: str) -> Callable[[], Any]:
    field, view = subject.field(), camera(round(n_rays**0.5))
    background = torch.ones(3, device=subject.place)

    def call() -> None:
        with backend_is(backend):
            render_frame(field, view, background, ["rgb"])

    return call


# name -> makes the call for a subject, a number of rays and a backend
NAMES: dict[str, Callable[[Subject, int, str], Callable[[], Any]]] = {
    "render": _render,
    "forward and backward": _backward,
    "step of a fit": _step,
    "frame": _frame,
}


if __name__ == "__main__":
    _name, _rays, _depth, _backend = sys.argv[1:]
    print(_of_this_process(_name, int(_rays), int(_depth), _backend))
