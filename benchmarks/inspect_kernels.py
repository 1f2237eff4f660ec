"""Print what every Triton kernel compiles to: registers, stack, shared memory, instructions.

    python benchmarks/inspect_kernels.py [OP ...] [--arch 80 90 100] [--json FILE]

Needs Triton but no GPU. Ends with status 1 where a kernel does not compile or breaks one of the
limits that its op declares (`AOT` in `kernels/<op>/gpu.py`, see `kernels/shared/aot.py`).
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.pop("TRITON_INTERPRET", None)  # interpreted kernels cannot be compiled
os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")  # what 3.6 to 3.9 do unasked

from nerfkit.kernels import _backend
from nerfkit.kernels.shared.aot import Configuration, Report, compile_for

# Shown, and counted in the JSON file: matrix products, global loads by width, atomics.
COLUMNS = {
    "mma": r"(HMMA|HGMMA|UTC\w*MMA)",
    "ld128": r"LDG\.E\S*128",
    "ldg": r"LDG",
    "cp.async": r"LDGSTS",
    "red": r"(RED(?!UX)|ATOMG)",
}


def configurations(ops: list[str]) -> list[tuple[str, Configuration]]:
    """(op, configuration) of all ops that have a gpu.py."""
    found = []
    for op in ops:
        if _backend.missing(op, "gpu") == f"{op} has no gpu kernel":
            continue
        module = importlib.import_module(f"nerfkit.kernels.{op}.gpu")
        found += [(op, configuration) for configuration in module.AOT]
    return found


def occupancy(report: Report, configuration: Configuration) -> int:
    """Warps of a processor of sm_80 or sm_90 that registers and shared memory leave room for."""
    per_warp = -(-report.registers // 8) * 8 * 32
    programs = 65536 // (per_warp * configuration.num_warps)
    if report.shared:
        programs = min(programs, 164 * 1024 // (report.shared + 1024))
    return min(64, programs * configuration.num_warps)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("ops", nargs="*", default=None, help="all where none is named")
    parser.add_argument("--arch", nargs="+", type=int, default=[80, 90])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    columns = " ".join(f"{name:>8}" for name in COLUMNS)
    print(f"{'kernel':<40} sm warps  regs stack shared live {columns}")
    rows, failed = [], False
    for op, configuration in configurations(options.ops or _backend.ops()):
        for arch in options.arch:
            if configuration.archs and arch not in configuration.archs:
                continue
            try:
                report = compile_for(configuration, arch)
                failures = report.failures(configuration)
            except Exception as error:  # of any kind: the table goes on
                report, failures = None, [f"{type(error).__name__}: {error}"]
            failed |= bool(failures)
            row = {"op": op, "kernel": configuration.name, "arch": arch, "failures": failures}
            if report:
                counts = {name: report.count(pattern) for name, pattern in COLUMNS.items()}
                live = occupancy(report, configuration)
                row |= {**report._asdict(), "warps": configuration.num_warps, "live": live}
                shown = " ".join(f"{n:8}" for n in counts.values())
                print(
                    f"{configuration.name:<40} {arch} {configuration.num_warps:5} "
                    f"{report.registers:5} {report.stack:5} {report.shared:6} {live:4} {shown}",
                    flush=True,
                )
            for failure in failures:
                print(f"  FAILED {configuration.name} sm_{arch}: {failure}", flush=True)
            rows.append(row)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
