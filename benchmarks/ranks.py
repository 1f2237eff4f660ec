"""Steps a second of a fit: one process of T threads beside T processes of one thread.

    python benchmarks/ranks.py [--data FOLDER] [--preset fast] [--threads 2] [--json FILE]

A built-in scene, or FOLDER, is fitted for some steps once. Then, in turns, each way goes on with
that run: it loads it, takes a few steps to warm up, and times the next ones, nothing else. All ways
have the same global batch, so steps a second compare. `--nodes` adds T processes that share no
memory, as if each were a machine of its own: the gradients then go through gloo and the loopback.

The ratio is that of the medians of neighbouring turns, then their median; spread is half the
distance between the quartiles.
"""

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from nerfkit import info
from nerfkit.data import load_dataset
from nerfkit.device import CPU
from nerfkit.files import read_json, write_json
from nerfkit.ranks import joined
from nerfkit.scenes import build
from nerfkit.threads import kernels_alone
from nerfkit.training import FitConfig, checkpoint
from nerfkit.training.pixels import Pixels

WARM_UP = 5
ROOT = Path(__file__).resolve().parents[1]


def work(run: Path, steps: int) -> None:
    """Go on with a run as this process's team, and print the seconds of each step."""
    config = FitConfig(Path(), run).with_stored(read_json(run / "config.json"))
    dataset = load_dataset(read_json(run / "config.json")["data"], splits=("train",))
    pixels = Pixels(dataset, dataset.splits["train"])
    with joined() as team, kernels_alone():
        learner, state, _ = checkpoint.load_learner(run, config, pixels.cameras, CPU, team)
        pixels.keep_hit(learner.field.hits, team)
        generator = torch.Generator().manual_seed(0)
        taken = []
        for number in range(state.step + 1, state.step + 1 + WARM_UP + steps):
            team.meet()
            began = time.perf_counter()
            learner.step(0.5, number, pixels, generator)
            team.barrier()
            taken.append(time.perf_counter() - began)
        if team.leads:
            print(json.dumps(taken[WARM_UP:]))


def timed(way: str, run: Path, threads: int, steps: int) -> float:
    """Median seconds of a step of one of the ways, in fresh processes."""
    own = [str(Path(__file__)), "--work", str(run), "--steps", str(steps)]
    each = threads if way == "threads" else 1
    environment = os.environ | {
        "NERFKIT_THREADS": str(each),
        "OMP_NUM_THREADS": str(each),
        "PYTHONPATH": str(ROOT),
    }
    torchrun = [sys.executable, "-m", "torch.distributed.run"]
    if way == "threads":
        commands = [[sys.executable, *own]]
    elif way == "ranks":
        commands = [[*torchrun, "--standalone", f"--nproc-per-node={threads}", *own]]
    else:
        place = ["--master-addr=127.0.0.1", "--master-port=29517", f"--nnodes={threads}"]
        commands = [
            [*torchrun, *place, f"--node-rank={i}", "--nproc-per-node=1", *own]
            for i in range(threads)
        ]
    started = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for command in commands
    ]
    outputs = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        raise SystemExit(f"{way}: a process failed")
    return statistics.median(json.loads(outputs[0].splitlines()[-1]))


def middle(values: list[float]) -> tuple[float, float]:
    """Median and spread."""
    if len(values) < 2:
        return values[0], float("nan")
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return median, (high - low) / 2


def prepare(arguments: argparse.Namespace, folder: Path) -> Path:
    """The run that all ways go on with."""
    data = arguments.data or build(
        "machine", folder / "data", size=(400, 400), n_train=60, n_test=1
    )
    command = [sys.executable, "-m", "nerfkit", "fit", str(data), "-o", str(folder / "run")]
    command += ["--steps", str(arguments.fitted), "--preset", arguments.preset]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    return folder / "run"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--fitted", type=int, default=450, help="steps before the timed ones")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=40, help="timed, of each turn")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--nodes", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        return work(arguments.work, arguments.steps)
    ways = ["threads", "ranks", *(["nodes"] if arguments.nodes else [])]
    taken: dict[str, list[float]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as temporary:
        run = prepare(arguments, Path(temporary))
        for _ in range(arguments.repeats):
            for way in ways:
                taken[way].append(timed(way, run, arguments.threads, arguments.steps))
                print(f"{way}: {1 / taken[way][-1]:.2f} steps/s", flush=True)
    result = {"seconds_a_step": taken, "ratios": {}}
    t = arguments.threads
    for way in ways[1:]:
        ratios = [a / b for a, b in zip(taken["threads"], taken[way], strict=True)]
        median, spread = middle(ratios)
        result["ratios"][way] = {"median": median, "spread": spread, "each": ratios}
        print(f"{way}: {median:.3f} +- {spread:.3f} of the steps/s of {t} threads in one process")
    if arguments.json:
        about = {
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "preset": arguments.preset,
            "threads": t,
            "data": str(arguments.data or "machine 400x400, 60 views"),
            "fitted_steps": arguments.fitted,
            "versions": info.versions(),
            "hardware": info.hardware(),
        }
        write_json(arguments.json, about | result)


if __name__ == "__main__":
    main()
