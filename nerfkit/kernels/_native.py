"""Find, load and call the compiled C++ kernels.

One shared library is built per instruction set; the best one this processor runs is loaded on first
use. Functions have a plain C interface and return nothing: results are written into tensors that
the caller allocates.
"""

import ctypes
import functools
import importlib.machinery
import os
import platform
from pathlib import Path

import torch

# Instruction-set flags as Linux names them, best first.
_X86_LEVELS = {
    "v4": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
    "v3": {"avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"},
    "v2": {"sse4_2", "ssse3", "popcnt", "cx16"},
}

HUGE_FROM = 1 << 22  # bytes; below this the normal pages do


def _cpu_flags() -> set[str]:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("flags"):
                return set(line.split(":", 1)[1].split())
    except OSError:
        pass
    # No /proc (macOS, Windows): trust torch's own probe of the same processor.
    capability = torch.backends.cpu.get_cpu_capability()
    known = {"AVX512": ("v4", "v3", "v2"), "AVX2": ("v3", "v2")}.get(capability, ("v2",))
    return set().union(*(_X86_LEVELS[level] for level in known))


def _candidates() -> list[str]:
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return ["base"]
    forced = os.environ.get("NERFKIT_SIMD")
    if forced:
        return [forced]
    flags = _cpu_flags()
    return [level for level, needed in _X86_LEVELS.items() if needed <= flags]


@functools.cache
def library() -> tuple[ctypes.CDLL | None, str]:
    """The loaded library and its instruction-set level, or (None, why there is none)."""
    package = Path(__file__).resolve().parents[1]
    failures = []
    for level in _candidates():
        for suffix in importlib.machinery.EXTENSION_SUFFIXES:
            path = package / f"_native_{level}{suffix}"
            if not path.exists():
                continue
            try:
                lib = ctypes.CDLL(str(path))
            except OSError as error:
                failures.append(f"{path.name} does not load: {error}")
                continue
            threads = int(os.environ.get("NERFKIT_THREADS", "0")) or torch.get_num_threads()
            lib.nk_set_num_threads(ctypes.c_int64(threads))
            return lib, level
    not_built = "the C++ kernels were not built (no compiler when nerfkit was installed?)"
    return None, "; ".join(failures) or not_built


def available() -> bool:
    return library()[0] is not None


def num_threads() -> int:
    """Threads the C++ kernels use."""
    lib, _ = library()
    return int(lib.nk_num_threads()) if lib is not None else torch.get_num_threads()


def set_num_threads(threads: int) -> None:
    """Set how many threads the C++ kernels use (also: environment variable NERFKIT_THREADS)."""
    lib, _ = library()
    if lib is not None:
        lib.nk_set_num_threads(ctypes.c_int64(threads))


def _to_c(name: str, position: int, value: object) -> object:
    if value is None:
        return ctypes.c_void_p(0)
    if isinstance(value, torch.Tensor):
        if value.device.type != "cpu" or not value.is_contiguous():
            raise ValueError(f"{name}: argument {position} must be a contiguous CPU tensor")
        return ctypes.c_void_p(value.data_ptr())
    if isinstance(value, bool | int):
        return ctypes.c_int64(value)
    if isinstance(value, float):
        return ctypes.c_float(value)
    raise TypeError(f"{name}: argument {position} has unsupported type {type(value).__name__}")


def call(name: str, *args: object) -> None:
    """Call a C function: tensors become pointers, int -> int64_t, float -> float, None -> NULL.

    The GIL is released for the duration of the call.
    """
    lib, why = library()
    if lib is None:
        raise RuntimeError(f"{name}: {why}")
    try:
        function = getattr(lib, name)
    except AttributeError:
        raise RuntimeError(
            f"{name} is not in {lib._name}: the library is older than the source, install again"
        ) from None
    function(*(_to_c(name, i, a) for i, a in enumerate(args)))


def advise_huge(tensor: torch.Tensor) -> None:
    """Ask the system to back a large tensor, not written to yet, with huge pages; only a hint."""
    if available() and tensor.numel() * tensor.element_size() >= HUGE_FROM:
        call("nk_advise_huge", tensor, tensor.numel() * tensor.element_size())
