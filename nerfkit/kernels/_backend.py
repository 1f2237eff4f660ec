"""Which implementation of an op runs: `reference` (torch), `cpu` (C++) or `gpu` (Triton).

The tensors' device decides; the argument `backend=` or the environment variable NERFKIT_BACKEND
overrides. A fallback to the reference is announced once, never silent.
"""

import importlib.util
import os
import pkgutil
import warnings

import torch

import nerfkit.kernels
from nerfkit.kernels import _native

BACKENDS = ("reference", "cpu", "gpu")
CPU = torch.device("cpu")
_announced: set[str] = set()


def _announce(who: str, why: str) -> None:
    """Warn once a process for each reason, in the name of the public function's caller."""
    if why not in _announced:
        _announced.add(why)
        warnings.warn(f"{who} the slow torch reference: {why}", stacklevel=4)


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package it would be in
        return False


def missing(op: str, backend: str, device: torch.device = CPU) -> str | None:
    """Why `op` cannot run with `backend` on tensors of `device`; None where it can."""
    if backend == "reference":
        return None
    if not _is_there(f"nerfkit.kernels.{op}.{backend}"):
        return f"{op} has no {backend} kernel"
    if backend == "cpu":
        if device.type != "cpu":
            return f"the C++ kernels take tensors of the CPU, got {device}"
        return None if _native.available() else _native.library()[1]
    if not _is_there("triton"):
        return "Triton is not installed: pip install 'nerfkit[gpu]'"
    if device.type == "cuda":
        return None
    from triton import knobs  # not sooner: it takes a second, and only CUDA needs it

    if device.type == "cpu" and knobs.runtime.interpret:
        return None
    return f"the Triton kernels take tensors of a CUDA device, got {device}"


def has(op: str, backend: str, device: torch.device = CPU) -> bool:
    """Whether `op` can run with `backend` on tensors of `device` in this installation."""
    return missing(op, backend, device) is None


def choose(op: str, tensor: torch.Tensor, backend: str | None = None) -> str:
    """The backend to run `op` with on `tensor`'s device.

    `gpu` takes CUDA tensors; CPU tensors too where TRITON_INTERPRET=1 was set before Triton was
    imported, which is for tests: it is very slow.

    Raises:
        ValueError: `backend` (or NERFKIT_BACKEND) is unknown or cannot run here.
    """
    wanted = backend or os.environ.get("NERFKIT_BACKEND")
    if wanted:
        if wanted not in BACKENDS:
            raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {wanted!r}")
        why = missing(op, wanted, tensor.device)
        if why:
            raise ValueError(f"backend {wanted!r} of {op} cannot run here: {why}")
        return wanted
    natural = "gpu" if tensor.is_cuda else "cpu"
    why = missing(op, natural, tensor.device)
    if why is None:
        return natural
    everything = natural == "cpu" and not _native.available()
    _announce("all kernels of nerfkit run" if everything else f"nerfkit.kernels.{op} runs", why)
    return "reference"


def ops() -> list[str]:
    """Names of all ops."""
    return sorted(
        m.name
        for m in pkgutil.iter_modules(nerfkit.kernels.__path__)
        if m.ispkg and _is_there(f"nerfkit.kernels.{m.name}.reference")
    )
