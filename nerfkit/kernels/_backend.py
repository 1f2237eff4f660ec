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
_announced: set[str] = set()


def _announce(who: str, why: str) -> None:
    """Warn once a process for each reason, in the name of the public function's caller."""
    if why not in _announced:
        _announced.add(why)
        warnings.warn(f"{who} the slow torch reference: {why}", stacklevel=4)


def has(op: str, backend: str) -> bool:
    """Whether `op` has an implementation for `backend` that could run in this installation."""
    if backend == "reference":
        return True
    if importlib.util.find_spec(f"nerfkit.kernels.{op}.{backend}") is None:
        return False
    return _native.available() if backend == "cpu" else torch.cuda.is_available()


def choose(op: str, tensor: torch.Tensor, backend: str | None = None) -> str:
    """The backend to run `op` with on `tensor`'s device.

    Raises:
        ValueError: `backend` (or NERFKIT_BACKEND) is unknown or cannot run here.
    """
    wanted = backend or os.environ.get("NERFKIT_BACKEND")
    if wanted:
        if wanted not in BACKENDS:
            raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {wanted!r}")
        if not has(op, wanted):
            why = _native.library()[1] if wanted == "cpu" else "no CUDA device or no such kernel"
            raise ValueError(f"backend {wanted!r} of {op} cannot run here: {why}")
        return wanted
    natural = "gpu" if tensor.is_cuda else "cpu"
    if has(op, natural):
        return natural
    if natural == "cpu" and not _native.available():
        _announce("all kernels of nerfkit run", _native.library()[1])
    else:
        _announce(f"nerfkit.kernels.{op} runs", f"{op} has no {natural} kernel")
    return "reference"


def ops() -> list[str]:
    """Names of all ops."""
    return sorted(
        m.name
        for m in pkgutil.iter_modules(nerfkit.kernels.__path__)
        if m.ispkg and not m.name.startswith("_")
    )
