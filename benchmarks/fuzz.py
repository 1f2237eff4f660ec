"""Damaged files for every loader: only a NerfkitError of one line may come of them.

    python benchmarks/fuzz.py [--inputs 10000] [--loaders blender colmap ...] [--json FILE]
    python benchmarks/fuzz.py --loaders octree --first 4711 --inputs 1     # that input again

Each loader runs in a process of its own with limited memory, which is started again behind an
input that ends it. Exit code 1 if there is a finding.
"""

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import torch
from fuzzing.seeds import Loader, loaders
from fuzzing.trial import Finding, Watch, limit_memory, trial

BATCH = 500  # inputs between messages


def _work(loader: Loader, seeds: range, folder: Path, pipe) -> None:
    torch.set_num_threads(1)
    watch = Watch()
    loader.load(loader.folder)  # the whole files must be read; imports happen here
    limit_memory()
    for first in range(seeds.start, seeds.stop, BATCH):
        part = range(first, min(first + BATCH, seeds.stop))
        pipe.send((part.stop, *trial(loader, part, folder / "work", watch, folder / "at.json")))


def fuzz(loader: Loader, seeds: range, folder: Path) -> tuple[list[Finding], int]:
    """Findings among these inputs, and how many were refused."""
    context = multiprocessing.get_context("fork")
    findings, refused, done = [], 0, seeds.start
    (folder / "at.json").unlink(missing_ok=True)
    while done < seeds.stop:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(
            target=_work, args=(loader, range(done, seeds.stop), folder, theirs)
        )
        process.start()
        theirs.close()
        try:
            while True:
                done, found, count = ours.recv()
                findings += found
                refused += count
        except EOFError:
            process.join()
        if done < seeds.stop:  # the process died of an input: the rest of its batch goes on
            if not (folder / "at.json").exists():
                raise SystemExit(f"{loader.name}: the whole files cannot be read")
            at = Finding(**json.loads((folder / "at.json").read_text()))
            at.what = f"ended the process (exit code {process.exitcode})"
            findings.append(at)
            done = at.seed + 1
    return findings, refused


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=10_000, help="for each loader")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--loaders", nargs="*")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    everything, seeds = [], range(arguments.first, arguments.first + arguments.inputs)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        found = loaders(folder / "seeds")
        names = arguments.loaders or [loader.name for loader in found]
        unknown = set(names) - {loader.name for loader in found}
        if unknown:
            raise SystemExit(f"--loaders: want some of {[loader.name for loader in found]}")
        table = {}
        for loader in found:
            if loader.name in names:
                began = time.monotonic()
                findings, refused = fuzz(loader, seeds, folder)
                seconds = time.monotonic() - began
                table[loader.name] = {
                    "inputs": len(seeds),
                    "refused": refused,
                    "findings": len(findings),
                    "seconds": round(seconds, 1),
                }
                print(f"{loader.name}: {table[loader.name]}", flush=True)
                for finding in findings[:10]:
                    print(f"  {finding.seed} {finding.file}: {finding.what}", flush=True)
                everything += findings
    if arguments.json:
        result = {"loaders": table, "findings": [asdict(finding) for finding in everything]}
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    return 1 if everything else 0


if __name__ == "__main__":
    sys.exit(main())
