"""Peak memory of one call, beyond what it is given: of a GPU, or of a process of its own. Bytes.

A process never hands all memory back that it once had, so each call's peak is measured in a process
in which nothing else has run. All are forked from one that has loaded the library and has not
computed yet: `python -m nerfkit.bench.peak` reads jobs as JSON and prints a line for each.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

import nerfkit
from nerfkit.bench.calls import CALLS
from nerfkit.bench.subject import Subject
from nerfkit.errors import NerfkitError
from nerfkit.kernels import _native

LEVELS = 3
WARM_UP = 64  # rays of the first call, which loads what is loaded once
RESET = Path("/proc/self/clear_refs")  # Linux; 5 sets the peak to what is resident now


class Job(NamedTuple):
    """The call that `CALLS[name]` makes, with so many rays and an octree of that depth."""

    name: str
    n_rays: int
    depth: int
    backend: str


def measure(jobs: list[Job], place: torch.device) -> Iterator[int]:
    """The peak of each job, in their order.

    Raises:
        NerfkitError: one failed, with its last line of complaint.
    """
    if place.type == "cuda":
        yield from (_on_gpu(job, place) for job in jobs)
        return
    path = [str(Path(nerfkit.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    # torch on one thread: the fork of a process with a pool of threads waits for them for ever
    threads = {"OMP_NUM_THREADS": "1", "NERFKIT_THREADS": str(_native.num_threads())}
    done = subprocess.run(
        [sys.executable, "-m", "nerfkit.bench.peak"],
        input=json.dumps(jobs),
        env={**os.environ, **threads, "PYTHONPATH": os.pathsep.join(filter(None, path))},
        capture_output=True,
        text=True,
    )
    peaks = [int(line) for line in done.stdout.split()]
    if done.returncode or len(peaks) < len(jobs):
        why = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise NerfkitError(f"memory of {jobs[len(peaks)]}: {why[0]}")
    yield from peaks


def _on_gpu(job: Job, place: torch.device) -> int:
    subject = Subject.ball(job.depth, LEVELS).to(place)
    CALLS[job.name](subject, WARM_UP, job.backend)()
    call = CALLS[job.name](subject, job.n_rays, job.backend)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    return torch.cuda.max_memory_allocated() - before


def _of_this_process(job: Job) -> int:
    subject = Subject.ball(job.depth, LEVELS)
    CALLS[job.name](subject, WARM_UP, job.backend)()
    call = CALLS[job.name](subject, job.n_rays, job.backend)
    _hand_back()
    if RESET.exists():
        RESET.write_text("5")
    before = _resident("VmRSS")
    call()
    return max(_resident("VmHWM") - before, 0)


def _hand_back() -> None:
    """Free memory to the system, which otherwise would be taken again unseen; where glibc can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _resident(which: str) -> int:
    """VmRSS, resident now, or VmHWM, the most there was; the latter where Linux is not asked."""
    if RESET.exists():
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(which))
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


def _serve() -> int:
    """Every job of standard input in a process of its own; the first failure's exit code."""
    for job in json.load(sys.stdin):
        child = os.fork()
        if child == 0:
            print(_of_this_process(Job(*job)), flush=True)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(_serve())
