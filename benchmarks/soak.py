"""Fit, evaluate, render and resume for a while, with processes killed and disks full in between.

    python benchmarks/soak.py [--minutes 10] [--seed 0] [--json FILE]

What must hold after every fault: a run that was readable is readable and has lost no step that was
written; an interrupted render goes on; damaged files are refused in one line; whoever runs out of
memory or disk says so in one line; nothing temporary stays behind. At the end the memory of many
fits, evaluations and renders in one process must be flat. Exit code 1 if anything did not hold.
"""

import argparse
import contextlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from nerfkit.errors import NerfkitError

ROOT = Path(__file__).resolve().parents[1]
FIT = ("--finest", "32", "--samples", "4000", "--hidden", "8")
STEPS, FRAMES = 30, 12  # of a fit and of a render
LIMIT = 600  # seconds of a command that hangs
FLAT = 1.05, 16 << 20  # memory may grow by so much from the third round on
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "NERFKIT_THREADS": "1", "OMP_NUM_THREADS": "1"}
FAULTS = ("none", "none", "SIGKILL", "SIGKILL", "SIGINT", "SIGTERM")


def child(arguments: list[str]) -> int:
    """The command line, with a checkpoint after every step, and limits: MEMORY FILE_SIZE ..."""
    memory, size, *rest = arguments
    from nerfkit import cli

    with cli.ended_by_interrupts():
        from nerfkit.training import loop

    loop.CHECKPOINT_SECONDS = loop.CHECKPOINT_REST = 0.0
    if int(memory):
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + int(memory), used + int(memory)))
    if int(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(size), int(size)))
    return cli.main(rest)


def kill_all(trial: str) -> None:
    """What a command started: its ranks have sessions, and so groups, of their own."""
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"SOAK_TRIAL={trial}".encode() in environment.read_bytes().split(b"\0"):
                os.kill(int(environment.parent.name), signal.SIGKILL)


class Soak:
    """The loop's folder, what was done, and what went wrong."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.rng = folder, random.Random(seed)
        self.data, self.run = folder / "data", folder / "run"
        self.done: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.usual = 10.0  # seconds of a command that is left alone
        from fuzzing.seeds import write_blender

        write_blender(self.data)

    def command(
        self, *arguments: object, memory: int = 0, size: int = 0, ranks: int = 1
    ) -> list[str]:
        own = [str(Path(__file__)), "--child", str(memory), str(size), *map(str, arguments)]
        if ranks == 1:
            return [sys.executable, *own]
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        return [*launcher, f"--nproc-per-node={ranks}", *own]

    def start(self, command: list[str], fault: str = "none") -> tuple[int, str]:
        """Run a command and do this to it somewhere on its way; exit code and what it said."""
        began = time.monotonic()
        trial = f"{os.getpid()}-{began}"
        process = subprocess.Popen(
            command,
            env=ENVIRONMENT | {"SOAK_TRIAL": trial},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        if fault != "none":
            try:
                process.wait(self.rng.uniform(0, 1.3 * self.usual))
            except subprocess.TimeoutExpired:
                # not in torchrun's group are its ranks: they are to end by themselves
                (os.killpg if fault == "SIGKILL" else os.kill)(process.pid, getattr(signal, fault))
        try:
            error = process.communicate(timeout=LIMIT)[1]  # of the ranks, too, to the last one
        except subprocess.TimeoutExpired:
            self.expect(False, f"{fault}: still there after {LIMIT} s: {command}")
            kill_all(trial)
            error = process.communicate()[1]
        if fault == "none":
            self.usual = min(60.0, 0.5 * (self.usual + time.monotonic() - began))
        return process.returncode, error

    def expect(self, holds: bool, what: str) -> None:
        if not holds:
            self.wrong.append(what)
            print(f"WRONG: {what}", flush=True)

    def step_of(self, folder: Path) -> int:
        """Steps of the run in a folder; -1 where there is none. An unreadable one is a fault."""
        from nerfkit.run import Run

        if not (folder / "checkpoint.safetensors").exists():
            return -1
        try:
            return Run.load(folder).iteration
        except NerfkitError as error:
            self.expect(False, f"unreadable: {error}")
            return -1

    def one_line(self, code: int, error: str, what: str) -> None:
        """An error of ours, as its user should see it."""
        said = [line for line in error.splitlines() if "nerfkit: error:" in line]
        fine = code == 2 and len(said) == 1 and "Traceback" not in error
        self.expect(fine, f"{what}: exit code {code}, said: {error[-600:]}")

    def fit(self, fault: str | None = None) -> None:
        """A new run, or some steps more, by one or two processes, with or without a fault."""
        fault, ranks = fault or self.rng.choice(FAULTS), self.rng.choice((1, 1, 2))
        before = self.step_of(self.run)
        if before > 20 * STEPS:
            shutil.rmtree(self.run)
            before = -1
        options = ("--resume", "--steps", before + STEPS) if before >= 0 else ("--steps", STEPS)
        fresh = () if before >= 0 else FIT
        command = self.command("fit", self.data, "-o", self.run, *options, *fresh, ranks=ranks)
        code, error = self.start(command, fault)
        after = self.step_of(self.run)
        self.done[f"fit by {ranks}, {fault}"] += 1
        self.expect(after >= before, f"fit {fault}: step {before} became {after}")
        if fault == "none":
            fine = code == 0 and after == max(before, 0) + STEPS
            self.expect(fine, f"fit: {code}: {error[-900:]}")
            left = [path.name for path in self.run.glob(".*")]
            self.expect(not left, f"fit left {left} behind")
        elif "Traceback" in error and ranks == 1 and fault != "SIGKILL":
            # before the first step Ctrl-C ends the process as it ends any other
            self.expect("KeyboardInterrupt" in error, f"fit {fault}: {error[-600:]}")

    def evaluate(self) -> None:
        if self.step_of(self.run) < 0:
            return
        code, error = self.start(self.command("eval", self.run))
        self.done["eval"] += 1
        self.expect(code == 0, f"eval: {code}: {error[-600:]}")

    def render(self) -> None:
        """A video, begun by a process that may die, finished by another."""
        if self.step_of(self.run) < 0:
            return
        out = self.folder / "out.mp4"
        out.unlink(missing_ok=True)
        options = ("--seconds", 1, "--fps", FRAMES, "--size", "64x64")
        command = self.command("render", self.run, "-o", out, *options)
        fault = self.rng.choice(FAULTS)
        self.start(command, fault)
        self.done[f"render, {fault}"] += 1
        if not out.exists():
            code, error = self.start(command)
            self.expect(code == 0, f"render again: {code}: {error[-600:]}")
        import imageio.v3 as imageio

        frames = sum(1 for _ in imageio.imiter(out, plugin="FFMPEG")) if out.exists() else 0
        self.expect(frames == FRAMES, f"a video of {frames} frames, not {FRAMES}")
        left = [path.name for path in self.folder.glob(".*")]
        self.expect(not left, f"render left {left} behind")

    def short_fit(self, folder: Path, **limits: int) -> list[str]:
        return self.command("fit", self.data, "-o", folder, "--steps", 5, *FIT, **limits)

    def full_disk(self) -> None:
        """A fit that can write no file as large as a checkpoint: kept elsewhere, or an error."""
        before = self.step_of(self.run)
        folder = self.folder / "full"
        shutil.rmtree(folder, ignore_errors=True)
        size = self.rng.choice((3000, 20_000, 100_000))
        code, error = self.start(self.short_fit(folder, size=size))
        self.done["full disk"] += 1
        self.one_line(code, error, f"files of {size} bytes at most")
        self.step_of(folder)
        left = list(folder.glob(".*.tmp"))
        self.expect(not left, f"a full disk left {left}")
        self.expect(self.step_of(self.run) == before, "a full disk elsewhere changed the run")

    def low_memory(self) -> None:
        memory = self.rng.choice((8, 32, 64)) << 20
        folder = self.folder / "low"
        shutil.rmtree(folder, ignore_errors=True)
        code, error = self.start(self.short_fit(folder, memory=memory))
        self.done["low memory"] += 1
        if code != 0:
            self.one_line(code, error, f"{memory >> 20} MiB")
        self.step_of(folder)

    def damaged(self) -> None:
        """A checkpoint or an image with damage: refused in a line, or harmless."""
        from fuzzing.mutations import damage

        scratch = self.folder / "damaged"
        shutil.rmtree(scratch, ignore_errors=True)
        if self.rng.random() < 0.5 and self.step_of(self.run) >= 0:
            shutil.copytree(self.run, scratch)
            path = self.rng.choice(sorted(scratch.glob("*.safetensors")))
            command = self.command("fit", self.data, "-o", scratch, "--resume", "--steps", 100_000)
            if path.name == "checkpoint.safetensors":
                command = self.command("eval", scratch)
        else:
            shutil.copytree(self.data, scratch)
            path = self.rng.choice(sorted(scratch.glob("train/*.png")))
            out = self.folder / "of-damaged"
            shutil.rmtree(out, ignore_errors=True)
            command = self.command("fit", scratch, "-o", out, "--steps", 3, *FIT)
        path.write_bytes(damage(path.read_bytes(), self.rng, path.name))
        code, error = self.start(command, "none" if "100000" not in command else "SIGINT")
        self.done[f"damaged {path.suffix}"] += 1
        if code == 2:
            self.one_line(code, error, f"damaged {path.name}")
        else:
            fine = code in (0, 130, -signal.SIGINT)
            self.expect(fine, f"damaged {path.name}: {code}: {error[-900:]}")

    def memory_is_flat(self) -> None:
        """Many rounds in one process, of another one."""
        places = [str(self.folder / "rounds"), str(self.data)]
        code, error = self.start([sys.executable, str(Path(__file__)), "--rounds", *places])
        if code != 0:
            return self.expect(False, f"rounds: {code}: {error[-600:]}")
        used = json.loads((self.folder / "rounds" / "used.json").read_text())
        self.done["rounds in one process"] += len(used)
        flat = used[-1] < max(FLAT[0] * used[2], used[2] + FLAT[1])
        self.expect(flat, f"memory grows: {[n >> 20 for n in used]} MiB")
        print(f"memory after each round, MiB: {[n >> 20 for n in used]}", flush=True)


def rounds(folder: Path, data: Path, count: int = 8) -> None:
    """Fit, evaluate and render several times in this process; write its memory after each."""
    from nerfkit.evaluate import evaluate
    from nerfkit.paths import make_path
    from nerfkit.render import render_path
    from nerfkit.run import Run
    from nerfkit.training import FitConfig, fit

    used = []
    for i in range(count):
        config = FitConfig(data, folder / str(i), steps=STEPS, finest=32, samples=4000)
        run = Run.load(fit(config))
        evaluate(run)
        path = make_path("orbit", run.train_cameras, run.scene_box, 1.0, 4.0)
        render_path(run, path, folder / f"{i}.mp4")
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        used.append(pages * resource.getpagesize())
    (folder / "used.json").write_text(json.dumps(used))


def main() -> int:
    if sys.argv[1:2] == ["--child"]:
        return child(sys.argv[2:])
    if sys.argv[1:2] == ["--rounds"]:
        return rounds(Path(sys.argv[2]), Path(sys.argv[3])) or 0
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    until = time.monotonic() + 60 * arguments.minutes
    with tempfile.TemporaryDirectory() as temporary:
        soak = Soak(Path(temporary), arguments.seed)
        acts = (soak.fit, soak.render, soak.evaluate, soak.full_disk, soak.low_memory, soak.damaged)
        soak.fit("none")  # the others want a run
        for act in acts:  # each at least once
            act()
        while time.monotonic() < until:
            soak.rng.choices(acts, weights=(6, 3, 1, 1, 1, 3))[0]()
        soak.memory_is_flat()
    result = {"done": dict(sorted(soak.done.items())), "wrong": soak.wrong}
    print(json.dumps(result["done"], indent=1))
    print(f"{len(soak.wrong)} things went wrong")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    return 1 if soak.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
