"""Starting Triton kernels."""

import contextlib
import math

import torch


def launch(kernel, programs: tuple[int, ...], *args, num_warps: int = 4, **constants) -> None:
    """Run `kernel` on the device of its first tensor, which need not be the current one.

    An empty grid, which CUDA and the interpreter refuse, does nothing.
    """
    if not math.prod(programs):
        return
    device = next(a.device for a in args if isinstance(a, torch.Tensor))
    with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
        kernel[programs](*args, num_warps=num_warps, **constants)


def check_float32(**tensors: torch.Tensor | None) -> None:
    """Raise ValueError naming the first argument that is not float32."""
    for name, tensor in tensors.items():
        if tensor is not None and tensor.dtype != torch.float32:
            raise ValueError(f"{name} must be float32 for backend 'gpu', got {tensor.dtype}")
