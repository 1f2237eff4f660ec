"""What is installed on this machine: versions, devices and the active backend of every op."""

import importlib.metadata
import os
import platform
import sys
import warnings
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

import nerfkit
from nerfkit import device
from nerfkit.errors import NerfkitError
from nerfkit.kernels import _backend, _native


def version_of(package: str) -> str | None:
    """Installed version of a distribution, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def versions() -> dict[str, str | None]:
    """Versions of everything that may change a number."""
    found = {"nerfkit": nerfkit.__version__, "python": platform.python_version()}
    for package in ("torch", "numpy", "scikit-image", "triton"):
        found[package] = version_of(package)
    return found


def processor_name() -> str:
    """The processor as its maker names it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.lower().startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _usable_cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        return os.cpu_count() or 1


def _ffmpeg() -> str | None:
    import imageio_ffmpeg

    try:
        return imageio_ffmpeg.get_ffmpeg_version()
    except RuntimeError:  # no executable: PNG frames still work
        return None


def backends(place: str) -> dict[str, str]:
    """What each op would run on tensors of `place`; an error's text where it could not run."""
    chosen = {}
    tensor = torch.empty(0, device=place)
    for op in _backend.ops():
        try:
            with warnings.catch_warnings():  # the table itself announces the fallback
                warnings.simplefilter("ignore")
                chosen[op] = _backend.choose(op, tensor)
        except ValueError as error:
            chosen[op] = f"error: {error}"
    return chosen


def hardware() -> dict:
    """Processor, threads and CUDA devices; goes into every file of measurements."""
    library, level = _native.library()
    cuda = []
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            card = torch.cuda.get_device_properties(index)
            cuda.append({"name": card.name, "memory_gb": round(card.total_memory / 2**30, 1)})
    return {
        "processor": processor_name(),
        "machine": platform.machine(),
        "system": platform.platform(),
        "cores": _usable_cores(),
        "threads": _native.num_threads(),
        "torch_threads": torch.get_num_threads(),
        "kernels": f"C++ for {level}" if library is not None else None,
        "kernels_missing": None if library is not None else level,
        "cuda": cuda,
    }


def _device() -> str:
    """Where fields are fitted and rendered; an error's text where NERFKIT_DEVICE is none."""
    try:
        return str(device.best())
    except NerfkitError as error:
        return f"error: {error}"


def gather() -> dict:
    """All facts as JSON-ready data: versions, hardware, device, ffmpeg, environment, backends."""
    devices = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
    return {
        "versions": versions(),
        "hardware": hardware(),
        "device": _device(),
        "ffmpeg": _ffmpeg(),
        "environment": {k: v for k, v in sorted(os.environ.items()) if k.startswith("NERFKIT_")},
        "backends": {place: backends(place) for place in devices},
    }


def print_table(facts: dict) -> None:
    """Print `gather()`'s facts for a reader, on standard output."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, version in facts["versions"].items():
        table.add_row(name, version or "not installed")
    table.add_row("ffmpeg", facts["ffmpeg"] or "not found: render to a folder of frames")
    hardware = facts["hardware"]
    table.add_row("processor", f"{hardware['processor']} ({hardware['machine']})")
    table.add_row(
        "threads",
        f"{hardware['threads']} (torch {hardware['torch_threads']}, cores {hardware['cores']})",
    )
    table.add_row("C++ kernels", hardware["kernels"] or f"none: {hardware['kernels_missing']}")
    gpus = [f"{gpu['name']}, {gpu['memory_gb']} GiB" for gpu in hardware["cuda"]]
    table.add_row("CUDA devices", "; ".join(gpus) or "none")
    table.add_row("fits and renders on", facts["device"])
    for name, value in facts["environment"].items():
        table.add_row(name, value)
    asked = facts["environment"].get("NERFKIT_BACKEND")
    why = "NERFKIT_BACKEND asks for it" if asked else "no kernel for this device"
    for place, chosen in facts["backends"].items():
        for op, backend in chosen.items():
            table.add_row(
                f"{op} on {place}",
                f"reference (slow: {why})" if backend == "reference" else backend,
            )
    Console(file=sys.stdout, soft_wrap=True).print(table)
