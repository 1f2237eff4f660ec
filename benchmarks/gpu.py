"""Measure everything on one GPU in one run of less than 9 minutes; a JSON file and one table.

    python benchmarks/gpu.py --json FILE [--data FOLDER] [--ops OP ...] [--parts ops fit] [--smoke]

Ops: every kernel against the torch reference in double precision, then its time beside that of the
reference in float32 (torch eager) and of nerfacc where it is installed, as a share of the least
time that the machine's own rates allow. Fit: PSNR on the test views after fits of 5, 15, 30 and 60
seconds, frames a second at 800x800, peak memory, and rays a second of 20 seconds of NeRF, FastNeRF
and NSVF. Times in seconds, rates in 1e9 a second.

--smoke does all of it at toy sizes with no GPU, kernels interpreted where TRITON_INTERPRET=1.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from nerfkit import device, info
from nerfkit.bench import ops as bench_ops
from nerfkit.bench.case import Case, tensors
from nerfkit.bench.gate import relative_errors
from nerfkit.evaluate import evaluate
from nerfkit.fields.frame import render_frame
from nerfkit.kernels import _backend
from nerfkit.run import Run
from nerfkit.scenes import build
from nerfkit.training import FitConfig, fit

BUDGETS = (5.0, 15.0, 30.0, 60.0)  # seconds of a fit, from its call to the written checkpoint
SIDE, FRAMES = 800, 60
PRESET_SECONDS, PRESET_RAYS = 20.0, 2048
N_RAYS, DEPTH = 1 << 16, 8
OP_SECONDS = 0.25  # on each way to do a thing
# Relative error, sums of absolute values: float32 sums, and operands of 11 bits where a kernel's
# products run on tensor cores.
NETWORKS = (*("fused_render", "fused_mlp", "nerf_mlp", "fastnerf_mlp", "nsvf_mlp", "nsvf_render"),)
TOLERANCE = {**dict.fromkeys(NETWORKS, 5e-3), "baked_render": 1e-3}
ROUNDING = 1e-4


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def median_seconds(
    call: Callable[[Any], Any], prepare: Callable[[], Any] = lambda: None, budget: float = 0.25
) -> float:
    """Median time of `call(prepare())` on the device, by its events; of the host without one.

    A budget of 0 takes one call's time, for a trial.
    """
    taken: list[float] = []
    fewest = 3 if budget else 1
    for _ in range(2 if budget else 0):
        call(prepare())
    synchronize()
    began = time.perf_counter()
    while len(taken) < fewest or (time.perf_counter() - began < budget and len(taken) < 200):
        arguments = prepare()
        if torch.cuda.is_available():
            first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            first.record()
            call(arguments)
            last.record()
            last.synchronize()
            taken.append(first.elapsed_time(last) / 1e3)
        else:
            start = time.perf_counter()
            call(arguments)
            taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def ceilings(place: torch.device, smoke: bool) -> dict[str, float]:
    """What the machine can do, by torch: GFLOP/s, GB/s, and 1e9 records of 64 bytes a second."""
    n, rows, looked = (64, 1 << 10, 1 << 8) if smoke else (8192, 1 << 24, 1 << 22)

    def product(dtype: torch.dtype) -> float:
        a, b = (torch.randn(n, n, device=place).to(dtype) for _ in range(2))
        return 2e-9 * n**3 / median_seconds(lambda _: a @ b)

    torch.backends.cuda.matmul.allow_tf32 = False
    table = torch.zeros(rows, 16, device=place)
    target = torch.empty_like(table)
    at = torch.randint(rows, (looked,), device=place)
    values = torch.ones(looked, 16, device=place)
    return {
        "half_gflops": product(torch.float16),
        "single_gflops": product(torch.float32),
        "copy_gbs": 2e-9 * 64 * rows / median_seconds(lambda _: target.copy_(table)),
        "gather_grows": 1e-9 * looked / median_seconds(lambda _: table.index_select(0, at)),
        "scatter_grows": 1e-9 * looked / median_seconds(lambda _: table.index_add_(0, at, values)),
    }


def least_seconds(case: Case, results: list[Tensor], backward: bool, limits: dict) -> float:
    """Of counted bytes, float operations and look-ups at the measured rates, the longest."""
    work = case.work(results, "forward+backward" if backward else "forward")
    return max(
        1e-9 * work.bytes / limits["copy_gbs"],
        1e-9 * work.flops / limits["half_gflops"],
        1e-9 * work.gathers / limits["gather_grows"],
    )


def doubled(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.double() if v.is_floating_point() else v for k, v in inputs.items()}


def measure(case: Case, backward: bool, backend: str, limits: dict, budget: float) -> dict:
    """A row: error, times and share of the least time, of one direction of a case."""
    upstream = case.upstream() if backward else []

    def run(name: str, inputs: dict[str, Tensor]) -> list[Tensor]:
        like = next(v for v in inputs.values() if v.is_floating_point())
        gradients = [u.to(like.device, like.dtype) for u in upstream]
        return tensors(case.call(name, gradients, inputs))

    def copies() -> dict[str, Tensor]:
        return case.copies()

    got = run(backend, copies())
    try:
        want, precision = run("reference", doubled(copies())), "float64"
    except (RuntimeError, ValueError):  # indices and tables of the op are float32
        want, precision = run("reference", copies()), "float32"
    error = max(relative_errors(got, want), default=math.inf)
    row = {
        **{"op": case.op, "name": case.name, "size": case.size, "backend": backend},
        "direction": "forward+backward" if backward else "forward",
        "error": error if math.isfinite(error) else None,
        "compared_with": precision,
        "right": error <= TOLERANCE.get(case.op, ROUNDING),
    }
    del want
    seconds = median_seconds(lambda inputs: run(backend, inputs), copies, budget)
    eager = median_seconds(lambda inputs: run("reference", inputs), copies, budget)
    least = least_seconds(case, got, backward, limits)
    return row | {
        "seconds": seconds,
        "throughput": case.items / seconds,
        "unit": case.unit,
        "eager_seconds": eager,
        "least_seconds": least,
        "share_of_roofline": least / seconds if least else None,
    }


def op_rows(place: torch.device, only: list[str] | None, limits: dict, smoke: bool) -> Iterator:
    """Rows of all kernels; what goes wrong with one is its row, and the others go on."""
    n_rays, depth, budget = (64, 4, 0.0) if smoke else (N_RAYS, DEPTH, OP_SECONDS)
    for case in bench_ops.cases(n_rays, depth, place):
        if (only and case.op not in only) or case.backends == ("reference",):
            continue
        case = replace(case, inputs={k: v.to(place) for k, v in case.inputs.items()})
        wanted = "gpu" if _backend.has(case.op, "gpu", place) else "cpu"
        for backward in (False, True) if case.wanted else (False,):
            try:
                row = measure(case, backward, wanted, limits, budget)
            except Exception as error:  # of any kind: the run on a card is not to be had again
                row = {"op": case.op, "name": case.name, "size": case.size, "right": False}
                row["failure"] = f"{type(error).__name__}: {str(error)[:300]}"
            yield row


def nerfacc_row(place: torch.device) -> dict | None:
    """nerfacc's compositing of as many samples as the case `composite` has."""
    try:
        import nerfacc
    except ImportError:
        return None
    n_rays, n = N_RAYS, N_RAYS * bench_ops.SAMPLES_PER_RAY
    ray_indices = torch.arange(n_rays, device=place).repeat_interleave(n // n_rays)
    t = torch.arange(n, device=place) * 0.01
    sigmas = (torch.rand(n, device=place) * 20).requires_grad_()
    rgbs = torch.rand(n, 3, device=place, requires_grad=True)

    def run(_: None) -> None:
        weights, _, _ = nerfacc.render_weight_from_density(
            t, t + 0.01, sigmas, ray_indices=ray_indices, n_rays=n_rays
        )
        colors = nerfacc.accumulate_along_rays(weights, rgbs, ray_indices, n_rays)
        torch.autograd.grad(colors.sum(), (sigmas, rgbs))

    seconds = median_seconds(run)
    return {"name": "composite", "direction": "forward+backward", "seconds": seconds}


def data_set(given: Path | None, smoke: bool, folder: Path) -> Path:
    """lego, wherever it is; else a built-in scene made now."""
    root = Path(os.environ.get("NERFKIT_DATA", Path(__file__).resolve().parents[2] / "shared/data"))
    if given is not None:
        return given
    if not smoke and (root / "lego" / "transforms_train.json").is_file():
        return root / "lego"
    side, n_train, n_test = (32, 6, 1) if smoke else (400, 48, 6)
    return build("machine", folder / "data", size=(side, side), n_train=n_train, n_test=n_test)


def preset_row(preset: str, data: Path, folder: Path, smoke: bool) -> dict:
    """Rays a second of a short fit of networks too large for the fused renderer."""
    output = folder / preset
    limit = {"steps": 1} if smoke else {"minutes": PRESET_SECONDS / 60}
    sizes = {"width": 16, "rays": 16} if smoke else {"rays": PRESET_RAYS}
    try:
        fit(FitConfig(data=data, output=output, preset=preset, **limit, **sizes))
    except Exception as error:  # of any kind: the run on a card is not to be had again
        return {"preset": preset, "failure": f"{type(error).__name__}: {str(error)[:300]}"}
    metrics = json.loads((output / "metrics.json").read_text())
    kept = {k: metrics[k] for k in ("steps", "seconds", "rays", "train_psnr", "samples_per_ray")}
    return {"preset": preset, **kept}


def fit_part(data: Path, folder: Path, smoke: bool) -> dict:
    """Quality by time, then frames a second of the longest fit."""
    cuda = torch.cuda.is_available()
    began = time.monotonic()
    fit(FitConfig(data=data, output=folder / "warm", steps=3 if smoke else 450))
    found: dict[str, Any] = {
        "data": data.name,
        "device": str(device.best()),
        # loading and compiling included; what is compiled stays in ~/.triton/cache
        "first_fit_seconds": time.monotonic() - began,
        "curve": [],
    }
    for seconds in (0.0,) if smoke else BUDGETS:
        output = folder / f"run{seconds:g}"
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        limit = {"steps": 4} if smoke else {"minutes": seconds / 60}
        began = time.monotonic()
        fit(FitConfig(data=data, output=output, **limit))
        taken = time.monotonic() - began
        run = Run.load(output)
        result = evaluate(run, "test")
        found["curve"].append(
            {
                **{"budget": seconds, "seconds": taken, "steps": run.iteration},
                **{k: result[k] for k in ("psnr", "ssim", "n_views", "resolution")},
                "peak_gb": torch.cuda.max_memory_allocated() / 1e9 if cuda else None,
            }
        )
    found["presets"] = [
        preset_row(preset, data, folder, smoke) for preset in ("nerf", "fastnerf", "nsvf")
    ]
    cameras = run.train_cameras
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    times = []
    for i in range(3 if smoke else FRAMES):
        camera = cameras[i % len(cameras)]
        synchronize()
        began = time.perf_counter()
        render_frame(run.field, camera, run.background, ["rgb"])
        synchronize()
        times.append(time.perf_counter() - began)
    return found | {
        "frame": f"{int(cameras.width[0])}x{int(cameras.height[0])}",
        "frames_per_second": 1 / statistics.median(times[1:]),
        "render_peak_gb": torch.cuda.max_memory_allocated() / 1e9 if cuda else None,
    }


def print_table(result: dict) -> None:
    console = Console(width=160)
    limits = ", ".join(f"{k} {v:.4g}" for k, v in result["ceilings"].items())
    table = Table(title=f"{result['card']}: {limits}")
    for heading in ("what", "size", "pass", "error", "ms", "throughput", "x eager", "roofline"):
        table.add_column(heading)
    for row in result["ops"]:
        what = (row["name"], row["size"], row.get("direction", ""))
        if "failure" in row:
            table.add_row(*what, "FAILED", row["failure"])
            continue
        share, error = row["share_of_roofline"], row["error"]
        table.add_row(
            *what,
            ("" if row["right"] else "WRONG ") + ("-" if error is None else f"{error:.1e}"),
            f"{row['seconds'] * 1e3:.3f}",
            f"{row['throughput'] / 1e6:.4g} M {row['unit']}/s",
            f"{row['eager_seconds'] / row['seconds']:.1f}",
            f"{share:.0%}" if share else "-",
        )
    if result["nerfacc"]:
        table.add_row("nerfacc composite", "", "", "", f"{result['nerfacc']['seconds'] * 1e3:.3f}")
    fitted = result["fit"] or {"curve": []}
    for point in fitted["curve"]:
        memory = f"{point['peak_gb']:.2f} GB" if point["peak_gb"] else ""
        size = f"{point['seconds']:.1f} s, {point['steps']} steps"
        table.add_row("fit", size, "", f"{point['psnr']:.2f} dB", "", memory)
    for row in fitted.get("presets", []):
        if "failure" in row:
            table.add_row(f"fit {row['preset']}", "", "", "FAILED", row["failure"])
            continue
        size = f"{row['seconds']:.1f} s, {row['steps']} steps"
        rate = f"{row['rays'] / row['seconds'] / 1e3:.4g} k rays/s"
        table.add_row(f"fit {row['preset']}", size, "", f"{row['train_psnr']:.2f} dB", "", rate)
    if "frames_per_second" in fitted:
        table.add_row("frames", fitted["frame"], "", "", "", f"{fitted['frames_per_second']:.1f}/s")
    console.print(table)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="a data set; by default lego")
    parser.add_argument("--ops", nargs="+", help="these alone")
    parser.add_argument("--parts", nargs="+", choices=("ops", "fit"), default=["ops", "fit"])
    parser.add_argument("--smoke", action="store_true", help="toy sizes, without a GPU")
    options = parser.parse_args()
    if not options.smoke and not torch.cuda.is_available():
        parser.error("no CUDA device; --smoke tries the benchmark without one")
    place = torch.device("cuda") if torch.cuda.is_available() else device.CPU
    began = time.monotonic()
    result: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "card": torch.cuda.get_device_name() if place.type == "cuda" else "no GPU",
        "smoke": options.smoke,
        "versions": info.versions(),
        "hardware": info.hardware(),
        "ceilings": ceilings(place, options.smoke),
        **{"ops": [], "nerfacc": None, "fit": None},
    }

    def save() -> None:  # after each part: a run cut short keeps what it has
        result["seconds"] = time.monotonic() - began
        options.json.write_text(json.dumps(result, indent=1) + "\n")

    if "fit" in options.parts:
        with tempfile.TemporaryDirectory() as temporary:
            data = data_set(options.data, options.smoke, Path(temporary))
            result["fit"] = fit_part(data, Path(temporary), options.smoke)
        save()
    if "ops" in options.parts:
        for row in op_rows(place, options.ops, result["ceilings"], options.smoke):
            result["ops"].append(row)
            save()
        result["nerfacc"] = nerfacc_row(place) if place.type == "cuda" else None
    save()
    print_table(result)
    return int(not all(row["right"] for row in result["ops"]))


if __name__ == "__main__":
    sys.exit(main())
